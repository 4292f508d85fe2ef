"""The peak of a process's memory while something runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch


def resident(device: str) -> int:
    """Bytes in use now: of the process on a CPU, of torch's allocator on a GPU."""
    if device != "cpu":
        torch.cuda.synchronize()
        return int(torch.cuda.memory_allocated())
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def peak_above(before: int, work: Callable[[], None], device: str) -> int:
    """The most bytes in use while `work` runs, above `before`; on a CPU looked at every millisecond."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated()) - before
    most, done = before, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, resident(device))
            time.sleep(0.001)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return max(most, resident(device)) - before
