"""The split by similarity."""

from __future__ import annotations

from discdiff.data.dataset import SequenceDataset
from discdiff.data.splits.base import Assignment, Split, check_fractions, groups_of, parts_wanted
from discdiff.data.splits.grouped import fill
from discdiff.errors import ConfigError


class Identity(Split):
    """Whole clusters of similar sequences to one part: no pair across is known to be as alike as `threshold`.

    Identity is identical positions of the best local alignment over the length of the shorter sequence. Clusters are
    connected components: whatever chain of similar sequences leads from one to another, both are in one cluster.
    Pairs are found by MMseqs2 (Steinegger and Söding 2017), which may overlook a remote one; see the domain's `groups`.

    Args:
        valid, test: the share of the sequences that each gets, to within a cluster.
        train: what is left; may be stated, and then the three must sum to 1.
        threshold: the identity from which on two sequences belong together.

    Raises:
        ConfigError: fractions out of range, or that do not sum to 1; a threshold outside (0, 1].
    """

    def __init__(
        self, valid: float = 0.05, test: float = 0.05, train: float | None = None, threshold: float = 0.5
    ) -> None:
        check_fractions(valid, test, train)
        if not 0 < threshold <= 1:
            raise ConfigError(f"split: threshold got {threshold}, expected a share of identical positions in (0, 1]")
        self.valid, self.test, self.train, self.threshold = valid, test, train, threshold

    @property
    def wanted(self) -> tuple[str, ...]:
        return parts_wanted(self.valid, self.test)

    def assign(self, dataset: SequenceDataset, *, seed: int) -> Assignment:
        found = groups_of(dataset, "identity", threshold=self.threshold)
        groups = [f"alone: {row}" if group is None else group for row, group in enumerate(found)]
        return fill(groups, {"valid": self.valid, "test": self.test}, seed=seed, what="identity cluster")
