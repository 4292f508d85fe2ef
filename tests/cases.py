"""Every plug-in in one line; conformance tests apply to each, and to every combination that exists.

Adding a process, schedule, parameterisation, loss, sampler or constraint means adding its line here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from discdiff import constraints, losses, samplers
from discdiff.constraints import Constraint
from discdiff.losses import Loss
from discdiff.model import Diffusion
from discdiff.networks import Network
from discdiff.networks.exact import Exact
from discdiff.parameterizations import Conditional, Denoiser, Parameterization, Score
from discdiff.processes import Absorbing, Process, Uniform
from discdiff.samplers import Sampler
from discdiff.schedules import Cosine, Geometric, LogLinear, Schedule
from tests.toy_networks import Tabulated
from tests.toys import DENSE, Array, Toy, absorbing_rates, transition_matrix, uniform_rates


@dataclass(frozen=True)
class ProcessCase:
    """A process and, written down independently, its rate matrix Q[y, x]."""

    make: Callable[[int], Process]
    rates: Callable[[int], Array]
    masked: bool

    def transition(self, vocab_size: int, sigma: float) -> Array:
        """exp(σQ) by SciPy."""
        return transition_matrix(self.rates(vocab_size), sigma)


@dataclass(frozen=True)
class LossCase:
    """A loss, what its first random number picks, and the processes that it is for."""

    make: Callable[[], Loss]
    over: Literal["time", "fraction", "count"]
    absorbing_only: bool


@dataclass(frozen=True)
class SamplerCase:
    """A sampler, whether its law is the model's exactly, and what it is for.

    Attributes:
        corrects: its number of calls isn't that of steps or tokens.
        calls: network calls of a step, but for the last.
        random: whether two runs differ.
        needs_denoiser: it is not for score networks off the absorbing process.
    """

    make: Callable[[], Sampler]
    exact: bool
    absorbing_only: bool
    corrects: bool = False
    calls: int = 1
    needs_denoiser: bool = False
    random: bool = True


PROCESSES: dict[str, ProcessCase] = {
    "absorbing": ProcessCase(Absorbing, absorbing_rates, masked=True),
    "uniform": ProcessCase(Uniform, uniform_rates, masked=False),
}
SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "log_linear": LogLinear,
    "geometric": Geometric,
    "cosine": Cosine,
}
PARAMETERIZATIONS: dict[str, Callable[[], Parameterization]] = {
    "score": Score,
    "denoiser": Denoiser,
    "conditional": Conditional,
}
LOSSES: dict[str, LossCase] = {
    "dse": LossCase(losses.ScoreEntropy, "time", absorbing_only=False),
    "t_dce": LossCase(losses.TimeCrossEntropy, "time", absorbing_only=True),
    "lambda_dce": LossCase(losses.MaskFractionCrossEntropy, "fraction", absorbing_only=True),
    "k_dce": LossCase(losses.AnyOrder, "count", absorbing_only=True),
}
SAMPLERS: dict[str, SamplerCase] = {
    "ancestral": SamplerCase(samplers.Ancestral, exact=False, absorbing_only=False),
    "euler": SamplerCase(samplers.Euler, exact=False, absorbing_only=False),
    "tau_leaping": SamplerCase(samplers.TauLeaping, exact=False, absorbing_only=False),
    "trapezoidal": SamplerCase(samplers.Trapezoidal, exact=False, absorbing_only=False, calls=2),
    "runge_kutta": SamplerCase(samplers.RungeKutta2, exact=False, absorbing_only=False, calls=2),
    "remasking": SamplerCase(samplers.Remasking, exact=False, absorbing_only=True, corrects=True),
    "remasking_by_confidence": SamplerCase(
        lambda: samplers.Remasking("confidence", 0.5), exact=False, absorbing_only=True, corrects=True
    ),
    "argmax": SamplerCase(samplers.Argmax, exact=False, absorbing_only=True, random=False),
    "forward_backward": SamplerCase(
        lambda: samplers.PredictorCorrector(samplers.Ancestral(), samplers.ForwardBackward(0.2), sweeps=1),
        exact=False,
        absorbing_only=False,
        corrects=True,
    ),
    "uniformization": SamplerCase(
        samplers.Uniformization, exact=False, absorbing_only=False, corrects=True, needs_denoiser=True
    ),
    "first_hitting": SamplerCase(samplers.FirstHitting, exact=True, absorbing_only=True),
    "ordered": SamplerCase(samplers.Ordered, exact=True, absorbing_only=True),
    "left_to_right": SamplerCase(lambda: samplers.Ordered("left_to_right"), exact=True, absorbing_only=True),
    "predictor_corrector": SamplerCase(
        lambda: samplers.PredictorCorrector(sweeps=0.5), exact=True, absorbing_only=True, corrects=True
    ),
    "gibbs": SamplerCase(
        lambda: samplers.PredictorCorrector(samplers.Ancestral(), sweeps=1, final_sweeps=0),
        exact=False,
        absorbing_only=False,
        corrects=True,
    ),
}


def _set(*tokens: int, vocab_size: int) -> torch.Tensor:
    return torch.zeros(vocab_size, dtype=torch.bool).index_fill(0, torch.tensor(tokens), True)


def _allowed(vocab_size: int, length: int) -> torch.Tensor:
    """Position 0 has one token, position 1 all but the first, position 2 the first or the last; the rest is free."""
    table = torch.ones(length, vocab_size, dtype=torch.bool)
    table[0] = _set(1, vocab_size=vocab_size)
    table[1, 0] = False
    if length > 2:
        table[2] = _set(0, vocab_size - 1, vocab_size=vocab_size)
    return table


def _clamp(vocab_size: int, length: int) -> constraints.Clamp:
    given = torch.arange(length) % 2 == 1
    return constraints.Clamp(torch.full((length,), vocab_size - 1), given)


@dataclass(frozen=True)
class ConstraintCase:
    """A constraint for sequences of given vocabulary and length; whether it needs a denoiser (`restricts_draws`)."""

    make: Callable[[int, int], Constraint]
    needs_denoiser: bool


CONSTRAINTS: dict[str, ConstraintCase] = {
    "none": ConstraintCase(lambda V, L: constraints.Unconstrained(), needs_denoiser=False),
    "clamp": ConstraintCase(_clamp, needs_denoiser=False),
    "allowed": ConstraintCase(lambda V, L: constraints.Allowed(_allowed(V, L)), needs_denoiser=True),
    "both": ConstraintCase(lambda V, L: constraints.Allowed(_allowed(V, L)) & _clamp(V, L), needs_denoiser=True),
}

# What the checks refuse: these combinations do not exist.
REFUSED_MODELS = {("uniform", "conditional")}
MODELS = [pair for pair in itertools.product(PROCESSES, PARAMETERIZATIONS) if pair not in REFUSED_MODELS]
NO_DENOISER = {("uniform", "score")}
"""Models whose denoiser reading is refused at high noise; they step from their score."""


def serves(case: LossCase | SamplerCase, process: str) -> bool:
    """Whether a loss or sampler is for this process."""
    return PROCESSES[process].masked or not case.absorbing_only


def runs(case: SamplerCase, process: str, parameterization: str) -> bool:
    """Whether a sampler is for models of this process and parameterisation."""
    return serves(case, process) and not (case.needs_denoiser and (process, parameterization) in NO_DENOISER)


def build(
    process: str,
    parameterization: str,
    *,
    toy: Toy = DENSE,
    schedule: str | Schedule = "log_linear",
    network: Callable[[Toy, int], Network] | None = None,
) -> Diffusion:
    """A model of a toy: with its exact network, or another made from (toy, number of states)."""
    made = PROCESSES[process].make(toy.vocab_size)
    make = network or exact
    return Diffusion(
        make(toy, made.num_states),
        made,
        SCHEDULES[schedule]() if isinstance(schedule, str) else schedule,
        PARAMETERIZATIONS[parameterization](),
    )


def exact(toy: Toy, num_states: int) -> Network:
    """The perfect network of a toy, remembered."""
    return Tabulated(Exact(torch.from_numpy(toy.joint), num_states), toy.length)


def exact_asked_anew(toy: Toy, num_states: int) -> Network:
    """The perfect network of a toy, as the library has it."""
    return Exact(torch.from_numpy(toy.joint), num_states)
