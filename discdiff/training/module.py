"""The LightningModule: one step's loss, and the optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from discdiff.data.batches import Batch
from discdiff.errors import CheckpointError
from discdiff.losses.base import Loss
from discdiff.model import Diffusion
from discdiff.training.sharding import gather, shard

_SETTINGS = {"initial_lr": "learning_rate", "betas": "betas", "weight_decay": "weight_decay"}


class TrainingModule(LightningModule):
    """Minimises the sum of nats over the sum of tokens, of the whole training set.

    A batch's nats are divided by the mean batch's rows times the training set's mean length, not by its own rows and
    tokens: batches hold sequences of similar length, the longest often in the smallest, and a token must weigh the same
    in all of them. A part of a batch, a micro-batch or a process's share, is divided by the same number, so that the
    parts' gradients add up to that of the whole.

    Noise comes from `Keys(seed, ids, epoch)`, so it follows the sequence, not the batch, the device or the rank.

    Args:
        model: what is trained.
        loss: nats per sequence.
        mean_length: tokens in a sequence, over the training set.
        seed: of the noise.
        parts: micro-batches in a step, over all processes.
        sharded: spread the network's weights over the processes.
        make_optimizer: given the model, and whether to fuse.
        rate_factor: the learning rate over its peak after a number of steps.

    Attributes:
        positions: how many positions, padding included, the network was shown in the last batch.
    """

    def __init__(
        self,
        model: Diffusion,
        loss: Loss,
        *,
        mean_length: float,
        seed: int,
        parts: int = 1,
        sharded: bool = False,
        make_optimizer: Callable[..., torch.optim.Optimizer],
        rate_factor: Callable[[int], float],
    ) -> None:
        super().__init__()
        self.model, self.loss, self.mean_length, self.seed = model, loss, mean_length, seed
        self.sharded = sharded
        self.parts, self.make_optimizer, self.rate_factor = parts, make_optimizer, rate_factor
        self._row_nats: list[Tensor] = []
        self.positions = 0

    @property
    def row_nats(self) -> Tensor:
        """Nats of each row of the last batch, `[B]`, detached."""
        return self._row_nats[-1]

    def configure_model(self) -> None:
        """Shard the network, once the processes know of one another."""
        if self.sharded:
            assert self.device_mesh is not None, "Lightning's strategy for sharded models makes one"
            shard(self.model.network, self.device_mesh["data_parallel"])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The objective on one batch, in nats per token; on a part of it, what the part adds times the parts."""
        gather(self.model.network)
        values = self.loss(self.model, batch.sequences, generator=batch.keys(self.seed))
        self._row_nats[:] = [values.detach()]
        packed = self.model.network.leaves_out_padding(self.device)
        self.positions = batch.tokens if packed else batch.sequences.tokens.numel()
        # Lightning divides by the micro-batches, and averages gradients over processes: both are undone here.
        return values.sum() / (batch.mean_rows * self.mean_length / self.parts)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """To a GPU from pinned memory, so that the copy does not wait for the steps before it."""
        return batch if device.type == "cpu" else batch.to(device)

    def configure_optimizers(self) -> Any:
        """The optimiser, and the learning rate's schedule."""
        optimizer = self.make_optimizer(self.model, fused=self.device.type in ("cpu", "cuda"))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate_factor)
        self._asked = [{name: group[name] for name in _SETTINGS if name in group} for group in optimizer.param_groups]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def take_settings(self) -> list[str]:
        """Let the settings of the optimiser be those asked for, where the run goes on from a checkpoint with others.

        Returns:
            What is other now, in words.
        """
        (optimizer,), scheduler = self.trainer.optimizers, self.trainer.lr_scheduler_configs[0].scheduler
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR), "made above"
        told: dict[str, str] = {}
        for group, asked in zip(optimizer.param_groups, self._asked, strict=True):
            for name, value in asked.items():
                if (before := group[name]) == value or (name == "betas" and tuple(before) == tuple(value)):
                    continue
                told[name] = f"{_SETTINGS[name]} is {value} from here on; it was {before}"
                group[name] = value
                if name == "initial_lr":
                    group["lr"] = value * self.rate_factor(scheduler.last_epoch)
        scheduler.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        return list(told.values())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another model, in one sentence; go on after its last whole step.

        Raises:
            CheckpointError: names of weights or their shapes differ.
        """
        _stand_after_step(checkpoint, self.trainer.accumulate_grad_batches)
        here, there = self.state_dict(), checkpoint["state_dict"]
        for name in sorted({*here, *there}):
            shapes = [tuple(state[name].shape) if name in state else "absent" for state in (there, here)]
            if shapes[0] != shapes[1]:
                raise CheckpointError(
                    f"resume: the checkpoint is of another model: {name.removeprefix('model.')} is {shapes[0]} there "
                    f"and {shapes[1]} here"
                )

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Nothing: `Monitor` clips, since it needs the norm."""

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Drop the gradients."""
        optimizer.zero_grad(set_to_none=True)


def _stand_after_step(checkpoint: dict[str, Any], accumulate: int) -> None:
    """Let the loader's position and Lightning's counters stand after the checkpoint's last step, in this run's batches.

    The saved run may have had other micro-batches, or have been stopped while it learned from a batch that the loader
    had handed out already: then that step begins anew. Lightning's counters decide when a step is complete.
    """
    loop, step = checkpoint["loops"]["fit_loop"], checkpoint["global_step"]
    if not step:
        return
    for loader in loop["state_dict"]["combined_loader"]:
        loader["position"] = step
    for counters in (loop["epoch_loop.batch_progress"][name] for name in ("total", "current")):
        for name in ("ready", "started", "processed"):
            counters[name] = step * accumulate
        counters["completed"] = step * accumulate - 1  # as it is where a step has just ended
