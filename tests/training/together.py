"""Runs of several processes, on CPUs, started as `torchrun` would start them, without its seconds of imports."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

import discdiff as dd
from discdiff.data import SequenceDataset
from discdiff.training import FitResult, fit
from discdiff.training.monitor import Monitor
from tests.letters import Letters
from tests.training.conftest import make_model, words

Case = dict[str, Any]


def dataset(*, count: int = 203, seed: int = 0, end_token: bool = False) -> SequenceDataset:
    """Unequal lengths; batches of 16 are of 15 and 16 rows."""
    return SequenceDataset.from_sequences(Letters(), words(count, seed), length=12, end_token=end_token)


class Curve(Callback):
    """What each step had: its loss over all processes, and the norm of its gradient."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        monitor = next(callback for callback in trainer.callbacks if isinstance(callback, Monitor))
        if trainer.global_step == len(self.losses) + self.first:
            return
        self.losses.append(float(monitor.meter._recent[-1][0]))
        self.norms.append(float(monitor._norm))  # type: ignore[arg-type]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.first = trainer.global_step


def train(case: Case) -> dict[str, Any]:
    """One run: its curve, its averaged weights and what `fit` returned."""
    options: Case = {
        "batch_size": 16, "learning_rate": 5e-3, "samples": 0, "progress": False, "loggers": ("csv",), "device": "cpu",
    } | case  # fmt: skip
    end_token, valid = options.pop("end_token", False), options.pop("valid", 0)
    data, loss = dataset(end_token=end_token), options.pop("loss", "AnyOrder")
    held_out = dataset(count=valid, seed=1, end_token=end_token) if valid else None
    model, curve = make_model(options.pop("dropout", 0.0), vocab_size=data.vocab_size), Curve()
    callbacks = [curve, *options.pop("callbacks", [])]
    result = fit(model, data, loss=getattr(dd.losses, loss)(), valid=held_out, callbacks=callbacks, **options)
    weights = {name: weight.detach().double().numpy().copy() for name, weight in model.state_dict().items()}
    return {"losses": curve.losses, "norms": curve.norms, "weights": weights, **summary(result)}


def summary(result: FitResult) -> dict[str, Any]:
    """What processes should agree on."""
    bound = None if result.validation is None else vars(result.validation)
    return {"steps": result.steps, "loss": result.loss, "padding": result.padding, "validation": bound}


def train_all(cases: dict[str, Case]) -> dict[str, dict[str, Any]]:
    """Several runs, one after the other."""
    return {name: train(case) for name, case in cases.items()}


def _start(rank: int, size: int, port: int, answer: Connection, work: Callable[..., Any], *arguments: Any) -> None:
    os.environ.update(
        TORCHELASTIC_RUN_ID="tests", RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size),
        LOCAL_WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    torch.set_num_threads(1)
    torch.manual_seed(rank)  # networks that are not seeded would begin differently
    try:
        answer.send((True, work(*arguments)))
    except BaseException as error:
        answer.send((False, f"{type(error).__name__}: {error}"))
        raise


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def together(size: int, work: Callable[..., Any], *arguments: Any, seconds: float = 120.0) -> list[Any]:
    """What `work` gives in each of some processes: `(True, its value)`, `(False, its error)`, or None if it died."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.together"])
    port, ends, processes = free_port(), [], []
    for rank in range(size):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_start, args=(rank, size, port, there, work, *arguments))
        process.start()
        there.close()
        ends.append(here)
        processes.append(process)
    answers: list[Any] = []
    for end in ends:
        try:
            answers.append(end.recv() if end.poll(seconds) else "nothing in time")
        except EOFError:
            answers.append(None)
    for process in processes:
        process.join(10)
        process.kill()
    return answers


def values(answers: list[Any]) -> list[Any]:
    """The values of processes that all went well."""
    assert all(isinstance(answer, tuple) and answer[0] for answer in answers), answers
    return [answer[1] for answer in answers]


__all__ = ["Path", "dataset", "together", "train", "train_all", "values"]
