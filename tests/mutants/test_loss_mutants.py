"""Broken losses and parameterisations: the test that guards each must see it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.logits import LazyLogits
from discdiff.losses import (
    D3PM,
    ConcreteScoreMatching,
    ContinuousELBO,
    CrossEntropy,
    GeneralizedKL,
    ImplicitScoreEntropy,
    Loss,
    PiecewiseTimes,
    ScoreEntropy,
)
from discdiff.losses.times import Noised
from discdiff.model import Model
from discdiff.parameterizations import LeaveOneOut, LeaveOneOutPrediction
from discdiff.prediction import DenoiserPrediction, Positions, Prediction
from discdiff.processes import Process
from discdiff.randomness import Randomness
from discdiff.schedules import LogLinear, Schedule
from discdiff.sequences import Sequences
from tests import test_leave_one_out as readings
from tests import test_times as times
from tests.cases import PARAMETERIZATIONS
from tests.oracles import test_bounds as bounds
from tests.oracles import test_minimisers as minimisers
from tests.oracles import test_o02_score_entropy as o02
from tests.toys import DENSE


# ---- leave-one-out for posterior ------------------------------------------------------------------------------------
class Mixed(LeaveOneOut):
    """The leave-one-out law fed where the posterior is meant."""

    def predict(
        self, process: Process, tokens: Tensor, sigma: Tensor, frozen: Tensor | None, logits: LazyLogits
    ) -> Prediction:
        return DenoiserPrediction(process, tokens, sigma, frozen, log_p=logits, calls=lambda: logits.evaluated.long())


def test_leave_one_out_fed_as_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings, bounds and minima all see it; the types already tell the two apart."""
    assert not issubclass(LeaveOneOutPrediction, DenoiserPrediction)
    monkeypatch.setitem(PARAMETERIZATIONS, "leave_one_out", Mixed)
    with pytest.raises(AssertionError):
        readings.test_reading("uniform", "leave_one_out", "dense3x3")
    assert o02.error_of(ContinuousELBO(), "uniform", "leave_one_out", bounds.TOY, LogLinear(t_min=o02.T_MIN)) > 0.01
    for loss in (ContinuousELBO(), CrossEntropy(), D3PM(4), GeneralizedKL()):
        assert float(minimisers.gradient(loss, "uniform", "leave_one_out", 0.6).abs().max()) > 1e-4


def test_posterior_fed_as_leave_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way round: the noised token is counted twice."""

    class Twice(LeaveOneOut):
        def encode(self, prediction: Prediction) -> Tensor:
            return prediction.log_denoiser()

    monkeypatch.setitem(PARAMETERIZATIONS, "leave_one_out", Twice)
    with pytest.raises(AssertionError):
        readings.test_reading("uniform", "leave_one_out", "dense3x3")
    assert o02.error_of(ScoreEntropy(), "uniform", "leave_one_out", bounds.TOY, LogLinear(t_min=o02.T_MIN)) > 0.01


# ---- weights and terms ----------------------------------------------------------------------------------------------
class Scaled(ContinuousELBO):
    """The continuous bound, 1% too large."""

    def integrand(self, model: Model, sequences: Sequences, draw: Noised, *, generator: Randomness) -> Tensor:
        return 1.01 * super().integrand(model, sequences, draw, generator=generator)


def test_one_percent_of_the_continuous_bound() -> None:
    assert o02.error_of(Scaled(), "uniform", "denoiser", bounds.TOY, LogLinear(t_min=o02.T_MIN)) > 0.001


class OneWay(ImplicitScoreEntropy):
    """Without the score at neighbours: only the first of the two sums."""

    @staticmethod
    def _all(out: Tensor, generator: Randomness) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return ImplicitScoreEntropy._all(0 * out, generator)


class Overweighed(ImplicitScoreEntropy):
    """Neighbours weighed up to 2% too much."""

    @staticmethod
    def _all(out: Tensor, generator: Randomness) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, positions, states, weights = ImplicitScoreEntropy._all(out, generator)
        return rows, positions, states, weights * (1 + 0.01 * states)


class Noisier(ConcreteScoreMatching):
    """The target ratio at 1% more noise than xt has."""

    def integrand(self, model: Model, sequences: Sequences, draw: Noised, *, generator: Randomness) -> Tensor:
        noisier = Noised(draw.t, draw.weight, 1.01 * draw.sigma, draw.rate, draw.tokens)
        return super().integrand(model, sequences, noisier, generator=generator)


class Lopsided(GeneralizedKL):
    """The mixture path's loss without −p(xt | xt): a cross-entropy on what has changed."""

    def integrand(self, model: Model, sequences: Sequences, draw: Noised, *, generator: Randomness) -> Tensor:
        whole = super().integrand(model, sequences, draw, generator=generator)
        prediction = model.predict(draw.tokens, draw.sigma)
        stay = prediction.log_denoiser().gather(-1, draw.tokens[..., None])[..., 0].exp()
        moved = draw.tokens != sequences.tokens
        return whole + draw.rate / torch.expm1(draw.sigma[:, 0]) * (stay * moved).sum(-1)


# A denoiser would be turned into the score of that noise, and nothing be wrong: only a score shows it.
OTHERS = [(OneWay(), "denoiser"), (Overweighed(), "denoiser"), (Noisier(), "score"), (Lopsided(), "denoiser")]


@pytest.mark.parametrize(("loss", "parameterization"), OTHERS, ids=[type(loss).__name__ for loss, _ in OTHERS])
def test_other_minima(loss: Loss, parameterization: str) -> None:
    """The guard's limit is 1e-10."""
    assert float(minimisers.gradient(loss, "uniform", parameterization, 0.6).abs().max()) > 1e-5


class OneStep(D3PM):
    """One term of the T, not multiplied by T."""

    def __call__(self, model: Model, sequences: Sequences, *, generator: Randomness) -> Tensor:
        return super().__call__(model, sequences, generator=generator) / self.steps


class Early(D3PM):
    """Stops at the first level above zero: no reconstruction."""

    def levels(self, schedule: Schedule) -> Tensor:
        levels = super().levels(schedule)
        return torch.cat([levels[1:2] / 2, levels[1:]])


@pytest.mark.parametrize("make", [OneStep, Early])
def test_terms_of_d3pm(make: type[D3PM]) -> None:
    right = bounds.enumerated("uniform", bounds.TOY, 3, 0.0)
    assert np.abs(bounds.discrete(make(3), "uniform", "denoiser", bounds.TOY) - right).max() > 0.01


# ---- probability left on the mask -----------------------------------------------------------------------------------
class Leaking(DenoiserPrediction):
    """A softmax over V + 1 columns, the mask's logit merely small."""

    def log_denoiser(self, where: Positions | None = None) -> Tensor:
        log_p = super().log_denoiser(where)
        return torch.cat([log_p, torch.full_like(log_p[..., :1], -4.0)], -1).log_softmax(-1)[..., :-1]

    def _leave_one_out(self, where: Positions | None) -> Tensor:
        return self.log_denoiser(where)


class Leaky(LeaveOneOut):
    """A denoiser that believes in masks in clean data."""

    def predict(
        self, process: Process, tokens: Tensor, sigma: Tensor, frozen: Tensor | None, logits: LazyLogits
    ) -> Prediction:
        return Leaking(process, tokens, sigma, frozen, log_p=logits, calls=lambda: logits.evaluated.long())


@pytest.mark.parametrize("loss", [ContinuousELBO(), GeneralizedKL()], ids=repr)
def test_mask_probability_left_in(loss: Loss, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARAMETERIZATIONS, "leave_one_out", Leaky)
    assert o02.error_of(loss, "absorbing", "leave_one_out", bounds.TOY, LogLinear(t_min=o02.T_MIN)) > 0.01
    with pytest.raises(AssertionError):
        readings.test_reading("absorbing", "leave_one_out", DENSE.name)


# ---- time -----------------------------------------------------------------------------------------------------------
class Unweighted(PiecewiseTimes):
    """Times drawn by a density that the weights do not know of."""

    def place(self, points: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        t, weight = super().place(points, schedule)
        return t, torch.full_like(weight, 1 - schedule.t_min)


def test_density_without_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "PiecewiseTimes", Unweighted)
    with pytest.raises(AssertionError):
        times.test_integrals_stay_what_they_are(2)
    with pytest.raises(AssertionError):
        times.test_losses_stay_unbiased(ScoreEntropy)
