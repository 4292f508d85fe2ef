"""Records to tokens, as they are read: lengths and labels checked on the way, everything left out counted and said."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from discdiff.data.columns import Columns, MemoryColumns, Strings, encoded_text
from discdiff.data.faults import Fault, Faults
from discdiff.errors import DataError, DiscdiffError, UnknownTokenError
from discdiff.records import Record

if TYPE_CHECKING:
    from discdiff.domain import Domain

OnLong = Literal["error", "skip", "crop"]
Array = npt.NDArray[Any]
# What waits in memory until it is handed on.
_TOKENS, _RECORDS = 1 << 20, 1 << 15


@dataclass
class Encoded:
    """Sequences as one flat array, in memory or mapped from files.

    Attributes:
        tokens: uint8, uint16 or int32 `[sum of sizes]`, as few bytes as the vocabulary and an end token need.
        starts, sizes: int64 `[n]`: where each sequence begins in `tokens`, and how long it is.
        labels: int64 `[n]`, -1 for none, or None where nothing is labelled.
        label_names: the classes in the order of their numbers.
        names: the records' names, or None where none has one.
        places: int64 `[n]`: the records' places in the file; None for the blocks of a stream.
        notes: what was left out or cut.
        skipped: the records that were left out (the first `faults.LISTED` of them).
        crc: CRC-32 of `tokens`, where it is known.
        folder: where the arrays are mapped from, or None where they are in memory.
        reopen: makes the same object again in another process, given `folder`.
    """

    tokens: Array
    starts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64] | None = None
    label_names: list[str] | None = None
    names: Sequence[str] | None = None
    places: npt.NDArray[np.int64] | None = None
    notes: list[str] = field(default_factory=list)
    skipped: list[Fault] = field(default_factory=list)
    crc: int | None = None
    folder: Path | None = None
    reopen: Callable[[Path], Encoded] | None = None

    def __reduce__(self) -> Any:
        """Mapped arrays are mapped again by a worker process, not copied to it."""
        return super().__reduce__() if self.reopen is None else (self.reopen, (self.folder,))


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest dtype for tokens 0 .. vocab_size: the end token's id is `vocab_size`."""
    return np.dtype(np.uint8 if vocab_size < 2**8 else np.uint16 if vocab_size < 2**16 else np.int32)


def encode_records(
    domain: Domain,
    records: Iterable[Record],
    *,
    path: str | Path | None,
    length: int | None,
    on_long: OnLong,
    label_names: Sequence[str] | None,
    columns: Columns | None = None,
    faults: Faults | None = None,
) -> Encoded:
    """Encode the records of a file; see `SequenceDataset.read` for the arguments and errors.

    Args:
        columns: where the arrays grow; memory by default.
        faults: takes the records that cannot be used; without it the first is raised.
    """
    faults = faults or Faults(path)
    into = MemoryColumns() if columns is None else columns
    if domain.streams:
        if length is None:
            raise DataError(
                f"a {domain.name} stream is cut into blocks", path=path, remedy="give their length, length=256"
            )
        return _encode_stream(domain, records, path, length, into, faults)
    return _Set(domain, path, length, on_long, label_names, into, faults).read(records)


def check_reading(domain: Domain, *, length: int | None, on_long: str, end_token: bool) -> None:
    """Refuse arguments before a file is opened.

    Raises:
        DiscdiffError: an argument out of range, or an end token for a stream.
    """
    if length is not None and length < 1:
        raise DiscdiffError(f"length: got {length}, expected a positive integer")
    if on_long not in ("error", "skip", "crop"):
        raise DiscdiffError(f"on_long: got {on_long!r}, expected 'error', 'skip' or 'crop'")
    if domain.streams and end_token:
        raise DiscdiffError(f"end_token: the blocks of a {domain.name} stream have no end; leave it off")


class _Tokens:
    """Arrays of tokens on their way into a column.

    With `block`, the column holds whole blocks only: what is left over waits for the tokens of the next records.
    """

    def __init__(self, domain: Domain, columns: Columns, block: int = 1) -> None:
        self._domain, self._columns, self._block = domain, columns, block
        self._dtype = token_dtype(domain.vocab_size)
        self._waiting: list[Array] = []
        self._count = 0
        self.written = self.left_over = 0

    def add(self, tokens: Array) -> None:
        self._waiting.append(tokens)
        self._count += len(tokens)
        if self._count >= _TOKENS:
            self.flush()

    def flush(self) -> None:
        """Hand on whole blocks."""
        if not self._waiting:
            return
        tokens = np.concatenate(self._waiting)
        if len(tokens) and (tokens.min() < 0 or tokens.max() >= self._domain.vocab_size):
            raise DiscdiffError(
                f"{self._domain!r} encodes to tokens {tokens.min()} .. {tokens.max()}, outside its vocabulary"
            )
        whole = len(tokens) // self._block * self._block
        if whole:
            self._columns.append("tokens", tokens[:whole].astype(self._dtype, copy=False))
        rest = tokens[whole:].astype(self._dtype)
        self.written, self.left_over = self.written + whole, len(rest)
        self._waiting, self._count = [rest] if len(rest) else [], len(rest)


class _Set:
    """Sequences of a set, each with its name, label and place."""

    def __init__(
        self,
        domain: Domain,
        path: str | Path | None,
        length: int | None,
        on_long: OnLong,
        label_names: Sequence[str] | None,
        columns: Columns,
        faults: Faults,
    ) -> None:
        self.faults = faults
        self.domain, self.path, self.length, self.on_long, self.columns = domain, path, length, on_long, columns
        self.tokens = _Tokens(domain, columns)
        self.known = None if label_names is None else list(label_names)
        self.numbers = {name: i for i, name in enumerate(self.known or ())}
        self.labels = array("i")
        self.sizes, self.places, self.names = array("q"), array("q"), list[bytes]()
        self.start = self.name_end = self.kept = 0
        self.named = False
        self.long = _Long(length)

    def read(self, records: Iterable[Record]) -> Encoded:
        for number, record in enumerate(records, 1):
            try:
                self.add(record, number)
            except DataError as error:
                self.faults.add(error)
        if not self.kept and not self.long.count and not self.faults.count:
            message = "no sequences in it" if self.path else "no sequences"
            raise DataError(message, path=self.path, remedy="give at least one")
        notes = self.long.notes(self.kept, self.path, self.on_long, self.faults) + self.faults.finish(self.kept)
        self.flush()
        if not self.named:
            for name in ("names", "name_ends"):
                self.columns.drop(name)
        known = self._number_labels()
        found = {name: self.columns.finish(name) for name in ("tokens", "starts", "sizes", "labels", "places")}
        names, ends = self.columns.finish("names"), self.columns.finish("name_ends")
        return Encoded(
            **found,  # type: ignore[arg-type]
            label_names=known,
            names=None if names is None or ends is None else Strings(names, ends),
            notes=notes,
            skipped=self.faults.listed,
        )

    def add(self, record: Record, number: int) -> None:
        tokens = _encode(self.domain, record, self.path)
        size = len(tokens)
        if not size:
            raise DataError("the sequence is empty", path=self.path, record=record.title, remedy="remove the record")
        if self.length is not None and size > self.length:
            self.long.add(size, record.title)
            if self.on_long != "crop":
                self._leave_out(size, record)
                return
            tokens, size = tokens[: self.length], self.length
        label = -1 if record.label is None else self._number(record, number)  # may refuse the record
        self.kept += 1
        self.tokens.add(tokens)
        self.sizes.append(size)
        self.places.append(record.place or number)
        self.labels.append(label)
        self.names.append(encoded_text(record.name) if record.name else b"")
        if len(self.sizes) >= _RECORDS:
            self.flush()

    def _leave_out(self, size: int, record: Record) -> None:
        """List a sequence that is too long. Where the first fault is raised, `_Long` tells of all of them instead."""
        if self.on_long == "error" and self.faults.on_error == "raise":
            return
        reason = f"longer than length={self.length}"
        error = DataError(f"{size} tokens, {reason}", path=self.path, record=record.title)
        self.faults.add(error, reason=reason, on_error="skip" if self.on_long == "skip" else None)

    def _number(self, record: Record, number: int) -> int:
        assert record.label is not None, "asked of labelled records only"
        if record.label not in self.numbers:
            if self.known is not None:
                raise DataError(
                    f"label {record.label!r} is not one of {', '.join(map(repr, self.known))}",
                    path=self.path,
                    record=record.name or record.place or number,
                    remedy="add it to label_names, or take the record out",
                )
            self.numbers[record.label] = len(self.numbers)
        return self.numbers[record.label]

    def flush(self) -> None:
        self.tokens.flush()
        sizes = np.frombuffer(self.sizes, dtype=np.int64)
        ends = np.cumsum(sizes)
        self.columns.append("sizes", sizes)
        self.columns.append("starts", self.start + ends - sizes)
        self.columns.append("places", np.frombuffer(self.places, dtype=np.int64))
        joined = b"".join(self.names)
        self.columns.append("names", np.frombuffer(joined, np.uint8))
        self.columns.append("name_ends", self.name_end + np.cumsum([len(one) for one in self.names], dtype=np.int64))
        self.start += int(ends[-1]) if len(ends) else 0
        self.name_end, self.named = self.name_end + len(joined), self.named or bool(joined)
        self.sizes, self.places, self.names = array("q"), array("q"), []

    def _number_labels(self) -> list[str] | None:
        """Write the labels' column; the classes were numbered as they came, and are sorted now."""
        if self.known is None and not self.numbers:
            return None
        known = self.known if self.known is not None else sorted(self.numbers, key=_numbers_first)
        final = {name: i for i, name in enumerate(known)}
        # the last entry is what -1, no label, becomes
        renumbered = np.array([*(final[name] for name in self.numbers), -1], dtype=np.int64)
        labels = np.frombuffer(self.labels, dtype=np.int32)
        for start in range(0, len(labels), _TOKENS):
            self.columns.append("labels", renumbered[labels[start : start + _TOKENS]])
        return known


def _encode_stream(
    domain: Domain, records: Iterable[Record], path: str | Path | None, length: int, columns: Columns, faults: Faults
) -> Encoded:
    tokens = _Tokens(domain, columns, block=length)
    kept = 0
    for record in records:
        try:
            tokens.add(_encode(domain, record, path))
            kept += 1
        except DataError as error:
            faults.add(error)
    tokens.flush()
    told = faults.finish(kept)
    blocks, total = tokens.written // length, tokens.written + tokens.left_over
    if not blocks:
        raise DataError(
            f"{total} tokens do not fill one block of length={length}", path=path, remedy="lower length, or add text"
        )
    for first in range(0, blocks, _TOKENS):
        count = min(_TOKENS, blocks - first)
        columns.append("sizes", np.full(count, length, dtype=np.int64))
        columns.append("starts", np.arange(first, first + count, dtype=np.int64) * length)
    rest = tokens.left_over
    notes = [f"the last {rest:,} of {total:,} tokens do not fill a block and are left out"] if rest else []
    found = {name: columns.finish(name) for name in ("tokens", "starts", "sizes")}
    return Encoded(**found, notes=told + notes, skipped=faults.listed)  # type: ignore[arg-type]


def _encode(domain: Domain, record: Record, path: str | Path | None) -> Array:
    try:
        return domain.encode_array(record.sequence, record=record.title)
    except UnknownTokenError as error:
        if error.path is not None or path is None:
            raise
        raise UnknownTokenError(
            error.message,
            path=path,
            record=error.record,
            line=error.line,
            column=error.column,
            remedy=error.remedy,
        ) from None


class _Long:
    """What there is to say of sequences that are too long."""

    def __init__(self, length: int | None) -> None:
        self.length, self.count = length, 0
        self.shortest, self.longest, self.title = 0, 0, ""

    def add(self, size: int, title: str) -> None:
        self.shortest = min(self.shortest, size) if self.count else size
        if size > self.longest:
            self.longest, self.title = size, title
        self.count += 1

    def notes(self, kept: int, path: str | Path | None, on_long: OnLong, faults: Faults) -> list[str]:
        """What was cut. (What was left out, `faults` tells.) Raises DataError if they are refused, or all there is."""
        if not self.count:
            return []
        total = kept if on_long == "crop" else self.count + kept
        what = f"{self.count:,} of {total:,} sequences are longer than length={self.length}"
        what += f" (the longest: {self.longest} tokens, record {self.title})"
        if on_long == "crop":
            return [what + ": cut"]
        if on_long == "error" and faults.on_error == "raise":
            remedy = f"length={self.longest} takes them all; on_long='skip' leaves them out, on_long='crop' cuts them"
            raise DataError(what, path=path, remedy=remedy)
        if not kept and self.count == faults.count:
            raise DataError(
                f"all {self.count:,} sequences are longer than length={self.length} "
                f"(the shortest: {self.shortest} tokens)",
                path=path,
                remedy=f"raise length to at least {self.shortest}, or crop them with on_long='crop'",
            )
        return []


def _numbers_first(label: str) -> tuple[bool, int, str]:
    """Sort key: "2" before "10", numbers before words."""
    return (False, int(label), label) if label.isdecimal() else (True, 0, label)
