"""A tolerance is met or said not to be, and does not lower the bound."""

from __future__ import annotations

import math
import warnings
from importlib import import_module

import numpy as np
import pytest
import torch

from discdiff.likelihood import nelbo
from discdiff.likelihood.scored import Scored
from discdiff.model import Model
from discdiff.randomness import Keys, Randomness
from discdiff.schedules import LogLinear
from tests.cases import build
from tests.likelihood.truths import CLEAN, TOY, keys, wrong
from tests.toy_networks import Wrong
from tests.toys import Z_LIMIT, z_score


@pytest.mark.parametrize("process", ["absorbing", "uniform"])
def test_tolerance_is_met_and_honest(process: str) -> None:
    """25 repetitions: met in nine of ten, 97% within 3 tolerances of the truth, average unbiased, spread not above it.

    The truth is a bound of 512 noise levels a sequence.
    """
    model = build(process, "denoiser", toy=TOY, schedule=LogLinear(t_min=0.05), network=lambda t, s: Wrong(t, s, 0.3))
    truth = nelbo(model, CLEAN, generator=keys(seed=99), samples=512)
    bounds = [nelbo(model, CLEAN, generator=keys(seed=s), samples=4, tolerance=0.1) for s in range(25)]
    values = np.array([bound.nats_per_token for bound in bounds])
    assert np.mean([bound.tolerance_met for bound in bounds]) >= 0.9
    assert (np.abs(values - truth.nats_per_token) < 3 * 0.1).mean() >= 0.97
    assert values.std(ddof=1) < 0.1 * 1.25
    spread = math.hypot(values.std(ddof=1) / math.sqrt(25), truth.standard_error)
    assert abs(values.mean() - truth.nats_per_token) < Z_LIMIT * spread
    assert "met with" in bounds[0].method


def test_stopping_does_not_lower_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heavy-tailed terms of known mean in place of a model's: 3,000 bounds to a tolerance average to that mean.

    Lognormal, s = 1.2: a bound that stops on its own error comes out 15 per cent too low, one that only adds rounds of
    new draws until they meet it 7 per cent. The average's own error is 0.5 per cent; p > 1e-4 is asked for.
    """
    spread, seen = 1.2, torch.Generator().manual_seed(8)

    def drawn(model: Model, part: Scored, generator: Randomness, more: int, step: int) -> tuple[torch.Tensor, ...]:
        shape = (more, *part.where.shape)
        values = torch.randn(shape, generator=seen, dtype=torch.float64).mul(spread).sub(spread**2 / 2).exp()
        return values, torch.zeros(shape[1:], dtype=torch.float64), torch.zeros_like(values)

    monkeypatch.setattr(import_module("discdiff.likelihood.nelbo"), "estimator", lambda model: (drawn, "drawn"))
    model = wrong()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tolerance is not always met
        bounds = [
            nelbo(model, CLEAN[:1], generator=Keys(1, torch.arange(1)), samples=4, tolerance=0.2) for _ in range(3000)
        ]
    values = np.array([bound.nats_per_token for bound in bounds])
    assert all(bound.tolerance_met == (bound.standard_error <= 0.2) for bound in bounds)
    assert abs(z_score(values, 1.0)) < Z_LIMIT


def test_tolerance_not_met() -> None:
    """The cap holds, the result and a warning say so; without a tolerance nothing is said."""
    with pytest.warns(UserWarning, match="NOT met with 10 noise levels"):
        bound = nelbo(wrong(), CLEAN, generator=keys(), samples=4, tolerance=1e-6, max_samples=10)
    assert bound.samples == 10
    assert bound.tolerance_met is False
    assert "NOT met" in bound.method
    assert nelbo(wrong(), CLEAN, generator=keys(), samples=4).tolerance_met is None


def test_nothing_of_the_pilot_is_kept() -> None:
    """After a pilot of 8 and 8 levels, the 16 of the bound are drawn anew: of another noise, of the same error."""
    with pytest.warns(UserWarning, match="NOT met"):
        two = nelbo(wrong(), CLEAN, generator=keys(), samples=8, tolerance=1e-9, max_samples=16)
    one = nelbo(wrong(), CLEAN, generator=keys(), samples=16)
    assert two.samples == 16
    assert not torch.isclose(two.total, one.total).any()
    assert 0.7 < two.standard_error / one.standard_error < 1.4
