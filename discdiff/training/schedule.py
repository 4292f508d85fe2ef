"""Time and learning rate: how far a run has come, and what follows from it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from discdiff.errors import ConfigError

Decay = Literal["cosine", "linear", "constant"]


class Clock:
    """How long a run has taken, and how much of it is done.

    Args:
        max_steps: the run's steps.
        max_minutes: its time in minutes, or None. Validation and samples count; the longest such pause so far is kept
            free for the last one.
    """

    def __init__(self, max_steps: int, max_minutes: float | None = None) -> None:
        self.max_steps = max_steps
        self.budget = None if max_minutes is None else 60.0 * max_minutes
        self.before = 0.0  # seconds that an interrupted run had taken
        self.paused = 0.0
        self.longest_pause = 0.0
        self.agreed: float | None = None  # `elapsed` by the first process's clock, where there are several
        self._start = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of this process's own clock."""
        return time.monotonic() - self._start

    @property
    def seconds(self) -> float:
        """Time taken, by the interrupted runs before this one too."""
        return self.before + (self.elapsed if self.agreed is None else self.agreed)

    def progress(self, step: int) -> float:
        """The part of the run that is done after `step` steps, in [0, 1]: of its steps or its time, the larger."""
        done = step / self.max_steps
        if self.budget is not None:
            free = max(self.budget - self.longest_pause, 1e-3 * self.budget)
            done = max(done, self.seconds / free)
        return min(1.0, done)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time inside is not training time."""
        start = self.seconds
        try:
            yield
        finally:
            took = self.seconds - start
            self.paused += took
            self.longest_pause = max(self.longest_pause, took)


class Every:
    """When something is due that is done every so often.

    Every `steps` steps; without a number, at each tenth of the run, of its time where that is limited. By steps, the
    tenths are 100 to 1000 steps; by time, one is left out while all pauses so far have taken over a fifth of the time.
    """

    def __init__(self, clock: Clock, steps: int | None) -> None:
        self.clock, self.tenths = clock, 0
        self.steps = steps
        if steps is None and clock.budget is None:
            self.steps = min(1000, max(100, clock.max_steps // 10))

    def due(self, step: int) -> bool:
        """Whether it is due after `step` steps; to be asked once a step."""
        if self.steps is not None:
            return step % self.steps == 0
        before, self.tenths = self.tenths, int(10 * self.clock.progress(step))
        return self.tenths > before and self.clock.paused <= 0.2 * self.clock.seconds


def rate_factor(step: int, progress: float, *, warmup_steps: int, decay: Decay, timed: bool = False) -> float:
    """The learning rate over its peak: linear warm-up times decay.

    `min(1, (step + 1) / warmup_steps) · f(progress)`; f is `(1 + cos π p) / 2`, `1 − p` or 1.

    Args:
        step: steps taken.
        progress: in [0, 1], see `Clock.progress`.
        warmup_steps: length of the warm-up.
        decay: f.
        timed: the run may end by time: then the warm-up ends after a tenth of it at the latest.
    """
    warm = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if timed:
        warm = max(warm, min(1.0, progress / 0.1))
    match decay:
        case "cosine":
            return warm * (1 + math.cos(math.pi * progress)) / 2
        case "linear":
            return warm * (1 - progress)
        case "constant":
            return warm
        case _:
            raise ConfigError(f"schedule: got {decay!r}, expected {' or '.join(map(repr, get_args(Decay)))}")
