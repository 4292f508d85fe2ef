"""Parts of a job through Lightning's `Trainer.predict`: a module that draws one, a callback that writes it."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from discdiff.errors import DiscdiffWarning
from discdiff.pipeline.draws import Draws
from discdiff.pipeline.job import Job
from discdiff.pipeline.part_formats import Row

LOOK_SECONDS = 1.0
"""Between looks at how many parts of other processes are there."""


class StoppedError(Exception):
    """Ctrl-C or SIGTERM, on its way through Lightning, which would exit by itself."""


@dataclass
class Worker:
    """Makes parts.

    Attributes:
        job: where they go.
        draws: what they are drawn from.
        seed: of the job, for the rows.
        report: takes the share of the whole job that is done.
        parent: the process that started this one, without which it stops; None for none.
        made: samples that this worker has made.
    """

    job: Job
    draws: Draws
    seed: int
    report: Callable[[float], None]
    parent: int | None = None
    made: int = 0
    _there: int = field(default=0, init=False)
    _looked: float = field(default=-1e9, init=False)

    def draw(self, part: int) -> list[Row]:
        """The rows of a part; none where another process makes it or has made it."""
        if self.parent is not None and os.getppid() != self.parent:
            raise StoppedError
        claims = self.job.claims
        if not claims.take(part):
            return []
        if self.job.path(part).exists():
            claims.release(part)
            return []
        try:
            return self._rows(part)
        except BaseException:
            claims.release(part)
            raise

    def write(self, part: int, rows: Sequence[Row]) -> None:
        """Put drawn rows in their place and give the part back."""
        try:
            self.job.write(part, self.job.form.encode(rows))
            self.made += len(rows)
        finally:
            self.job.claims.release(part)
        self._report(0)

    def _rows(self, part: int) -> list[Row]:
        numbers = torch.tensor(self.job.numbers(part))
        samples = self.draws.rows(numbers, lambda share: self._report(share * len(numbers)))
        unknown = [None] * len(numbers)
        names: Sequence[str | None] = self.draws.names(numbers) or unknown
        certificates: Sequence[Any] = [each.to_json() for each in samples.certificates] or unknown
        reasons = map(self.draws.drawing.domain.invalid, samples)
        return [
            {
                "index": i, "sequence": text, "label": label, "calls": calls, "seed": self.seed,
                "valid": reason is None, "reason": reason, "certificate": certificate,
            }
            for i, text, label, calls, reason, certificate in zip(
                self.job.numbers(part), samples, names, samples.calls, reasons, certificates, strict=True
            )
        ]  # fmt: skip

    def _report(self, more: float) -> None:
        """Show what all processes have finished, and this one's part at hand."""
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS or not more:
            self._looked, missing = now, self.job.missing()
            self._there = self.job.n - sum(len(self.job.numbers(part)) for part in missing)
        self.report(min(1.0, (self._there + more) / self.job.n))


class PartModule(LightningModule):
    """Draws a part a step. It has no weights of its own: those it draws from are where they are to stay."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.worker = worker

    def predict_step(self, part: int, batch_idx: int) -> list[Row]:
        """The rows of a part, or none."""
        if self.trainer.received_sigterm:
            raise StoppedError(signal.SIGTERM)
        with _stoppable():
            return self.worker.draw(part)


class PartWriter(BasePredictionWriter):
    """Writes each part when it is drawn."""

    def __init__(self, worker: Worker) -> None:
        super().__init__("batch")
        self.worker = worker

    def write_on_batch_end(
        self, trainer: Trainer, pl_module: Any, prediction: Any, batch_indices: Any, batch: Any, *more: Any
    ) -> None:
        """A part that another process makes is left to it."""
        if prediction:
            with _stoppable():
                self.worker.write(batch, prediction)


@dataclass(frozen=True)
class Parts:
    """The numbers of parts, as Lightning's loader."""

    numbers: list[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)


@contextmanager
def _stoppable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        raise StoppedError from error


def predict(worker: Worker, numbers: list[int], device: torch.device) -> None:
    """Go through some parts and make those that nobody else has.

    Raises:
        KeyboardInterrupt: Ctrl-C; the part at hand is lost.
        SystemExit: SIGTERM, with code 143, after the part at hand.
    """
    alone = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if alone else None
    with warnings.catch_warnings():
        warnings.filterwarnings("default", category=DiscdiffWarning)  # once, not once a part
        for message in (".*infer the batch indices.*", ".*predict returned None.*", ".*many workers.*"):
            warnings.filterwarnings("ignore", message)
        trainer = Trainer(
            accelerator={"cuda": "gpu"}.get(device.type, device.type),
            devices=[device.index or 0] if device.type == "cuda" else 1,
            plugins=[LightningEnvironment()],  # processes share a job through its folder alone
            logger=False,
            callbacks=[PartWriter(worker)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            inference_mode=False,  # `sample` takes no gradients; tensors that the model keeps stay usable
        )
        try:
            trainer.predict(PartModule(worker), Parts(numbers), return_predictions=False)
        except StoppedError as stopped:
            if stopped.args:
                raise SystemExit(143) from None
            raise KeyboardInterrupt from None
        except SystemExit:
            raise KeyboardInterrupt from None  # Ctrl-C outside a step, as Lightning puts it
        finally:
            if alone and handler is not None:
                signal.signal(signal.SIGINT, handler)
            worker.job.claims.release_all()


__all__ = ["PartModule", "PartWriter", "Parts", "Worker", "predict"]
