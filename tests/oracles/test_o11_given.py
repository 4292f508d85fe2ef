"""O11, learned: a network trained with given positions is clamped exactly off the absorbing process; one without is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import discdiff as dd
from discdiff import losses
from discdiff.errors import IncompatibleError
from discdiff.losses.base import Loss
from discdiff.samplers import Ancestral
from discdiff.sequences import Sequences
from tests.cases import build
from tests.laws import clean_part, grid_law
from tests.toys import DENSE, total_variation

GIVEN = {1: 2}


def trained(loss: Loss, steps: int = 700) -> dd.Diffusion:
    """A small transformer on the uniform process, trained on the toy."""
    process = dd.Uniform(DENSE.vocab_size)
    network = dd.Transformer(process.num_states, dim=32, depth=2, heads=2, kernel=3, cond_dim=16)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.LeaveOneOut())
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    table, generator = torch.from_numpy(DENSE.sequences), torch.Generator().manual_seed(0)
    law = torch.from_numpy(DENSE.probabilities)
    for _ in range(steps):
        rows = torch.multinomial(law, 512, replacement=True, generator=generator)
        values = loss(model, Sequences.full(table[rows]), generator=generator)
        optimizer.zero_grad()
        values.mean().backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def clamped_error(model: dd.Diffusion) -> float:
    """TV of the enumerated law of 64 ancestral steps under a clamp from p0(· | x_C)."""
    law = clean_part(grid_law(model, Ancestral(), 64, 3, given=GIVEN), DENSE, model.process.num_states)
    return total_variation(law, DENSE.given(GIVEN))


def test_clamps_are_learned() -> None:
    told, naive = trained(losses.Given(losses.ContinuousELBO())), trained(losses.ContinuousELBO())
    assert told.exact_clamps
    assert not naive.exact_clamps
    # Not conditioned on, the marginal of the free positions: the clamp said nothing.
    ignored = DENSE.joint.sum(1, keepdims=True) * (np.arange(3) == 2)[None, :, None]
    assert total_variation(ignored.reshape(-1), DENSE.given(GIVEN)) > 0.1
    assert clamped_error(told) < 0.03
    assert clamped_error(naive) > 0.06


def test_only_what_is_left_is_scored() -> None:
    """Given everything but one token, the loss is that token's own, and no gradient comes from the others."""
    model = build("uniform", "denoiser")
    rows = Sequences.full(torch.tensor([[0, 1, 2], [2, 1, 0]]))
    known = torch.tensor([[True, False, True], [True, True, True]])
    given = Sequences(rows.tokens, rows.lengths, given=known)
    keys = dd.Keys(3, torch.arange(2))
    values = losses.ScoreEntropy()(model, given, generator=keys)
    assert float(values[0].detach()) > 0
    assert float(values[1].detach()) == 0


def test_how_many_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of rows; in those every number from none to all alike: 40,000 rows see 1 %."""
    seen: list[torch.Tensor] = []

    class Watch(losses.ScoreEntropy):
        def __call__(self, model: object, sequences: Sequences, *, generator: object) -> torch.Tensor:  # type: ignore[override]
            assert sequences.given is not None
            seen.append(sequences.given)
            return torch.zeros(len(sequences))

    rows = Sequences(torch.zeros(40_000, 5, dtype=torch.int64), torch.full((40_000,), 4))
    losses.Given(Watch(), share=0.6)(build("uniform", "denoiser"), rows, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(seen[0].sum(-1), minlength=6) / 40_000
    # f uniform: the number of given ones of 4 is uniform on 0 .. 4
    torch.testing.assert_close(counts, torch.tensor([0.4 + 0.12, 0.12, 0.12, 0.12, 0.12, 0.0]), atol=0.01, rtol=0)
    assert not seen[0][:, 4].any()  # padding is never given


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_refusals(share: float) -> None:
    with pytest.raises(IncompatibleError, match="share"):
        losses.Given(losses.ScoreEntropy(), share)
    with pytest.raises(IncompatibleError, match="clamps are exact on this process"):
        losses.Given(losses.AnyOrder()).check(build("absorbing", "conditional"))
