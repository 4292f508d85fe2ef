"""Batches without their padding: what the network says of real tokens is what it says of padded rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import discdiff as dd
from discdiff.errors import IncompatibleError
from discdiff.losses.base import context_of
from discdiff.networks.attention import BACKENDS
from discdiff.networks.base import Context
from discdiff.networks.kernels import variable_length
from discdiff.networks.packing import Packing
from discdiff.networks.transformer import Transformer
from discdiff.networks.visibility import Visibility
from discdiff.parameterizations import Conditional, Score
from discdiff.processes import Uniform
from discdiff.sequences import Sequences
from tests.networks.test_kernels import by_sequence
from tests.networks.test_local_mixing import by_hand, layer
from tests.networks.test_transformer import B, L, inputs, trained

LENGTHS = torch.tensor([L, 4, 1])
PADDING = torch.arange(L) >= LENGTHS[:, None]
PACKING = Packing.of(LENGTHS, L, L + 5)


def test_places_by_hand() -> None:
    packing = Packing.of(torch.tensor([2, 0, 3]), 4, 5)
    assert packing.rows.tolist() == [0, 0, 2, 2, 2]
    assert packing.places.tolist() == [0, 1, 8, 9, 10]
    assert packing.positions.tolist() == [[0, 1, 0, 1, 2]]
    assert packing.cu_seqlens.tolist() == [0, 2, 2, 5]
    assert packing.cu_seqlens.dtype == torch.int32
    assert packing.padding.tolist() == [[False, False, True, True], [True] * 4, [False] * 3 + [True]]
    assert packing.gapped(2).tolist() == [0, 1, 6, 7, 8]


def test_pack_and_unpack() -> None:
    x = torch.arange(1.0, 13).view(3, 4)
    packing = Packing.of(torch.tensor([2, 0, 3]), 4, 5)
    assert packing.pack(x).tolist() == [[1, 2, 9, 10, 11]]
    assert packing.unpack(packing.pack(x)).tolist() == [[1, 2, 0, 0], [0] * 4, [9, 10, 11, 0]]
    assert packing.spread(x[:, :1, None])[..., 0].tolist() == [[1, 1, 9, 9, 9]]
    assert packing.spread(x[..., None])[..., 0].tolist() == [[1, 2, 9, 10, 11]]


@pytest.mark.parametrize("width", [1, 3, 9, 17])
def test_local_mixing_stays_within_sequences(generator: torch.Generator, width: int) -> None:
    mixing, x = layer(width), torch.randn(3, L, 3, generator=generator, dtype=torch.float64)
    packed = mixing(PACKING.pack(x), Visibility(packing=PACKING))
    torch.testing.assert_close(packed[0], by_hand(mixing, x, PADDING, None)[~PADDING], atol=1e-12, rtol=0)


def frozen(generator: torch.Generator) -> Tensor:
    return torch.rand(B, L, generator=generator) < 0.3


LABELS = torch.tensor([1, -1, 0])
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "time": ({}, {}),
    "time-free": ({"parameterization": Conditional()}, {}),
    "labels": ({"num_labels": 2}, {"labels": LABELS}),
    "labels, time-free": ({"num_labels": 2, "parameterization": Conditional()}, {"labels": LABELS}),
    "frozen": ({"parameterization": Score(), "process": Uniform(5)}, {"frozen": frozen}),
    "positions": ({}, {"positions": torch.arange(L).flip(0).expand(B, L)}),
    "no mixing": ({"kernel": 0}, {}),
}


@pytest.mark.parametrize("backend", ["sdpa", "varlen"])
@pytest.mark.parametrize("per_position", [False, True], ids=["a row", "a position"])
@pytest.mark.parametrize(("options", "shown"), CASES.values(), ids=CASES)
def test_packed_is_padded(
    generator: torch.Generator, options: dict[str, Any], shown: dict[str, Any], backend: str, per_position: bool
) -> None:
    """Hidden states of real tokens, and the gradients of all parameters."""
    tokens, sigma = inputs(generator)
    sigma = (torch.rand(B, L, generator=generator) if per_position else sigma).float()
    made = {name: value(generator) if callable(value) else value for name, value in shown.items()}
    context = Context(padding=PADDING, packing=PACKING, **made)
    weights = torch.randn(B, L, 24, generator=generator).masked_fill(PADDING[..., None], 0)
    results = []
    stand_in = replace(BACKENDS["varlen"], run=variable_length(by_sequence), obstacle=lambda request: None)
    with patch.dict(BACKENDS, varlen=stand_in):
        for pack in (True, False):
            network = trained(dtype=torch.float32, backend=backend, pack=pack, **options)
            out = network.hidden(tokens, sigma, context)
            assert out.shape == (B, L, 24)
            assert bool((out[PADDING] == 0).all()) == pack
            (out * weights).sum().backward()
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            assert len(gradients) > 10
            results.append([out[~PADDING], *gradients])
    for packed, padded in zip(*results, strict=True):
        torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-4)


class Positions(TorchDispatchMode):
    """Sees every operation; keeps the widths that linear layers are applied to, and what would make a GPU wait."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: set[int] = set()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("nonzero", "_local_scalar_dense", "masked_select", "unique_dim", "_unique2"):
            self.waits.append(name)
        if name in ("mm", "addmm"):
            self.rows.add(args[-2].shape[0])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("backend", ["sdpa", "varlen"])
def test_only_real_tokens_are_computed_and_nobody_waits(generator: torch.Generator, backend: str) -> None:
    tokens, _ = inputs(generator)
    context = Context(padding=PADDING, packing=PACKING)

    def same(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int) -> Tensor:
        return v

    stand_in = replace(BACKENDS["varlen"], run=variable_length(same), obstacle=lambda request: None)
    with patch.dict(BACKENDS, varlen=stand_in):
        network = trained(Conditional(), backend=backend, pack=True)
        with Positions() as seen:
            network.hidden(tokens, None, context)
    assert seen.rows == {L + 5}
    assert not seen.waits


def test_a_kernel_of_variable_length_needs_no_count(generator: torch.Generator) -> None:
    """Rows that come with padding but without a packing, as when sampling: still nothing is read off the device."""
    tokens, _ = inputs(generator)

    def same(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int) -> Tensor:
        return v

    stand_in = replace(BACKENDS["varlen"], run=variable_length(same), obstacle=lambda request: None)
    with patch.dict(BACKENDS, varlen=stand_in):
        network = trained(Conditional(), backend="varlen")
        with Positions() as seen:
            network.hidden(tokens, None, Context(padding=PADDING))
    assert seen.rows == {B * L}
    assert not seen.waits


@pytest.mark.parametrize(("backend", "pack", "packs"), [("auto", None, False), ("auto", True, True)])
def test_when_padding_is_left_out_on_cpu(
    generator: torch.Generator, backend: str, pack: bool | None, packs: bool
) -> None:
    tokens, _ = inputs(generator)
    network = trained(Conditional(), backend=backend, pack=pack)
    with Positions() as seen:
        network.hidden(tokens, None, Context(padding=PADDING, packing=PACKING))
    assert seen.rows == {L + 5 if packs else B * L}


def test_segments_are_not_packed(generator: torch.Generator) -> None:
    network = trained(Conditional(), pack=True)
    tokens, _ = inputs(generator)
    context = Context(padding=PADDING, segments=torch.arange(L).expand(B, L) // 2)
    with_packing = network.hidden(tokens, None, replace(context, packing=PACKING))
    torch.testing.assert_close(with_packing, network.hidden(tokens, None, context), atol=0, rtol=0)


def test_blocks_are_not_packed(generator: torch.Generator) -> None:
    """A block-causal network sees the clean sequence beside the noised one, padding and all, and says so."""
    tokens, _ = inputs(generator)
    network = trained(Conditional(), pack=True, block_size=4)
    assert not network.leaves_out_padding(torch.device("cpu"))
    assert trained(pack=True).leaves_out_padding(torch.device("cpu"))
    with Positions() as seen:
        network.hidden(tokens, None, Context(padding=PADDING, packing=PACKING, clean=tokens))
    assert seen.rows == {2 * B * L}


def test_a_backend_that_cannot_pack_says_so(generator: torch.Generator) -> None:
    tokens, _ = inputs(generator)
    network = trained(Conditional(), backend="varlen")
    with pytest.raises(IncompatibleError, match=r"'varlen'.*runs on CUDA.*backend='auto'"):
        network.hidden(tokens, None, Context(padding=PADDING, packing=PACKING))


def test_one_graph_for_all_batches(generator: torch.Generator) -> None:
    network = trained(dtype=torch.float32, pack=True, depth=1)
    graphs = []

    def count(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()  # it keeps a limited number of graphs of one function
    compiled = torch.compile(network.hidden, dynamic=True, backend=count, fullgraph=True)
    for lengths in ([9, 4, 2], [8, 7, 6], [5, 11, 3]):
        sequences = Sequences.from_lists([[1] * length for length in lengths])
        sigma, context = torch.rand(3, 1, generator=generator), context_of(sequences)
        ours, expected = (hidden(sequences.tokens, sigma, context) for hidden in (compiled, network.hidden))
        torch.testing.assert_close(ours, expected)
    assert len(graphs) == 1


def test_loss_and_gradient_without_padding() -> None:
    sequences = Sequences.from_lists([[1, 2, 3, 0, 1, 2], [3, 0], [1], [2, 2, 0, 1]])
    process = dd.Absorbing(4)
    results = []
    for pack in (True, False):
        network = Transformer(process.num_states, dim=16, depth=2, heads=2, pack=pack)
        model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
        with torch.no_grad():
            network.output.weight.normal_(generator=torch.Generator().manual_seed(0))
        values = dd.losses.AnyOrder()(model, sequences, generator=torch.Generator().manual_seed(1))
        values.sum().backward()
        results.append([values, *[p.grad for p in model.parameters() if p.grad is not None]])
    for packed, padded in zip(*results, strict=True):
        torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-4)


# ---- the way there -------------------------------------------------------------------------------------------------
def test_context_of_a_batch() -> None:
    sequences = Sequences.from_lists([[1, 2], [3]])
    context = context_of(sequences)
    assert context.padding is not None
    assert context.packing is not None
    assert context.packing.places.tolist() == [0, 1, 2]
    positions = context.packed().positions
    assert positions is not None
    assert positions.tolist() == [[0, 1, 0]], "rotary angles stay small, however many tokens there are"
    assert context.index(torch.tensor([1])).packing is None
    full = context_of(sequences[:1])
    assert full.padding is None
    assert full.packing is None


def test_nothing_is_read_off_the_device() -> None:
    """On the meta device there is nothing to read: reading fails."""
    sequences = Sequences.from_lists([[1, 2], [3]], labels=[0, 1])
    away = sequences.to("meta")
    assert away.known_lengths is not None
    assert away.known_lengths.tolist() == [2, 1]
    context = context_of(away)
    assert context.packing is not None
    assert context.packing.places.shape == (3,)
    assert context_of(sequences[:1].to("meta")).packing is None
    assert away[:1].known_lengths is None  # other rows have other lengths


@pytest.mark.gpu
def test_packed_on_a_gpu_without_waiting() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(5, (length,), generator=generator) for length in (65, 30, 1, 64)]
    sequences = Sequences.from_lists(rows).to("cuda")
    results = []
    for pack in (None, False):
        network = trained(Conditional(), dtype=torch.float32, dim=128, heads=4, pack=pack).cuda()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            with torch.autocast("cuda", torch.bfloat16):
                out = network.hidden(sequences.tokens, None, context_of(sequences))
                out.square().sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert bool((out[sequences.padding] == 0).all()) == (pack is None)
        results.append(out[~sequences.padding].float())
    torch.testing.assert_close(*results, atol=5e-2, rtol=5e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", [0, 9])
def test_packed_and_compiled_on_a_gpu(kernel: int) -> None:
    generator = torch.Generator().manual_seed(0)
    network = trained(Conditional(), dtype=torch.float32, dim=128, heads=4, kernel=kernel).cuda()
    device = torch.device("cuda", torch.cuda.current_device())
    torch.compiler.reset()
    compiled = torch.compile(network.hidden, dynamic=True)
    for lengths in ((65, 30, 1, 64), (40, 39, 38, 12), (70, 5, 6, 7)):
        rows = [torch.randint(5, (length,), generator=generator) for length in lengths]
        sequences = Sequences.from_lists(rows).to(device)
        results = []
        for hidden in (compiled, network.hidden):
            with torch.autocast("cuda", torch.bfloat16):
                assert network.leaves_out_padding(device)
                out = hidden(sequences.tokens, None, context_of(sequences))
                (gradient,) = torch.autograd.grad(out.square().sum(), network.hidden_matrices()[0])
            results.append([out[~sequences.padding].float(), gradient / gradient.norm()])
        for one, two in zip(*results, strict=True):
            torch.testing.assert_close(one, two, atol=5e-2, rtol=5e-2)
