"""Where the sequences of a FASTA file lie in it, so that a piece of one can be read without the rest."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discdiff.data.files import check_file
from discdiff.errors import DataError

Bytes = NDArray[np.uint8]
_BLOCK = 1 << 24
_HEADER, _NEWLINE, _RETURN = ord(">"), ord("\n"), ord("\r")
_LINE_ENDS = b"\r\n"


@dataclass(frozen=True)
class Contig:
    """One sequence of an indexed file: the five columns of samtools' `.fai`.

    Attributes:
        name: the first word of its header.
        length: letters in it.
        offset: byte of the file where its first letter is.
        line_bases: letters in each line but the last.
        line_width: bytes of such a line, its end included.
    """

    name: str
    length: int
    offset: int
    line_bases: int
    line_width: int

    def byte(self, position: int) -> int:
        """The byte of the file where the letter at a 0-based position is."""
        return self.offset + position // self.line_bases * self.line_width + position % self.line_bases

    def piece(self, data: Bytes, start: int, end: int) -> bytes:
        """Letters `start` .. `end` - 1, line ends taken out."""
        raw: bytes = data[self.byte(start) : self.byte(end - 1) + 1].tobytes()
        return raw.translate(None, _LINE_ENDS) if self.line_width > self.line_bases else raw


class IndexedFasta:
    """A plain FASTA file, mapped into memory, with the places of its sequences.

    The index is `FILE.fai` where samtools left one that is no older than the file and agrees with it; else the file is
    gone through once.

    Args:
        path: the file, not compressed.

    Raises:
        DataError: missing, empty, compressed; with the line, what keeps a file from being indexed: no header, a name
            that is missing or occurs twice, a record without a sequence, lines of different lengths within a record.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = check_file(path)
        with self.path.open("rb") as file:
            head = file.read(4)
        if not head:
            raise DataError("the file is empty", path=path)
        if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zX")):
            raise DataError(
                "a compressed file cannot be read from the middle", path=path,
                remedy="decompress it first (bgzip -d, gunzip, xz -d)",
            )  # fmt: skip
        self._data: Bytes | None = None
        self.contigs = _read_fai(self.path, self.data) or _scan(self.path, self.data)

    @property
    def data(self) -> Bytes:
        """The file's bytes."""
        if self._data is None:
            self._data = np.asarray(np.memmap(self.path, dtype=np.uint8, mode="r"))
        return self._data

    def __getstate__(self) -> dict[str, Any]:
        """A worker process maps the file again."""
        return self.__dict__ | {"_data": None}


def _read_fai(path: Path, data: Bytes) -> list[Contig] | None:
    """The index that samtools left, or None where there is none, an older one, or that of another file."""
    index = path.with_name(path.name + ".fai")
    if not index.is_file() or index.stat().st_mtime_ns < path.stat().st_mtime_ns:
        return None
    contigs = []
    try:
        for line in index.read_text(encoding="utf-8").splitlines():
            name, *numbers = line.split("\t")[:5]
            contigs.append(Contig(name, *(int(number) for number in numbers)))
    except (ValueError, TypeError, UnicodeDecodeError):
        return None
    fits = bool(contigs) and len({contig.name for contig in contigs}) == len(contigs)
    return contigs if fits and all(_agrees(contig, data) for contig in contigs) else None


def _agrees(contig: Contig, data: Bytes) -> bool:
    """Whether a contig's header stands before it, and a header or the file's end after it."""
    if min(contig.length, contig.offset, contig.line_bases, contig.line_width - contig.line_bases) < 1:
        return False
    last = contig.byte(contig.length - 1)
    if last >= len(data):
        return False
    before = data[max(0, contig.offset - (1 << 14)) : contig.offset].tobytes().rstrip(_LINE_ENDS)
    header = before[max(before.rfind(b"\n"), before.rfind(b"\r")) + 1 :]
    after = data[last + 1 : last + 16].tobytes()
    return header[1:].split()[:1] == [contig.name.encode()] and after.lstrip(_LINE_ENDS)[:1] in (b"", b">")


def _scan(path: Path, data: Bytes) -> list[Contig]:
    """The index of a file, by its line ends."""
    found = _Scan(path)
    start = line = 0
    for first in range(0, len(data), _BLOCK):
        block = data[first : first + _BLOCK]
        ends = np.flatnonzero(block == _NEWLINE) + first
        if first + _BLOCK >= len(data) and data[-1] != _NEWLINE:
            ends = np.append(ends, len(data))
        if not len(ends):
            continue
        starts = np.concatenate([[start], ends[:-1] + 1])
        returns = (ends > starts) & (data[np.maximum(ends, 1) - 1] == _RETURN)
        sizes = ends - starts - returns
        headers = np.flatnonzero((sizes > 0) & (data[np.minimum(starts, len(data) - 1)] == _HEADER))
        edges = [0, *headers.tolist(), len(ends)]
        for i, (here, there) in enumerate(pairwise(edges)):
            body = here
            if i:
                title = data[starts[here] + 1 : starts[here] + 1 + min(int(sizes[here]), 1 << 14)]
                found.begin(title[: max(0, int(sizes[here]) - 1)].tobytes(), int(ends[here]) + 1, line + here + 1)
                body += 1
            if body < there:
                found.lines(sizes[body:there], (ends - starts + 1)[body:there], int(starts[body]), line + body + 1)
        start, line = int(ends[-1]) + 1, line + len(ends)
    return found.done()


class _Scan:
    """The record that is being gone through, and those before it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.contigs: dict[str, Contig] = {}
        self.name: str | None = None
        self.line = self.offset = self.length = self.bases = self.width = 0
        self.short = False

    def begin(self, title: bytes, offset: int, line: int) -> None:
        self._end()
        name = title.split(maxsplit=1)[0].decode("utf-8", "replace") if title.strip() else ""
        if not name:
            raise DataError("a header without a name", path=self.path, line=line, remedy="name the sequence: >chr1")
        if name in self.contigs:
            raise DataError(
                "this name stands on an earlier sequence, too", path=self.path, record=name, line=line,
                remedy="rename one: windows go by names",
            )  # fmt: skip
        self.name, self.line, self.offset, self.length, self.bases, self.short = name, line, offset, 0, 0, False

    def lines(self, sizes: NDArray[np.int64], widths: NDArray[np.int64], offset: int, line: int) -> None:
        """Take in lines of letters, of which the first begins at a byte and is the file's `line`."""
        filled = np.flatnonzero(sizes)
        if not len(filled):
            self.short = self.short or self.bases > 0
            return
        if self.name is None:
            raise DataError(
                "expected '>' at the start of a record", path=self.path, line=line + int(filled[0]),
                remedy="each sequence has a header line: >chr1",
            )  # fmt: skip
        if not self.bases:
            if filled[0] or offset != self.offset:
                raise self._ragged(self.line + 1, "a blank line before the sequence")
            self.bases, self.width = int(sizes[0]), int(widths[0])
        if self.short:
            raise self._ragged(line + int(filled[0]), f"{sizes[filled[0]]} letters after a shorter line")
        if offset != self.offset + self.length // self.bases * self.width:
            raise self._ragged(line - 1, "line ends of two kinds")
        odd = np.flatnonzero(sizes != self.bases)
        # the end of the last line says nothing: the file may end without one
        wide = np.flatnonzero(widths[:-1] - sizes[:-1] != self.width - self.bases)
        if len(wide):
            raise self._ragged(line + int(wide[0]), "line ends of two kinds")
        if len(odd):
            at = int(odd[0])
            if sizes[at] > self.bases:
                raise self._ragged(line + at, f"{sizes[at]} letters where the lines before have {self.bases}")
            if filled[-1] > at:
                after = int(filled[np.searchsorted(filled, at, side="right")])
                raise self._ragged(line + after, f"{sizes[after]} letters after a shorter line")
            self.short = True
        self.length += int(sizes.sum())

    def done(self) -> list[Contig]:
        self._end()
        if not self.contigs:
            raise DataError("no records: every line is blank", path=self.path)
        return list(self.contigs.values())

    def _end(self) -> None:
        if self.name is None:
            return
        if not self.length:
            raise DataError(
                "a record without a sequence", path=self.path, record=self.name, line=self.line,
                remedy="fill it in or delete the header",
            )  # fmt: skip
        self.contigs[self.name] = Contig(self.name, self.length, self.offset, self.bases, self.width)

    def _ragged(self, line: int, what: str) -> DataError:
        return DataError(
            f"{what}: places cannot be computed from lines of different lengths", path=self.path, record=self.name,
            line=line, remedy="wrap the file anew (seqkit seq -w 60), or read it whole, without windows",
        )  # fmt: skip
