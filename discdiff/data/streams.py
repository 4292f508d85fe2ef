"""Text streams that know where they are: a fault is told with file, line, column and byte."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

from discdiff.data.paths import SUFFIXES, check_file, plain_suffix, tell_position, watching
from discdiff.errors import DataError, DiscdiffWarning

_CHUNK = 1 << 17
_OPENERS: dict[str, tuple[bytes, Callable[[Any], Any]]] = {
    "gzip": (b"\x1f\x8b", lambda stream: gzip.GzipFile(fileobj=stream)),
    "bzip2": (b"BZh", bz2.BZ2File),
    "xz": (b"\xfd7zXZ\x00", lzma.LZMAFile),
}
_NOT_TEXT = {
    b"PK\x03\x04": ("a zip archive or an Office document", "unpack it, or save the table as CSV"),
    b"\x28\xb5\x2f\xfd": (
        "zstd-compressed",
        "decompress it with `zstd -d`; gz, bgz, bz2 and xz are read as they are",
    ),
    b"PAR1": ("a Parquet file", "name it *.parquet, and read it with a domain that takes tables"),
    b"\x93NUMPY": ("a NumPy array", "arrays of integers are read by the domain 'tokens'"),
}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


class TextError(DataError):
    """A byte that is no text; `begins` is the part of its line that stands before it, as far as it is at hand."""

    begins: str = ""


def open_text(path: str | Path, encoding: str = "utf-8", *, newline: str | None = None) -> TextIO:
    r"""Open a text file for reading, plain or compressed by gzip (bgzip too), bzip2 or xz.

    The compression is told by the file's first bytes. A byte-order mark is dropped. Reading stops with an
    error at the first fault; all lines before it have been handed out by then.

    Args:
        path: the file.
        encoding: how its characters are written.
        newline: as in `open`: None reads all line ends as `\n`, `""` keeps them.

    Raises:
        DataError: missing, a folder, empty, not text (a byte 0x00), not in `encoding`, truncated, or not
            compressed as its name says. While reading, too.
    """
    path = check_file(path)
    try:
        codec = codecs.lookup(encoding).name
    except LookupError as error:
        raise DataError(f"{error}", path=path, remedy="name a Python encoding such as 'utf-8' or 'latin-1'") from error
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot be opened: {error.strerror}", path=path) from error
    try:
        source, kind = _decompressed(path, file, codec)
        raw = _Checked(source, file, path, kind, codec)
        if not raw.look():
            raise DataError("the file is empty", path=path, remedy="0 bytes of text; check how it was written")
    except BaseException:
        file.close()
        raise
    name = "utf-8-sig" if codec == "utf-8" else codec
    return io.TextIOWrapper(io.BufferedReader(raw, _CHUNK), encoding=name, newline=newline)


@contextmanager
def unpacked(path: str | Path) -> Iterator[Path]:
    """The path of a binary file's contents (Parquet, npy): its own, or that of a decompressed copy while this lasts.

    Raises:
        DataError: missing, a folder, truncated, or not compressed as its name says.
    """
    path = check_file(path)
    with path.open("rb") as file:
        kind = _compression(path, file)
        if kind is None:
            yield path
            return
        with tempfile.NamedTemporaryFile(prefix="discdiff-", suffix=plain_suffix(path)) as copy:
            size = 0
            try:
                source = _OPENERS[kind][1](file)
                while chunk := source.read(_CHUNK):
                    size += copy.write(chunk)
                copy.flush()
            except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
                raise DataError(
                    f"{'truncated' if isinstance(error, EOFError) else 'damaged'} {kind} file (after {size} bytes): "
                    f"{error}", path=path, remedy="copy or download it again",
                ) from error  # fmt: skip
            yield Path(copy.name)


def _compression(path: Path, file: io.BufferedReader) -> str | None:
    """How a file is compressed, by its first bytes; None if it is not."""
    head = file.peek(16)
    claimed = SUFFIXES.get(path.suffix.lower())
    found = next((kind for kind, (magic, _) in _OPENERS.items() if head.startswith(magic)), None)
    if claimed and head and found != claimed:
        actual = f"{found} data" if found else "no compressed data"
        raise DataError(
            f"not {claimed}: the name ends in {path.suffix}, but the file holds {actual}", path=path,
            remedy="give it the suffix that fits its contents" if not found else f"rename it to fit {found}",
        )  # fmt: skip
    return found


def _decompressed(path: Path, file: io.BufferedReader, codec: str) -> tuple[IO[bytes], str | None]:
    head = file.peek(16)
    found = _compression(path, file)
    for magic, (kind, remedy) in _NOT_TEXT.items():
        if head.startswith(magic):
            raise DataError(f"not text: it is {kind}", path=path, remedy=remedy)
    if not found:
        if head.startswith(_UTF16) and not codec.startswith("utf-16"):
            raise DataError("byte offset 0: not UTF-8 but UTF-16", path=path, line=1, remedy="pass encoding='utf-16'")
        return file, None
    if head[12:14] == b"BC" and file.seekable():
        _check_bgzf_end(path, file)
    stream: IO[bytes] = _OPENERS[found][1](file)
    return stream, found


def _check_bgzf_end(path: Path, file: io.BufferedReader) -> None:
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - len(_BGZF_END), 0))
    whole = file.read() == _BGZF_END
    file.seek(0)
    if not whole:
        warnings.warn(f"{path}: no end marker of bgzip: the file may be truncated", DiscdiffWarning, stacklevel=4)


def _looks_binary(chunk: bytes) -> bool:
    """Control characters that no text in any 8-bit encoding holds: more than one in a hundred bytes."""
    head = chunk[:4096]
    return 100 * sum(byte < 32 and byte not in b"\t\n\v\f\r\x1b" for byte in head) > len(head)


class _Checked(io.RawIOBase):
    """Bytes of a text file, checked as they pass: no 0x00, and decodable.

    A fault is held back until the lines before its own have been read: a reader can then say in which
    record it is.
    """

    def __init__(self, source: IO[bytes], file: IO[bytes], path: Path, kind: str | None, codec: str) -> None:
        self.name = str(path)
        self._source, self._file, self._path, self._kind, self._codec = source, file, path, kind, codec
        self._decoder = codecs.getincrementaldecoder(codec)()
        self._wide = codec.startswith(("utf-16", "utf-32"))
        self._ready = b""
        self._size = max(path.stat().st_size, 1)
        self._fault: DataError | None = None
        # offset: bytes checked so far; line: lines begun; line_start: offset of the line's first byte
        self._offset, self._line, self._line_start, self._return = 0, 1, 0, False

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._source.close()
            self._file.close()  # decompressors leave it open
        super().close()

    def look(self) -> bool:
        """Whether there is any text; raises a fault of the first line at once."""
        self._fill()
        if not self._ready and self._fault:
            raise self._fault
        return self._ready not in (b"", codecs.BOM_UTF8)

    def readinto(self, buffer: Any) -> int:
        if not self._ready and not self._fault:
            self._fill()
        if not self._ready and self._fault:
            raise self._fault
        part = self._ready[: len(buffer)]
        self._ready = self._ready[len(part) :]
        buffer[: len(part)] = part
        return len(part)

    def _fill(self) -> None:
        try:
            chunk = self._source.read(_CHUNK)
        except EOFError:
            self._fault = self._damaged(f"truncated {self._kind} file: the compressed data end too early")
            return
        except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, OSError) as error:
            self._fault = self._damaged(f"damaged {self._kind} file: {error}" if self._kind else str(error))
            return
        tell_position(self._file, self._size)
        at = -1 if self._wide else chunk.find(b"\x00")
        fault = "byte 0x00: binary data, or a damaged file" if at >= 0 else None
        remedy = "this is no text file; check the path, or copy it again"
        pending = len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(chunk if at < 0 else chunk[:at], final=not chunk)
        except UnicodeDecodeError as error:
            # error.start counts from the bytes that the decoder had held back
            at = error.start - pending
            fault = f"byte 0x{error.object[error.start]:02x}: not {self._codec.upper()}"
            if _looks_binary(chunk):
                fault, remedy = f"{fault}; this looks like binary data", "this is no text file; check the path"
            else:
                remedy = "convert the file to UTF-8, or name its own encoding: encoding='latin-1', say"
        if fault is None:
            self._advance(chunk)
            self._ready = chunk
            return
        good = chunk[: max(at, 0)]
        before = self._advance(good)
        offset = self._offset - len(good) + at
        self._ready = good[:before]
        self._fault = TextError(
            f"byte offset {offset}: {fault}", path=self._path, line=self._line,
            column=offset - self._line_start + 1, remedy=remedy,
        )  # fmt: skip
        self._fault.begins = good[before:].decode(self._codec, "replace")

    def _advance(self, chunk: bytes) -> int:
        r"""Count lines (ended by \n, \r\n or \r); returns how many bytes of the chunk end with a line."""
        if not chunk:
            return 0
        split = self._return and chunk.startswith(b"\n")
        self._line += chunk.count(b"\n") + chunk.count(b"\r") - chunk.count(b"\r\n") - split
        last = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
        if last:
            self._line_start = self._offset + last
        self._offset += len(chunk)
        self._return = chunk.endswith(b"\r")
        return last

    def _damaged(self, message: str) -> DataError:
        return DataError(
            f"{message} (after {self._offset} bytes of text)", path=self._path, line=self._line,
            remedy="copy or download it again",
        )  # fmt: skip


__all__ = ["SUFFIXES", "TextError", "check_file", "open_text", "plain_suffix", "unpacked", "watching"]
