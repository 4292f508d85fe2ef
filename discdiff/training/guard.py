"""A loss or gradient that is no number stops training, or its step is skipped; which sequences were at hand is told."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from discdiff.data.base import Dataset
from discdiff.data.batches import Batch
from discdiff.errors import TrainingError
from discdiff.training.optimizers import state_tensors
from discdiff.training.topology import Peers
from discdiff.writing import WRITING_ERRORS

OnDivergence = Literal["stop", "skip"]
FAILED_BATCH = "failed_batch.safetensors"
SKIPPED_STEPS = "skipped_steps"
SKIPPED_BATCH = SKIPPED_STEPS + "/step_{:08d}.safetensors"
SHOWN = 5
REMEDY = "Lower the learning rate or lengthen the warm-up; if it stays, look at these sequences."


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
    """Checks each step's loss and gradient norm, and stops, or skips the step, where one is no number.

    On the CPU both are checked before they touch the weights. On a GPU a number is copied when it is made and read two
    checks later, so that nothing waits for the device. When training stops there, the weights in memory are lost, and
    the last checkpoint stands; a step that is skipped is taken back on the device by `verdict` (see `Undo`).

    Args:
        dataset: names the sequences.
        folder: where batches are kept, or None.
        seed: of the run, kept with the batch.
        max_skipped: how many steps may be skipped; None stops at the first.
        tell: takes a sentence for a person.
        peers: the other processes, which check the same numbers; the first with a row at fault keeps its part.

    Attributes:
        skipped: steps skipped so far.
        on_skip: called for each.
    """

    def __init__(
        self,
        dataset: Dataset,
        folder: Path | None,
        seed: int,
        *,
        max_skipped: int | None = None,
        tell: Callable[[str], None] = lambda _: None,
        peers: Peers | None = None,
    ) -> None:
        self.dataset, self.folder, self.seed, self.peers = dataset, folder, seed, peers or Peers()
        self.max_skipped, self.tell = max_skipped, tell
        self.skipped = 0
        self.on_skip: Callable[[], None] = lambda: None
        self._waiting: deque[tuple[str, Reading, Tensor | None, Batch]] = deque()
        self._finite: Tensor | None = None
        self._last: int | None = None

    def check(self, what: str, value: Tensor, rows: Tensor | None, batch: Batch) -> None:
        """Check a number of a step.

        Args:
            what: its name.
            value: the number, `[]`.
            rows: `[B]` figures of each row, to tell which are at fault, or None.
            batch: the step's batch.

        Raises:
            TrainingError: this number, or one that waited, is not finite, and no more steps may be skipped.
        """
        if self.max_skipped is not None:
            finite = value.isfinite()
            self._finite = finite if self._finite is None else self._finite & finite
        self._waiting.append((what, Reading(value), rows, batch))
        while len(self._waiting) > (2 if value.is_cuda else 0):
            self._settle()

    def verdict(self) -> Tensor:
        """Whether the numbers of the step that ends are all finite: bool `[]`, on their device, where it may stay."""
        finite, self._finite = self._finite, None
        assert finite is not None, "checked before"
        return finite

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
        if math.isfinite(number) or batch.step == self._last:
            return
        sequences = batch.sequences
        assert sequences.ids is not None, "rows of a data set have ids"
        faulty = torch.ones(len(sequences), dtype=torch.bool) if rows is None else ~rows.isfinite().cpu()
        found = self.peers.gather(self.dataset.titles(sequences.ids.cpu()[faulty].tolist()))
        titles = [title for part in found for title in part]
        keeper = next((rank for rank, part in enumerate(found) if part), 0)
        named = ", ".join(titles[:SHOWN]) + (f" and {len(titles) - SHOWN} more" if len(titles) > SHOWN else "")
        fault = f"step {batch.step + 1:,}: the {what} is {number}; sequences: {named}."
        if self.max_skipped is None:
            raise TrainingError(f"{fault}{self._keep(batch, FAILED_BATCH, keeper)} {REMEDY}")
        self._last, self.skipped = batch.step, self.skipped + 1
        fault += self._keep(batch, SKIPPED_BATCH.format(batch.step + 1), keeper)
        if self.skipped > self.max_skipped:
            raise TrainingError(f"{fault} {self.max_skipped:,} steps have been skipped, as many as may be. {REMEDY}")
        self.tell(f"{fault} The step is skipped ({self.skipped:,} so far, {self.max_skipped:,} at most).")
        self.on_skip()

    def _keep(self, batch: Batch, name: str, keeper: int) -> str:
        """Save a batch, if this process is to, and say where."""
        if self.folder is None:
            return ""
        try:
            path = self.save(batch, name) if self.peers.rank == keeper else self.folder / name
            return f" The batch is kept in {path}."
        except WRITING_ERRORS as error:
            return f" The batch could not be kept ({error})."

    def save(self, batch: Batch, name: str = FAILED_BATCH) -> Path:
        """Keep a batch as tensors, with step, epoch and seed: all that is needed to repeat the step's noise."""
        assert self.folder is not None, "only called with a folder"
        tensors = batch.sequences.tensors()
        tensors["strata"] = batch.strata
        about = {"step": str(batch.step), "epoch": str(batch.epoch), "seed": str(self.seed)}
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, path, metadata=about)
        return path


class Undo:
    """Takes a step back without waiting for its device: what it may change is copied before, and put back by a mask.

    That takes the memory of weights, average and optimiser state once more.

    Args:
        weights: parameters, their averages, buffers: what is there before the first step.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights = [tensor.detach() for tensor in weights]
        self._optimizer: torch.optim.Optimizer | None = None
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}  # by the id of the first, which lives as long as this

    @torch.no_grad()
    def remember(self, optimizer: torch.optim.Optimizer) -> None:
        """Copy what a step of the optimiser will change."""
        self._optimizer = optimizer
        known = list(self._copies.values())
        if known:
            torch._foreach_copy_([copy for _, copy in known], [_local(tensor) for tensor, _ in known])
        self._copies |= {id(t): (t, _local(t).clone()) for t in self._tensors() if id(t) not in self._copies}

    @torch.no_grad()
    def restore_unless(self, good: Tensor) -> None:
        """Put back what `remember` saw, unless `good`, bool `[]` on the device.

        State that the step has made is set to zero, as optimisers begin it.
        """
        for tensor in self._tensors():
            here = _local(tensor)
            _, before = self._copies.get(id(tensor), (tensor, torch.zeros_like(here)))
            torch.where(good.to(here.device), here, before, out=here)

    def _tensors(self) -> list[Tensor]:
        assert self._optimizer is not None, "remember comes first"
        return self.weights + state_tensors(self._optimizer)


def _local(tensor: Tensor) -> Tensor:
    """The part of a sharded tensor that is on this device; any other tensor as it is."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()
