"""What a person sees of a run: a bar on a terminal, a plain line now and then elsewhere. All of it on stderr."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from discdiff.training.result import Validation, throughput
from discdiff.training.schedule import Clock

PLAIN_SECONDS = 15.0
BAR_SECONDS = 0.5


class Reporter:
    """Loss, bound, throughput and time left of a run.

    Args:
        clock: how far the run is.
        show: False for silence.
        console: where to; standard error by default.
    """

    def __init__(self, clock: Clock, *, show: bool = True, console: Console | None = None) -> None:
        self.clock, self.show = clock, show
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self.bound: Validation | None = None
        self.skipped = 0
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._next = 0.0
        self._first = (0, 0.0)

    def start(self, step: int) -> None:
        """Begin, at `step`."""
        self._first = (step, self.clock.seconds)
        if not self.show:
            return
        self._next = time.monotonic() + min(2.0, PLAIN_SECONDS)
        if self.console.is_terminal:
            columns = TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[figures]}")
            self._bar = Progress(*columns, console=self.console, auto_refresh=False)
            self._task = self._bar.add_task("training", total=1.0, figures="")
            self._bar.start()

    @property
    def due(self) -> bool:
        """Whether it is time to show new figures: reading the loss makes a GPU wait, so it is done seldom."""
        return self.show and time.monotonic() >= self._next

    def update(self, step: int, loss: float, tokens_per_second: float, padding: float) -> None:
        """Show new figures."""
        if not self.show:
            return
        self._next = time.monotonic() + (PLAIN_SECONDS if self._bar is None else BAR_SECONDS)
        figures = f"step {step:,}/{self.clock.max_steps:,}  loss {loss:.4f}"
        if self.bound is not None:
            figures += f"  bound {self.bound.nats_per_token:.4f} ± {self.bound.standard_error:.4f}"
        if self.skipped:
            figures += f"  {self.skipped:,} skipped"
        figures += f"  {throughput(tokens_per_second, padding)}  {self._left(step)}"
        if self._bar is None or self._task is None:
            self.console.print(figures)
            return
        done = self.clock.progress(step)
        self._bar.update(self._task, completed=done, description="training", figures=figures, refresh=True)

    def busy(self, what: str, part: int, parts: int) -> None:
        """Show that something other than training goes on: `part` of `parts` is done."""
        if self._bar is not None and self._task is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + BAR_SECONDS
            self._bar.update(self._task, description=f"{what} {part}/{parts}", refresh=True)

    def _left(self, step: int) -> str:
        """Time left, from the pace of this process."""
        first, start = self._first
        done, took = self.clock.progress(step), self.clock.seconds - start
        began = first / self.clock.max_steps
        if done <= began or done >= 1:
            return ""
        left = took * (1 - done) / (done - began)
        if self.clock.budget is not None:
            left = min(left, max(0.0, self.clock.budget - self.clock.seconds))
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d} left"

    def note(self, text: str) -> None:
        """Print a line that stays."""
        if self.show:
            (self.console if self._bar is None else self._bar.console).print(text, markup=False)

    def stop(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
