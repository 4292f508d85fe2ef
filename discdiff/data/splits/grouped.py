"""Groups that stay together, filled into parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from discdiff.data.splits.base import PARTS, Assignment, uniform
from discdiff.errors import DataError


def fill(groups: Sequence[str], fractions: dict[str, float], *, seed: int, what: str) -> Assignment:
    """Put whole groups into parts, in an order drawn by the seed, until each part has its share.

    A group goes to the test part if half of it still fits there, else likewise to validation, else to training.

    Args:
        groups: the group of each sequence, `[n]`.
        fractions: shares of "valid" and "test".
        seed: draws the order, by a hash of the groups' names.
        what: what the groups are, such as "scaffold".

    Raises:
        DataError: one group holds so much that a part stays empty.
    """
    sizes = Counter(groups)
    largest, most = max(sizes.items(), key=lambda item: (item[1], item[0]))
    missing = {part: fractions[part] * len(groups) for part in ("test", "valid")}
    part_of: dict[str, int] = {}
    for group in sorted(sizes, key=lambda group: (uniform(group, seed), group)):
        size = sizes[group]
        part = next((p for p in missing if fractions[p] and missing[p] >= size / 2), "train")
        if part != "train":
            missing[part] -= size
        part_of[group] = PARTS.index(part)
    numbers = np.fromiter((part_of[group] for group in groups), dtype=np.uint8, count=len(groups))
    short = largest if len(largest) <= 60 else largest[:57] + "..."
    nearly_all = f"one {what}, {short!r}, holds {most:,} of {len(groups):,} sequences"
    if len(sizes) < sum(map(bool, fractions.values())) + 1 or any(
        fractions[part] and not (numbers == PARTS.index(part)).any() for part in missing
    ):
        raise DataError(
            f"groups by {what} cannot fill the parts: {nearly_all}, and there are {len(sizes):,} in all",
            remedy="split by Hash, or group more narrowly" if most * 2 > len(groups) else "raise the fractions",
        )
    notes = [f"{nearly_all}: none of it can be in two parts"] if most * 2 > len(groups) else []
    return Assignment(numbers, groups=len(sizes), notes=notes)
