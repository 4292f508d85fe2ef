"""Importance sampling of time: unbiased whatever the density, and less variance with the measured one."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.losses import (
    ContinuousELBO,
    PiecewiseTimes,
    ScoreEntropy,
    TimeCrossEntropy,
    TimedLoss,
    UniformTimes,
    adapted_times,
    fit_times,
)
from discdiff.model import Diffusion
from discdiff.randomness import Keys
from discdiff.schedules import Geometric, LogLinear, Schedule
from discdiff.sequences import Sequences
from tests.cases import build
from tests.expectations import call
from tests.scripted import ALMOST_ONE, corruption
from tests.toy_networks import Wrong
from tests.toys import DENSE, Array, legendre

MASS = [1.0, 4.0, 0.5, 2.5]


def by_pieces(mass: list[float], points: int = 12) -> tuple[Tensor, Array]:
    """Quadrature over u in [0, 1) that knows where the density jumps: nodes and weights."""
    ends = np.cumsum([0.0, *mass]) / sum(mass)
    x, w = legendre(points)
    nodes = np.concatenate([a + (b - a) * x for a, b in itertools.pairwise(ends)])
    weights = np.concatenate([(b - a) * w for a, b in itertools.pairwise(ends)])
    return torch.from_numpy(nodes), weights


@pytest.mark.parametrize("power", range(6))
def test_integrals_stay_what_they_are(power: int) -> None:
    """∫ t^n dt over [t_min, 1]: 1e-13."""
    schedule = LogLinear(t_min=0.05)
    u, w = by_pieces(MASS)
    t, weight = PiecewiseTimes(MASS).place(u, schedule)
    want = (1 - 0.05 ** (power + 1)) / (power + 1)
    assert float((weight * t**power).numpy() @ w) == pytest.approx(want, abs=1e-13)


@pytest.mark.parametrize("loss", [ScoreEntropy, ContinuousELBO])
def test_losses_stay_unbiased(loss: type[TimedLoss]) -> None:
    """The loss of one x0 and xt, integrated over its own uniform number, at two densities: 1e-9 relative."""
    model = build("uniform", "leave_one_out", network=Wrong, schedule=LogLinear(t_min=0.05))
    x0, xt = torch.tensor([[0, 1, 2]]), torch.tensor([[1, 1, 0]])
    values = []
    for times, mass in ((UniformTimes(), [1.0] * 4), (PiecewiseTimes(MASS), MASS)):
        u, w = by_pieces(mass)
        rows = len(u)
        script = corruption(xt.expand(rows, -1), x0.expand(rows, -1), 3, masked=False)
        values.append(float(call(loss(times), model, x0.expand(rows, -1), time=u, **script) @ w))
    assert values[0] > 0.1
    assert values[1] == pytest.approx(values[0], rel=1e-9)


def test_ends() -> None:
    """Points at both ends of [0, 1) and of every piece stay within [t_min, 1]."""
    schedule, times = LogLinear(), PiecewiseTimes(MASS)
    ends = torch.cat(
        [torch.tensor([0.0, ALMOST_ONE], dtype=torch.float64), torch.tensor(times.mass).double().cumsum(0)]
    )
    t, weight = times.place(ends.clamp(max=ALMOST_ONE), schedule)
    assert float(t.min()) == schedule.t_min
    assert float(t.max()) <= 1
    assert bool((weight > 0).all())


CASES: dict[str, tuple[type[TimedLoss], str, Schedule, float]] = {
    "t-DCE, log-linear": (TimeCrossEntropy, "absorbing", LogLinear(), 0.8),
    "t-DCE, geometric": (TimeCrossEntropy, "absorbing", Geometric(), 0.6),
    "ELBO, uniform": (ContinuousELBO, "uniform", LogLinear(), 0.5),
}
"""A loss, a process, a schedule, and what share of the variance may be left: 0.6, 0.43 and 0.2 were measured."""


def variance(loss: TimedLoss, model: Diffusion, rows: Sequences, seed: int) -> tuple[float, float]:
    with torch.no_grad():
        values = loss(model, rows, generator=Keys(seed, torch.arange(len(rows)))).double()
    return float(values.mean()), float(values.var())


@pytest.mark.parametrize("name", CASES)
def test_measured_density_lowers_the_variance(name: str) -> None:
    """On draws other than those it was fitted to; the mean moves by less than 5 standard errors."""
    make, process, schedule, share = CASES[name]
    model = build(process, "denoiser", network=Wrong, schedule=schedule)
    rows = Sequences.full(torch.from_numpy(DENSE.sequences).repeat(1200, 1))
    fitted = adapted_times(make(), model, rows, generator=Keys(1, torch.arange(len(rows))), pieces=16)
    plain, less = (variance(make(times), model, rows, 2) for times in (UniformTimes(), fitted))
    assert less[1] < share * plain[1]
    assert abs(less[0] - plain[0]) < 5 * math.sqrt((less[1] + plain[1]) / len(rows))


def test_state_is_a_list() -> None:
    """Through JSON and back, the same draws."""
    times = PiecewiseTimes(MASS)
    again = PiecewiseTimes(json.loads(json.dumps(times.mass)))
    u = torch.linspace(0, 0.999, 50, dtype=torch.float64)
    for one, two in zip(times.place(u, LogLinear()), again.place(u, LogLinear()), strict=True):
        torch.testing.assert_close(one, two)
    assert repr(ScoreEntropy(times)) == "ScoreEntropy(times=PiecewiseTimes(mass=[0.125, 0.5, 0.0625, 0.3125]))"


def test_fit_follows_the_root_of_the_second_moment() -> None:
    """Values 1 and 3 in two halves: 1 to 3, the floor taken off."""
    t = torch.tensor([0.1, 0.2, 0.6, 0.9])
    fitted = fit_times(torch.tensor([1.0, -1.0, 3.0, 3.0]), t, LogLinear(), pieces=2, floor=0.2)
    assert fitted.mass == pytest.approx([0.8 * 0.25 + 0.1, 0.8 * 0.75 + 0.1])
    assert fit_times(torch.zeros(4), t, LogLinear(), pieces=2).mass == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("mass", [[], [1.0, 0.0], [1.0, -1.0], [math.nan], [math.inf]])
def test_masses_that_lose_a_part(mass: list[float]) -> None:
    with pytest.raises(IncompatibleError, match="expected a positive number for each piece"):
        PiecewiseTimes(mass)


def test_fits_without_enough_values() -> None:
    with pytest.raises(IncompatibleError, match="no value in piece 1"):
        fit_times(torch.ones(2), torch.tensor([0.1, 0.2]), LogLinear(), pieces=2)
    with pytest.raises(IncompatibleError, match="values that are not finite"):
        fit_times(torch.tensor([1.0, math.inf]), torch.tensor([0.1, 0.9]), LogLinear(), pieces=2)
