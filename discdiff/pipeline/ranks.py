"""The processes that share a job: where this one stands among them, and others that it starts itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from discdiff.errors import IncompatibleError

if TYPE_CHECKING:
    from discdiff.pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class Rank:
    """Where this process stands. No process waits for another: a wrong count costs time and nothing else.

    Attributes:
        number: from 0 on.
        world: how many there are.
        local: number on this machine.
    """

    number: int = 0
    world: int = 1
    local: int = 0

    @property
    def device(self) -> str | None:
        """This process's GPU, where there are any; None leaves the choice open."""
        count = torch.cuda.device_count()
        return f"cuda:{self.local % count}" if count and self.world > 1 else None


# What torchrun, and each step of SLURM, tell their processes: number, count, number on the machine.
_TOLD = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)


def this_rank(environment: Mapping[str, str] = os.environ) -> Rank:
    """This process among those that torchrun or srun started; alone where neither did."""
    for names in _TOLD:
        words = [environment.get(name, "") for name in names]
        if all(word.isdigit() for word in words):
            number, world, local = map(int, words)
            if number < world:
                return Rank(number, world, local)
    return Rank()


@contextmanager
def others(pipeline: Pipeline, devices: int, task: Mapping[str, Any]) -> Iterator[list[subprocess.Popen[str]]]:
    """`devices − 1` more processes at the same job, which are ended where this one fails.

    They run `discdiff.pipeline.child` on a copy of the pipeline: no object is pickled, and no user's script run again.

    Raises:
        IncompatibleError: fewer GPUs than that, or processes that were started by something else.
    """
    if devices < 1:
        raise IncompatibleError("devices", got=devices, expected="1 or more", remedy="1 is this process alone.")
    if devices == 1:
        yield []
        return
    world = this_rank().world
    if world > 1:
        raise IncompatibleError(
            "devices",
            got=f"{devices} in one of {world} processes that torchrun or srun started",
            expected="1 there",
            remedy="Leave it out: these processes share the job.",
        )
    on_gpu = pipeline.model.device.type == "cuda"
    if on_gpu and devices > torch.cuda.device_count():
        raise IncompatibleError(
            "devices",
            got=devices,
            expected=f"at most {torch.cuda.device_count()}, the GPUs of this machine",
            remedy="Ask for fewer, or for the CPU.",
        )
    if on_gpu and pipeline.model.device.index:
        raise IncompatibleError(
            "devices",
            got=f"{devices} with the device {pipeline.model.device}",
            expected="one of the two: the processes take a GPU each, from the first on",
            remedy="Leave the device out, and say by CUDA_VISIBLE_DEVICES which GPUs there are.",
        )
    threads = {} if on_gpu else {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // devices))}
    path = os.pathsep.join(word for word in sys.path if word)
    with tempfile.TemporaryDirectory(prefix="discdiff-") as name:
        pipeline.save(name)
        words = json.dumps({**task, "run": name, "device": "cuda" if on_gpu else "cpu", "parent": os.getpid()})
        started: list[subprocess.Popen[str]] = []
        try:
            for rank in range(1, devices):
                place = {"RANK": str(rank), "WORLD_SIZE": str(devices), "LOCAL_RANK": str(rank)}
                child = subprocess.Popen(
                    [sys.executable, "-m", "discdiff.pipeline.child"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    env=os.environ | place | threads | {"PYTHONPATH": path},
                    text=True,
                )
                started.append(child)
                assert child.stdin is not None
                with suppress(BrokenPipeError):  # it has died already, which its exit code tells
                    child.stdin.write(words)
                with suppress(BrokenPipeError):
                    child.stdin.close()
            yield started
        finally:
            for child in started:
                child.terminate()
            for child in started:
                child.wait()


__all__ = ["Rank", "others", "this_rank"]
