"""The split by content."""

from __future__ import annotations

import numpy as np

from discdiff.data.dataset import SequenceDataset
from discdiff.data.splits.base import Assignment, Split, canonical_texts, check_fractions, parts_wanted, uniform

_CHUNK = 1 << 14


class Hash(Split):
    """By a hash of the canonical form and the seed: test if u < test, valid if u < test + valid, else train.

    Equal sequences land in one part, and so do two spellings of one (`OCC` and `CCO`). A sequence stays where it is
    when others are added to the file. Blocks of a stream are divided in runs instead: the end for test, what stands
    before it for validation.

    Args:
        valid, test: the share of the sequences that each gets, in the mean.
        train: what is left; may be stated, and then the three must sum to 1.

    Raises:
        ConfigError: fractions out of range, or that do not sum to 1.
    """

    def __init__(self, valid: float = 0.05, test: float = 0.05, train: float | None = None) -> None:
        check_fractions(valid, test, train)
        self.valid, self.test, self.train = valid, test, train

    @property
    def wanted(self) -> tuple[str, ...]:
        return parts_wanted(self.valid, self.test)

    def assign(self, dataset: SequenceDataset, *, seed: int) -> Assignment:
        count = len(dataset)
        if dataset.domain is not None and dataset.domain.streams:
            place = np.arange(count)
            test = max(round(self.test * count), 1) if self.test else 0
            valid = max(round(self.valid * count), 1) if self.valid else 0
            edges = np.array([count - test - valid, count - test])
            return Assignment((place[:, None] >= edges).sum(1).astype(np.uint8))
        numbers = np.zeros(count, dtype=np.uint8)
        seen: set[float] = set()
        for start in range(0, count, _CHUNK):
            rows = range(start, min(start + _CHUNK, count))
            for row, text in zip(rows, canonical_texts(dataset, rows), strict=True):
                u = uniform(text, seed)
                seen.add(u)
                numbers[row] = 2 if u < self.test else 1 if u < self.test + self.valid else 0
        return Assignment(numbers, groups=len(seen))
