"""What every split does: tell the part of each sequence, refuse empty parts, keep a record."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from discdiff.data.base import Dataset
from discdiff.data.dataset import SequenceDataset
from discdiff.errors import ConfigError, DataError
from discdiff.records import Record

PARTS = ("train", "valid", "test")
OUTSIDE = len(PARTS)
"""The number of a sequence that is in none of the parts."""

Numbers = npt.NDArray[np.uint8]
Kind = TypeVar("Kind", bound=Dataset, covariant=True)


@dataclass(frozen=True)
class Assignment:
    """The part of each sequence.

    Attributes:
        numbers: uint8 `[n]`: 0 train, 1 valid, 2 test, 3 none.
        groups: how many groups were kept together, or None where the split knows none.
        notes: what a user should know.
    """

    numbers: Numbers
    groups: int | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Parts(Generic[Kind]):
    """The parts of a data set; `valid` and `test` are None where nothing was asked for.

    Attributes:
        numbers: uint8 `[n]`, the part of each sequence of the whole: 0 train, 1 valid, 2 test, 3 none; None where the
            parts were told apart while a file was read.
        record: what was split, how, with which seed, how many went where (JSON values).
        notes: what a user should know.
    """

    train: Kind
    valid: Kind | None
    test: Kind | None
    numbers: Numbers | None = None
    record: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Split(ABC):
    """A way to divide a data set into training, validation and test parts.

    The constructor's arguments are its configuration. Equal data, arguments and seed give equal parts, whatever the
    order of the sequences.
    """

    @property
    @abstractmethod
    def wanted(self) -> tuple[str, ...]:
        """The parts that must not be empty."""

    @abstractmethod
    def assign(self, dataset: SequenceDataset, *, seed: int) -> Assignment:
        """The part of each sequence of a data set.

        Raises:
            DataError: the data cannot be divided in this way.
            IncompatibleError: the data set's domain cannot tell what the split needs.
        """

    def reads(self, part: str) -> Callable[[Record], bool] | None:
        """What tells a part's records while a file is read, for a split that needs nothing but the record."""
        return None

    def options(self) -> dict[str, Any]:
        """The constructor's arguments (JSON values)."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Split) and type(other) is type(self) and other.options() == self.options()

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.options().items())})"

    def divide(self, dataset: SequenceDataset, *, seed: int = 0) -> Parts[SequenceDataset]:
        """Divide a data set; the parts share its tokens.

        Raises:
            DataError: a part that was asked for would be empty; and what `assign` raises.
            IncompatibleError: see `assign`.
        """
        found = self.assign(dataset, seed=seed)
        numbers = found.numbers
        count = np.bincount(numbers, minlength=OUTSIDE + 1)
        for part in self.wanted:
            if not count[PARTS.index(part)]:
                raise self.empty(part, count)
        made = {part: dataset.subset(np.flatnonzero(numbers == i)) for i, part in enumerate(PARTS) if count[i]}
        sizes = {part: int(count[i]) for i, part in enumerate(PARTS)}
        record = {
            **self.describe(seed, sizes),
            "left_out": int(count[OUTSIDE]),
            "groups": found.groups,
            "data_checksum": dataset.checksum(),
            "sha256": hashlib.sha256(numbers.tobytes()).hexdigest(),
        }
        said = self.summary(seed, sizes)
        if found.groups is not None:
            said += f", in {found.groups:,} groups"
        if count[OUTSIDE]:
            said += f"; {int(count[OUTSIDE]):,} that no part names are left out"
        return Parts(made["train"], made.get("valid"), made.get("test"), numbers, record, notes=[said, *found.notes])

    def describe(self, seed: int, sizes: dict[str, int]) -> dict[str, Any]:
        """What the split is, and how many sequences each part has (JSON values)."""
        return {"split": type(self).__name__, "options": self.options(), "seed": seed, "sequences": sizes}

    def summary(self, seed: int, sizes: dict[str, int]) -> str:
        """A sentence for the user."""
        counts = ", ".join(f"{part} {count:,}" for part, count in sizes.items() if count)
        return f"split by {type(self).__name__} (seed {seed}): {counts}"

    def nothing(self, part: str, names: Sequence[str]) -> DataError:
        """The error for a part that no record falls to, of records of these names."""
        shown = ", ".join(sorted(names)[:10]) + (f", ... ({len(names)} in all)" if len(names) > 10 else "")
        return DataError(f"split {self!r}: no record is left for {part}", remedy=f"names found: {shown}")

    def empty(self, part: str, count: npt.NDArray[np.int64]) -> DataError:
        """The error for a part that nothing fell to."""
        return DataError(
            f"split {type(self).__name__}: the {part} part of {int(count.sum()):,} sequences is empty",
            remedy=f"raise its fraction, lower that of the others, or give a file: data.{part}",
        )


def check_fractions(valid: float, test: float, train: float | None) -> None:
    """Refuse fractions that are none, or leave no room.

    Raises:
        ConfigError: a number outside [0, 1), or a sum that is not 1.
    """
    for name, value in (("valid", valid), ("test", test), ("train", train)):
        if value is not None and not 0 <= value < 1:
            raise ConfigError(f"split: {name} got {value}, expected a fraction of the sequences in [0, 1)")
    rest = 1 - valid - test
    if rest <= 1e-9:
        raise ConfigError(f"split: valid={valid} and test={test} leave nothing for training; expected a sum below 1")
    if not valid and not test:
        raise ConfigError("split: valid and test are both 0; give one of them, or leave the split out")
    if train is not None and abs(train - rest) > 1e-6:
        total = valid + test + train
        raise ConfigError(f"split: train={train}, valid={valid} and test={test} sum to {total:g}, expected 1")


def parts_wanted(valid: float, test: float) -> tuple[str, ...]:
    """The parts that have a fraction."""
    return ("train", *(["valid"] if valid else []), *(["test"] if test else []))


def uniform(key: str, seed: int) -> float:
    """A number in [0, 1) from a text and a seed."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest, "little") / 2**64


def groups_of(dataset: SequenceDataset, how: str, **options: Any) -> list[str | None]:
    """The groups that the data set's domain tells; see `Domain.groups`."""
    if dataset.domain is None:
        raise DataError(f"bare tokens have no groups by {how}", remedy="give the data set's domain, or split by Hash")
    return dataset.domain.groups(how, dataset.texts(), **options)


def canonical_texts(dataset: SequenceDataset, rows: Sequence[int] | None = None) -> list[str]:
    """The canonical form of each sequence, or of those at `rows`."""
    texts = dataset.texts(range(len(dataset)) if rows is None else rows)
    domain = dataset.domain
    return texts if domain is None else [domain.canonical(text) for text in texts]
