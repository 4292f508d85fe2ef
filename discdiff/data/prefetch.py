"""Work done ahead of its use, by threads, in the order in which it is asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def in_order(make: Callable[[Item], Made], items: Iterable[Item], workers: int) -> Iterator[Made]:
    """`map(make, items)` with up to `2 * workers` results made ahead.

    Threads, not processes: batches are gathered by numpy and torch, which let other threads run meanwhile; nothing is
    copied from one process to another, and an error is the one that was raised, with its traceback. What is under way
    when the iteration is closed is finished, and the rest dropped.

    Args:
        make: called in any thread; must not depend on the order of its calls.
        items: its arguments.
        workers: threads; 0 calls `make` when a result is asked for, in the caller's thread.
    """
    if not workers:
        yield from map(make, items)
        return
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="discdiff-batches") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
