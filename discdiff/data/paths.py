"""Names of files and data sets, and how far the reading of one has come."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO

from discdiff.errors import DataError

SUFFIXES = {".gz": "gzip", ".bgz": "gzip", ".bgzf": "gzip", ".bz2": "bzip2", ".xz": "xz"}
_HUB = re.compile(r"hf:(/|$)")
_SAVED = ("dataset_info.json", "dataset_dict.json")
_watcher: ContextVar[Callable[[float], None] | None] = ContextVar("watcher", default=None)


def is_hub(path: str | Path) -> bool:
    """Whether a path is the name of a Hugging Face data set, `hf://…`, or a folder that one was saved in."""
    return _HUB.match(str(path)) is not None or any((Path(path) / name).is_file() for name in _SAVED)


def check_file(path: str | Path) -> Path:
    """The path of a file that exists; names of data sets (`is_hub`) are taken as they are.

    Raises:
        DataError: no such file (with the nearest name beside it), or a folder.
    """
    path = Path(path)
    if is_hub(path):
        return path
    if path.is_dir():
        raise DataError("this is a folder", path=path, remedy="name a file in it")
    if not path.exists():
        if not path.parent.is_dir():
            raise DataError("no such file", path=path, remedy=f"the folder {path.parent} does not exist either")
        near = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
        raise DataError("no such file", path=path, remedy=f"did you mean {near[0]!r}?" if near else "check the path")
    return path


def plain_suffix(path: str | Path) -> str:
    """The lower-case suffix of a file's name under a compression suffix: `.fasta` of `reads.fasta.gz`."""
    path = Path(path)
    return (Path(path.stem) if path.suffix.lower() in SUFFIXES else path).suffix.lower()


@contextmanager
def watching(report: Callable[[float], None]) -> Iterator[None]:
    """Within this, tell `report` what share of a file has been read, in [0, 1] of its bytes on disk or its rows."""
    token = _watcher.set(report)
    try:
        yield
    finally:
        _watcher.reset(token)


def tell(share: float) -> None:
    """Tell whoever watches which share of a file has been read."""
    report = _watcher.get()
    if report is not None:
        report(share)


def tell_position(file: IO[bytes], size: int) -> None:
    """As `tell`, from where a file of `size` bytes is being read."""
    if _watcher.get() is not None and file.seekable():
        tell(min(1.0, file.tell() / size))


__all__ = ["SUFFIXES", "check_file", "is_hub", "plain_suffix", "tell", "tell_position", "watching"]
