"""Training stops at the first loss or gradient that is no number, and says which sequences were at hand."""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path

import torch
from torch import Tensor

from discdiff.data.base import Dataset
from discdiff.data.batches import Batch
from discdiff.errors import TrainingError

FAILED_BATCH = "failed_batch.safetensors"
SHOWN = 5


class Reading:
    """A number on its way from the device; reading it waits for the work before it, not for what was queued since."""

    def __init__(self, value: Tensor) -> None:
        self._value, self._made = value, None
        if value.is_cuda:
            self._value = torch.empty(value.shape, dtype=value.dtype, pin_memory=True).copy_(value, non_blocking=True)
            self._made = torch.cuda.Event()
            self._made.record()

    def __float__(self) -> float:
        if self._made is not None:
            self._made.synchronize()
        return float(self._value)


class FiniteGuard:
    """Checks each step's loss and gradient norm.

    On the CPU both are checked before they touch the weights. On a GPU a number is copied when it is made and read two
    checks later, so that nothing waits for the device; the weights in memory are lost by then, and the last checkpoint
    stands.

    Args:
        dataset: names the sequences.
        folder: where the batch is kept, or None.
        seed: of the run, kept with the batch.
    """

    def __init__(self, dataset: Dataset, folder: Path | None, seed: int) -> None:
        self.dataset, self.folder, self.seed = dataset, folder, seed
        self._waiting: deque[tuple[str, Reading, Tensor | None, Batch]] = deque()

    def check(self, what: str, value: Tensor, rows: Tensor | None, batch: Batch) -> None:
        """Check a number of a step.

        Args:
            what: its name.
            value: the number, `[]`.
            rows: `[B]` figures of each row, to tell which are at fault, or None.
            batch: the step's batch.

        Raises:
            TrainingError: this number, or one that waited, is not finite.
        """
        self._waiting.append((what, Reading(value), rows, batch))
        while len(self._waiting) > (2 if value.is_cuda else 0):
            self._settle()

    def flush(self) -> None:
        """Check all that waits.

        Raises:
            TrainingError: see `check`.
        """
        while self._waiting:
            self._settle()

    def _settle(self) -> None:
        what, value, rows, batch = self._waiting.popleft()
        number = float(value)
        if math.isfinite(number):
            return
        sequences = batch.sequences
        assert sequences.ids is not None, "rows of a data set have ids"
        faulty = torch.ones(len(sequences), dtype=torch.bool) if rows is None else ~rows.isfinite().cpu()
        titles = self.dataset.titles(sequences.ids.cpu()[faulty].tolist())
        named = ", ".join(titles[:SHOWN]) + (f" and {len(titles) - SHOWN} more" if len(titles) > SHOWN else "")
        kept = f" The batch is kept in {self.save(batch)}." if self.folder is not None else ""
        raise TrainingError(
            f"step {batch.step + 1}: the {what} is {number}; sequences: {named}.{kept} "
            "Lower the learning rate or lengthen the warm-up; if it stays, look at these sequences."
        )

    def save(self, batch: Batch) -> Path:
        """Keep a batch as tensors, with step, epoch and seed: all that is needed to repeat the step's noise."""
        from safetensors.torch import save_file

        assert self.folder is not None, "only called with a folder"
        tensors = batch.sequences.tensors()
        tensors["strata"] = batch.strata
        about = {"step": str(batch.step), "epoch": str(batch.epoch), "seed": str(self.seed)}
        path = self.folder / FAILED_BATCH
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, path, metadata=about)
        return path
