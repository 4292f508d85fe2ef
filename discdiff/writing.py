"""Files that are written whole or not at all."""

from __future__ import annotations

import os
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
        OSError: it cannot be written; what was there before is untouched.
    """
    fresh = path.with_name(f".{path.name}.{mark or os.getpid()}")
    try:
        with fresh.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
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
