"""The last block at a few positions is the whole network's answer there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import discdiff as dd
from discdiff.networks import Context
from discdiff.networks import tail as last
from discdiff.networks.layers import Block

B, L = 5, 40
LENGTHS = torch.tensor([40, 20, 7, 33, 40])


def network(*, timed: bool, labels: int | None, kernel: int) -> dd.Transformer:
    """Random weights throughout, float64."""
    process = dd.Absorbing(20)
    made = dd.Transformer(process.num_states, dim=32, depth=3, heads=4, kernel=kernel, num_labels=labels)
    dd.Diffusion(made, process, dd.LogLinear(), dd.Denoiser() if timed else dd.Conditional())
    draw = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
    return made.eval()


def places(share: float, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Some positions at random, and always the ends of the first row, whose neighbours are cut off."""
    chosen = torch.rand(B, L, generator=torch.Generator().manual_seed(1)) < share
    chosen[0, 0] = chosen[0, -1] = True
    rows, positions = (chosen & allowed).nonzero(as_tuple=True)
    return rows, positions


@pytest.mark.parametrize("kernel", [0, 9])
@pytest.mark.parametrize("labels", [None, 3])
@pytest.mark.parametrize("timed", [False, True])
@torch.no_grad()
def test_few_positions_are_the_whole_cut(timed: bool, labels: int | None, kernel: int) -> None:
    """1e-11: with padding and frozen marks, with positions and labels, one noise a row or one a position."""
    made, draw = network(timed=timed, labels=labels, kernel=kernel), torch.Generator().manual_seed(2)
    tokens = torch.randint(21, (B, L), generator=draw)
    padding = torch.arange(L) >= LENGTHS[:, None]
    contexts = [
        Context(),
        Context(padding=padding, frozen=torch.rand(B, L, generator=draw) < 0.3),
        Context(
            positions=torch.arange(B * L).view(B, L), labels=None if labels is None else torch.tensor([0, -1, 2, 1, 0])
        ),
    ]
    for width in (1, L):
        sigma = 2 * torch.rand(B, width, generator=draw, dtype=torch.float64)
        for context in contexts:
            whole, trunk = made.hidden(tokens, sigma, context), made.trunk(tokens, sigma, context)
            assert not torch.allclose(whole, trunk)
            for share in (0.0, 0.02, 1.0):
                where = places(share, ~padding)
                few = made.finish(trunk, sigma, context, where)
                torch.testing.assert_close(few, whole[where], rtol=1e-11, atol=1e-12)


@torch.no_grad()
def test_the_rest_of_the_last_block_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few positions the MLP sees these alone; of many the block runs as it is."""
    made = network(timed=False, labels=None, kernel=9)
    seen: list[int] = []
    block = made.blocks[-1]
    assert isinstance(block, Block)
    block.up.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[:-1].numel()))
    trunk = made.trunk(torch.zeros(B, L, dtype=torch.int64), None, Context())
    assert not seen
    made.finish(trunk, None, Context(), (torch.tensor([0, 3]), torch.tensor([5, 6])))
    made.finish(trunk, None, Context(), places(0.5, torch.ones(B, L, dtype=torch.bool)))
    assert seen == [2, B * L]
    assert last.WORTHWHILE < 0.5


@torch.no_grad()
def test_packed_rows_and_dropout_are_left_to_the_whole() -> None:
    made = network(timed=False, labels=None, kernel=9)
    tokens = torch.randint(21, (B, L), generator=torch.Generator().manual_seed(3))
    packed = Context(segments=(torch.arange(L) // 10).expand(B, L))
    torch.testing.assert_close(made.trunk(tokens, None, packed), made.hidden(tokens, None, packed))
    made.train()
    torch.testing.assert_close(made.trunk(tokens, None, Context()), made.hidden(tokens, None, Context()))
