"""Where a pipeline's network calls are: named grids, and schedules by a profile, with what they lose."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.samplers import (
    Ancestral,
    AnyOrder,
    Bisection,
    Certificate,
    Gridded,
    Profile,
    Sampler,
    State,
)
from discdiff.samplers.profiling import check_profiled

GridChoice = Literal["optimised", "bisection", "uniform", "cosine", "time", "noise", "mask_fraction"]

BY_PROFILE = (AnyOrder, Ancestral)
"""Samplers whose calls a profile can choose."""


@dataclass(frozen=True)
class Planned:
    """A sampler, its steps, and what says how much it loses.

    Attributes:
        sampler: with its grid.
        steps: calls, or None where the sampler or an error chooses them.
        profile: that of the blocks, or None.
        certificate: of a time grid, the same for all rows, or None.
        error: what chose the number of calls, or None.
    """

    sampler: Sampler
    steps: int | None
    profile: Profile | None = None
    certificate: Certificate | None = None
    error: float | None = None

    def certificates(self, state: State) -> list[Certificate | None]:
        """What each row of a batch loses."""
        lengths, counts = (~state.padding).sum(-1).tolist(), state.movable.sum(-1).tolist()
        if self.profile is None:
            return [self.certificate] * len(counts)
        found: list[Certificate | None] = []
        for length, count in zip(lengths, counts, strict=True):
            steps = None if self.error is not None else self.steps or max(1, count)
            found.append(self.profile.blocks(length, hidden=count, error=self.error, steps=steps).certificate)
        return found


Plan = Callable[[Sampler | None, Sampler, int | None, int | None], Planned]
"""From the sampler that is asked for, the run's, the steps asked for and the run's."""


def plain(asked: Sampler | None, default: Sampler, steps: int | None, usual: int | None) -> Planned:
    """The sampler as it is."""
    return _with_steps(asked or default, steps, usual)


def planned(
    asked: Sampler | None,
    default: Sampler,
    steps: int | None,
    usual: int | None,
    *,
    grid: GridChoice | None,
    error: float | None,
    profile: Profile | None,
    model: Model,
    lengths: Mapping[int, int],
) -> Planned:
    """The sampler that is asked for by a grid or an error, or as it is.

    Args:
        asked: sampler that was named, if one was.
        default: the run's.
        steps: calls asked for.
        usual: the run's, for samplers that take them where none are asked for.
        grid: where they are.
        error: nats that a sequence may lose.
        profile: the run's.
        model: what is sampled.
        lengths: how often each length is to be expected.

    Raises:
        IncompatibleError: they do not fit together, or there is no profile.
    """
    if grid is None and error is None:
        return plain(asked, default, steps, usual)
    if grid is not None and grid not in get_args(GridChoice):
        raise IncompatibleError(
            "grid", got=repr(grid), expected=", ".join(get_args(GridChoice)), remedy="Name one of these."
        )
    if error is not None and steps is not None:
        raise IncompatibleError(
            "error", got=f"{error:g} nats and {steps} steps", expected="one of the two",
            remedy="An error chooses the number of steps.",
        )  # fmt: skip
    if error is not None and grid not in (None, "optimised"):
        raise IncompatibleError(
            "error", got=f"{error:g} nats on the grid {grid!r}", expected="the grid 'optimised'",
            remedy="Leave the grid out, or choose steps instead of an error.",
        )  # fmt: skip
    if grid == "bisection":
        return Planned(_of_kind(asked, Bisection, f"grid {grid!r}") or Bisection(), steps)
    if grid in ("uniform", "cosine"):
        _of_kind(asked, AnyOrder, f"grid {grid!r}")
        return _with_steps(AnyOrder(grid), steps, usual)
    if grid in ("time", "noise", "mask_fraction"):
        timed = copy.copy(_of_kind(asked, Gridded, f"grid {grid!r}") or Ancestral())
        timed.grid = grid
        return _with_steps(timed, steps, usual)
    what = f"error {error:g}" if error is not None else "grid 'optimised'"
    check_profiled(model, what)
    made_for = _of_kind(asked, BY_PROFILE, what)
    if profile is None:
        raise IncompatibleError(
            what,
            got="a run without a profile of its weights",
            expected="one that was measured",
            remedy="`discdiff profile RUN` (Pipeline.measure_profile) measures it.",
        )
    if isinstance(made_for, Ancestral):
        times, certificate = profile.times(
            model.schedule, lengths, error=error, steps=steps or (128 if error is None else None)
        )
        return Planned(Ancestral(grid=times), None, None, certificate, error)
    made = _with_steps(AnyOrder(profile, error=error), steps, usual)
    return replace(made, profile=profile, error=error)


def _with_steps(sampler: Sampler, steps: int | None, usual: int | None) -> Planned:
    return Planned(sampler, usual if steps is None and sampler.takes_steps else steps)


def _of_kind(asked: Sampler | None, kinds: Any, what: str) -> Any:
    """The sampler that was named, if what is asked for, a grid or an error, is of its kind."""
    if asked is None or isinstance(asked, kinds):
        return asked
    names = [kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,))]
    expected = " or ".join(names).replace("Gridded", "a sampler on a time grid")
    raise IncompatibleError(
        what, got=type(asked).__name__, expected=expected, remedy=f"Leave the sampler or the {what.split()[0]} out."
    )


__all__ = ["BY_PROFILE", "GridChoice", "Plan", "Planned", "plain", "planned"]
