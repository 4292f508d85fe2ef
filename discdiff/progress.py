"""Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PLAIN_SECONDS = 10.0
EARLY = 0.01  # of the work: before that much is done, or a minute has passed, no time is told
Report = Callable[[float], None]


@contextmanager
def progress(title: str, *, enabled: bool = True, total: int | None = None, done: float = 0.0) -> Iterator[Report]:
    """Yield a function that takes the share of the work that is done, in [0, 1].

    Args:
        title: what is being done.
        enabled: False shows nothing.
        total: how many pieces the whole is, to show how many there are and come in a second; None shows shares alone.
        done: the share that was done before.
    """
    if not enabled:
        yield lambda share: None
    elif sys.stderr.isatty():
        yield from _bar(title, total, done)
    else:
        yield _plain(title, total, done)


def _bar(title: str, total: int | None, done: float) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()]
    if total is not None:
        columns.append(TextColumn("{task.fields[count]}"))
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task(title, total=1.0, count="")
        display.update(task, completed=done)

        def report(share: float) -> None:
            count = "" if total is None else _count(share, total, done, time.monotonic() - start)
            display.update(task, completed=share, count=count)

        yield report


def _plain(title: str, total: int | None, done: float) -> Report:
    start = last = time.monotonic()

    def report(share: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_SECONDS:
            last = now
            more = f"{share:.0%} after {now - start:.0f} s"
            if total is not None and share - done < EARLY and now - start < 60:  # start-up, not a rate
                more += f", {share * total:,.0f} of {total:,}"
            elif total is not None:
                left = (now - start) * (1 - share) / max(share - done, 1e-9)
                more += f", {_count(share, total, done, now - start)}, {_duration(left)} left"
            print(f"{title}: {more}", file=sys.stderr, flush=True)  # noqa: T201

    return report


def _count(share: float, total: int, done: float, seconds: float) -> str:
    rate = (share - done) * total / max(seconds, 1e-3)
    return f"{share * total:,.0f} of {total:,}, {rate:,.{0 if rate >= 10 else 1}f}/s"


def _duration(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"


__all__ = ["progress"]
