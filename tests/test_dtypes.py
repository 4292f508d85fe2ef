"""float32, float64 and bf16 autocast through the whole path: losses and gradients, laws, bounds, samples.

Noise comes from `Keys`, the same in every dtype: results may then be compared with float64's, number by number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from discdiff import samplers
from discdiff.likelihood import nelbo
from discdiff.losses import (
    D3PM,
    AnyOrder,
    ConcreteScoreMatching,
    ContinuousELBO,
    CrossEntropy,
    GeneralizedKL,
    ImplicitScoreEntropy,
    Loss,
    MaskFractionCrossEntropy,
    ScoreEntropy,
    TimeCrossEntropy,
)
from discdiff.losses.score_entropy import score_entropy_at
from discdiff.model import Diffusion
from discdiff.networks.transformer import Transformer
from discdiff.parameterizations import Conditional, Denoiser, LeaveOneOut, Parameterization, Score
from discdiff.processes.absorbing import Absorbing
from discdiff.processes.base import Process
from discdiff.processes.hybrid import Hybrid
from discdiff.processes.marginal import Marginal
from discdiff.processes.rate_matrix import RateMatrix
from discdiff.processes.uniform import Uniform
from discdiff.randomness import Keys
from discdiff.samplers import (
    Ancestral,
    Argmax,
    Bisection,
    Confidence,
    EntropyBounded,
    Euler,
    FirstHitting,
    Ordered,
    PredictorCorrector,
    Remasking,
    RungeKutta2,
    Sampler,
    TauLeaping,
    Trapezoidal,
    Uniformization,
)
from discdiff.sampling import sample
from discdiff.schedules import Cosine, Geometric, LogLinear, Schedule
from discdiff.sequences import Sequences
from tests.toys import circular_rates

SEQUENCES = Sequences.from_lists([[0, 3, 1, 4, 4, 2, 0], [2, 2, 1, 0, 3], [4]])

MODELS: list[tuple[Process, Parameterization]] = [
    (Absorbing(5), Score()),
    (Absorbing(5), Denoiser()),
    (Absorbing(5), Conditional()),
    (Absorbing(5), LeaveOneOut()),
    (Uniform(5), Score()),
    (Uniform(5), Denoiser()),
    (Uniform(5), LeaveOneOut()),
    *itertools.product(
        [Marginal(5, counts=[9, 4, 2, 1, 1]), Hybrid(5, 0.3), RateMatrix(5, circular_rates(5).tolist())],
        [Score(), Denoiser(), LeaveOneOut()],
    ),
]
LOSSES: list[Loss] = [
    ScoreEntropy(),
    TimeCrossEntropy(),
    MaskFractionCrossEntropy(),
    AnyOrder(),
    ContinuousELBO(),
    ImplicitScoreEntropy(),
    ConcreteScoreMatching(),
    D3PM(steps=8, auxiliary=0.1),
    CrossEntropy(),
    GeneralizedKL(),
]
SAMPLERS: list[Sampler] = [
    Ancestral(),
    Euler(),
    FirstHitting(),
    Ordered(),
    samplers.AnyOrder(),
    Bisection(),
    Confidence("margin", noise=0.1),
    EntropyBounded(),
    TauLeaping(),
    Trapezoidal(),
    RungeKutta2(),
    Remasking(),
    PredictorCorrector(),
    Argmax(),
    Uniformization(),
]
SCHEDULES: list[Schedule] = [LogLinear(), Geometric(), Cosine()]


def serves(part: Loss | Sampler, process: Process, parameterization: Parameterization) -> bool:
    if isinstance(process, Absorbing):
        return True
    if isinstance(part, D3PM | CrossEntropy | GeneralizedKL | Uniformization) and isinstance(parameterization, Score):
        return False
    if isinstance(part, GeneralizedKL) and isinstance(process, RateMatrix):
        return False
    return not only_absorbing(part)


def only_absorbing(part: Loss | Sampler) -> bool:
    if isinstance(part, Sampler):
        return not isinstance(part, Ancestral | Euler | TauLeaping | Trapezoidal | RungeKutta2 | Uniformization)
    return isinstance(part, TimeCrossEntropy | MaskFractionCrossEntropy | AnyOrder)


def pairs(parts: Sequence[Loss | Sampler]) -> list[Any]:
    """Every model with every part that serves its process, for `parametrize`."""
    return [
        pytest.param(
            process,
            parameterization,
            part,
            id="-".join(type(each).__name__ for each in (process, parameterization, part)),
        )
        for process, parameterization in MODELS
        for part in parts
        if serves(part, process, parameterization)
    ]


@dataclass(frozen=True)
class Mode:
    """How the network computes, and how far that may be from float64.

    Attributes:
        rtol: of a loss or bound. bf16 has 8 bits; a network of few layers keeps about two of its digits.
        atol: of a probability.
    """

    name: str
    dtype: torch.dtype
    device: str
    autocast: bool
    rtol: float
    atol: float

    def context(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device, dtype=torch.bfloat16) if self.autocast else nullcontext()


MODES = [
    Mode("float64", torch.float64, "cpu", False, 0.0, 0.0),
    Mode("float32", torch.float32, "cpu", False, 2e-5, 1e-6),
    Mode("bf16", torch.float32, "cpu", True, 0.05, 0.02),
]
FLOAT64 = MODES[0]
GPU_MODES = [
    Mode("float32 on a GPU", torch.float32, "cuda", False, 1e-4, 1e-5),
    Mode("bf16 on a GPU", torch.float32, "cuda", True, 0.05, 0.02),
]


def build(
    process: Process, parameterization: Parameterization, mode: Mode, schedule: Schedule | None = None
) -> Diffusion:
    """A small transformer whose weights are all random; a fresh one says nothing."""
    network = Transformer(process.num_states, dim=16, depth=2, heads=2, cond_dim=16)
    model = Diffusion(network, process, schedule or LogLinear(), parameterization)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.to(mode.device, mode.dtype).eval()


def keys(rows: int = len(SEQUENCES)) -> Keys:
    return Keys(3, torch.arange(rows))


def near(found: Tensor, expected: Tensor, *, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(found.detach().cpu().double(), expected.detach(), rtol=rtol, atol=atol)


def losses_and_gradients(model: Diffusion, loss: Loss, mode: Mode) -> tuple[Tensor, Tensor]:
    with mode.context():
        values = loss(model, SEQUENCES.to(mode.device), generator=keys())
        (values.sum() / SEQUENCES.lengths.sum()).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert {gradient.dtype for gradient in gradients} == {mode.dtype}
    return values, torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize(("process", "parameterization", "loss"), pairs(LOSSES))
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_loss_and_gradient(process: Process, parameterization: Parameterization, loss: Loss, mode: Mode) -> None:
    """Nats in float32 at least, whatever the network computes in; the gradient points where float64's does."""
    values, gradient = losses_and_gradients(build(process, parameterization, mode), loss, mode)
    assert values.dtype == mode.dtype
    assert bool(torch.isfinite(gradient).all())
    expected, direction = losses_and_gradients(build(process, parameterization, FLOAT64), loss, FLOAT64)
    near(values, expected, rtol=mode.rtol)
    cosine = torch.cosine_similarity(gradient.cpu().double(), direction, dim=0)
    assert float(cosine) > 1 - max(mode.rtol, 1e-9) / 2


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("mode", MODES[1:], ids=lambda mode: mode.name)
def test_ends_of_the_schedule(
    process: Process, parameterization: Parameterization, schedule: Schedule, mode: Mode
) -> None:
    """At t_min and at 1 the score entropy and its gradient are finite in float32, and right."""
    ends = []
    for each in (mode, FLOAT64):
        model = build(process, parameterization, each, schedule)
        t = torch.tensor([[schedule.t_min], [1.0], [0.5]], dtype=torch.float64, device=each.device)
        with each.context():
            values = score_entropy_at(model, SEQUENCES.to(each.device), t, generator=keys())
            values.sum().backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
        ends.append(values)
    near(ends[0], ends[1], rtol=2 * mode.rtol, atol=1e-9)


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
@pytest.mark.parametrize("mode", MODES[1:], ids=lambda mode: mode.name)
def test_laws(process: Process, parameterization: Parameterization, mode: Mode) -> None:
    """Posteriors sum to 1 in float32's digits, under autocast too, and are near float64's.

    The inverse of exp(ΔσQ), which a score's posterior takes, magnifies rounding by e^Δσ.
    """
    tokens = torch.tensor([[0, process.num_states - 1, 2, 4], [process.num_states - 1, 1, 1, 3]])
    # Scores of a general Q take no longer step in float32: exp(-ΔσQ) cannot be applied to them.
    longest = 5.0 if isinstance(process, RateMatrix) and isinstance(parameterization, Score) else 6.9
    for sigma, sigma_next in ((1e-4, 0.0), (0.5, 0.4999), (2.0, 0.1), (longest, 0.0)):
        laws = []
        for each in (mode, FLOAT64):
            noise, after = (torch.full((2, 1), s, dtype=each.dtype, device=each.device) for s in (sigma, sigma_next))
            with torch.no_grad(), each.context():
                prediction = build(process, parameterization, each).predict(tokens.to(each.device), noise)
                posterior = prediction.posterior(after)
            assert posterior.dtype == each.dtype
            assert float((posterior.sum(-1) - 1).abs().max()) < 1e-5
            laws.append(posterior)
        inverse = math.exp(sigma - sigma_next) if isinstance(parameterization, Score) else 1.0
        near(laws[0], laws[1], atol=max(mode.atol, 1e-7 * inverse))


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_bound(process: Process, parameterization: Parameterization, mode: Mode) -> None:
    bounds = []
    for each in (mode, FLOAT64):
        with each.context():
            bounds.append(nelbo(build(process, parameterization, each), SEQUENCES, generator=keys(), samples=4))
    found, expected = bounds
    assert found.total.dtype == torch.float64
    assert bool(torch.isfinite(found.standard_errors).all())
    near(found.total, expected.total, rtol=mode.rtol)
    near(found.prior, expected.prior, rtol=1e-5)


@pytest.mark.parametrize(("process", "parameterization", "sampler"), pairs(SAMPLERS))
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_samples(process: Process, parameterization: Parameterization, sampler: Sampler, mode: Mode) -> None:
    """Clean tokens from every sampler, one network evaluation a step or a token at most, and a sweep."""
    lengths = torch.tensor([9, 4, 1, 9])
    steps = 20 if isinstance(process, RateMatrix) and isinstance(parameterization, Score) else 5
    with mode.context():
        out = sample(
            build(process, parameterization, mode),
            len(lengths),
            lengths=lengths,
            sampler=sampler,
            steps=steps if sampler.takes_steps else None,
            generator=keys(len(lengths)),
        )
    assert int(out.tokens.min()) >= 0
    assert int(out.tokens.max()) < process.vocab_size
    assert out.calls is not None
    sweeps = 1 if isinstance(sampler, PredictorCorrector) else 0
    if isinstance(sampler, Uniformization):  # its calls are random
        return
    assert bool((out.calls.cpu() <= (steps if sampler.takes_steps else (1 + sweeps) * lengths)).all())


@pytest.mark.gpu
@pytest.mark.parametrize("mode", GPU_MODES, ids=lambda mode: mode.name)
def test_on_a_gpu(mode: Mode) -> None:
    """The same noise gives the same losses, gradients, laws and bounds there, and every sampler runs."""
    for process, parameterization, loss in (parameters.values for parameters in pairs(LOSSES)):
        test_loss_and_gradient(process, parameterization, loss, mode)
    for process, parameterization in MODELS:
        test_laws(process, parameterization, mode)
        test_bound(process, parameterization, mode)
    for process, parameterization, sampler in (parameters.values for parameters in pairs(SAMPLERS)):
        test_samples(process, parameterization, sampler, mode)
