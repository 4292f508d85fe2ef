"""Schedules: σ' against autograd, the inverse, the ends, in float32 and float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from discdiff.errors import DiscdiffError
from discdiff.schedules import Cosine, Geometric, LogLinear, Schedule
from tests.cases import SCHEDULES

CASES = pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
T = torch.linspace(0, 1, 101, dtype=torch.float64)


@CASES
@given(t=st.floats(1e-6, 1.0))
def test_rate_is_the_derivative(make: Callable[[], Schedule], t: float) -> None:
    """1e-10 relative, from t = 1e-6 to 1."""
    schedule, time = make(), torch.tensor(t, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(schedule.total_noise(time), time)
    torch.testing.assert_close(schedule.noise_rate(time).detach(), slope, rtol=1e-10, atol=0)


@CASES
def test_noise_increases_from_almost_nothing(make: Callable[[], Schedule]) -> None:
    sigma = make().total_noise(T)
    assert (sigma.diff() > 0).all()
    assert 0 <= float(sigma[0]) < 1e-3
    assert float(sigma[-1]) > 6.9
    assert (make().noise_rate(T[1:-1]) > 0).all()
    assert make().noise_rate(T[-1]) >= 0  # 0 for the cosine², whose α has its minimum there


@CASES
@given(t=st.floats(1e-6, 1.0))
def test_time_inverts_noise(make: Callable[[], Schedule], t: float) -> None:
    schedule, time = make(), torch.tensor(t, dtype=torch.float64)
    torch.testing.assert_close(schedule.time(schedule.total_noise(time)), time, rtol=1e-9, atol=1e-12)


@CASES
def test_float32_is_float64_rounded(make: Callable[[], Schedule]) -> None:
    """To 1e-3 relative near t = 1, where 1 − t has few digits; 1e-5 elsewhere. Shape and dtype are kept."""
    schedule, time = make(), T[1:].reshape(10, 10)
    for method in (schedule.total_noise, schedule.noise_rate):
        single, double = method(time.float()), method(time)
        assert single.dtype == torch.float32
        assert single.shape == time.shape
        torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=0)
        torch.testing.assert_close(single.double()[:9], double[:9], rtol=1e-5, atol=0)


@CASES
def test_ends(make: Callable[[], Schedule]) -> None:
    """The ends are those of [t_min, 1]."""
    schedule = make()
    low, high = schedule.ends()
    assert low == float(schedule.total_noise(torch.tensor(schedule.t_min, dtype=torch.float64)))
    assert high == float(schedule.total_noise(torch.tensor(1.0, dtype=torch.float64)))
    assert 0 < low < high < math.inf


@pytest.mark.parametrize("eps", [1e-9, 1e-3, 0.1])
def test_closed_forms(eps: float) -> None:
    """α(t): 1 − (1 − ε) t; ε + (1 − ε) cos(π t / 2). Geometric: σ_min^(1−t) σ_max^t."""
    torch.testing.assert_close((-LogLinear(eps).total_noise(T)).exp(), 1 - (1 - eps) * T)
    torch.testing.assert_close((-Cosine(eps).total_noise(T)).exp(), eps + (1 - eps) * torch.cos(math.pi / 2 * T))
    torch.testing.assert_close(Geometric(eps, 7.0).total_noise(T), eps ** (1 - T) * 7.0**T)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogLinear(eps=0.0), "eps: got 0.0, expected a number between 0 and 1"),
        (lambda: LogLinear(t_min=1.0), "t_min: got 1.0"),
        (lambda: Cosine(eps=-0.1), "eps: got -0.1"),
        (lambda: Cosine(eps=math.nan), "eps: got nan"),
        (lambda: Geometric(t_min=2.0), "t_min: got 2.0"),
        (lambda: Geometric(0.0, 1.0), "expected 0 < min < max"),
        (lambda: Geometric(2.0, 1.0), "sigma_min=2.0, sigma_max=1.0"),
        (lambda: Geometric(1.0, math.inf), "expected 0 < min < max"),
    ],
)
def test_impossible_schedules(make: Callable[[], Schedule], message: str) -> None:
    with pytest.raises(DiscdiffError, match=message):
        make()


def test_repr_is_a_call() -> None:
    assert repr(LogLinear(0.25)) == "LogLinear(eps=0.25, t_min=0.001)"
