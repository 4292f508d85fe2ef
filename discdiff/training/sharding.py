"""FSDP2: each process holds a part of every weight, gradient, optimiser state and average."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from discdiff.model import Diffusion
from discdiff.networks.base import Network


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's, without tensor parallelism; a checkpoint is one file of whole weights, as with one process.

    Lightning's own numbers the optimiser's states in the order of the model's weights, which is not the order in which
    an optimiser of several groups reads them: one process would take one weight's state for another's.
    """

    def __init__(self, processes: int) -> None:
        super().__init__(data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def _names(self, optimizer: Optimizer) -> list[list[str]]:
        """The names of each group's weights."""
        assert self.model is not None
        names = {id(weight): name for name, weight in self.model.named_parameters()}
        return [[names[id(weight)] for weight in group["params"]] for group in optimizer.param_groups]

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """As `optimizer.state_dict()` of one process, on the first of them; every process must ask."""
        assert self.model is not None
        plain: Any = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        named: dict[str, Any] = get_optimizer_state_dict(self.model, plain, options=options)
        if not self.is_global_zero:
            return {}
        numbers = {name: i for i, name in enumerate(name for group in self._names(plain) for name in group)}
        settings = plain.state_dict()["param_groups"]
        groups = [
            {**each, "params": [numbers[name] for name in group]}
            for each, group in zip(settings, self._names(plain), strict=True)
        ]
        return {"state": {numbers[name]: value for name, value in named["state"].items()}, "param_groups": groups}

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Read the file, in each process, and let each weight and state take its part."""
        assert self.model is not None
        checkpoint = self.checkpoint_io.load_checkpoint(checkpoint_path)
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.model, checkpoint["state_dict"], options=options)
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            groups = self._names(optimizer)
            names = dict(enumerate(name for group in groups for name in group))
            named: Any = {
                "state": {names[number]: value for number, value in saved["state"].items()},
                "param_groups": [
                    {**each, "params": group} for each, group in zip(saved["param_groups"], groups, strict=True)
                ],
            }
            set_optimizer_state_dict(self.model, optimizer, named, options=options)
        return checkpoint


def shard(network: Network, mesh: DeviceMesh) -> None:
    """Spread a network over the processes of a mesh: its blocks one by one, the rest as one piece.

    A block's weights are whole only while it is run. The rest, which a loss reads beside the network's own calls, is
    gathered by `gather` and given up after the backward pass.
    """
    for layers in [module for module in network.modules() if isinstance(module, nn.ModuleList)]:
        for layer in layers:
            fully_shard(layer, mesh=mesh)
    fully_shard(network, mesh=mesh, reshard_after_forward=False)
    register_fsdp_forward_method(network, "hidden")


def gather(network: nn.Module) -> None:
    """Have the weights outside blocks whole, if the network is sharded."""
    if isinstance(network, FSDPModule):
        network.unshard()


def whole(value: Tensor) -> Tensor:
    """A tensor put together from its parts, or as it is; every process must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def part(value: Tensor) -> Tensor:
    """This process's part of a tensor; shares its memory."""
    return value.to_local() if isinstance(value, DTensor) else value


class ShardedAverage(Callback):
    """The moving average of sharded weights, itself in parts: see `discdiff.training.averaging.MovingAverage`.

    What looks at the model, bounds and samples, takes whole weights: they are put together in `model`. Checkpoints are
    those of one process, so that a run may go on with or without shards.

    Args:
        model: given the whole, averaged weights when somebody looks, and at the end.
        decay: of the average; None keeps none, and `model` gets the weights themselves.
    """

    def __init__(self, model: Diffusion, decay: float | None) -> None:
        self.model, self.decay, self.updates = model, decay, 0
        self._parts: list[Tensor] = []

    @property
    def state_key(self) -> str:
        return "MovingAverage"  # that of the other one, which may have saved what is loaded, or load what is saved

    def _weights(self, module: LightningModule) -> list[Tensor]:
        return [part(weight.detach()) for weight in module.parameters()]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._parts:
            self._parts = [weight.clone() for weight in self._weights(pl_module)]
        self._step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        decay = 0.0 if self.decay is None else min(self.decay, self.updates / (self.updates + 9))
        torch._foreach_lerp_(self._parts, self._weights(pl_module), 1 - decay)
        self.updates += 1

    @property
    def tensors(self) -> list[Tensor]:
        """This process's parts of the averages, from the start of training on."""
        return self._parts

    def forget_step(self) -> None:
        """Leave a step out of the count, whose effect on the average is undone elsewhere."""
        self.updates -= 1

    def _whole(self, module: LightningModule) -> dict[str, Tensor]:
        """The average, put together."""
        made = {}
        for (name, weight), average in zip(module.named_parameters(), self._parts, strict=True):
            if isinstance(weight, DTensor):
                average = DTensor.from_local(
                    average, weight.device_mesh, weight.placements, shape=weight.shape, stride=weight.stride()
                )
            made[name.removeprefix("model.")] = whole(average)
        return made

    @contextmanager
    def averaged(self, module: LightningModule) -> Iterator[Diffusion]:
        """A model with whole, averaged weights; every process must ask."""
        self._put_together(module)
        yield self.model

    @torch.no_grad()
    def _put_together(self, module: LightningModule) -> None:
        given = self._whole(module)
        for name, weight in self.model.named_parameters():
            weight.copy_(given[name])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._put_together(pl_module)

    def finish(self, module: LightningModule) -> None:
        """Nothing: the model has its weights since the training's end."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        average = self._whole(pl_module)
        if self.decay is not None and trainer.is_global_zero:
            live = checkpoint["current_model_state"] = checkpoint["state_dict"]
            named = {f"model.{name}": value.cpu() for name, value in average.items()}
            checkpoint["state_dict"] = {name: named.get(name, value) for name, value in live.items()}
            checkpoint["averaging_state"] = {"n_averaged": torch.tensor(self.updates)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Lightning has put into the model what stands for the weights in the file: their average, if there is one.
        self._parts = [weight.clone() for weight in self._weights(pl_module)]
        if "current_model_state" in checkpoint:
            self.updates = int(checkpoint["averaging_state"]["n_averaged"])
            options = StateDictOptions(full_state_dict=True)
            set_model_state_dict(pl_module, checkpoint["current_model_state"], options=options)

    def state_dict(self) -> dict[str, Any]:
        return {"latest_update_step": self._step}


__all__ = ["ShardedAverage", "ShardedStrategy", "gather", "part", "shard", "whole"]
