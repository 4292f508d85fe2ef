"""What becomes of records that cannot be used: refused at the first, left out and listed, or all told at the end."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TextIO, get_args

from discdiff.errors import ConfigError, DataError, DiscdiffWarning

OnError = Literal["raise", "skip", "report"]
LISTED = 100_000
"""Faults that are kept in memory with their places; of more, the reasons are counted."""
SKIPPED = "skipped.jsonl"
"""The list in a run folder."""
_SHOWN = 5
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\(U\+[0-9A-F]+\)|\d+")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why one record cannot be used, and where it stands.

    Attributes:
        path, record, line, column: the place, as in `DataError`; what is not known is None.
        message: the fault.
        reason: the kind of fault, the same for all records that have it.
        remedy: what the user can do.
    """

    path: str | None
    record: str | None
    line: int | None
    column: int | None
    message: str
    reason: str
    remedy: str | None

    @property
    def place(self) -> str:
        """The record's name, line and column, as far as they are known."""
        named = {"record": self.record, "line": self.line, "column": self.column}
        return ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.place, self.message)))


class RefusedError(DataError):
    """A file that was read to its end and refused (`on_error="report"`); `faults` are those of its records."""

    faults: list[Fault]


class Faults:
    """Records of one file that cannot be used: readers hand them over, and go on if they may.

    Faults of a file as a whole (it is truncated, no text, has no such column) are no matter for this: they are raised
    whatever the policy, and leave no data set.

    Args:
        path: the file, for messages.
        on_error: `"raise"`: stop at the first; `"skip"`: leave such records out, count and list them; `"report"`: read
            everything, then refuse, with the number of faults and the first of them.
        listing: a file that takes every fault as a line of JSON at once, however many there are.

    Raises:
        ConfigError: an unknown policy.

    Attributes:
        count: records left out so far.
        reasons: how many of them for each reason.
        listed: the first `LISTED` faults.
        remarks: what is to be told of the file beside its faults.
    """

    def __init__(
        self, path: str | Path | None = None, on_error: OnError = "raise", *, listing: str | Path | None = None
    ) -> None:
        if on_error not in get_args(OnError):
            raise ConfigError(f"on_error: got {on_error!r}, expected {' or '.join(map(repr, get_args(OnError)))}")
        self.path, self.on_error = path, on_error
        self.count = 0
        self.reasons: Counter[str] = Counter()
        self.listed: list[Fault] = []
        self._refused = 0
        self._changed: dict[str, tuple[int, Fault]] = {}
        self.remarks: list[str] = []
        self._listing = None if listing is None else Path(listing)
        if self._listing is not None:
            self._listing.unlink(missing_ok=True)  # of another file, or another time
        self._stream: TextIO | None = None

    def add(self, error: DataError, *, reason: str | None = None, on_error: OnError | None = None) -> None:
        """Take a record that cannot be used.

        Args:
            error: why, and where.
            reason: the kind of fault; by default the message less its quoted parts and numbers.
            on_error: what a domain's own option wants of it (`on_unknown="skip"`), whatever the policy.

        Raises:
            DataError: the error itself, where it is to be raised.
        """
        policy = on_error or self.on_error
        if policy == "raise":
            raise error
        fault = _fault(error, reason)
        self.count += 1
        self._refused += policy == "report"
        self.reasons[fault.reason] += 1
        if len(self.listed) < LISTED:
            self.listed.append(fault)
        self._write(fault)

    def change(self, error: DataError, done: str) -> None:
        """Take a record that was mended (`done`: cut, filled at random), to be counted and told."""
        number, first = self._changed.get(done) or (0, _fault(error, None))
        self._changed[done] = number + 1, first

    def remark(self, sentence: str) -> None:
        """Take what is to be told of the file beside its faults."""
        self.remarks.append(sentence)

    def filled(self, lines: Iterable[tuple[int, str]], comment: str | None = None) -> Iterator[tuple[int, str]]:
        """Those of numbered lines that may be records; at the end it is remarked how many are blank or comments."""
        passed = 0
        for number, line in lines:
            if not line.strip() or (comment is not None and line.startswith(comment)):
                passed += 1
            else:
                yield number, line
        if passed:
            kind = "blank" if comment is None else f"blank or comments ({comment})"
            self.remark(f"lines that are {kind}, and so no records: {passed:,}")

    def finish(self, kept: int) -> list[str]:
        """What to tell the user, once all has been read; `kept` records or sequences are left.

        Raises:
            DataError: there were faults under `"report"`, or nothing is left.
        """
        self.close()
        if self._refused:
            # those that an option of the domain leaves out are not refused
            error = RefusedError(
                f"{self._refused:,} of {kept + self.count:,} records cannot be used: {self.summary} (correct them; "
                f"on_error='skip' leaves them out)\n{self._first()}",
                path=self.path,
            )
            error.faults = self.listed
            raise error
        if self.count and not kept:
            raise DataError(
                f"no record is left: all {self.count:,} are left out: {self.summary}", path=self.path,
                remedy=f"is this the right domain? The first: {self.listed[0]}",
            )  # fmt: skip
        return self.notes(kept)

    def close(self) -> None:
        """Close the listing."""
        if self._stream is not None:
            self._stream.close()

    def notes(self, kept: int) -> list[str]:
        """What was left out and what was changed, in sentences."""
        total = kept + self.count
        notes = list(self.remarks)
        if self.count:
            notes.append(f"{self.count:,} of {total:,} records left out: {self.summary} (first: {self.listed[0]})")
        return notes + self.changes

    @property
    def changes(self) -> list[str]:
        """How many records were mended, and how."""
        return [f"{number:,} records {done} (first: {first})" for done, (number, first) in self._changed.items()]

    def warn(self, kept: int) -> None:
        """`finish`, told as warnings: for readers that nobody gave a collector."""
        for note in self.finish(kept):
            warnings.warn(f"{self.path}: {note}", DiscdiffWarning, stacklevel=3)

    @property
    def summary(self) -> str:
        """How many for each reason, the most frequent first."""
        common = self.reasons.most_common()
        if len(common) == 1:
            return common[0][0]
        told = [f"{number:,} × {reason}" for reason, number in common[:_SHOWN]]
        rest = sum(number for _, number in common[_SHOWN:])
        return "; ".join([*told, *([f"{rest:,} for other reasons"] if rest else [])])

    def _first(self) -> str:
        rest = self.count - min(_SHOWN, len(self.listed))
        return "\n".join([f"  {fault}" for fault in self.listed[:_SHOWN]] + ([f"  and {rest:,} more"] if rest else []))

    def _write(self, fault: Fault) -> None:
        if self._listing is None:
            return
        if self._stream is None:
            self._stream = self._listing.open("w", encoding="utf-8")
        self._stream.write(_line(fault))


def write_faults(faults: Iterable[Fault], path: str | Path) -> None:
    """Write faults as JSON lines (`skipped.jsonl` of a run folder); where there are none, no file is left."""
    path, lines = Path(path), [_line(fault) for fault in faults]
    if lines:
        path.write_text("".join(lines), encoding="utf-8")
    else:
        path.unlink(missing_ok=True)


def _line(fault: Fault) -> str:
    return json.dumps({k: v for k, v in asdict(fault).items() if v is not None}, ensure_ascii=True) + "\n"


def _fault(error: DataError, reason: str | None) -> Fault:
    found = reason or " ".join(_VARYING.sub("…", error.message).split())
    return Fault(
        None if error.path is None else str(error.path), None if error.record is None else str(error.record),
        error.line, error.column, error.message, found, error.remedy,
    )  # fmt: skip


__all__ = ["LISTED", "SKIPPED", "Fault", "Faults", "OnError", "RefusedError", "write_faults"]
