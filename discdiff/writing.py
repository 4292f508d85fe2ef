"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

WRITING_ERRORS = (OSError, SafetensorError)
"""What writing raises where there is no room: safetensors tells it in its own way."""


def write_whole(path: Path, content: str | bytes, *, mark: str | None = None) -> None:
    """Write a file beside its place, force it to disk, and rename it.

    Args:
        path: its place.
        content: text is written in UTF-8, line ends as they are.
        mark: ends the name that it has until then; by default this process's number.

    Raises:
        OSError: it cannot be written, with its name; what was there before is untouched.
    """
    fresh = path.with_name(f".{path.name}.{mark or os.getpid()}")
    try:
        with fresh.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    except BaseException as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None  # a full disk says none, others that of `fresh`
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Force a file, or a folder's names, onto the disk, where the system can."""
    with suppress(OSError):  # some systems cannot open a folder
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def reason(error: BaseException) -> str:
    """What the system says of a write that failed."""
    return os.strerror(code) if (code := _code(error)) else str(error).split("\n")[0]


def remedy(error: BaseException) -> str:
    """What to do about a write that failed."""
    if _code(error) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Make room there"
    if _code(error) in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Make it writable"
    return "See to the disk"


def _code(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    told = re.search(r"os error (\d+)", str(error))
    return int(told[1]) if told else None
