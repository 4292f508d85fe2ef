"""Who makes which part of a job: locks that the system ends with the process that holds them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SETTINGS, AT_WORK, FIRST_PART = 0, 1, 2
"""Bytes of the lock file: the job's settings, the presence of workers, and one byte a part from here on."""

_HELD = (errno.EACCES, errno.EAGAIN)
_UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class Claims:
    """The parts that this process makes: record locks (`fcntl`) on bytes of one file, which also hold over NFS.

    A lock ends with its process, however that ends. Where the file system has no locks, everything is granted: parts
    follow from their numbers alone and appear whole, so that two processes that make the same part lose time, and
    nothing else. Locks are a process's own; threads of one process do not exclude each other.

    Args:
        path: the lock file; made where it is missing, and never removed, since others may have it open.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("a+b")
        self.supported = fcntl is not None
        self.mine: set[int] = set()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other process reads or writes the job's settings."""
        self._lock(SETTINGS, wait=True)
        try:
            yield
        finally:
            self._unlock(SETTINGS)

    def join(self) -> None:
        """Be counted among those at work, until this process ends or calls `close`."""
        self._lock(AT_WORK, shared=True)

    def others(self) -> bool:
        """Whether another process is at work; not to be asked by one that has joined."""
        if not self._lock(AT_WORK):
            return True
        self._unlock(AT_WORK)
        return False

    def take(self, part: int) -> bool:
        """Claim a part; False where another process has it."""
        if not self._lock(FIRST_PART + part):
            return False
        self.mine.add(part)
        return True

    def release(self, part: int) -> None:
        """Give a part back."""
        self.mine.discard(part)
        self._unlock(FIRST_PART + part)

    def release_all(self) -> None:
        """Give all parts back."""
        for part in list(self.mine):
            self.release(part)

    def close(self) -> None:
        """Give all back."""
        self._stream.close()

    def _lock(self, byte: int, *, shared: bool = False, wait: bool = False) -> bool:
        if not self.supported:
            return True
        kind: Any = fcntl
        try:
            kind.lockf(
                self._stream, (kind.LOCK_SH if shared else kind.LOCK_EX) | (0 if wait else kind.LOCK_NB), 1, byte
            )
        except OSError as error:
            if error.errno in _HELD:
                return False
            if error.errno in _UNKNOWN:
                self.supported = False
                return True
            raise
        return True

    def _unlock(self, byte: int) -> None:
        if self.supported:
            kind: Any = fcntl
            kind.lockf(self._stream, kind.LOCK_UN, 1, byte)


__all__ = ["Claims"]
