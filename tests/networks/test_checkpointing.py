"""Gradient checkpointing: the same gradients, less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import discdiff as dd
from discdiff.errors import IncompatibleError
from discdiff.networks.base import Context
from discdiff.networks.markov import MarkovChain
from discdiff.networks.transformer import Transformer
from discdiff.parameterizations import Conditional
from tests.networks.test_packing import PACKING, PADDING
from tests.networks.test_transformer import inputs, trained


def gradients(
    network: Transformer, tokens: Tensor, sigma: Tensor | None, context: Context, *, compiled: bool = False
) -> list[Tensor]:
    network.train()
    hidden: Any = network.hidden
    if compiled:
        torch.compiler.reset()  # it keeps a limited number of graphs of one function
        hidden = torch.compile(hidden, backend="aot_eager", fullgraph=True)
    torch.manual_seed(1)  # dropout's masks
    out = hidden(tokens, sigma, context)
    out.square().sum().backward()
    return [out.detach(), *[p.grad for p in network.parameters() if p.grad is not None]]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("pack", [True, False])
def test_same_gradients(generator: torch.Generator, dropout: float, pack: bool) -> None:
    tokens, sigma = inputs(generator)
    context = Context(padding=PADDING, packing=PACKING)
    results = []
    for on in (False, True):
        network = trained(dropout=dropout, pack=pack)
        network.checkpoint_gradients(on)
        results.append(gradients(network, tokens, sigma, context))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, atol=1e-12, rtol=1e-12)


def test_same_gradients_by_blocks(generator: torch.Generator) -> None:
    tokens, _ = inputs(generator)
    results = []
    for on in (False, True):
        network = trained(Conditional(), dropout=0.3, block_size=4)
        network.checkpoint_gradients(on)
        results.append(gradients(network, tokens, None, Context(padding=PADDING, clean=tokens)))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, atol=1e-12, rtol=1e-12)


def test_compiled(generator: torch.Generator) -> None:
    tokens, sigma = inputs(generator)
    results = []
    for on in (False, True):
        network = trained(dropout=0.3, depth=1)
        network.checkpoint_gradients(on)
        results.append(gradients(network, tokens, sigma, Context(), compiled=on))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, atol=1e-12, rtol=1e-12)


def saved_bytes(network: Transformer, tokens: Tensor, sigma: Tensor) -> int:
    """What the forward pass keeps for the backward pass, parameters aside."""
    known = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        network.hidden(tokens, sigma, Context(padding=PADDING))
    return sum(x.untyped_storage().nbytes() for pointer, x in kept.items() if pointer not in known)


def test_little_is_kept(generator: torch.Generator) -> None:
    tokens, sigma = inputs(generator)
    kept = {}
    for depth in (2, 6):
        network = trained(depth=depth, dropout=0.1).train()
        for on in (False, True):
            network.checkpoint_gradients(on)
            kept[depth, on] = saved_bytes(network, tokens, sigma)
    stream = tokens.numel() * network.dim * 8
    assert kept[6, True] - kept[2, True] <= 4 * 1.1 * stream, "a further block keeps its input"
    assert kept[6, False] - kept[2, False] > 4 * 10 * stream


def test_without_gradients_nothing_is_done_twice(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    network = trained()
    network.checkpoint_gradients(True)
    monkeypatch.setattr("discdiff.networks.layers.checkpoint", None)
    with torch.no_grad():
        network.hidden(*inputs(generator), Context())


def test_networks_without_blocks_refuse() -> None:
    network = MarkovChain(torch.tensor([0.5, 0.5]), torch.eye(2), 3)
    network.checkpoint_gradients(False)
    with pytest.raises(IncompatibleError, match=r"MarkovChain.*Transformer.*gradient_checkpointing=False"):
        network.checkpoint_gradients(True)
    model = dd.Diffusion(network, dd.Absorbing(2), dd.LogLinear(), dd.Conditional())
    with pytest.raises(IncompatibleError, match="gradient checkpointing"):
        dd.fit(model, dd.Sequences.full(torch.zeros(4, 2, dtype=torch.int64)), gradient_checkpointing=True)


@pytest.mark.gpu
def test_memory_on_a_gpu() -> None:
    tokens = torch.randint(5, (8, 512), generator=torch.Generator().manual_seed(0)).cuda()
    peak = {}
    for on in (False, True):
        network = trained(Conditional(), dtype=torch.float32, dim=256, depth=6, heads=4).cuda()
        network.checkpoint_gradients(on)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with torch.autocast("cuda", torch.bfloat16):
            network.hidden(tokens, None, Context()).square().sum().backward()
        peak[on] = torch.cuda.max_memory_allocated() - before
    assert peak[True] < peak[False] / 2
