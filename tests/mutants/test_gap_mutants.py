"""Losses that are off by a little, or least at another network: the gap identity and the tests of minima see it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discdiff.losses import D3PM, GeneralizedKL, ImplicitScoreEntropy
from discdiff.losses.times import Noised
from discdiff.model import Model
from discdiff.prediction import Prediction, ScorePrediction
from discdiff.processes import RankOne
from discdiff.randomness import Randomness
from discdiff.sequences import Sequences
from tests.cases import LOSSES
from tests.oracles import test_minimisers as minimisers
from tests.oracles import test_o03_gap as o03


# ---- what a wrong network costs -------------------------------------------------------------------------------------
def test_one_percent_of_the_integrals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed forms and cross-entropies that are 1% too large."""
    right, nll = RankOne.elbo_rate, Prediction.nll
    monkeypatch.setattr(RankOne, "elbo_rate", lambda *arguments: 1.01 * right(*arguments))
    with pytest.raises(AssertionError):
        o03.test_integrals_over_time("uniform", "denoiser", "elbo")
    monkeypatch.setattr(Prediction, "nll", lambda *arguments: 1.01 * nll(*arguments))
    with pytest.raises(AssertionError):
        o03.test_integrals_over_time("absorbing", "denoiser", "t_dce")
    with pytest.raises(AssertionError):
        o03.test_masked_cross_entropies("k_dce", "conditional")
    with pytest.raises(AssertionError):
        o03.test_masked_cross_entropies("lambda_dce", "denoiser")


class Lopsided(GeneralizedKL):
    """1% too large where a token has changed."""

    def integrand(self, model: Model, sequences: Sequences, draw: Noised, *, generator: Randomness) -> Tensor:
        whole = super().integrand(model, sequences, draw, generator=generator)
        return whole * (1 + 0.01 * (draw.tokens != sequences.tokens).any(-1))


def test_one_percent_of_the_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(o03, "GeneralizedKL", Lopsided)
    with pytest.raises(AssertionError):
        o03.test_mixture_path("hybrid", "denoiser")


def test_scale_of_a_score_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cross-entropy of a score's normalised denoiser costs less than its scale is off."""
    monkeypatch.setattr(ScorePrediction, "reveal_loss", Prediction.reveal_loss)
    with pytest.raises(AssertionError):
        o03.test_masked_cross_entropies("lambda_dce", "score")
    with pytest.raises(AssertionError):
        o03.test_integrals_over_time("absorbing", "score", "t_dce")


class Lengthened(D3PM):
    """1% too large."""

    def __call__(self, model: Model, sequences: Sequences, *, generator: Randomness) -> Tensor:
        return 1.01 * super().__call__(model, sequences, generator=generator)


def test_one_percent_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(o03, "D3PM", Lengthened)
    with pytest.raises(AssertionError):
        o03.test_steps("marginal", "denoiser", 3)


# ---- other minima ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["lambda_dce", "k_dce"])
def test_another_noise_than_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A score's factor e^σ − 1 at 1% more noise than the score is of."""

    def noisier(self: ScorePrediction, x0: Tensor, where: tuple[Tensor, Tensor]) -> Tensor:
        log_p = self.process.content(self.log_score(where)) + torch.expm1(1.01 * self.sigma[where]).log()[:, None]
        return log_p.exp().sum(-1) - log_p.gather(-1, x0[where][:, None])[:, 0] - 1

    monkeypatch.setattr(ScorePrediction, "reveal_loss", noisier)
    loss = LOSSES[name].make()
    assert float(minimisers.gradient(loss, "absorbing", "score", 0.6).abs().max()) > 1e-5


@pytest.mark.parametrize("name", ["lambda_dce", "k_dce"])
def test_smoothed_labels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1% of the label on all tokens alike."""
    right = Prediction.reveal_loss

    def smooth(self: Prediction, x0: Tensor, where: tuple[Tensor, Tensor]) -> Tensor:
        return 0.99 * right(self, x0, where) - 0.01 * self.log_denoiser(where).mean(-1)

    monkeypatch.setattr(Prediction, "reveal_loss", smooth)
    loss = LOSSES[name].make()
    assert float(minimisers.gradient(loss, "absorbing", "denoiser", 0.6).abs().max()) > 1e-4


class OfOnePosition(ImplicitScoreEntropy):
    """A drawn neighbour weighs the rate out of its own position, not out of the row."""

    def _some(self, out: Tensor, generator: Randomness) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, positions, states, _ = super()._some(out, generator)
        return rows, positions, states, out.sum(-1)[rows, positions] / (self.neighbors or 1)


def test_weights_of_drawn_neighbours() -> None:
    assert float(minimisers.gradient(OfOnePosition(2), "reversible", "score", 0.6).abs().max()) > 1e-4
    assert minimisers.neighbor_error(OfOnePosition(2), "reversible") > 1e-3
