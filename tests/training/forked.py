"""Processes for tests that kill, mount or limit."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TMPFS_READ_ONLY = 1 | 32  # MS_RDONLY, MS_REMOUNT


def start(work: Callable[[], Any], answer: Path | None = None) -> int:
    """Fork a process that does the work and leaves its result as JSON; its id."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    pid = os.fork()
    if pid:
        return pid
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = work()
        told = [str(warning.message) for warning in caught]
        if answer is not None:
            answer.write_text(json.dumps([result, told]))
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the end of this process
        traceback.print_exc()
        os._exit(1)


def ended(pid: int) -> int:
    """Wait for a process; its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def result(work: Callable[[], Any], folder: Path) -> tuple[Any, list[str]]:
    """What the work returns in a process of its own, and the warnings that it gives."""
    answer = folder / "answer.json"
    assert ended(start(work, answer)) == 0
    returned, told = json.loads(answer.read_text())
    answer.unlink()
    return returned, told


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL


def wait_for(path: Path, seconds: float = 60.0) -> None:
    """Until a file is there."""
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.01)


def small_disk(folder: Path, kilobytes: int) -> None:
    """Mount a disk of that size, seen by this process alone, which has to be one of `start`."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, mounts = 0x10000000, 0x00020000
    if libc.unshare(mounts if os.geteuid() == 0 else user | mounts):
        raise OSError(ctypes.get_errno(), "unshare")
    libc.mount(b"none", b"/", None, 1 << 18 | 1 << 14, None)  # MS_PRIVATE, MS_REC
    if libc.mount(b"none", bytes(folder), b"tmpfs", 0, f"size={kilobytes}k".encode()):
        raise OSError(ctypes.get_errno(), "mount")


def make_read_only(folder: Path) -> None:
    """Of a small disk."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", bytes(folder), b"tmpfs", TMPFS_READ_ONLY, None):
        raise OSError(ctypes.get_errno(), "mount")


def needs_small_disks(folder: Path) -> None:
    """Skip where this user may not mount."""

    def work() -> bool:
        try:
            small_disk(folder, 64)
        except OSError:
            return False
        return True

    if not result(work, folder.parent)[0]:
        pytest.skip("may not mount a tmpfs here")
