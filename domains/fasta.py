"""FASTA and FASTQ: a reader that says what is wrong where, and a writer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TextIO

from discdiff.data.files import Faults, TextError, open_text
from discdiff.domain import Record
from discdiff.errors import DataError
from domains.names import NameCounts

Lines = Iterator[tuple[int, str]]
_ATTRIBUTE = re.compile(r"(\S+?)=(\S+)")


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of a sequence file, unchecked but for its form.

    Attributes:
        sequence: the letters as they stand, without white space.
        title: the header line without its mark.
        line: 1-based line of the header.
        place: 1-based number of the record.
    """

    sequence: str
    title: str
    line: int
    place: int

    @property
    def name(self) -> str | None:
        """The first word of the title."""
        return self.title.split(maxsplit=1)[0] if self.title else None

    @property
    def attributes(self) -> dict[str, str]:
        """The `key=value` words of the title."""
        return dict(_ATTRIBUTE.findall(self.title))


def read_entries(
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002
    encoding: str = "utf-8",
    faults: Faults | None = None,
) -> Iterator[Entry]:
    """Records of a sequence file.

    Args:
        path: the file, plain or compressed.
        format: `fasta`, `fastq`, `genbank`, `stockholm`, or `lines` (one sequence a line); None goes by the
            first line (and never takes `lines`).
        encoding: of the file.
        faults: takes the records that cannot be used, and is told of records without a name and of names that occur
            more than once. Without it the first fault is raised.

    Raises:
        DataError: with file and line: no header, a record without a sequence, a damaged FASTQ record; no record.
    """
    faults = faults or Faults(path)
    with open_text(path, encoding) as stream:
        lines: Lines = enumerate(stream, start=1)
        first = next(((number, line) for number, line in lines if line.strip()), None)
        if first is None:
            raise DataError("no records: every line is blank", path=path)
        found = format or sniff(first[1])
        lines = chain([first], lines)
        if found in ("genbank", "stockholm"):
            from domains.flatfiles import read_flat

            entries = read_flat(path, found, encoding, faults)
        elif found == "lines":
            blank = ((number, "") for number in range(1, first[0]))
            filled = enumerate(faults.filled(chain(blank, lines)), start=1)
            entries = (Entry("".join(line.split()), "", number, place) for place, (number, line) in filled)
        else:
            entries = (_fastq if found == "fastq" else _fasta)(path, lines, faults)
        yield from entries if found == "lines" else _named(entries, faults)


def sniff(line: str) -> str:
    """The format that a file's first line tells; FASTA if it tells none."""
    if line.startswith("@"):
        return "fastq"
    if line.startswith("LOCUS"):
        return "genbank"
    return "stockholm" if line.startswith("# STOCKHOLM") else "fasta"


def _named(entries: Iterable[Entry], faults: Faults) -> Iterator[Entry]:
    """The entries; at the end, names that are missing or repeated are remarked on."""
    seen = NameCounts()
    count = nameless = 0
    for entry in entries:
        count += 1
        if name := entry.name:
            seen.add(name)
        else:
            nameless += 1
        yield entry
    if nameless:
        faults.remark(f"{nameless:,} of {count:,} records have no name; they go by number")
    repeated, first = seen.repeated()
    if repeated:
        which = f" (first: {first!r})" if first else ""
        faults.remark(f"{repeated:,} of {count:,} records repeat the name of an earlier one{which}")


def _fasta(path: str | Path, lines: Lines, faults: Faults) -> Iterator[Entry]:
    place, start, title = 0, 0, ""
    parts: list[str] = []

    def entry() -> Iterator[Entry]:
        sequence = "".join(parts)
        if sequence:
            yield Entry(sequence, title, start, place)
        elif place:
            name = title.split(maxsplit=1)[0] if title else place
            faults.add(
                DataError(
                    "a record without a sequence", path=path, record=name, line=start,
                    remedy="fill it in or delete the header",
                )
            )  # fmt: skip

    try:
        for number, line in lines:
            if line.startswith(">"):
                yield from entry()
                place, start, title, parts = place + 1, number, line[1:].strip(), []
            elif (text := line.strip()) and not place:
                raise _no_header(path, number, text)
            elif text:
                parts.append("".join(text.split()))
    except TextError as fault:
        if not place or fault.begins.startswith(">"):
            raise
        done = sum(map(len, parts))
        raise DataError(
            fault.message, path=path, record=title.split(maxsplit=1)[0] if title else place, line=fault.line,
            column=done + (fault.column or 1), remedy=fault.remedy,
        ) from fault  # fmt: skip
    yield from entry()


def _no_header(path: str | Path, number: int, text: str) -> DataError:
    start = text[:20] + ("..." if len(text) > 20 else "")
    if text.startswith(";"):
        remedy = "comment lines are not part of FASTA: delete them"
    elif "\t" in text or "," in text:
        remedy = "a table? give it the suffix .tsv or .csv"
    else:
        remedy = "give each sequence a header line '>name'; for one sequence a line pass format='lines'"
    return DataError(f"expected '>' at the start of a record, got {start!r}", path=path, line=number, remedy=remedy)


def _fastq(path: str | Path, lines: Lines, faults: Faults) -> Iterator[Entry]:
    def following(what: str, name: object, line: int) -> tuple[int, str]:
        number, text = next(lines, (0, ""))
        if not number:
            raise DataError(
                f"truncated: the file ends before the {what}", path=path, record=name, line=line,
                remedy="copy or download it again",
            )  # fmt: skip
        return number, text.strip()

    place = 0
    while (head := next(((n, line) for n, line in lines if line.strip()), None)) is not None:
        start, header = head
        place += 1
        if not header.startswith("@"):
            raise DataError(
                f"expected '@' at the start of record {place}, got {header.strip()[:20]!r}", path=path, line=start,
                remedy="FASTQ has four lines a record: @name, sequence, +, quality",
            )  # fmt: skip
        title = header[1:].strip()
        name = title.split(maxsplit=1)[0] if title else place
        at, sequence = following("sequence", name, start)
        number, plus = following("line '+'", name, start)
        if not plus.startswith("+"):
            raise DataError(
                f"expected '+' after the sequence, got {plus[:20]!r}", path=path, record=name, line=number,
                remedy="sequences that run over several lines are not supported in FASTQ",
            )  # fmt: skip
        number, quality = following("quality", name, start)
        if len(quality) != len(sequence):
            error = DataError(
                f"{len(quality)} quality characters for {len(sequence)} bases", path=path, record=name, line=number,
                remedy="the record is damaged or truncated; copy or download the file again",
            )  # fmt: skip
            beyond = next(((n, line) for n, line in lines if line.strip()), None)
            if beyond is None or not beyond[1].startswith("@"):
                raise error  # truncated, or the lines are out of step
            lines = chain([beyond], lines)
            faults.add(error)
        elif not sequence:
            faults.add(DataError("a record without a sequence", path=path, record=name, line=at))
        else:
            yield Entry(sequence, title, start, place)


def write_fasta(records: Iterable[Record], stream: TextIO, *, width: int = 60) -> None:
    """Write records as FASTA, `width` letters a line; nameless ones are numbered, labels stand as `label=...`.

    Raises:
        DataError: a name with a line break.
    """
    for place, record in enumerate(records, start=1):
        title = record.name or f"sequence_{record.place or place}"
        if record.label is not None:
            title += f" label={record.label}"
        if len(title.splitlines()) > 1:
            raise DataError("a name with a line break cannot be a FASTA header", record=place, remedy="rename it")
        lines = [record.sequence[i : i + width] for i in range(0, len(record.sequence), width)]
        stream.write("\n".join([f">{title}", *lines]) + "\n")
