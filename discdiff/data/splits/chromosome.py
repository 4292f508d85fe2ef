"""The split by name."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase

import numpy as np

from discdiff.data.dataset import SequenceDataset
from discdiff.data.splits.base import PARTS, Assignment, Split
from discdiff.errors import ConfigError, DataError
from discdiff.records import Record


class Chromosome(Split):
    """Records chosen by name: chromosomes of a genome, contigs, plates.

    Args:
        valid, test: names or patterns (`*`, `?`, `[...]`), as a list or with commas between them: `chr8,chr9`, `chr1?`.
        train: likewise; by default all others. Given, what no part names is left out, and counted.

    Raises:
        ConfigError: no names, or one name for two parts.
    """

    def __init__(
        self, valid: str | list[str] = "", test: str | list[str] = "", train: str | list[str] | None = None
    ) -> None:
        self.valid, self.test, self.train = _names(valid), _names(test), None if train is None else _names(train)
        if not self.valid and not self.test:
            raise ConfigError(
                "split Chromosome: valid and test name no records; expected such as valid=chr8, test=chr9"
            )
        chosen = {"train": self.train or [], "valid": self.valid, "test": self.test}
        for i, one in enumerate(PARTS):
            for other in PARTS[i + 1 :]:
                if both := sorted(set(chosen[one]) & set(chosen[other])):
                    raise ConfigError(f"split Chromosome: {both[0]!r} is named by both {one} and {other}")

    @property
    def wanted(self) -> tuple[str, ...]:
        return ("train", *(["valid"] if self.valid else []), *(["test"] if self.test else []))

    def part(self, name: str) -> int:
        """The number of the part that a name belongs to: that of test before valid before train, or 3."""
        for number, patterns in ((2, self.test), (1, self.valid), (0, ["*"] if self.train is None else self.train)):
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                return number
        return len(PARTS)

    def reads(self, part: str) -> Callable[[Record], bool]:
        number = PARTS.index(part)
        return lambda record: self.part(record.name or "") == number

    def assign(self, dataset: SequenceDataset, *, seed: int) -> Assignment:
        names = dataset.names
        if names is None:
            raise DataError(
                "split Chromosome: the sequences have no names",
                remedy="name them in the file; blocks of a stream are split where the file is read: data.split",
            )
        known = {name: self.part(name) for name in set(names)}
        for part in self.wanted:
            if PARTS.index(part) not in known.values():
                raise self.nothing(part, list(known))
        numbers = np.fromiter((known[name] for name in names), dtype=np.uint8, count=len(names))
        return Assignment(numbers, groups=len(known))


def _names(given: str | list[str]) -> list[str]:
    return [name.strip() for name in (given.split(",") if isinstance(given, str) else given) if name.strip()]
