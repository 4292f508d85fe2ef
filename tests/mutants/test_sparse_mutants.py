"""What the tests of sparse chains and of θ < 1/2 must see: logs of float32 likelihoods, a short series, cuts per x0."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.parameterizations import Denoiser
from discdiff.prediction import Positions, Prediction
from discdiff.processes import Process, RateMatrix, exponential
from discdiff.samplers import RungeKutta2
from discdiff.samplers.runge_kutta import Logs
from discdiff.samplers.trapezoidal import TwoLeaps
from tests.oracles import test_sparse_chains as sparse
from tests.oracles import test_theta_below_half as theta


def test_likelihoods_rounded_before_their_logarithm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RateMatrix, "log_likelihood", Process.log_likelihood)
    with pytest.raises((AssertionError, IncompatibleError)):
        sparse.test_leave_one_out_of_a_band(1e-6, torch.float32)


def test_a_series_too_short_for_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exponential, "FARTHEST", 0)
    with pytest.raises(AssertionError):
        sparse.test_far_entries_keep_their_ratios(0.7)


def test_far_entries_by_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exponential, "ROUNDED", -1.0)
    with pytest.raises(AssertionError):
        sparse.test_far_entries_keep_their_ratios(3.0)


def test_scores_of_states_that_nothing_becomes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RateMatrix, "comparable", Process.comparable)
    with pytest.raises(AssertionError):
        sparse.test_scores_that_are_used("transient", Denoiser())


class CutPerToken(RungeKutta2):
    """Cuts what each x0 asks for, not what all ask for together."""

    def _expected(
        self, first: Prediction, second: Prediction, level: TwoLeaps, where: Positions, logs: Logs | None
    ) -> Tensor:
        assert logs is not None
        size = logs[0].shape[-1]
        parts = []
        for token in range(size):
            each = torch.full_like(logs[0], -torch.inf)
            each[:, token] = 0.0
            p, q = (log_p[:, token, None].exp() for log_p in logs)
            ahead, time = 0.5 / self.theta, level.t - level.s
            x, y = first.tokens[where], second.tokens[where]
            process = first.process
            now = process.reverse_rate(process.score_from_denoiser(each, x, first.sigma[where]), x).clamp(min=0)
            then = process.reverse_rate(process.score_from_denoiser(each, y, second.sigma[where]), y).clamp(min=0)
            both = (1 - ahead) * level.first.noise_rate * p * now + ahead * level.second.noise_rate * q * then
            parts.append((time * both).clamp(min=0).scatter(-1, x[:, None], 0.0))
        return torch.stack(parts).sum(0)


def test_cuts_per_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theta, "RungeKutta2", CutPerToken)
    theta.test_second_leap("uniform", "denoiser", 0.8)  # nothing is cut
    with pytest.raises(AssertionError):
        theta.test_second_leap("uniform", "denoiser", 0.2)
