"""The processes that train one model together: how many there are, which one this is, what they tell one another."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from discdiff.errors import ConfigError
from discdiff.launch import launched

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

StrategyName = Literal["auto", "ddp", "fsdp"]


@dataclass(frozen=True)
class Topology:
    """How many processes train, and how the model is spread over them.

    Attributes:
        devices: processes on each node.
        nodes: machines.
        sharded: whether each process holds a part of every weight, gradient and optimiser state, or all of them.
        by: what has started the processes, or None where `fit` does or where there is one.
        rank: number of this process.
    """

    devices: int
    nodes: int
    sharded: bool
    by: str | None
    rank: int

    @property
    def processes(self) -> int:
        """All of them."""
        return self.devices * self.nodes

    @classmethod
    def choose(cls, devices: int | None, nodes: int | None, strategy: StrategyName) -> Topology:
        """What was asked for, and what was started.

        Raises:
            ConfigError: the two differ, or several nodes were asked for and nothing has started processes on them.
        """
        if strategy not in get_args(StrategyName):
            raise ConfigError(f"strategy: got {strategy!r}, expected {' or '.join(map(repr, get_args(StrategyName)))}")
        found = launched()
        if found is not None and found.by == "discdiff" and devices in (None, 1):
            found = None  # one of the copies trains something else by itself
        for name, asked, there in (
            ("devices", devices, None if found is None else found.devices),
            ("nodes", nodes, 1 if found is None else found.nodes),
        ):
            if asked is not None and asked < 1:
                raise ConfigError(f"{name}: got {asked}, expected 1 or more")
            if asked is not None and there is not None and asked != there:
                how = "; start it on each with torchrun or srun" if found is None else f" by {found.by}; leave it out"
                raise ConfigError(f"{name}: got {asked}, but {there} started{how}")
        if found is None:
            return cls(devices or 1, 1, strategy == "fsdp", None, 0)
        return cls(found.devices, found.nodes, strategy == "fsdp", found.by, found.rank)

    def device(self, chosen: torch.device, asked: str) -> torch.device:
        """This process's device.

        Raises:
            ConfigError: fewer GPUs than processes, or one GPU by number for several.
        """
        if chosen.type == "cpu" or self.processes == 1:
            return chosen
        if ":" in asked:
            raise ConfigError(f"device: got {asked!r} for {self.processes} processes; device='cuda' gives each its own")
        if torch.cuda.device_count() < self.devices:
            raise ConfigError(f"devices: got {self.devices}, but torch sees {torch.cuda.device_count()} GPUs here")
        return torch.device("cuda", self.rank % self.devices)

    def of_trainer(self, device: torch.device) -> dict[str, Any]:
        """Arguments of Lightning's Trainer."""
        several = self.processes > 1 or self.sharded
        return {
            "accelerator": device.type,
            "devices": self.devices if several or device.type == "cpu" else [device.index],
            "num_nodes": self.nodes,
            "strategy": self._strategy() if several else "auto",
        }

    def _strategy(self) -> Any:
        if self.sharded:
            from discdiff.training.sharding import ShardedStrategy

            return ShardedStrategy(data_parallel_size=self.processes)
        from lightning.pytorch.strategies import DDPStrategy
        from torch.nn.parallel import DistributedDataParallel

        # Buffers, such as a rate matrix, are the same everywhere and no step changes them.
        known = inspect.signature(DistributedDataParallel).parameters
        synced = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {synced: False, "gradient_as_bucket_view": True}
        return DDPStrategy(**options)

    def environment(self) -> Any:
        """Lightning's plug-in that finds the other processes.

        It is named, not left to be guessed: within a SLURM batch script Lightning would wait for tasks that nobody
        starts. And it does not requeue, since it would save a step cut in two: see `discdiff.training.signals`.
        """
        from lightning.fabric.plugins.environments.lightning import LightningEnvironment
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
        from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        class Copies(LightningEnvironment):
            """Started by `fit` itself. What tells the copies apart stays when training ends: they go on together."""

            def teardown(self) -> None:
                """Nothing."""

        made: dict[str, Callable[[], Any]] = {
            "torchrun": TorchElasticEnvironment,
            "srun": lambda: SLURMEnvironment(auto_requeue=False),
        }
        return made.get(self.by or "", Copies)()


class Peers:
    """What the processes of a run tell one another. One alone says nothing and hears itself.

    Words go from host to host, by gloo, so that no step waits for a GPU; sums stay on the device. Every process must
    call each method in the same place.

    Args:
        rank: number of this process.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self._hosts: ProcessGroup | None = None

    @property
    def alone(self) -> bool:
        """Whether there is one process."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def open(self) -> None:
        """Connect the hosts, once Lightning has connected the devices."""
        if not self.alone and self._hosts is None:
            self._hosts = torch.distributed.new_group(backend="gloo")

    def tell(self, numbers: Sequence[float]) -> Tensor:
        """Everyone's numbers, float64 `[size, n]`."""
        mine = torch.tensor(numbers, dtype=torch.float64)
        if self.alone:
            return mine[None]
        heard = [torch.empty_like(mine) for _ in range(self.size)]
        torch.distributed.all_gather(heard, mine, group=self._hosts)
        return torch.stack(heard)

    def gather(self, value: Any) -> list[Any]:
        """Everyone's value, by rank."""
        if self.alone:
            return [value]
        heard: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(heard, value, group=self._hosts)
        return heard

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes, on the value's device."""
        if self.alone:
            return value
        value = value.clone()
        torch.distributed.all_reduce(value)
        return value

    def close(self) -> None:
        """Part."""
        if self._hosts is not None:
            torch.distributed.destroy_process_group(self._hosts)
            self._hosts = None


__all__ = ["Peers", "StrategyName", "Topology"]
