"""GenBank and Stockholm files, by Biopython."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

from discdiff.data.files import open_text
from discdiff.errors import DataError, require
from domains.fasta import Entry


def read_flat(path: str | Path, format: str, encoding: str) -> Iterator[Entry]:  # noqa: A002
    """Records of a GenBank or Stockholm file; lines are not known, places are.

    Raises:
        DataError: not well-formed, no record, or a record that comes without its sequence.
    """
    seqio = require("Bio.SeqIO")
    undefined = require("Bio.Seq").UndefinedSequenceError
    place = 0
    with open_text(path, encoding) as stream:
        records = seqio.parse(stream, format)
        while True:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Biopython's remarks on annotations that are not read here
                    record = next(records, None)
            except (ValueError, AssertionError, IndexError) as error:
                if isinstance(error, DataError):
                    raise
                raise DataError(
                    f"cannot be read as {format}: {error}", path=path, record=place + 1, remedy="check it around there"
                ) from error
            if record is None:
                break
            place += 1
            try:
                sequence = str(record.seq)
            except undefined as error:
                raise DataError(
                    "a record without its sequence", path=path, record=record.id,
                    remedy="download it with the sequence ('GenBank (full)')",
                ) from error  # fmt: skip
            yield Entry(sequence, f"{record.id} {record.description}", 0, place)
    if not place:
        raise DataError("no records (0)", path=path, remedy="an entry ends with a line '//'; is the file truncated?")
