"""The order of an epoch: shuffled sequences in batches of like length, in one number a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt
import torch

from discdiff.randomness import Keys

Indices = npt.NDArray[np.int64]
_HASHED = 1 << 20


def shuffled(n: int, seed: int, *, step: int, purpose: str) -> Indices:
    """A permutation of 0 .. n - 1 by hashing, the same on every machine: int64 `[n]`."""
    key = np.empty(n, dtype=np.float64)
    for start in range(0, n, _HASHED):  # in parts: the hash takes several times the memory of its result
        rows = torch.arange(start, min(start + _HASHED, n))
        key[start : start + _HASHED] = Keys(seed, rows, step=step).uniform((len(rows),), purpose, torch.float64).numpy()
    return key.argsort(kind="stable")


class Batches(Sequence[Indices]):
    """The batches of an epoch, as arrays of indices.

    Args:
        rows: int64 `[n]`: the sequences, batch after batch.
        starts: int64 `[k + 1]`: where each of k batches begins in `rows`, and where the last ends.
        order: int64 `[k]`: the order in which the batches come.
    """

    def __init__(self, rows: Indices, starts: Indices, order: Indices) -> None:
        self.rows, self.starts, self.order = rows, starts, order

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, index: int) -> Indices: ...
    @overload
    def __getitem__(self, index: slice) -> Batches: ...
    def __getitem__(self, index: int | slice) -> Indices | Batches:
        if isinstance(index, slice):
            return Batches(self.rows, self.starts, self.order[index])
        batch = self.order[index]
        return self.rows[self.starts[batch] : self.starts[batch + 1]]


def epoch_batches(lengths: Indices, count: int, *, window: int, seed: int, epoch: int) -> Batches:
    """The batches of an epoch; see `LengthBuckets`.

    Args:
        lengths: int64 `[n]`.
        count: how many batches.
        window: batches that are sorted together.
        seed, epoch: decide the order.
    """
    rows = shuffled(len(lengths), seed, step=epoch, purpose="shuffle sequences")
    sizes = len(rows) // count + (np.arange(count) < len(rows) % count)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    if lengths.min() < lengths.max():
        for first in range(0, count, window):
            last = min(first + window, count)
            here = rows[starts[first] : starts[last]]
            by_length = np.argsort(lengths[here], kind="stable")
            # Within a batch the shuffled order comes back: a row's place must not tell its length.
            batch = np.repeat(np.arange(last - first), sizes[first:last])
            here[:] = here[by_length[np.lexsort((by_length, batch))]]
    return Batches(rows, starts, shuffled(count, seed, step=epoch, purpose="shuffle batches"))
