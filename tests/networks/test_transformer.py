"""The transformer: what it may and may not depend on, dtypes, initialisation, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.networks.base import Context
from discdiff.networks.transformer import Transformer
from discdiff.parameterizations import Conditional, Denoiser, Parameterization, Score
from discdiff.processes import Absorbing, Process, Uniform

V, B, L = 5, 3, 9


def bare(
    parameterization: Parameterization | None = None,
    process: Process | None = None,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> Transformer:
    """A small network as it starts out, in eval mode."""
    process = process or Absorbing(V)
    sizes = {"dim": 24, "depth": 2, "heads": 3, "cond_dim": 16} | options
    network = Transformer(process.num_states, **sizes)
    network.configure(process, parameterization or Score())
    return network.to(dtype).eval()


def trained(*args: Any, **options: Any) -> Transformer:
    """A small network with every parameter random, as after training."""
    network = bare(*args, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype), alpha=0.2)
    return network


def inputs(generator: torch.Generator, length: int = L) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(V, (B, length), generator=generator)
    return tokens, torch.rand(B, 1, generator=generator, dtype=torch.float64)


def logits(network: Transformer, tokens: Tensor, sigma: Tensor | None, **context: Tensor) -> Tensor:
    return network.head(network.hidden(tokens, sigma, Context(**context)))  # type: ignore[arg-type]


KINDS = {"score": Score(), "denoiser": Denoiser(), "conditional": Conditional()}


@pytest.mark.parametrize("parameterization", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_shapes_and_dtypes(generator: torch.Generator, parameterization: Parameterization, dtype: torch.dtype) -> None:
    network = trained(parameterization, dtype=dtype)
    tokens, sigma = inputs(generator)
    hidden = network.hidden(tokens, sigma.float() if parameterization.time_conditioned else None, Context())
    assert hidden.shape == (B, L, 24)
    assert hidden.dtype == dtype
    out = network.head(hidden[tokens == 0])
    assert out.shape == (int((tokens == 0).sum()), V if isinstance(parameterization, Denoiser) else V + 1)
    assert out.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("parameterization", KINDS.values(), ids=KINDS)
def test_autocast_stays_inside(generator: torch.Generator, parameterization: Parameterization) -> None:
    network = trained(parameterization, dtype=torch.float32)
    tokens, sigma = inputs(generator)
    exact = logits(network, tokens, sigma.float())
    with torch.autocast("cpu", torch.bfloat16):
        hidden = network.hidden(tokens, sigma.float(), Context())
        out = network.head(hidden)
    assert out.dtype == torch.float32
    assert 0 < (out - exact).abs().max() < 0.1 * exact.abs().max()
    assert torch.equal(out, network.head(hidden))  # the head itself is not rounded
    out.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("parameterization", KINDS.values(), ids=KINDS)
def test_starts_uninformed(generator: torch.Generator, parameterization: Parameterization) -> None:
    network = bare(parameterization, num_labels=2)
    tokens, sigma = inputs(generator)
    assert not logits(network, tokens, sigma).any()
    assert network.hidden(tokens, sigma, Context()).any()


def test_conditioned_blocks_start_as_the_identity(generator: torch.Generator) -> None:
    network = bare()
    tokens, sigma = inputs(generator)
    torch.testing.assert_close(network.hidden(tokens, sigma, Context()), network.norm(network.tokens(tokens)))


def test_initialisation_is_the_seed_s(generator: torch.Generator) -> None:
    states = []
    for seed, other in ((3, 0), (3, 17), (4, 0)):
        torch.manual_seed(other)
        before = torch.get_rng_state()
        states.append(bare(num_labels=4, seed=seed).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["tokens.weight"], states[2]["tokens.weight"])
    assert all(value.isfinite().all() for value in states[0].values())


@pytest.mark.parametrize("parameterization", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("segmented", [False, True])
def test_padding_is_invisible(generator: torch.Generator, parameterization: Parameterization, segmented: bool) -> None:
    network = trained(parameterization)
    tokens, sigma = inputs(generator)
    lengths = torch.tensor([L, 4, 1])
    context = {"padding": torch.arange(L) >= lengths[:, None]}
    if segmented:
        context["segments"] = torch.zeros(B, L, dtype=torch.int64)
    out = logits(network, tokens, sigma, **context)
    longer = {name: torch.nn.functional.pad(value, (0, 5), value=1) for name, value in context.items()}
    wider = logits(network, torch.nn.functional.pad(tokens, (0, 5), value=2), sigma, **longer)
    for row, length in enumerate(lengths):
        alone = logits(network, tokens[row : row + 1, :length], sigma[row : row + 1])[0]
        torch.testing.assert_close(out[row, :length], alone, atol=1e-10, rtol=0)
        torch.testing.assert_close(wider[row, :length], alone, atol=1e-10, rtol=0)


def test_padded_rows_give_no_nan(generator: torch.Generator) -> None:
    network = trained().train()
    tokens, sigma = inputs(generator)
    out = logits(network, tokens, sigma, padding=torch.ones(B, L, dtype=torch.bool))
    assert out.isfinite().all()
    out.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_packed_sequences_equal_separate_ones(generator: torch.Generator) -> None:
    network = trained()
    tokens, _ = inputs(generator)
    segments = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2]).expand(B, L)
    per_segment = torch.rand(B, 3, generator=generator, dtype=torch.float64)
    sigma = per_segment.gather(1, segments)
    out = logits(network, tokens, sigma, segments=segments)
    for segment in range(3):
        own = segments[0] == segment
        alone = logits(network, tokens[:, own], per_segment[:, segment : segment + 1])
        torch.testing.assert_close(out[:, own], alone, atol=1e-10, rtol=0)


@pytest.mark.parametrize("kernel", [0, 3])
def test_only_relative_positions_matter(generator: torch.Generator, kernel: int) -> None:
    """Attention follows the position ids; local mixing, where there is any, the order in which tokens stand."""
    network = trained(kernel=kernel)
    tokens, sigma = inputs(generator)
    out = logits(network, tokens, sigma)
    positions = torch.arange(L).expand(B, L)
    torch.testing.assert_close(logits(network, tokens, sigma, positions=positions), out)
    torch.testing.assert_close(logits(network, tokens, sigma, positions=positions + 100), out, atol=1e-10, rtol=0)
    order = torch.randperm(L, generator=generator)
    moved = logits(network, tokens[:, order], sigma, positions=positions[:, order])
    same = bool(((moved - out[:, order]).abs() < 1e-10).all())
    assert same == (kernel == 0)
    assert (logits(network, tokens, sigma, positions=2 * positions) - out).abs().max() > 1e-3


def test_attention_looks_both_ways(generator: torch.Generator) -> None:
    network = trained()
    tokens, sigma = inputs(generator)
    out = logits(network, tokens, sigma)
    for end in (0, L - 1):
        changed = tokens.clone()
        changed[:, end] = (changed[:, end] + 1) % V
        assert ((logits(network, changed, sigma) - out).abs().amax(-1) > 1e-6).all()


def test_sigma_per_row_or_position(generator: torch.Generator) -> None:
    network = trained()
    tokens, sigma = inputs(generator)
    out = logits(network, tokens, sigma)
    torch.testing.assert_close(logits(network, tokens, sigma.expand(B, L)), out)
    assert (logits(network, tokens, sigma + 0.1) - out).abs().max() > 1e-3


def test_time_free_networks_hold_nothing_of_time(generator: torch.Generator) -> None:
    network = trained(Conditional())
    assert not any("noise" in name or "modulation" in name for name in network.state_dict())
    tokens, sigma = inputs(generator)
    assert torch.equal(logits(network, tokens, None), logits(network, tokens, sigma))


@pytest.mark.parametrize("parameterization", KINDS.values(), ids=KINDS)
def test_labels_and_the_null_label(generator: torch.Generator, parameterization: Parameterization) -> None:
    network = trained(parameterization, num_labels=2)
    tokens, sigma = inputs(generator)
    out = logits(network, tokens, sigma, labels=torch.tensor([0, 1, -1]))
    none = logits(network, tokens, sigma)
    torch.testing.assert_close(none[2], out[2])
    assert all((none[row] - out[row]).abs().max() > 1e-3 for row in (0, 1))
    swapped = logits(network, tokens, sigma, labels=torch.tensor([1, 0, -1]))
    assert (swapped[0] - out[0]).abs().max() > 1e-3
    for wrong in (2, -2):
        with pytest.raises(IndexError):
            logits(network, tokens, sigma, labels=torch.tensor([0, 1, wrong]))


def test_frozen_positions(generator: torch.Generator) -> None:
    tokens, sigma = inputs(generator)
    frozen = torch.rand(B, L, generator=generator) < 0.5
    fresh = bare(process=Uniform(V))
    torch.nn.init.normal_(fresh.output.weight, generator=generator)
    assert torch.equal(logits(fresh, tokens, sigma, frozen=frozen), logits(fresh, tokens, sigma))
    network = trained(process=Uniform(V))
    out = logits(network, tokens, sigma)
    assert (logits(network, tokens, sigma, frozen=frozen) - out).abs().max() > 1e-3
    torch.testing.assert_close(logits(network, tokens, sigma, frozen=torch.zeros_like(frozen)), out)
    assert not bare(process=Absorbing(V)).frozen.requires_grad


@pytest.mark.parametrize("process", [Absorbing(V), Uniform(V)], ids=["absorbing", "uniform"])
@pytest.mark.parametrize("num_labels", [None, 2])
def test_gradient_reaches_every_parameter(generator: torch.Generator, process: Process, num_labels: int | None) -> None:
    network = trained(process=process, num_labels=num_labels).train()
    tokens, sigma = inputs(generator)
    labels = {} if num_labels is None else {"labels": torch.tensor([0, 1, -1])}
    logits(network, tokens, sigma, **labels).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert name == "frozen" or parameter.grad.any(), name  # type: ignore[union-attr]


def test_dropout_only_in_training(generator: torch.Generator) -> None:
    network = trained(dropout=0.5)
    tokens, sigma = inputs(generator)
    assert torch.equal(logits(network, tokens, sigma), logits(network, tokens, sigma))
    network.train()
    assert not torch.equal(logits(network, tokens, sigma), logits(network, tokens, sigma))


def test_rows_do_not_mix(generator: torch.Generator) -> None:
    network = trained(num_labels=2)
    tokens, sigma = inputs(generator)
    context = Context(padding=torch.arange(L) >= torch.tensor([[L], [4], [1]]), labels=torch.tensor([0, -1, 1]))
    whole = network.hidden(tokens, sigma, context)
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(network.hidden(tokens[rows], sigma[rows], context.index(rows)), whole[rows])


def test_configuring_twice() -> None:
    network = bare(Score())
    before = network.state_dict()["tokens.weight"]
    network.configure(Absorbing(V), Score())
    assert network.state_dict()["tokens.weight"] is not None
    assert torch.equal(network.state_dict()["tokens.weight"], before)
    with pytest.raises(IncompatibleError, match="configured before"):
        network.configure(Absorbing(V), Conditional())
    with pytest.raises(IncompatibleError, match=r"num_states=6.*7.*Absorbing"):
        network.configure(Absorbing(V + 1), Score())


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"dim": 30, "heads": 4}, "multiple of 2 \\* heads.*Try dim=32"),
        ({"depth": 0}, "depth=0"),
        ({"dropout": 1.0}, "dropout"),
        ({"num_labels": 0}, "num_labels"),
        ({"backend": "cudnn"}, "'cudnn'.*'sdpa'"),
        ({"kernel": 4}, "kernel: got 4, expected 0 or an odd number"),
        ({"kernel": -1}, "kernel: got -1"),
        ({"gelu": "erf"}, 'gelu: got \'erf\', expected "exact" or "tanh"'),
    ],
    ids=str,
)
def test_sizes_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(IncompatibleError, match=why):
        Transformer(V, **options)


def test_inputs_refused(generator: torch.Generator) -> None:
    tokens, sigma = inputs(generator)
    with pytest.raises(IncompatibleError, match=r"Wrap it in a Diffusion"):
        Transformer(V + 1).hidden(tokens, sigma, Context())
    network = bare()
    for wrong in (None, sigma[:, 0], sigma.expand(B, L - 1)):
        with pytest.raises(IncompatibleError, match=r"\[B, 1\] or \[B, L\]"):
            network.hidden(tokens, wrong, Context())
    with pytest.raises(IncompatibleError, match="num_labels"):
        network.hidden(tokens, sigma, Context(labels=torch.zeros(B, dtype=torch.int64)))
    with pytest.raises(IncompatibleError, match="properties"):
        network.hidden(tokens, sigma, Context(properties=torch.zeros(B, 1)))


def test_traces_into_one_graph(generator: torch.Generator) -> None:
    """Nothing in the forward pass depends on values, so compilers see one graph."""
    network = trained(dtype=torch.float32, num_labels=2)
    tokens, sigma = inputs(generator)
    sigma, padding = sigma.float(), torch.arange(L) >= torch.tensor([[L], [4], [1]])
    compiled = torch.compile(network.hidden, backend="eager", fullgraph=True)
    context = Context(padding=padding, labels=torch.tensor([0, -1, 1]))
    torch.testing.assert_close(compiled(tokens, sigma, context), network.hidden(tokens, sigma, context))
