"""Broken samplers and correctors: the oracles must see each of them."""

from __future__ import annotations

from copy import copy

import pytest
import torch
from torch import Tensor

from discdiff.constraints import Constraint, Unconstrained
from discdiff.errors import DiscdiffError
from discdiff.model import Model
from discdiff.prediction import DenoiserPrediction, Positions, Prediction
from discdiff.processes import RankOne
from discdiff.samplers import (
    Gibbs,
    Level,
    Remasking,
    RungeKutta2,
    Sampler,
    State,
    TauLeaping,
    Trapezoidal,
    Uniformization,
    remasking,
)
from discdiff.samplers.runge_kutta import Logs
from discdiff.samplers.trapezoidal import TwoLeaps
from discdiff.sampling import sample
from tests.cases import build
from tests.oracles import test_o05_correctors as o05
from tests.oracles import test_o08_tau_leaping as o08
from tests.oracles import test_o09_second_order as o09
from tests.oracles import test_o16_remasking as o16
from tests.toys import DENSE, P_VALUE, TOYS, chi_square, counts_of


# ---- correctors -----------------------------------------------------------------------------------------------------
class WrongWay(Unconstrained):
    """Multiplies by the likelihood where the leave-one-out law divides by it.

    Leaving the tilt out would not do: x0_i ~ p(x0_i | x), then x_i ~ q(· | x0_i) is a Gibbs move too, a slower one.
    """

    def __init__(self, inner: Constraint) -> None:
        self.inner = inner

    def draw(self, prediction: Prediction, where: Positions, u: Tensor, *, tilt: Tensor | None = None) -> Tensor:
        return self.inner.draw(prediction, where, u, tilt=None if tilt is None else -tilt)


class NotLeftOut(Gibbs):
    """Takes the position's own token into account twice."""

    def move(
        self, model: Model, constraint: Constraint, state: State, predictor: Sampler, level: Level, rows: Tensor
    ) -> State:
        return super().move(model, WrongWay(constraint), state, predictor, level, rows)


def test_own_token_not_left_out() -> None:
    assert o05.change(NotLeftOut(), "uniform", "denoiser", DENSE, o05.SIGMA) > 1e-3


class AtTheOldLevel(Gibbs):
    """Redraws at twice the noise that the state is at."""

    def move(
        self, model: Model, constraint: Constraint, state: State, predictor: Sampler, level: Level, rows: Tensor
    ) -> State:
        before = Level(level.t, level.s, level.sigma, 2 * level.sigma_next, level.noise_rate)
        return super().move(model, constraint, state, predictor, before, rows)


def test_corrector_at_another_level() -> None:
    assert o05.change(AtTheOldLevel(), "uniform", "denoiser", DENSE, o05.SIGMA) > 1e-3


# ---- rates ----------------------------------------------------------------------------------------------------------
class NoRejection(TauLeaping):
    """Conflicting jumps are let through."""

    def chance(self, expected: Tensor) -> Tensor:
        return -torch.expm1(-expected)


class HalfRate(TauLeaping):
    """Half the expected number of jumps."""

    def chance(self, expected: Tensor) -> Tensor:
        return super().chance(expected / 2)


@pytest.mark.parametrize("mutant", [NoRejection(), HalfRate()])
@pytest.mark.parametrize("process", ["absorbing", "uniform"])
def test_jumps_of_tau_leaping(mutant: TauLeaping, process: str) -> None:
    assert o08.kernel_error(mutant, process) > 1e-2


class NoExtrapolation(Trapezoidal):
    """The second leap by the middle's prediction alone: weights 1 and 0."""

    def combine(self, first: Prediction, second: Prediction) -> Prediction:
        return second


class WrongTheta(Trapezoidal):
    """Weights of another θ than the middle's."""

    def combine(self, first: Prediction, second: Prediction) -> Prediction:
        return Trapezoidal(0.2).combine(first, second)


class Uncarried(Trapezoidal):
    """Off the absorbing process: the first prediction is not carried to the middle's noise and token."""

    def combine(self, first: Prediction, second: Prediction) -> Prediction:
        def log_p(where: Positions | None) -> Tensor:
            return (2 * second.log_denoiser(where).exp() - first.log_denoiser(where).exp()).clamp(min=0).log()

        return DenoiserPrediction(
            second.process, second.tokens, second.sigma, None, log_p=log_p, calls=lambda: second.calls
        )


@pytest.mark.parametrize(
    ("mutant", "process"),
    [(NoExtrapolation(), "absorbing"), (WrongTheta(), "absorbing"), (Uncarried(), "uniform")],
)
def test_weights_of_the_trapezoid(mutant: Trapezoidal, process: str) -> None:
    assert o09.leap_error(mutant, process, "denoiser") > 1e-3


class EqualWeights(RungeKutta2):
    """Both places weigh one half, whatever θ is."""

    def _expected(
        self, first: Prediction, second: Prediction, level: TwoLeaps, where: Positions, logs: Logs | None
    ) -> Tensor:
        halved = copy(self)
        halved.theta = 1.0
        return RungeKutta2._expected(halved, first, second, level, where, logs)


class BackToTheStart(RungeKutta2):
    """A jump of the middle's token back to x counts as one out of x."""

    def _expected(
        self, first: Prediction, second: Prediction, level: TwoLeaps, where: Positions, logs: Logs | None
    ) -> Tensor:
        jumps = super()._expected(first, second, level, where, logs)
        back = second.process.reverse_rate(second.log_score(where), second.tokens[where]).clamp(min=0)
        then = 0.5 / self.theta * level.second.noise_rate * (level.t - level.s)
        x = first.tokens[where][:, None]
        return jumps.scatter(-1, x, then * back.gather(-1, x))


@pytest.mark.parametrize(
    ("mutant", "parameterization"),
    [(EqualWeights(0.35), "denoiser"), (EqualWeights(), "score"), (BackToTheStart(), "denoiser")],
)
def test_rates_of_runge_kutta(mutant: RungeKutta2, parameterization: str) -> None:
    assert o09.leap_error(mutant, "uniform", parameterization) > 1e-2


# ---- uniformization -------------------------------------------------------------------------------------------------
def test_bound_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate beyond its bound stops the run."""
    right = RankOne.max_jump_rate
    monkeypatch.setattr(RankOne, "max_jump_rate", lambda self, sigma: right(self, sigma) / 2)
    with pytest.raises(DiscdiffError, match="exceeds its bound"):
        sample(build("uniform", "denoiser"), 500, length=3, sampler=Uniformization(), generator=torch.Generator())


def test_clock_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the candidates missing, unnoticed by the bound: the law of real draws shows it."""
    right = Uniformization._arrivals
    toy = TOYS["dense3x2"]
    model = build("uniform", "denoiser", toy=toy)
    monkeypatch.setattr(Uniformization, "_arrivals", lambda self, state, total: right(self, state, total) * 2)
    drawn = sample(model, 20_000, length=2, sampler=Uniformization(), generator=torch.Generator().manual_seed(0))
    assert chi_square(counts_of(drawn.tokens, 3), toy.probabilities) < P_VALUE


# ---- remasking ------------------------------------------------------------------------------------------------------
def test_reveals_as_if_nothing_were_remasked(monkeypatch: pytest.MonkeyPatch) -> None:
    right = remasking.revealed
    monkeypatch.setattr(remasking, "revealed", lambda rate, level: right(0 * rate, level))
    assert o16.marginal_errors(Remasking("rescale", 0.3))[0] > 1e-2
