"""The moving average of the weights, by Lightning's callback with its traps closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from discdiff.model import Diffusion


class MovingAverage(WeightAveraging):
    """`θ̄ ← d θ̄ + (1 − d) θ` after each step, `d = min(decay, n / (n + 9))` with n steps averaged before.

    The warm-up of d keeps the first, random weights out of a short run's average. Lightning's callback makes the copy
    and keeps it in checkpoints. Here buffers are copied, not averaged (integers went stale); nothing is swapped before
    the first step; the live weights come back after an exception too, since the swap is a context manager; and a step
    neither walks through the module tree nor waits for a GPU.

    Args:
        decay: d's limit, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=False)
        self.decay = decay
        self._pairs: list[tuple[list[Tensor], list[Tensor]]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Not Lightning's own, which warns of every model that could be sharded.
        self._average_model = AveragedModel(pl_module, device=pl_module.device, use_buffers=False)
        self._average_model.requires_grad_(False)
        # The counter is read at each step: on a GPU that would wait for the device.
        self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._average_model is not None
        average = self._average_model.module
        self._pairs = [
            ([p.detach() for p in average.parameters()], [p.detach() for p in pl_module.parameters()]),
            (list(average.buffers()), list(pl_module.buffers())),
        ]

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step <= self._latest_update_step:
            return
        assert self._average_model is not None
        weights, buffers = self._pairs
        torch._foreach_lerp_(*weights, 1 - min(self.decay, self.updates / (self.updates + 9)))
        if buffers[0]:
            torch._foreach_copy_(*buffers)
        self._average_model.n_averaged += 1
        self._latest_update_step = trainer.global_step

    @property
    def tensors(self) -> list[Tensor]:
        """The averaged weights and the copied buffers, from the start of training on."""
        return [tensor for averages, _ in self._pairs for tensor in averages]

    def forget_step(self) -> None:
        """Leave a step out of the count, whose effect on the average is undone elsewhere."""
        assert self._average_model is not None
        self._average_model.n_averaged -= 1

    @property
    def updates(self) -> int:
        """How many steps are in the average."""
        return 0 if self._average_model is None else int(self._average_model.n_averaged)

    @contextmanager
    def averaged(self, module: LightningModule) -> Iterator[Diffusion]:
        """The module's model, which has the averaged weights inside, its own again outside."""
        model: Any = module.model
        if not self.updates:
            yield model
            return
        self._swap_models(module)
        try:
            yield model
        finally:
            self._swap_models(module)

    def finish(self, module: LightningModule) -> None:
        """Leave the averaged weights in the module."""
        if self.updates:
            self._copy_average_to_current(module)

    # `averaged` and `finish` take the place of Lightning's own swaps: its last one would come before the last
    # checkpoint, which needs the live weights.
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing."""
