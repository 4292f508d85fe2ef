"""The blocks that lose least, by dynamic programming."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from discdiff.errors import IncompatibleError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class BlockTable:
    """V_T(b) = min_{a<b} V_{T−1}(a) + (b − a) f[a]: the cheapest T blocks of the first b positions, for T = 1, 2, ….

    Σ_j f[j] is the same for all schedules, so that what is left of a block's cost is its size times f at its start.
    Where f never rises, w(a, b) = (b − a) f[a] is Monge: the best start of the last block never falls as b grows, and a
    layer takes O(L log L) by divide and conquer (Galil and Park 1992, "Dynamic programming with convexity, concavity
    and sparsity", section 3). Any other curve takes O(L²). Layers are computed when they are first asked for.

    Args:
        curve: f, float `[L]` nats.
    """

    def __init__(self, curve: Tensor) -> None:
        self._curve: Floats = curve.detach().cpu().double().numpy()
        self._monge = bool((np.diff(self._curve) <= 0).all())
        self._total = float(self._curve.sum())
        first = np.full(self.length + 1, np.inf)
        first[0] = 0.0
        self._values, self._starts = [first], [np.zeros(self.length + 1, dtype=np.int64)]

    @property
    def length(self) -> int:
        """L."""
        return len(self._curve)

    def cost(self, steps: int) -> float:
        """What the best schedule of `steps` calls loses, nats a sequence."""
        self._grow(steps)
        return float(self._values[steps][-1]) - self._total

    def sizes(self, steps: int) -> list[int]:
        """The best schedule of `steps` calls: sizes that add up to L.

        Raises:
            IncompatibleError: `steps` is not from 1 to L.
        """
        self._grow(steps)
        ends = [self.length]
        for starts in reversed(self._starts[1 : steps + 1]):
            ends.append(int(starts[ends[-1]]))
        ends.reverse()
        return [b - a for a, b in pairwise(ends)]

    def fewest(self, error: float) -> int:
        """The smallest number of calls whose best schedule loses at most `error` nats; L if there is none."""
        return next((steps for steps in range(1, self.length) if self.cost(steps) <= error), self.length)

    def _grow(self, steps: int) -> None:
        if not 1 <= steps <= self.length:
            raise IncompatibleError(
                "steps",
                got=steps,
                expected=f"1 to {self.length}, the positions",
                remedy="Reveal one position a call at least.",
            )
        while len(self._values) <= steps:
            values, starts = self._layer(len(self._values))
            self._values.append(values)
            self._starts.append(starts)

    def _layer(self, steps: int) -> tuple[Floats, Integers]:
        """V_T and the start of the last block, for every b."""
        before, size = self._values[-1], self.length
        values, starts = np.full(size + 1, np.inf), np.full(size + 1, steps - 1)
        stride = 1 << (size.bit_length() - 1)
        while stride:
            # ends at odd multiples of the stride: their neighbours at even multiples are settled
            ends = np.arange(stride, size + 1, 2 * stride)
            ends = ends[ends >= steps]
            low, high = np.full(len(ends), steps - 1), ends - 1
            if self._monge:
                low = np.maximum(low, starts[ends - stride])
                inside = ends + stride <= size
                high[inside] = np.minimum(high[inside], starts[ends[inside] + stride])
            if len(ends):
                values[ends], starts[ends] = self._best(before, ends, low, high)
            stride //= 2
        return values, starts

    def _best(self, before: Floats, ends: Integers, low: Integers, high: Integers) -> tuple[Floats, Integers]:
        """The least of V(a) + (b − a) f[a] over low ≤ a ≤ high, for each b of `ends`, and the first a that has it."""
        counts = high - low + 1
        offsets = np.cumsum(counts) - counts
        a = np.arange(int(counts.sum())) - np.repeat(offsets - low, counts)
        found = before[a] + (np.repeat(ends, counts) - a) * self._curve[a]
        least = np.minimum.reduceat(found, offsets)
        where = np.flatnonzero(found == np.repeat(least, counts))
        return least, a[where[np.searchsorted(where, offsets)]]


def optimal_blocks(curve: Tensor, steps: int) -> list[int]:
    """The block sizes of least cost among all schedules of `steps` calls.

    O(steps · L log L) for a curve that never rises, else O(steps · L²).

    Args:
        curve: f, float `[L]` nats.
        steps: T, from 1 to L.

    Returns:
        T sizes that add up to L, for `AnyOrder(blocks)`.

    Raises:
        IncompatibleError: `steps` is out of range.
    """
    return BlockTable(curve).sizes(steps)


def fewest_blocks(curve: Tensor, error: float) -> list[int]:
    """The block sizes of the fewest calls that lose at most `error` nats a sequence.

    Args:
        curve: f, float `[L]` nats.
        error: nats, not negative; at 0 with one position a call, where every position tells of all others.

    Returns:
        Sizes that add up to L, for `AnyOrder(blocks)`.
    """
    table = BlockTable(curve)
    return table.sizes(table.fewest(error))


__all__ = ["BlockTable", "fewest_blocks", "optimal_blocks"]
