"""The split by scaffold."""

from __future__ import annotations

from discdiff.data.dataset import SequenceDataset
from discdiff.data.splits.base import Assignment, Split, canonical_texts, check_fractions, groups_of, parts_wanted
from discdiff.data.splits.grouped import fill


class Scaffold(Split):
    """Whole scaffolds to one part (Bemis and Murcko 1996: the rings of a molecule and what links them).

    The test part then asks for molecules around rings that training has not seen. What has no scaffold (no ring) goes
    by its canonical form, and is counted.

    Args:
        valid, test: the share of the sequences that each gets, to within a scaffold.
        train: what is left; may be stated, and then the three must sum to 1.
        generic: take scaffolds without elements and bond orders, so that more molecules share one.

    Raises:
        ConfigError: fractions out of range, or that do not sum to 1.
    """

    def __init__(
        self, valid: float = 0.05, test: float = 0.05, train: float | None = None, generic: bool = False
    ) -> None:
        check_fractions(valid, test, train)
        self.valid, self.test, self.train, self.generic = valid, test, train, generic

    @property
    def wanted(self) -> tuple[str, ...]:
        return parts_wanted(self.valid, self.test)

    def assign(self, dataset: SequenceDataset, *, seed: int) -> Assignment:
        found = groups_of(dataset, "scaffold", generic=self.generic)
        alone = [row for row, scaffold in enumerate(found) if scaffold is None]
        own = dict(zip(alone, canonical_texts(dataset, alone), strict=True))
        groups = [f"no scaffold: {own[row]}" if scaffold is None else scaffold for row, scaffold in enumerate(found)]
        assigned = fill(groups, {"valid": self.valid, "test": self.test}, seed=seed, what="scaffold")
        if alone:
            assigned.notes.append(f"{len(alone):,} of {len(groups):,} have no scaffold: each goes by its own form")
        return assigned
