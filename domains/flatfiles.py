"""GenBank and Stockholm files, by Biopython."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from discdiff.data.files import Faults, open_text
from discdiff.errors import DataError, require
from domains.fasta import Entry


class _Watched(io.TextIOBase):
    """Lines of a stream; `last` is the last one read that is not blank."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self.last = stream, ""

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        line = self._stream.readline(size)
        if line.strip():
            self.last = line
        return line

    def read(self, size: int | None = -1, /) -> str:
        return self._stream.read(
            -1 if size is None else size
        )  # Biopython reads 0 characters, to see that they are text


def read_flat(path: str | Path, format: str, encoding: str, faults: Faults) -> Iterator[Entry]:  # noqa: A002
    """Records of a GenBank or Stockholm file; lines are not known, places are.

    Raises:
        DataError: not well-formed, no record, or a record that comes without its sequence.
    """
    seqio = require("Bio.SeqIO")
    undefined = require("Bio.Seq").UndefinedSequenceError
    place = 0
    with open_text(path, encoding) as file:
        stream = _Watched(file)
        records = seqio.parse(stream, format)
        while True:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Biopython's remarks on annotations that are not read here
                    record = next(records, None)
            except (DataError, MemoryError):
                raise
            except Exception as error:  # Biopython's parsers let any of Python's own pass
                raise DataError(
                    f"cannot be read as {format}: {' '.join(str(error).split())}", path=path, record=place + 1,
                    remedy="check it around there",
                ) from error  # fmt: skip
            if record is None:
                break
            place += 1
            try:
                sequence = str(record.seq)
            except undefined as error:
                fault = DataError(
                    "a record without its sequence", path=path, record=record.id,
                    remedy="download it with the sequence ('GenBank (full)')",
                )  # fmt: skip
                fault.__cause__ = error
                faults.add(fault)
                continue
            yield Entry(sequence, f"{record.id} {record.description}", 0, place)
    if not stream.last.startswith("//"):
        raise DataError("truncated: the last entry has no line '//'", path=path, remedy="copy or download it again")
    if not place:
        raise DataError("no records (0)", path=path, remedy=f"is this {format}?")
