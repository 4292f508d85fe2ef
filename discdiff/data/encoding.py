"""Records to tokens: lengths and labels checked on the way, everything left out counted and said."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from discdiff.errors import DataError, DiscdiffError, UnknownTokenError
from discdiff.records import Record

if TYPE_CHECKING:
    from discdiff.domain import Domain

OnLong = Literal["error", "skip", "crop"]


@dataclass
class Encoded:
    """Sequences as one flat array.

    Attributes:
        tokens: int16 or int32 `[sum of sizes]`.
        starts, sizes: int64 `[n]`: where each sequence begins in `tokens`, and how long it is.
        labels: int64 `[n]`, -1 for none, or None where nothing is labelled.
        label_names: the classes in the order of their numbers.
        names: the records' names, or None where none has one.
        places: int64 `[n]`: the records' places in the file.
        notes: what was left out or cut.
    """

    tokens: npt.NDArray[Any]
    starts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64] | None = None
    label_names: list[str] | None = None
    names: list[str] | None = None
    places: npt.NDArray[np.int64] | None = None
    notes: list[str] = field(default_factory=list)


def encode_records(
    domain: Domain,
    records: Iterable[Record],
    *,
    path: str | Path | None,
    length: int | None,
    on_long: OnLong,
    label_names: Sequence[str] | None,
    end_token: bool,
) -> Encoded:
    """Encode the records of a file; see `SequenceDataset.read` for the arguments and errors."""
    if length is not None and length < 1:
        raise DiscdiffError(f"length: got {length}, expected a positive integer")
    if on_long not in ("error", "skip", "crop"):
        raise DiscdiffError(f"on_long: got {on_long!r}, expected 'error', 'skip' or 'crop'")
    if domain.streams:
        if end_token:
            raise DiscdiffError(f"end_token: the blocks of a {domain.name} stream have no end; leave it off")
        return _encode_stream(domain, records, path, length)
    return _encode_set(domain, records, path, length, on_long, label_names)


def _encode_set(
    domain: Domain,
    records: Iterable[Record],
    path: str | Path | None,
    length: int | None,
    on_long: OnLong,
    label_names: Sequence[str] | None,
) -> Encoded:
    flat, sizes, places = array("i"), array("q"), array("q")
    labels: list[str | None] = []
    names: list[str | None] = []
    long: list[tuple[int, str]] = []
    for number, record in enumerate(records, 1):
        tokens = _encode(domain, record, path)
        if not tokens:
            raise DataError("the sequence is empty", path=path, record=record.title, remedy="remove the record")
        if length is not None and len(tokens) > length:
            long.append((len(tokens), record.title))
            if on_long != "crop":
                continue
            tokens = tokens[:length]
        flat.extend(tokens)
        sizes.append(len(tokens))
        places.append(record.place or number)
        labels.append(record.label)
        names.append(record.name)
    if not sizes and not long:
        raise DataError("no sequences in it" if path else "no sequences", path=path, remedy="give at least one")
    notes = _report_long(long, len(sizes), path, length, on_long)
    known, numbers = _number_labels(labels, label_names, names, places, path)
    return Encoded(
        *_pack(domain, flat, sizes),
        labels=numbers,
        label_names=known,
        names=[name or "" for name in names] if any(names) else None,
        places=np.frombuffer(places, dtype=np.int64),
        notes=notes,
    )


def _encode_stream(domain: Domain, records: Iterable[Record], path: str | Path | None, length: int | None) -> Encoded:
    if length is None:
        raise DataError(f"a {domain.name} stream is cut into blocks", path=path, remedy="give their length, length=256")
    flat = array("i")
    for record in records:
        flat.extend(_encode(domain, record, path))
    blocks, rest = divmod(len(flat), length)
    if not blocks:
        raise DataError(
            f"{len(flat)} tokens do not fill one block of length={length}",
            path=path,
            remedy="lower length, or add text",
        )
    notes = [f"the last {rest:,} of {len(flat):,} tokens do not fill a block and are left out"] if rest else []
    del flat[blocks * length :]
    return Encoded(*_pack(domain, flat, array("q", [length]) * blocks), notes=notes)


def _encode(domain: Domain, record: Record, path: str | Path | None) -> list[int]:
    try:
        return domain.encode(record.sequence, record=record.title)
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


def _pack(
    domain: Domain, flat: array[int], sizes: array[int]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    tokens = np.frombuffer(flat, dtype=np.int32)
    # int16 also holds the end token, whose id is vocab_size
    if domain.vocab_size < 2**15:
        tokens = tokens.astype(np.int16)
    if tokens.min() < 0 or tokens.max() >= domain.vocab_size:
        raise DiscdiffError(f"{domain!r} encodes to tokens {tokens.min()} .. {tokens.max()}, outside its vocabulary")
    lengths = np.frombuffer(sizes, dtype=np.int64).copy()
    return tokens, np.cumsum(lengths) - lengths, lengths


def _report_long(
    long: list[tuple[int, str]], kept: int, path: str | Path | None, length: int | None, on_long: OnLong
) -> list[str]:
    """What to say of the sequences that were too long, where they are not refused."""
    if not long:
        return []
    total = len(long) + (0 if on_long == "crop" else kept)
    (shortest, _), (longest, title) = min(long), max(long)
    what = f"{len(long):,} of {total if on_long != 'crop' else kept:,} sequences are longer than length={length}"
    what += f" (the longest: {longest} tokens, record {title})"
    if on_long == "error":
        remedy = f"length={longest} takes them all; on_long='skip' leaves them out, on_long='crop' cuts them"
        raise DataError(what, path=path, remedy=remedy)
    if not kept:
        raise DataError(
            f"all {len(long):,} sequences are longer than length={length} (the shortest: {shortest} tokens)",
            path=path,
            remedy=f"raise length to at least {shortest}, or crop them with on_long='crop'",
        )
    return [what + (": left out" if on_long == "skip" else ": cut")]


def _number_labels(
    labels: list[str | None],
    label_names: Sequence[str] | None,
    names: list[str | None],
    places: array[int],
    path: str | Path | None,
) -> tuple[list[str] | None, npt.NDArray[np.int64] | None]:
    """The classes in order, and each sequence's number among them."""
    found = {label for label in labels if label is not None}
    if label_names is None and not found:
        return None, None
    known = list(label_names) if label_names is not None else sorted(found, key=_numbers_first)
    number: dict[str | None, int] = {name: i for i, name in enumerate(known)} | {None: -1}
    for i, label in enumerate(labels):
        if label not in number:
            raise DataError(
                f"label {label!r} is not one of {', '.join(map(repr, known))}",
                path=path,
                record=names[i] or places[i],
                remedy="add it to label_names, or take the record out",
            )
    return known, np.array([number[label] for label in labels], dtype=np.int64)


def _numbers_first(label: str) -> tuple[bool, int, str]:
    """Sort key: "2" before "10", numbers before words."""
    return (False, int(label), label) if label.isdecimal() else (True, 0, label)
