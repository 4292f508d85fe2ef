"""Time grids: where a sampler with a given number of steps looks at the network."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.schedules import Schedule

GridName = Literal["time", "noise", "mask_fraction"]
Grid: TypeAlias = GridName | Sequence[float]
"""Uniform in t, in σ or in the mask fraction 1 − e^(−σ); or the times themselves, from 1 down."""


def _evenly(top: float, bottom: float, steps: int) -> Tensor:
    """From the top down in `steps` points; the last is a step from 0, or the bottom where that is higher."""
    return torch.linspace(top, max(bottom, top / steps), steps, dtype=torch.float64)


def _in_time(schedule: Schedule, steps: int) -> Tensor:
    return _evenly(1.0, schedule.t_min, steps)


def _in_noise(schedule: Schedule, steps: int) -> Tensor:
    low, high = schedule.ends()
    return schedule.time(_evenly(high, low, steps))


def _in_mask_fraction(schedule: Schedule, steps: int) -> Tensor:
    low, high = -torch.expm1(-torch.tensor(schedule.ends(), dtype=torch.float64))
    return schedule.time(-torch.log1p(-_evenly(float(high), float(low), steps)))


NAMED: dict[str, Callable[[Schedule, int], Tensor]] = {
    "time": _in_time,
    "noise": _in_noise,
    "mask_fraction": _in_mask_fraction,
}


def check_grid(grid: Grid) -> Grid:
    """A usable grid, or an error that says what is wrong with it."""
    if isinstance(grid, str):
        if grid not in NAMED:
            raise IncompatibleError(
                "grid", got=repr(grid), expected=", ".join(map(repr, NAMED)), remedy="Or give the times themselves."
            )
        return grid
    times = [float(t) for t in grid]
    falling = all(a > b for a, b in itertools.pairwise(times))
    if not times or not falling or not times[-1] > 0 or times[0] != 1:
        raise IncompatibleError(
            "grid", got=times[:8], expected="times that start at 1 and fall, all above 0",
            remedy="The last step, to time 0, is added.",
        )  # fmt: skip
    return times


def grid_times(schedule: Schedule, steps: int, grid: Grid = "time") -> Tensor:
    """The times at which the network is evaluated, float64 `[steps]`, from 1 down to t_min at the lowest.

    Raises:
        IncompatibleError: given times that are not `steps` many, or below the schedule's t_min.
    """
    if isinstance(grid, str):
        times = NAMED[grid](schedule, steps)
        times[0] = 1.0  # not the rounding of an inverse
        return times
    if len(grid) != steps or grid[-1] < schedule.t_min:
        raise IncompatibleError(
            "grid", got=f"{len(grid)} times down to {grid[-1]:g}",
            expected=f"{steps} times, none below t_min = {schedule.t_min:g}", remedy="Leave steps out.",
        )  # fmt: skip
    return torch.tensor(grid, dtype=torch.float64)
