"""What a part of a job looks like as a file: Parquet, JSON lines, or the domain's own format."""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from discdiff.domain import Domain
from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.records import Record

FormatName = Literal["parquet", "jsonl", "own"]
Row = dict[str, Any]
"""index, sequence, label, calls, seed, valid, reason, certificate: of one sample, counted from 0."""


class PartFormat(ABC):
    """Rows to bytes and back.

    Attributes:
        suffix: of the files, without the dot.
    """

    suffix: str

    @abstractmethod
    def encode(self, rows: Sequence[Row]) -> bytes:
        """A file's content."""

    @abstractmethod
    def decode(self, content: bytes, first: int) -> Iterator[Row]:
        """The rows of a file whose first one has the number `first`; any exception where it is damaged."""

    def fault(self, path: Path, numbers: range) -> str | None:
        """What is wrong with a file that should hold the rows of these numbers; None where nothing is."""
        try:
            found = [row["index"] for row in self.decode(path.read_bytes(), numbers.start)]
        except Exception as error:  # noqa: BLE001 - whatever a damaged file brings about
            return f"cannot be read ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        if len(found) != len(numbers):
            return f"holds {len(found)} rows, expected {len(numbers)}"
        if found != list(numbers):
            return f"holds rows {found[0]} to {found[-1]}, expected {numbers[0]} to {numbers[-1]}"
        return None


class Parquet(PartFormat):
    """Parquet with a checksum a page, so that a flipped bit shows."""

    suffix = "parquet"

    def encode(self, rows: Sequence[Row]) -> bytes:
        """All columns are there in every part, with the same types."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"index": pa.int64(), "calls": pa.int64(), "seed": pa.int64(), "valid": pa.bool_()}
        texts = dict.fromkeys(("sequence", "label", "reason", "certificate"), pa.string())
        order = ("index", "sequence", "label", "calls", "seed", "valid", "reason", "certificate")
        schema = pa.schema([(name, (types | texts)[name]) for name in order])
        flat = [row | {"certificate": row["certificate"] and json.dumps(row["certificate"])} for row in rows]
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(flat, schema=schema), sink, write_page_checksum=True)
        return sink.getvalue()

    def decode(self, content: bytes, first: int) -> Iterator[Row]:
        """Checks every page."""
        import pyarrow.parquet as pq

        for row in pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True).read().to_pylist():
            yield row | {"certificate": row["certificate"] and json.loads(row["certificate"])}


class JsonLines(PartFormat):
    """A JSON object a line."""

    suffix = "jsonl"

    def encode(self, rows: Sequence[Row]) -> bytes:
        """UTF-8."""
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()

    def decode(self, content: bytes, first: int) -> Iterator[Row]:
        """A last line without an end is refused."""
        for line in _lines(content):
            yield json.loads(line)


@dataclass(frozen=True)
class Own(PartFormat):
    """The domain's own format: sequences and names, and what else it has room for.

    Attributes:
        suffix: see `Domain.suffix`.
        domain: writes it; not needed to read.
    """

    suffix: str
    domain: Domain | None = None

    def encode(self, rows: Sequence[Row]) -> bytes:
        """As `discdiff sample` writes samples to one file.

        Raises:
            DiscdiffError: a sample that the format cannot tell from its neighbours.
        """
        assert self.domain is not None, "a format to write"
        stream = io.StringIO()
        records = (
            Record(row["sequence"], f"sample_{row['index'] + 1}", row["label"], row["index"] + 1) for row in rows
        )
        self.domain.write(records, stream)
        content = stream.getvalue().encode()
        if len(list(self.decode(content, 0))) != len(rows):
            raise DiscdiffError(
                f"a sample has a line break, which files of {self.suffix} cannot hold; "
                "use format='parquet' or 'jsonl' (--format)"
            )
        return content

    def decode(self, content: bytes, first: int) -> Iterator[Row]:
        """Sequences with their numbers."""
        for i, sequence in enumerate(_READ[self.suffix](_lines(content))):
            yield {"index": first + i, "sequence": sequence}


def _lines(content: bytes) -> list[str]:
    text = content.decode()
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")
    return text[:-1].split("\n")  # not splitlines, which parts at other characters too


def _fasta(lines: list[str]) -> Iterator[str]:
    sequence: list[str] | None = None
    for line in lines:
        if line.startswith(">"):
            if sequence is not None:
                yield "".join(sequence)
            sequence = []
        elif sequence is None:
            raise ValueError("the first line is no header")
        else:
            sequence.append(line)
    if sequence is not None:
        yield "".join(sequence)


_READ: dict[str, Callable[[list[str]], Iterator[str]]] = {
    "fasta": _fasta,
    "smi": lambda lines: (line.split("\t")[0] for line in lines),
    "txt": lambda lines: iter(lines),
}
"""How records are told apart, by the suffix of the domain's files."""


def part_format(name: str, domain: Domain) -> PartFormat:
    """The format called `name`.

    Raises:
        IncompatibleError: no such format, or a domain whose own one does not tell records apart.
    """
    if name == "parquet":
        return Parquet()
    if name == "jsonl":
        return JsonLines()
    if name != "own":
        raise IncompatibleError(
            "format", got=repr(name), expected=" or ".join(get_args(FormatName)), remedy="Name one of these."
        )
    if domain.suffix is None or domain.suffix not in _READ:
        raise IncompatibleError(
            "format",
            got=f"'own' of {domain.name}, whose files do not tell one sample from the next",
            expected="'parquet' or 'jsonl'",
            remedy="Name one of these.",
        )
    return Own(domain.suffix, domain)


READERS: dict[str, PartFormat] = {
    form.suffix: form for form in (Parquet(), JsonLines(), *(Own(suffix) for suffix in _READ))
}
"""Formats by the suffixes of their files."""


__all__ = ["READERS", "FormatName", "JsonLines", "Own", "Parquet", "PartFormat", "Row", "part_format"]
