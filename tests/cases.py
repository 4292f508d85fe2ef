"""Every plug-in in one line; conformance tests apply to each, and to every combination that exists.

Adding a process, schedule, parameterisation, loss, sampler or constraint means adding its line here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from discdiff import constraints, languages, losses, samplers
from discdiff.constraints import Constraint
from discdiff.losses import Loss
from discdiff.model import Diffusion
from discdiff.networks import Network
from discdiff.networks.exact import Exact
from discdiff.parameterizations import Conditional, Denoiser, LeaveOneOut, Parameterization, Score
from discdiff.processes import Absorbing, Hybrid, Marginal, Process, RateMatrix, Uniform
from discdiff.samplers import Sampler
from discdiff.schedules import Cosine, CosineSquared, Geometric, Linear, LogLinear, Polynomial, Schedule
from discdiff.sequences import Sequences
from tests.scripted import corruption
from tests.toy_networks import Tabulated
from tests.toys import (
    DENSE,
    Array,
    Toy,
    absorbing_rates,
    banded_rates,
    circular_rates,
    frequencies,
    hybrid_law,
    rank_one_rates,
    reversible_rates,
    transient_rates,
    transition_matrix,
    uniform_rates,
)


@dataclass(frozen=True)
class ProcessCase:
    """A process and, written down independently, its rate matrix Q[y, x].

    Attributes:
        masked: noise is the mask and nothing else, so that tokens show if they are noise.
        redraws: corrupted by an event that draws the token anew (rank one), not from exp(σQ) itself.
    """

    make: Callable[[int], Process]
    rates: Callable[[int], Array]
    masked: bool
    redraws: bool = True

    def transition(self, vocab_size: int, sigma: float) -> Array:
        """exp(σQ) by SciPy."""
        return transition_matrix(self.rates(vocab_size), sigma)

    def fastest_rate(self, vocab_size: int) -> float:
        """The largest |eigenvalue| of Q: exp(−σQ) magnifies errors by its exponential."""
        return float(np.abs(np.linalg.eigvals(self.rates(vocab_size))).max())

    def limit(self, num_states: int) -> Array:
        """The stationary law of the process with this many states."""
        vocab_size = next(v for v in (num_states, num_states - 1) if len(self.rates(v)) == num_states)
        return self.transition(vocab_size, 60.0)[:, 0]

    def script(self, xt: torch.Tensor, x0: torch.Tensor, transitions: Array) -> dict[str, torch.Tensor]:
        """The script (`tests.scripted`) that makes `process.corrupt` turn x0 into xt, both `[B, L]`.

        Args:
            transitions: exp(σQ) of each row, `[B, S, S]`.
        """
        if self.masked:
            return corruption(xt, x0, transitions.shape[-1] - 1, masked=True)
        new, old = xt.numpy(), x0.numpy()
        rows = np.arange(len(new))[:, None]
        columns = transitions[rows, :, old]
        if self.redraws:
            columns = np.broadcast_to(self.limit(transitions.shape[-1]), columns.shape)
        middle = (columns.cumsum(-1) - columns / 2)[rows, np.arange(new.shape[1]), new]
        numbers = torch.from_numpy(middle)
        if self.redraws:
            return {"corrupt": torch.zeros_like(numbers), "corrupt_token": numbers}
        return {"corrupt": numbers}


@dataclass(frozen=True)
class LossCase:
    """A loss, what its first random number picks, and the processes that it is for."""

    make: Callable[[], Loss]
    over: Literal["time", "fraction", "count", "step"]
    absorbing_only: bool
    needs_denoiser: bool = False
    rank_one_only: bool = False


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
    "marginal": ProcessCase(
        lambda V: Marginal(V, probabilities=frequencies(max(V, 1)).tolist()),
        lambda V: rank_one_rates(frequencies(V)),
        masked=False,
    ),
    "hybrid": ProcessCase(lambda V: Hybrid(V, 0.4), lambda V: rank_one_rates(hybrid_law(V, 0.4)), masked=False),
    "reversible": ProcessCase(
        lambda V: RateMatrix(V, reversible_rates(max(V, 2)).tolist()), reversible_rates, masked=False, redraws=False
    ),
    "circular": ProcessCase(
        lambda V: RateMatrix(V, circular_rates(max(V, 2)).tolist()), circular_rates, masked=False, redraws=False
    ),
}
SPARSE: dict[str, ProcessCase] = {
    "banded": ProcessCase(lambda V: RateMatrix(V, banded_rates(V).tolist()), banded_rates, masked=False, redraws=False),
    "transient": ProcessCase(
        lambda V: RateMatrix(V, transient_rates(V).tolist()), transient_rates, masked=False, redraws=False
    ),
}
"""Chains of neighbours, one with a state that cannot be entered again, for at least 3 tokens. The latter's prior KL is
infinite, and its tokens rule out some x0: what holds for every process does not hold for it."""
SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "log_linear": LogLinear,
    "geometric": Geometric,
    "cosine": Cosine,
    "cosine_squared": CosineSquared,
    "linear": Linear,
    "polynomial": Polynomial,
}
PARAMETERIZATIONS: dict[str, Callable[[], Parameterization]] = {
    "score": Score,
    "denoiser": Denoiser,
    "conditional": Conditional,
    "leave_one_out": LeaveOneOut,
}
LOSSES: dict[str, LossCase] = {
    "dse": LossCase(losses.ScoreEntropy, "time", absorbing_only=False),
    "t_dce": LossCase(losses.TimeCrossEntropy, "time", absorbing_only=True),
    "lambda_dce": LossCase(losses.MaskFractionCrossEntropy, "fraction", absorbing_only=True),
    "k_dce": LossCase(losses.AnyOrder, "count", absorbing_only=True),
    "elbo": LossCase(losses.ContinuousELBO, "time", absorbing_only=False),
    "ise": LossCase(losses.ImplicitScoreEntropy, "time", absorbing_only=False),
    "ise_sampled": LossCase(lambda: losses.ImplicitScoreEntropy(neighbors=2), "time", absorbing_only=False),
    "csm": LossCase(losses.ConcreteScoreMatching, "time", absorbing_only=False),
    "d3pm": LossCase(lambda: losses.D3PM(steps=4, auxiliary=0.1), "step", absorbing_only=False, needs_denoiser=True),
    "cross_entropy": LossCase(losses.CrossEntropy, "time", absorbing_only=False, needs_denoiser=True),
    "generalized_kl": LossCase(
        losses.GeneralizedKL, "time", absorbing_only=False, needs_denoiser=True, rank_one_only=True
    ),
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
    # without steps, one position a call
    "any_order": SamplerCase(samplers.AnyOrder, exact=True, absorbing_only=True),
    "confidence": SamplerCase(samplers.Confidence, exact=True, absorbing_only=True),
    "by_margin": SamplerCase(lambda: samplers.Confidence("margin"), exact=True, absorbing_only=True),
    "by_entropy": SamplerCase(lambda: samplers.Confidence("entropy", noise=0.5), exact=True, absorbing_only=True),
    "by_sampled": SamplerCase(lambda: samplers.Confidence("sampled"), exact=False, absorbing_only=True),
    "bisection": SamplerCase(samplers.Bisection, exact=False, absorbing_only=True),
    "entropy_bounded": SamplerCase(samplers.EntropyBounded, exact=False, absorbing_only=True),
    "blockwise": SamplerCase(lambda: samplers.Blockwise(block_size=2), exact=True, absorbing_only=True),
    "blockwise_ancestral": SamplerCase(
        lambda: samplers.Blockwise(samplers.Ancestral(), block_size=2), exact=False, absorbing_only=True
    ),
    "blockwise_corrected": SamplerCase(
        lambda: samplers.Blockwise(samplers.PredictorCorrector(sweeps=0.5), block_size=2),
        exact=True,
        absorbing_only=True,
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


def automaton(vocab_size: int, length: int) -> constraints.Automaton:
    """The last token never twice in a row; the first one at least once, and at least twice not."""
    pair = languages.avoids([[{vocab_size - 1}] * 2], vocab_size)
    return constraints.Automaton({"no pair": pair, "zeros": languages.count({0}, 1, max(length - 2, 1), vocab_size)})


def ends_alike(sequences: Sequences) -> torch.Tensor:
    """Whether a sequence's first token is its last one."""
    last = (sequences.lengths - 1).to(sequences.tokens.device)
    return sequences.tokens[:, 0] == sequences.tokens.gather(1, last[:, None])[:, 0]


@dataclass(frozen=True)
class ConstraintCase:
    """A constraint for sequences of given vocabulary and length; whether it needs a denoiser (`restricts_draws`)."""

    make: Callable[[int, int], Constraint]
    needs_denoiser: bool
    fixes_length: bool = True


CONSTRAINTS: dict[str, ConstraintCase] = {
    "none": ConstraintCase(lambda V, L: constraints.Unconstrained(), needs_denoiser=False, fixes_length=False),
    "clamp": ConstraintCase(_clamp, needs_denoiser=False),
    "allowed": ConstraintCase(lambda V, L: constraints.Allowed(_allowed(V, L)), needs_denoiser=True),
    "both": ConstraintCase(lambda V, L: constraints.Allowed(_allowed(V, L)) & _clamp(V, L), needs_denoiser=True),
    "automaton": ConstraintCase(lambda V, L: automaton(V, L), needs_denoiser=True, fixes_length=False),
    "checked": ConstraintCase(
        lambda V, L: constraints.Checked(ends_alike, tries=3, first=512), needs_denoiser=True, fixes_length=False
    ),
}

# What the checks refuse: these combinations do not exist.
REFUSED_MODELS = {(name, "conditional") for name, case in PROCESSES.items() if not case.masked}
MODELS = [pair for pair in itertools.product(PROCESSES, PARAMETERIZATIONS) if pair not in REFUSED_MODELS]
NO_DENOISER = {(name, "score") for name, case in PROCESSES.items() if not case.masked}
"""Models whose denoiser reading is refused at high noise; they step from their score."""
SAMPLED = [
    (name, said) for name, said in MODELS if said != "leave_one_out" or name in ("absorbing", "uniform", "hybrid")
]
"""Models that whole samplers run on: readings agree on every model (`test_prediction`, `test_leave_one_out`), and the
leave-one-out form of every process would only say again what its denoiser says."""


def serves(case: LossCase | SamplerCase, process: str, parameterization: str = "denoiser") -> bool:
    """Whether a loss or sampler is for this process, and for what its network says."""
    if isinstance(case, LossCase) and case.needs_denoiser and (process, parameterization) in NO_DENOISER:
        return False
    if isinstance(case, LossCase) and case.rank_one_only and not PROCESSES[process].redraws:
        return False
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
