"""Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PLAIN_SECONDS = 10.0
Report = Callable[[float], None]


@contextmanager
def progress(title: str, *, enabled: bool = True) -> Iterator[Report]:
    """Yield a function that takes the share of the work that is done, in [0, 1].

    Args:
        title: what is being done.
        enabled: False shows nothing.
    """
    if not enabled:
        yield lambda share: None
    elif sys.stderr.isatty():
        yield from _bar(title)
    else:
        yield _plain(title)


def _bar(title: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task(title, total=1.0)
        yield lambda share: display.update(task, completed=share)


def _plain(title: str) -> Report:
    start = last = time.monotonic()

    def report(share: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_SECONDS:
            last = now
            print(f"{title}: {share:.0%} after {now - start:.0f} s", file=sys.stderr, flush=True)  # noqa: T201

    return report


__all__ = ["progress"]
