"""Who has started this process among others: `torchrun`, SLURM's `srun`, or `fit` itself. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from discdiff.errors import ConfigError


@dataclass(frozen=True)
class Launched:
    """Processes that were started from outside, as they read it from their environment.

    Attributes:
        by: what started them.
        rank: number of this one.
        devices: processes on each node.
        nodes: machines.
    """

    by: Literal["torchrun", "srun", "discdiff"]
    rank: int
    devices: int
    nodes: int


def by_torchrun(environment: Mapping[str, str]) -> Launched | None:
    """What `torchrun` says."""
    if "TORCHELASTIC_RUN_ID" not in environment:
        return None
    devices = int(environment["LOCAL_WORLD_SIZE"])
    return Launched("torchrun", int(environment["RANK"]), devices, int(environment["WORLD_SIZE"]) // devices)


def by_srun(environment: Mapping[str, str]) -> Launched | None:
    """What SLURM's `srun` says. A batch script that does not call it is one process, whatever it has asked for."""
    if "SLURM_STEP_NUM_TASKS" not in environment or environment.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    tasks, nodes = int(environment["SLURM_STEP_NUM_TASKS"]), int(environment.get("SLURM_STEP_NUM_NODES", 1))
    if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in environment:
        raise ConfigError("srun: --ntasks does not say how many tasks a node has; give --ntasks-per-node instead")
    return Launched("srun", int(environment["SLURM_PROCID"]), tasks // nodes, nodes)


def by_lightning(environment: Mapping[str, str]) -> Launched | None:
    """What `fit(devices=...)` says to the copies of the program that it starts."""
    if "LOCAL_RANK" not in environment or "WORLD_SIZE" not in environment:
        return None
    return Launched("discdiff", int(environment["LOCAL_RANK"]), int(environment["WORLD_SIZE"]), 1)


LAUNCHERS: tuple[Callable[[Mapping[str, str]], Launched | None], ...] = (by_torchrun, by_srun, by_lightning)


def launched(environment: Mapping[str, str] | None = None) -> Launched | None:
    """Who started this process among others; None where nobody did.

    Raises:
        ConfigError: SLURM's tasks are not given by node.
    """
    environment = os.environ if environment is None else environment
    return next((found for look in LAUNCHERS if (found := look(environment)) is not None), None)


def is_first() -> bool:
    """Whether this process is the one that writes files and speaks: of one, or the first of many."""
    found = launched()
    return found is None or found.rank == 0


__all__ = ["LAUNCHERS", "Launched", "is_first", "launched"]
