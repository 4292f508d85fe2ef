"""Names that occur more than once, among any number of them."""

from __future__ import annotations

from array import array

import numpy as np


class NameCounts:
    """Counts names that occurred before, in 8 bytes a name once there are many.

    Args:
        exact: how many different names are kept as they are; of more only a hash of 64 bits is.
    """

    def __init__(self, exact: int = 1 << 18) -> None:
        self._exact, self._seen, self._repeated, self._first = exact, set[str](), 0, ""
        self._hashes: array[int] = array("q")

    def add(self, name: str) -> None:
        """Take in a name."""
        if self._hashes:
            self._hashes.append(hash(name))
        elif name in self._seen:
            self._repeated, self._first = self._repeated + 1, self._first or name
        else:
            self._seen.add(name)
            if len(self._seen) > self._exact:
                self._hashes.extend(map(hash, self._seen))
                self._seen.clear()

    def repeated(self) -> tuple[int, str]:
        """How many names had occurred before, and the first of them (empty where it was not kept)."""
        hashes = np.sort(np.frombuffer(self._hashes, dtype=np.int64)) if self._hashes else np.empty(0, np.int64)
        return self._repeated + int((hashes[1:] == hashes[:-1]).sum()), self._first
