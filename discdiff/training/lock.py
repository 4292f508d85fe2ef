"""One process trains in a run folder: a lock that dies with its process, however that dies."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
import weakref
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from discdiff.errors import CheckpointError
from discdiff.unfinished import LOCK_FILE

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


class FolderLock:
    """The lock of a run folder: the operating system's, on a file that names its owner.

    The file of a process that was killed stays, but the lock on it is gone, so it is no obstacle. Reading a run folder
    needs no lock. Loader processes that are forked do not keep it alive.

    Args:
        folder: the run folder, which exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / LOCK_FILE
        self._handle: int | None = None
        self._finalizer: weakref.finalize[..., FolderLock] | None = None

    def acquire(self) -> str | None:
        """Take the lock.

        Returns:
            None, or a sentence where the file system knows no locks: then nothing keeps a second process out.

        Raises:
            CheckpointError: another process has it, or the folder cannot be written to.
        """
        while True:
            try:
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise CheckpointError(
                    f"{self.folder}: cannot be written to ({error.strerror}); name another folder"
                ) from error
            try:
                unsupported = self._lock(handle)
                if not self._is_there(handle):
                    os.close(handle)
                    continue
                self._sign(handle)
            except OSError as error:
                os.close(handle)
                raise CheckpointError(f"{self.path}: cannot be written ({error.strerror})") from error
            except BaseException:
                os.close(handle)
                raise
            self._handle = handle
            self._finalizer = weakref.finalize(self, os.close, handle)  # should nobody release it
            _held.add(self)
            return unsupported

    def release(self) -> None:
        """Give the lock back, if it is held; the file goes."""
        if self._handle is not None:
            with suppress(OSError):
                self.path.unlink()
            self._close()

    def _is_there(self, handle: int) -> bool:
        """Whether the file that was opened is still the folder's: its last owner may have removed it since."""
        try:
            return os.path.samestat(os.fstat(handle), self.path.stat())
        except FileNotFoundError:
            return False

    def _sign(self, handle: int) -> None:
        """Write down whose the lock is; where there is no room for that, leave no trace."""
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(_this_process()).encode() + b"\n", 0)
        except OSError:
            with suppress(OSError):
                self.path.unlink()
            raise

    def _lock(self, handle: int) -> str | None:
        if fcntl is None:
            return self._warning("this system")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(
                f"{self.folder}: {self._owner(handle)}. Wait for it, stop it, or name another folder."
            ) from error
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            return self._warning("its file system")
        return None

    def _warning(self, what: str) -> str:
        return f"{self.folder}: {what} knows no locks, so nothing keeps a second process from training there"

    def _owner(self, handle: int) -> str:
        """Who holds the lock, in words."""
        try:
            owner: dict[str, Any] = json.loads(os.pread(handle, 1 << 16, 0))
            return f"process {owner['pid']} on {owner['host']} has been training there since {owner['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process is training there"

    def _close(self) -> None:
        self._handle = None
        _held.discard(self)
        if self._finalizer is not None:
            with suppress(OSError):
                self._finalizer()


def _this_process() -> dict[str, Any]:
    since = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime())
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _forget() -> None:
    """In a forked process: the lock is its parent's alone, and must go when that dies."""
    for lock in list(_held):
        lock._close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
