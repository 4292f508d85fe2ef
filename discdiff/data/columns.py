"""Columns of numbers that grow while a file is read: in memory, or in files that are then mapped."""

from __future__ import annotations

import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from discdiff.errors import DataError

Array = npt.NDArray[Any]
_BUFFER = 1 << 20
# Mapped read-only: a private map of a file larger than the memory may be refused. The others become tensors, which
# torch wants to be writable; what is written to them never reaches the file.
_LARGE = ("tokens", "names")


class Strings(Sequence[str]):
    """Strings one after the other in one array of bytes.

    Args:
        data: uint8 `[sum of lengths]`, UTF-8.
        ends: int64 `[n]`: where each string ends in `data`.
    """

    def __init__(self, data: Array, ends: Array) -> None:
        self.data, self.ends = data, ends

    @classmethod
    def of(cls, strings: Iterable[str]) -> Strings:
        """Strings in memory."""
        encoded = [encoded_text(one) for one in strings]
        ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start = int(self.ends[index - 1]) if index else 0
        return self.data[start : int(self.ends[index])].tobytes().decode("utf-8", "surrogatepass")


def encoded_text(text: str) -> bytes:
    """UTF-8 of any string; halves of surrogate pairs, which files wrongly decoded may hold, come back as they were."""
    return text.encode("utf-8", "surrogatepass")


class Columns(ABC):
    """Named columns, each of one dtype, to which arrays are appended."""

    @abstractmethod
    def append(self, name: str, values: Array) -> None:
        """Add values to the end of a column; the first ones decide its dtype."""

    @abstractmethod
    def finish(self, name: str) -> Array | None:
        """The whole column, `[n]`; None where nothing was appended. No more can be appended to it."""

    @abstractmethod
    def drop(self, name: str) -> None:
        """Forget a column."""


class MemoryColumns(Columns):
    """Columns in memory."""

    def __init__(self) -> None:
        self._buffers: dict[str, bytearray] = {}
        self._dtypes: dict[str, np.dtype[Any]] = {}

    def append(self, name: str, values: Array) -> None:
        self._dtypes.setdefault(name, values.dtype)
        assert values.dtype == self._dtypes[name]
        self._buffers.setdefault(name, bytearray()).extend(np.ascontiguousarray(values).data)

    def finish(self, name: str) -> Array | None:
        if name not in self._buffers:
            return None
        return np.frombuffer(self._buffers.pop(name), dtype=self._dtypes.pop(name))

    def drop(self, name: str) -> None:
        self._buffers.pop(name, None)
        self._dtypes.pop(name, None)


class FileColumns(Columns):
    """Columns in files of a folder, never whole in memory.

    Attributes:
        folder: where the files `NAME.bin` are, numbers of the machine's byte order.
        facts: of each finished column its `dtype`, number of items, and CRC-32.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, dict[str, Any]] = {}
        self._files: dict[str, Any] = {}
        self._open: dict[str, dict[str, Any]] = {}

    def append(self, name: str, values: Array) -> None:
        with _told(self.folder):
            if name not in self._files:
                self._files[name] = column_file(self.folder, name).open("wb", buffering=_BUFFER)
                self._open[name] = {"dtype": values.dtype.str, "items": 0, "crc": 0}
            about = self._open[name]
            assert values.dtype.str == about["dtype"]
            data = np.ascontiguousarray(values).data
            self._files[name].write(data)
            about["items"] += len(values)
            about["crc"] = zlib.crc32(data, about["crc"])

    def finish(self, name: str) -> Array | None:
        if name not in self._files:
            return None
        with _told(self.folder):
            file = self._files.pop(name)
            file.flush()
            os.fsync(file.fileno())
            file.close()
            self.facts[name] = self._open.pop(name)
        return mapped(self.folder, name, self.facts[name])

    def drop(self, name: str) -> None:
        if name in self._files:
            self._files.pop(name).close()
            del self._open[name]
            column_file(self.folder, name).unlink()

    def close(self) -> None:
        """Close what is not finished."""
        for name in list(self._files):
            self._files.pop(name).close()


def column_file(folder: Path, name: str) -> Path:
    """The file of a column."""
    return folder / f"{name}.bin"


def mapped(folder: Path, name: str, about: dict[str, Any]) -> Array:
    """A finished column as a map of its file."""
    dtype = np.dtype(about["dtype"])
    if not about["items"]:
        return np.empty(0, dtype)
    mode: Any = "r" if name in _LARGE else "c"
    # as a plain array: items of a memmap are ten times as slow to get at
    return np.asarray(np.memmap(column_file(folder, name), dtype=dtype, mode=mode, shape=(about["items"],)))


def checksum_of(values: Array, *, block: int = 1 << 24) -> int:
    """CRC-32 of an array's bytes, a block at a time."""
    total = 0
    for start in range(0, len(values), block):
        total = zlib.crc32(np.ascontiguousarray(values[start : start + block]).data, total)
    return total


@contextmanager
def _told(folder: Path) -> Any:
    """Say what a full or broken disk means here."""
    try:
        yield
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(folder: Path, error: OSError) -> DataError:
    """The error for a cache that cannot be written."""
    return DataError(
        f"the cache of encoded sequences cannot be written: {error.strerror or error}", path=folder,
        remedy="make room there, name another folder by cache= or $DISCDIFF_CACHE, or read into memory by cache=False",
    )  # fmt: skip
