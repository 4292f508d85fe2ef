"""The one callback of `fit`: all that happens around a step, in the order in which it happens."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from discdiff.data.batches import Batch
from discdiff.errors import CheckpointError, DiscdiffWarning
from discdiff.model import Diffusion
from discdiff.training.averaging import MovingAverage
from discdiff.training.evaluation import Sampling, Validator
from discdiff.training.guard import FiniteGuard, Undo
from discdiff.training.metrics_log import Counted, Meter, MetricsFile
from discdiff.training.module import TrainingModule
from discdiff.training.progress import Reporter
from discdiff.training.result import Validation
from discdiff.training.schedule import Clock, Every
from discdiff.training.sharding import ShardedAverage, whole
from discdiff.training.signals import Stop, terminate_after_step
from discdiff.training.storage import Storage
from discdiff.training.topology import Peers
from discdiff.writing import reason, remedy


class Monitor(Callback):
    """Clips and checks gradients; then, after a step, validates, samples, logs, shows, saves and stops when due.

    A checkpoint is only ever taken between two steps, so that a resumed run is the uninterrupted one.

    Of several processes the first one's clock and storage decide, and anyone's signal: they are told at the end of each
    step, so that all do the same next. Losses are sums over all processes before anybody judges them.

    Args:
        peers: the other processes.
        clock: steps and time of the run.
        guard: refuses numbers that are none.
        reporter: what a person sees.
        storage: the run folder, or None.
        average: the weights' moving average, or None.
        validator, sampling: what is done every so often, or None.
        gradient_clip: largest norm of the gradient, or None.
        validate_every, samples_every: when.
        log_every: steps between lines of the log.
        metrics_path: of `metrics.csv`, or None.
    """

    def __init__(
        self,
        peers: Peers,
        clock: Clock,
        guard: FiniteGuard,
        reporter: Reporter,
        *,
        storage: Storage | None,
        average: MovingAverage | ShardedAverage | None,
        validator: Validator | None,
        sampling: Sampling | None,
        gradient_clip: float | None,
        validate_every: Every,
        samples_every: Every,
        log_every: int,
        metrics_path: Path | None,
    ) -> None:
        self.peers = peers
        self.clock, self.guard, self.reporter, self.storage = clock, guard, reporter, storage
        self.average, self.validator, self.sampling = average, validator, sampling
        self.gradient_clip = gradient_clip
        self.validate_every, self.samples_every, self.log_every = validate_every, samples_every, log_every
        self.metrics_path = metrics_path
        self.metrics_file: MetricsFile | None = None
        self.meter = Meter()
        self.validation: Validation | None = None
        self.asked = Stop.NO  # set by a signal, at any moment
        self.stop = Stop.NO  # what all processes have heard of, at the end of a step
        self.step: int | None = None  # steps taken when training started or last ended a step; None before
        self.between_steps = True
        self._parameters: list[Tensor] = []
        self._norm: Tensor | None = None
        self._counted = Counted()
        self._batch: Batch | None = None
        self._meter_state: dict[str, Any] | None = None
        self._undo: Undo | None = None
        self._told: set[str] = set()
        self._pace = (0, 0.0)

    @property
    def interrupted(self) -> bool:
        """Whether the run stops after this step."""
        return self.stop != Stop.NO

    # ---- a step ------------------------------------------------------------------------------------------------------
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert (trainer.global_rank, trainer.world_size) == (self.peers.rank, self.peers.size)
        self.peers.open()
        if not self.peers.alone:
            terminate_after_step(self)
        self._agree()
        self.step = trainer.global_step
        assert isinstance(pl_module, TrainingModule)
        for change in pl_module.take_settings():
            self.reporter.note(change)
        self._parameters = [p for p in pl_module.parameters() if p.requires_grad]
        if self._meter_state is not None:  # not before: a run that has nothing left to do has no loss
            self.meter.load_state_dict(self._meter_state, pl_module.device)
        try:
            self._take_up(self.step)
        except OSError as error:
            raise CheckpointError(
                f"{error.filename or trainer.default_root_dir}: cannot be written ({reason(error)}). {remedy(error)}."
            ) from error
        self._pace = (self.meter.tokens, self.clock.seconds - self.clock.paused)
        if self.guard.max_skipped is not None:
            self._undo = Undo([*self._parameters, *([] if self.average is None else self.average.tensors)])
            self.guard.on_skip = self._forget_step
        self.reporter.start(self.step)

    def _take_up(self, step: int) -> None:
        """Bring the files of the run to the step where it begins or goes on."""
        if self.metrics_path is not None:
            self.metrics_file = MetricsFile(self.metrics_path, step)
        if self.sampling is not None and self.peers.first:
            self.sampling.forget_after(step)
        if self.storage is not None:
            self.storage.begin(step or None)

    def _forget_step(self) -> None:
        if self.average is not None:
            self.average.forget_step()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        self._batch = batch
        assert isinstance(pl_module, TrainingModule)
        torch.manual_seed(batch.dropout_seed(pl_module.seed))  # so that a resumed run has no random state to restore

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        assert isinstance(pl_module, TrainingModule)
        assert self._batch is not None
        batch, nats = self._batch, self.peers.total(pl_module.row_nats.sum())
        self.guard.check("loss", loss.detach() if self.peers.alone else nats, pl_module.row_nats, batch)
        self._counted += Counted(nats, batch.tokens, pl_module.positions)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        limit = float("inf") if self.gradient_clip is None else self.gradient_clip
        self._norm = whole(torch.nn.utils.clip_grad_norm_(self._parameters, limit))
        assert self._batch is not None
        self.guard.check("gradient norm", self._norm, None, self._batch)
        self.between_steps = False
        if self._undo is not None:
            self._undo.remember(optimizer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            return  # micro-batches of this step are still to come
        if self._undo is not None:
            self._undo.restore_unless(self.guard.verdict())
        self.between_steps = True
        step = self.step = trainer.global_step
        save_due = self._agree()
        last = step >= self.clock.max_steps or self.clock.progress(step) >= 1.0
        bound_due, samples_due = self.validate_every.due(step), self.samples_every.due(step)
        validate = self.validator is not None and (last or bound_due) and not self.interrupted
        sample = self.sampling is not None and (last or samples_due) and not self.interrupted
        save = self.storage is not None and (last or validate or self.interrupted or save_due)
        with self.clock.pause() if validate or sample or save else nullcontext():
            if validate or sample or save:
                self.guard.flush()
            if validate or sample:
                self.look(trainer, pl_module, validate=validate, samples=sample, last=last)
                self._agree()
            stop = last or self.interrupted
            if stop or validate or step % self.log_every == 0:
                self.record(trainer, batch, validate)
            if self.reporter.due or validate or stop:
                self.reporter.skipped = self.guard.skipped
                self.reporter.update(step, self.meter.recent(), self.tokens_per_second(), self.meter.padding)
            if stop or save:
                self.guard.flush()
            if self.storage is not None and (stop or save):
                self.save(trainer, pl_module, last=stop)
        if stop:
            trainer.should_stop = True

    def _agree(self) -> bool:
        """Take in a step that has ended, and agree on time and signals; whether a checkpoint is due."""
        counted, self._counted = self._counted, Counted()
        due = self.storage is not None and self.storage.due
        told = self.peers.tell([self.clock.elapsed, due, self.asked, counted.tokens, counted.positions])
        if not self.peers.alone:
            self.clock.agreed = float(told[0, 0])
        self.stop = Stop(int(told[:, 2].max()))
        tokens, positions = (int(count) for count in told[:, 3:].sum(0))
        if counted.tokens:
            self.meter.add(counted.nats / tokens, tokens, positions)
        return bool(told[0, 1])

    # ---- what is done now and then -----------------------------------------------------------------------------------
    def look(self, trainer: Trainer, module: LightningModule, *, validate: bool, samples: bool, last: bool) -> None:
        """Validate and sample with the averaged weights, in eval mode; training goes on as if it had not happened."""
        assert isinstance(module, TrainingModule)
        assert self.step is not None
        with self._averaged(module) as model, trainer.precision_plugin.forward_context(), torch.no_grad():
            model.eval()
            try:
                if validate and self.validator is not None:
                    self.validation = self.validator(model, self.step, self._busy("validating"))
                    self.reporter.bound = self.validation
                if samples and self.sampling is not None and self.peers.first:
                    busy = self._busy("sampling")
                    texts = self.sampling(model, self.step, lambda k, n, _: busy(k, n))
                    self._show(trainer, texts, float("inf") if last else self.clock.seconds)
            finally:
                model.train()

    def _averaged(self, module: LightningModule) -> AbstractContextManager[Diffusion]:
        assert isinstance(module, TrainingModule)
        return nullcontext(module.model) if self.average is None else self.average.averaged(module)

    def _busy(self, what: str) -> Any:
        def report(part: int, parts: int) -> None:
            if self.asked and self.peers.alone:  # others would wait for this one
                raise KeyboardInterrupt
            self.reporter.busy(what, part, parts)

        return report

    def _show(self, trainer: Trainer, texts: list[str], seconds: float) -> None:
        assert self.sampling is not None
        assert self.step is not None
        for text in texts[:3]:
            shown = text if len(text) <= 100 else text[:99] + "…"
            self.reporter.note(f"  step {self.step:,} sample: {shown!r}")
        pictures = self.sampling.pictures(texts, self.step, seconds=seconds)
        trouble = self.sampling.trouble
        if trouble is not None and trouble not in self._told:
            self._told.add(trouble)
            self.reporter.note(f"  {trouble}")
        for logger in trainer.loggers:
            try:
                self._put_up(getattr(logger, "experiment", None), texts, pictures)
            except OSError as error:
                self._cannot_write(logger, error)

    def _put_up(self, board: Any, texts: list[str], pictures: Mapping[str, Path]) -> None:
        """Samples and pictures in TensorBoard."""
        if hasattr(board, "add_text"):
            board.add_text("samples", "\n".join(f"    {text!r}" for text in texts), self.step)
        for caption, path in pictures.items():
            if hasattr(board, "add_image") and path.suffix == ".png":
                from matplotlib.image import imread

                board.add_image(caption, imread(path), self.step, dataformats="HWC")

    def _cannot_write(self, logger: Any, error: OSError) -> None:
        name = next(kind.__name__ for kind in type(logger).__mro__ if not kind.__module__.startswith("discdiff."))
        self._warn(f"{name} cannot write: {error.strerror or error}")

    def tokens_per_second(self) -> float:
        """Training throughput of all processes."""
        took = self.clock.seconds - self.clock.paused - self._pace[1]
        return (self.meter.tokens - self._pace[0]) / took if took > 0 else 0.0

    def record(self, trainer: Trainer, batch: Batch, validated: bool) -> None:
        """One line of figures, to the file and to Lightning's loggers."""
        assert self.step is not None
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        figures: dict[str, float] = {
            "seconds": self.clock.seconds,
            "loss": self.meter.take(),
            "learning_rate": float(rates[0]),
            "gradient_norm": float("nan") if self._norm is None else float(self._norm),
            "tokens_per_second": self.tokens_per_second(),
            "padding": self.meter.padding,
            "skipped_steps": self.guard.skipped,
        }
        if validated and self.validation is not None:
            figures |= {f"val/{k}": getattr(self.validation, k) for k in ("nats_per_token", "bits_per_token")}
            figures["val/standard_error"] = self.validation.standard_error
        if self.metrics_file is not None:
            self.metrics_file.write({"step": self.step, "epoch": batch.epoch, **figures})
            self._warn(self.metrics_file.trouble)
        for logger in trainer.loggers:
            try:
                logger.log_metrics(figures, step=self.step)
            except OSError as error:
                self._cannot_write(logger, error)

    def _warn(self, trouble: str | None) -> None:
        """Tell a trouble that is no reason to stop, once."""
        if trouble is not None and trouble not in self._told:
            self._told.add(trouble)
            warnings.warn(trouble, DiscdiffWarning, stacklevel=2)

    def save(self, trainer: Trainer, module: LightningModule, *, last: bool) -> None:
        """The checkpoint, and the run folder with the averaged weights."""
        assert self.storage is not None
        assert isinstance(module, TrainingModule)
        if self.metrics_file is not None:
            self.metrics_file.sync()
        self.storage.save(trainer, self._averaged(module), last=last)

    # ---- interruptions -----------------------------------------------------------------------------------------------
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ctrl-C or a signal: save, if no step was cut in two. After an error the last checkpoint stands.

        It stands too where other processes may be elsewhere.
        """
        stopped = isinstance(exception, KeyboardInterrupt | SystemExit) and self.peers.alone
        if isinstance(exception, KeyboardInterrupt):
            self.stop = self.asked = self.asked or Stop.INTERRUPT  # a bound is cut short for other requests, too
        if stopped and self.step and self.between_steps and self.storage is not None:
            self.save(trainer, pl_module, last=True)

    def close(self) -> None:
        """Let go of screen and file."""
        self.reporter.stop()
        if self.metrics_file is not None:
            self.metrics_file.close()
            self._warn(self.metrics_file.trouble)
            self.metrics_file = None
        self.peers.close()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on with: the time taken, the last bound, what the next line of the log is of."""
        state: dict[str, Any] = {"seconds": self.clock.seconds}
        state |= {"skipped": self.guard.skipped, "meter": self.meter.state_dict()}
        if self.validation is not None:
            state["validation"] = vars(self.validation).copy()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.clock.before = state_dict["seconds"]
        self.guard.skipped = state_dict.get("skipped", 0)
        self._meter_state = state_dict.get("meter")
        if "validation" in state_dict:
            self.validation = self.reporter.bound = Validation(**state_dict["validation"])
