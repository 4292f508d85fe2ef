"""Code broken by 1% or by one step: the comparison with published numbers must see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from discdiff import schedules
from discdiff.losses import discrete_elbo, times
from discdiff.processes import marginal
from discdiff.training import schedule
from tests.golden import (
    test_evodiff,
    test_flow_matching,
    test_importance,
    test_md4,
    test_mdlm,
    test_schedules,
    test_training,
    test_uniform_noise,
)
from tests.golden.replay import Golden


def scaled(method: Callable[..., Tensor], factor: float = 1.01) -> Callable[..., Tensor]:
    return lambda *given, **named: factor * method(*given, **named)


@pytest.mark.parametrize("method", ["total_noise", "noise_rate"])
@pytest.mark.parametrize(("kind", "broken"), [("cosinesqr", schedules.CosineSquared), ("linear", schedules.Linear)])
def test_schedule(golden: Golden, monkeypatch: pytest.MonkeyPatch, method: str, kind: str, broken: type) -> None:
    monkeypatch.setattr(broken, method, scaled(getattr(broken, method)))
    with pytest.raises(AssertionError):
        test_schedules.test_mdlm_noise(golden, kind)


@pytest.mark.parametrize("method", ["total_noise", "noise_rate", "time"])
def test_polynomial(golden: Golden, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(schedules.Polynomial, method, scaled(getattr(schedules.Polynomial, method)))
    with pytest.raises(AssertionError):
        test_flow_matching.test_schedule(golden, "2.0")


GUARDS: dict[str, Callable[[Golden], None]] = {
    "evodiff": lambda golden: test_evodiff.test_bound(golden, "blosum"),
    "udlm": lambda golden: test_uniform_noise.test_udlm_discrete_loss(golden, 6, 10),
    "md4": lambda golden: test_md4.test_discrete_loss(golden, "cosine"),
    "mdlm": lambda golden: test_mdlm.test_discrete_loss(golden, 16),
}


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("how", ["scaled", "reversed"])
def test_discrete_bound(golden: Golden, monkeypatch: pytest.MonkeyPatch, guard: str, how: str) -> None:
    """KL 1% too large, or of p from q."""
    real = discrete_elbo.kl
    broken = scaled(real) if how == "scaled" else lambda q, p: real(p, q)
    monkeypatch.setattr(discrete_elbo, "kl", broken)
    with pytest.raises(AssertionError):
        GUARDS[guard](golden)


def test_importance_weight(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    real = times.PiecewiseTimes.place

    def heavier(self: times.PiecewiseTimes, points: Tensor, noise: schedules.Schedule) -> tuple[Tensor, Tensor]:
        t, weight = real(self, points, noise)
        return t, 1.01 * weight

    monkeypatch.setattr(times.PiecewiseTimes, "place", heavier)
    with pytest.raises(AssertionError):
        test_importance.test_loss_by_importance(golden, "nll_importance", 5e-5)


def test_marginal_forgets_its_frequencies(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uniform noise in the place of π."""
    real = marginal.Marginal.stationary

    def flat(self: marginal.Marginal, **named: Any) -> Tensor:
        pi = real(self, **named)
        return pi.new_full(pi.shape, 1 / len(pi))

    monkeypatch.setattr(marginal.Marginal, "stationary", flat)
    with pytest.raises(AssertionError):
        test_flow_matching.test_solver_step(golden, "2.0", "t0.3", "div1.5")


def test_warm_up_one_step_late(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    real = schedule.rate_factor
    monkeypatch.setattr(test_training, "rate_factor", lambda step, *given, **named: real(step - 1, *given, **named))
    with pytest.raises(AssertionError):
        test_training.test_training_steps(golden, "sedd_train_absorb")
