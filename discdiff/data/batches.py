"""Which sequences stand in which batch, as a pure function of (seed, epoch), and a loader that resumes
exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from discdiff.data.base import Dataset
from discdiff.data.order import Batches, Indices, epoch_batches
from discdiff.errors import CheckpointError, DiscdiffError
from discdiff.randomness import Keys
from discdiff.sequences import Sequences

GOLDEN_RATIO = (5**0.5 - 1) / 2


class LengthBuckets:
    """Shuffled batches of sequences of similar length: a sampler of index arrays.

    An epoch's shuffled order is cut into windows of `window` batches; within a window the sequences are
    sorted by length and cut into batches; the batches are shuffled. All follows from (seed, epoch) by
    hashing, so it is the same on every machine and with every version of numpy and torch. Batch sizes within
    an epoch differ by one at most.

    Args:
        lengths: int64 `[n]`.
        batch_size: the largest number of sequences in a batch.
        seed: any integer.
        window: batches that are sorted together; 1 does not sort at all.
    """

    def __init__(self, lengths: Tensor, batch_size: int, *, seed: int = 0, window: int = 64) -> None:
        if batch_size < 1 or window < 1 or not len(lengths):
            raise DiscdiffError(
                f"batches: got batch_size={batch_size}, window={window} and {len(lengths)} sequences, "
                "expected at least 1 of each"
            )
        self.lengths, self.batch_size, self.seed, self.window = lengths, batch_size, seed, window
        self.epoch, self.start = 0, 0
        self._cache: tuple[int, Batches] | None = None

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.lengths) // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that `iter` goes through, from its beginning."""
        self.epoch, self.start = epoch, 0

    def __iter__(self) -> Iterator[Indices]:
        yield from self.batches(self.epoch)[self.start :]

    def batches(self, epoch: int) -> Batches:
        """All batches of an epoch, as arrays of indices."""
        if self._cache is None or self._cache[0] != epoch:
            self._cache = epoch, self._make(epoch)
        return self._cache[1]

    def _make(self, epoch: int) -> Batches:
        return epoch_batches(self.lengths.numpy(), len(self), window=self.window, seed=self.seed, epoch=epoch)


@dataclass(frozen=True)
class Batch:
    """What one training step takes.

    Attributes:
        sequences: the rows.
        step: 0-based number of the step.
        epoch: how many times the data had been gone through before.
        strata: float64 `[B]` in [0, 1): stratification points of the rows' times, on the host, where a loss can count
            by them without waiting for a device.
        tokens: how many tokens the rows have.
    """

    sequences: Sequences
    step: int
    epoch: int
    strata: Tensor
    tokens: int

    def keys(self, seed: int) -> Keys:
        """The step's randomness: a row's noise follows from (seed, epoch, row id), whatever batch the row is
        in.
        """
        rows = self.sequences.ids
        assert rows is not None, "batches of a data set carry ids"
        return Keys(seed, rows, step=self.epoch, strata=self.strata)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; a GPU is not waited for."""
        return replace(self, sequences=self.sequences.to(device))


class BatchLoader:
    """The batches of `steps` training steps, epoch after epoch, resumable at any step.

    Step k is batch `k mod n` of epoch `k div n`: a pure function of (data, batch size, seed, k), so that a
    position is one number. Rows get stratified times `(slot + (k φ mod 1)) / B` (φ the golden ratio):
    low-discrepancy within a batch (Kingma et al. 2021, appendix I.1) and, as a Kronecker sequence, over batches.

    Args:
        dataset: the sequences.
        batch_size: the largest number of sequences in a batch.
        steps: how many batches to yield in all.
        seed: of the shuffling.
    """

    def __init__(self, dataset: Dataset, batch_size: int, *, steps: int, seed: int = 0) -> None:
        self.dataset, self.steps = dataset, steps
        self.buckets = LengthBuckets(dataset.model_lengths, batch_size, seed=seed)
        self.position = 0
        self.checksum = dataset.checksum()

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        while self.position < self.steps:
            batch = self.batch(self.position)
            self.position += 1
            yield batch

    def batch(self, step: int) -> Batch:
        """The batch of step `step`."""
        epoch, place = divmod(step, len(self.buckets))
        sequences = self.dataset.batch(self.buckets.batches(epoch)[place], epoch=epoch)
        rows = len(sequences)
        strata = (torch.arange(rows, dtype=torch.float64) + step * GOLDEN_RATIO % 1.0) / rows
        return Batch(sequences, step, epoch, strata, int(sequences.lengths.sum()))

    def _identity(self) -> dict[str, int]:
        return {
            "sequences": len(self.dataset),
            "batch_size": self.buckets.batch_size,
            "seed": self.buckets.seed,
            "checksum": self.checksum,
        }

    def state_dict(self) -> dict[str, int]:
        """Position, and what data and settings it is a position in."""
        return {"position": self.position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved position.

        Raises:
            CheckpointError: the data, batch size or seed are not those of the saved run.
        """
        for name, here in self._identity().items():
            if state.get(name) != here:
                raise CheckpointError(
                    f"resume: {name} of the training data was {state.get(name)} and is now {here}. "
                    "Resume with the same file and settings, or start a new run."
                )
        self.position = int(state["position"])


def evaluation_batches(dataset: Dataset, batch_size: int) -> Iterator[Sequences]:
    """Every sequence once, longest first (a batch too large for memory fails at once), in batches of like
    length.
    """
    order = dataset.model_lengths.argsort(descending=True, stable=True).numpy()
    for start in range(0, len(order), batch_size):
        yield dataset.batch(order[start : start + batch_size])
