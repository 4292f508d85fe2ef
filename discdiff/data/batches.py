"""Which sequences stand in which batch, as a pure function of (seed, epoch), and a loader that resumes
exactly, shares a batch out and prefetches.
"""

from __future__ import annotations

import functools
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from discdiff.data.base import Dataset
from discdiff.data.order import Batches, Indices, epoch_batches
from discdiff.data.prefetch import in_order
from discdiff.errors import CheckpointError, ConfigError, DiscdiffError
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
        self._cache: dict[int, Batches] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.lengths) // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that `iter` goes through, from its beginning."""
        self.epoch, self.start = epoch, 0

    def __iter__(self) -> Iterator[Indices]:
        yield from self.batches(self.epoch)[self.start :]

    def batches(self, epoch: int) -> Batches:
        """All batches of an epoch, as arrays of indices. The last two epochs asked for are kept."""
        with self._lock:  # loaders ask from several threads, where one epoch ends for both
            if epoch not in self._cache:
                kept = list(self._cache.items())[-1:]
                self._cache = {**dict(kept), epoch: self._make(epoch)}
            return self._cache[epoch]

    @property
    def mean(self) -> float:
        """Rows of a batch, in the mean over an epoch."""
        return len(self.lengths) / len(self)

    @property
    def smallest(self) -> int:
        """Rows of the smallest batch."""
        return len(self.lengths) // len(self)

    def _make(self, epoch: int) -> Batches:
        return epoch_batches(self.lengths.numpy(), len(self), window=self.window, seed=self.seed, epoch=epoch)


@dataclass(frozen=True)
class Batch:
    """What one training step takes, or one process's micro-batch of it.

    Attributes:
        sequences: the rows.
        step: 0-based number of the step.
        epoch: how many times the data had been gone through before.
        strata: float64 `[B]` in [0, 1): stratification points of the rows' times, on the host, where a loss can count
            by them without waiting for a device. They are slots of the step's whole batch.
        tokens: how many tokens the rows have.
        mean_rows: rows of a step's whole batch, in the mean over an epoch: a row weighs the same in all batches,
            whose sizes differ by one.
        part: number of this part of it; 0 where it is the whole.
    """

    sequences: Sequences
    step: int
    epoch: int
    strata: Tensor
    tokens: int
    mean_rows: float
    part: int = 0

    def keys(self, seed: int) -> Keys:
        """The step's randomness: a row's noise follows from (seed, epoch, row id), whatever batch the row is
        in.
        """
        rows = self.sequences.ids
        assert rows is not None, "batches of a data set carry ids"
        return Keys(seed, rows, step=self.epoch, strata=self.strata)

    def dropout_seed(self, seed: int) -> int:
        """For torch's global generator, of which dropout alone draws: it follows from (seed, step, part)."""
        number = Keys(seed, torch.tensor([self.part]), step=self.step).uniform((1,), "dropout", torch.float64)
        return int(number.item() * 2**53)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; a GPU is not waited for."""
        return replace(self, sequences=self.sequences.to(device))

    def pin_memory(self) -> Batch:
        """The same batch in memory from which a GPU copies without being waited for."""
        return replace(self, sequences=self.sequences.pin_memory())


class BatchLoader:
    """The batches of `steps` training steps, epoch after epoch, resumable at any step.

    Step k is batch `k mod n` of epoch `k div n`: a pure function of (data, batch size, seed, k), so that a
    position is one number. Rows get stratified times `(slot + (k φ mod 1)) / B` (φ the golden ratio):
    low-discrepancy within a batch (Kingma et al. 2021, appendix I.1) and, as a Kronecker sequence, over batches.

    A step's batch may be shared by several processes, each of which takes its share in several micro-batches. The
    parts' sizes differ by one at most, every row is in one of them, and has its slot in the whole.

    Args:
        dataset: the sequences.
        batch_size: the largest number of sequences in a step's batch, all processes and micro-batches together.
        steps: how many steps to yield batches for.
        seed: of the shuffling.
        accumulate: micro-batches of each process in a step; they are yielded one by one.
        rank, processes: which process of how many this is.
        workers: threads that make batches ahead of their use; 0 makes each when it is asked for. They change neither
            what is yielded nor the position that is saved.
        pin: yield batches in pinned memory.

    Raises:
        ConfigError: some batch has fewer rows than there are parts.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        steps: int,
        seed: int = 0,
        accumulate: int = 1,
        rank: int = 0,
        processes: int = 1,
        workers: int = 0,
        pin: bool = False,
    ) -> None:
        self.dataset, self.steps, self.accumulate, self.workers, self.pin = dataset, steps, accumulate, workers, pin
        self.rank, self.processes = rank, processes
        self.buckets = LengthBuckets(dataset.model_lengths, batch_size, seed=seed)
        if self.buckets.smallest < accumulate * processes:
            shared = " and ".join(
                [f"{n} {what}" for n, what in ((processes, "processes"), (accumulate, "micro-batches")) if n > 1]
            )
            raise ConfigError(
                f"batch_size: a batch of {self.buckets.smallest} sequences (of {len(dataset):,} in batches of at most "
                f"{batch_size}) cannot be shared by {shared}; take larger batches, fewer processes or a smaller "
                "accumulate"
            )
        self.position = 0

    @functools.cached_property
    def checksum(self) -> int:
        """Of the data set and its labels."""
        total, labels = self.dataset.checksum(), self.dataset.labels
        return total if labels is None else zlib.crc32(labels.numpy().tobytes(), total)

    def __len__(self) -> int:
        """Micro-batches of this process."""
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[Batch]:
        numbers = range(self.position * self.accumulate, len(self))
        for number, batch in zip(numbers, in_order(self._micro_batch, numbers, self.workers), strict=True):
            self.position = (number + 1) // self.accumulate
            yield batch

    def _micro_batch(self, number: int) -> Batch:
        step, micro = divmod(number, self.accumulate)
        batch = self.batch(step, micro)
        return batch.pin_memory() if self.pin else batch

    def batch(self, step: int, micro: int = 0) -> Batch:
        """This process's micro-batch number `micro` of step `step`."""
        epoch, place = divmod(step, len(self.buckets))
        indices = self.buckets.batches(epoch)[place]
        rows, parts, part = len(indices), self.accumulate * self.processes, micro * self.processes + self.rank
        start, end = part * rows // parts, (part + 1) * rows // parts
        sequences = self.dataset.batch(indices[start:end], epoch=epoch)
        strata = (torch.arange(start, end, dtype=torch.float64) + step * GOLDEN_RATIO % 1.0) / rows
        return Batch(sequences, step, epoch, strata, int(sequences.lengths.sum()), self.buckets.mean, part)

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
