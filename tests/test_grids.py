"""Time grids: evenly spaced in what they say, and samplers that follow them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from discdiff.description import build as rebuild
from discdiff.description import describe
from discdiff.errors import IncompatibleError
from discdiff.samplers import Ancestral, Euler, Gridded, Level, Remasking, State, noise_levels
from discdiff.sampling import sample
from discdiff.schedules import LogLinear
from tests.cases import SAMPLERS, SCHEDULES, build

COORDINATES: dict[str, Callable[[Level], float]] = {
    "time": lambda level: level.t,
    "noise": lambda level: level.sigma,
    "mask_fraction": lambda level: 1 - np.exp(-level.sigma),
}


@pytest.mark.parametrize("steps", [1, 2, 10])
@pytest.mark.parametrize("grid", COORDINATES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_even_in_its_coordinate(schedule: str, grid: str, steps: int) -> None:
    """From t = 1 down to a step above the clean end, which the last interval reaches; σ and σ' are the schedule's."""
    made = SCHEDULES[schedule]()
    levels = noise_levels(made, steps, grid)  # type: ignore[arg-type]
    assert len(levels) == steps
    assert levels[0].t == 1.0
    assert levels[-1].last
    assert levels[-1].s == 0.0
    places = np.array([COORDINATES[grid](level) for level in levels])
    np.testing.assert_allclose(places, places[0] * np.arange(steps, 0, -1) / steps, rtol=1e-6)
    for one, two in itertools.pairwise(levels):
        assert (one.s, one.sigma_next) == (two.t, two.sigma)
    for level in levels:
        t = torch.tensor(level.t, dtype=torch.float64)
        assert level.sigma == float(made.total_noise(t))
        assert level.noise_rate == float(made.noise_rate(t))


@pytest.mark.parametrize("grid", COORDINATES)
def test_never_below_the_smallest_time(grid: str) -> None:
    levels = noise_levels(LogLinear(t_min=0.1), 100, grid)  # type: ignore[arg-type]
    assert levels[-1].t == pytest.approx(0.1, rel=1e-9)


def test_given_times() -> None:
    """They are the plan, and their number the number of calls; a stored sampler keeps them."""
    sampler = Ancestral(grid=[1.0, 0.7, 0.1])
    levels = noise_levels(LogLinear(), 3, sampler.grid)
    assert [(level.t, level.s) for level in levels] == [(1.0, 0.7), (0.7, 0.1), (0.1, 0.0)]
    model, generator = build("uniform", "denoiser"), torch.Generator().manual_seed(0)
    drawn = sample(model, 4, length=3, sampler=sampler, generator=generator)
    assert drawn.calls is not None
    assert (drawn.calls == 3).all()
    assert rebuild(describe(sampler)).grid == [1.0, 0.7, 0.1]
    assert rebuild(describe(Euler("noise"))).grid == "noise"


GRIDDED = [name for name, case in SAMPLERS.items() if isinstance(case.make(), Gridded)]


@pytest.mark.parametrize("name", [*GRIDDED, "loop"])
def test_every_sampler_on_a_grid_takes_one(name: str) -> None:
    """Named and given: intervals begin where the grid says, σ falls without a gap; a stored sampler keeps it."""
    made = Remasking(loop=0.5) if name == "loop" else SAMPLERS[name].make()
    assert isinstance(made, Gridded)
    options = {key: getattr(made, key) for key in ("rule", "eta", "loop", "theta") if hasattr(made, key)}
    model = build("absorbing", "denoiser")
    blank = torch.zeros(1, 2, dtype=torch.bool)
    zero = torch.zeros(1, dtype=torch.int64)
    state = State(blank.long(), blank, blank, None, zero, zero.double(), torch.Generator())
    plans: list[tuple[Any, int | None]] = [("noise", 9), ("mask_fraction", 6), ([1.0, 0.6, 0.5, 0.2], None)]
    for grid, steps in plans:
        sampler = type(made)(**options, grid=grid)
        _, levels = sampler.plan(model, state, steps)
        count = sampler.intervals(steps) if steps else 4
        begins = sorted({level.t for level in levels}, reverse=True)
        want = noise_levels(model.schedule, count, grid)
        assert begins == [level.t for level in want]
        for one, two in itertools.pairwise(levels):
            assert (one.s, one.sigma_next) == (two.t, two.sigma)
        assert rebuild(describe(sampler)).grid == grid


@pytest.mark.parametrize("grid", [[], [1.0, 1.0], [0.9, 0.5], [1.0, 0.0], [1.0, 0.5, 0.6], "sigma"], ids=str)
def test_impossible_grids(grid: list[float]) -> None:
    with pytest.raises(IncompatibleError, match="grid: got"):
        Ancestral(grid=grid)


def test_grids_that_do_not_fit() -> None:
    with pytest.raises(IncompatibleError, match=r"got 2 times down to 0\.5, expected 3 times"):
        noise_levels(LogLinear(), 3, [1.0, 0.5])
    with pytest.raises(IncompatibleError, match=r"none below t_min = 0\.2"):
        noise_levels(LogLinear(t_min=0.2), 2, [1.0, 0.1])
