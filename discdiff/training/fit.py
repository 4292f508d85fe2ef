"""`fit`: train a model on a data set."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discdiff.constraints import Unconstrained
from discdiff.data.base import Dataset
from discdiff.data.batches import BatchLoader
from discdiff.data.dataset import SequenceDataset
from discdiff.data.faults import SKIPPED, write_faults
from discdiff.errors import ConfigError, IncompatibleError
from discdiff.losses.any_order import AnyOrder
from discdiff.losses.base import Loss, check_loss
from discdiff.model import Diffusion
from discdiff.networks.evaluation import check_compiler
from discdiff.samplers.base import Sampler, check_sampler
from discdiff.sequences import Sequences
from discdiff.training.evaluation import Sampling, Validator, profile_of
from discdiff.training.guard import FiniteGuard
from discdiff.training.optimizers import OptimizerName, check_optimizer, make_optimizer
from discdiff.training.progress import Reporter
from discdiff.training.result import FitResult
from discdiff.training.schedule import Clock, Decay, Every, rate_factor
from discdiff.training.storage import Storage
from discdiff.training.surroundings import (
    Precision,
    around,
    checkpoint_to_resume,
    choose_device,
    interruptible,
    lightning_precision,
    make_loggers,
    quiet,
    training_dtype,
)

if TYPE_CHECKING:
    from discdiff.domain import Domain


def fit(
    model: Diffusion,
    train: Dataset | Sequences,
    *,
    valid: Dataset | Sequences | None = None,
    loss: Loss | None = None,
    max_steps: int = 10_000,
    max_minutes: float | None = None,
    batch_size: int = 64,
    optimizer: OptimizerName = "muon",
    learning_rate: float = 3e-3,
    warmup_steps: int | None = None,
    schedule: Decay = "cosine",
    betas: tuple[float, float] = (0.9, 0.98),
    weight_decay: float = 0.01,
    gradient_clip: float | None = 1.0,
    ema_decay: float | None = 0.999,
    precision: Precision = "auto",
    compile: bool = False,  # noqa: A002 - torch's name for it
    gradient_checkpointing: bool = False,
    device: str = "auto",
    validate_every: int | None = None,
    validate_sequences: int | None = 1024,
    validate_samples: int = 4,
    profile_sequences: int = 64,
    samples_every: int | None = None,
    samples: int = 8,
    sampler: Sampler | None = None,
    sampler_steps: int | None = None,
    log_every: int = 50,
    folder: str | Path | None = None,
    resume: bool | str | Path = False,
    overwrite: bool = False,
    checkpoint_minutes: float = 5.0,
    config: str | None = None,
    sampling_defaults: dict[str, Any] | None = None,
    domain: Domain | None = None,
    seed: int = 0,
    progress: bool = True,
    loggers: Sequence[Any] = ("csv", "tensorboard"),
    callbacks: Sequence[Any] = (),
) -> FitResult:
    """Minimise a loss, in nats per content token; leave the moving average of the weights in the model.

    Args:
        model: trained in place. Afterwards it is in eval mode, on the device of the training, with averaged weights.
        train: the training set. Bare `Sequences` need `domain` where `folder` is given.
        valid: held-out sequences for the bound.
        loss: the objective; `AnyOrder()` by default.
        max_steps: training steps, resumed ones included.
        max_minutes: wall-clock minutes from this call, resumed ones, validation and sampling included. The run ends by
            steps or by time, and the learning rate decays with whichever is nearer its end.
        batch_size: the largest number of sequences in a batch.
        optimizer: "muon" for the matrices inside the network, with AdamW for the rest; or "adamw" for all, which wants
            about a third of the learning rate. See `discdiff.training.optimizers`.
        learning_rate: the peak rate.
        warmup_steps: steps of linear warm-up; by default a twentieth of `max_steps`, 500 at most.
        schedule: decay of the rate to zero, or "constant".
        betas, weight_decay: AdamW's betas; the decay acts on matrices only.
        gradient_clip: largest norm of the gradient, or None.
        ema_decay: decay of the weights' moving average, warmed up; None trains without.
        precision: "auto" is bf16 autocast on GPUs and processors that multiply bf16, float32 elsewhere;
            or "float32", "bf16" (also called "bfloat16") or "float64".
        compile: compile the network with `torch.compile`.
        gradient_checkpointing: keep only the inputs of the network's blocks for the backward pass, which computes the
            rest again: the same gradients with much less memory, for about a third more time.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1".
        validate_every: steps between bounds; by default a tenth of the run, see `discdiff.training.schedule.Every`. The
            bound at the end is taken in any case.
        validate_sequences: how many held-out sequences to use, or None for all.
        validate_samples: noise levels per sequence.
        profile_sequences: how many held-out sequences the run folder's profile is measured on at the end (absorbing; at
            most 129 evaluations of each, and it says how long that took), for `Pipeline.sample(error=…)`; 0 for none.
        samples_every: steps between samples; `validate_every` by default.
        samples: how many samples to draw each time; 0 for none.
        sampler, sampler_steps: how to draw them; see `discdiff.sample`. Steps are for samplers that take them.
        log_every: steps between lines of `metrics.csv`.
        folder: the run folder, or None to write nothing.
        resume: go on from the folder's last checkpoint, or from the checkpoint at this path. On one machine and CPU the
            weights are those of the uninterrupted run, bit by bit (runs limited by time aside).
        overwrite: replace the run that the folder holds.
        checkpoint_minutes: longest time between checkpoints; one is taken at each bound, too.
        config: text of the experiment's `config.yaml`, kept in the folder.
        sampling_defaults: kept in the folder for `Pipeline.sample`.
        domain: of bare sequences.
        seed: of the order of the data, of the noise and of dropout.
        progress: show a bar on a terminal, or a line now and then elsewhere, on standard error.
        loggers: "csv" (`metrics.csv`), "tensorboard", or Lightning's logger objects. The first two need a folder.
        callbacks: Lightning's, called after ours.

    Returns:
        Steps, time, throughput, loss and bound.

    Raises:
        IncompatibleError: data, loss and model do not fit together.
        ConfigError: an argument out of range.
        CheckpointError: the folder holds a run, or there is nothing to resume from.
        TrainingError: loss or gradient became infinite or not a number; the batch is kept in the folder.
        KeyboardInterrupt: after Ctrl-C. The step is finished first (a second Ctrl-C does not wait), then checkpoint and
            run folder are written, and the averaged weights are in the model.
        SystemExit: after SIGTERM, likewise, with code 143.
    """
    data, held_out = _dataset(train, domain), None if valid is None else _dataset(valid, domain)
    loss = AnyOrder() if loss is None else loss
    _check(model, data, held_out, loss, sampler)
    if gradient_checkpointing:
        model.network.checkpoint_gradients(True)  # refused before anything is written
        model.network.checkpoint_gradients(False)
    _check_numbers(
        max_steps=max_steps, batch_size=batch_size, learning_rate=learning_rate, validate_every=validate_every,
        samples_every=samples_every, log_every=log_every, max_minutes=max_minutes, gradient_clip=gradient_clip,
    )  # fmt: skip
    if ema_decay is not None and not 0 <= ema_decay < 1:
        raise ConfigError(f"ema_decay: got {ema_decay}, expected a number in [0, 1), or None")
    clock = Clock(max_steps, max_minutes)
    check_optimizer(optimizer)
    warmup = min(500, max_steps // 20) if warmup_steps is None else warmup_steps
    rate_factor(0, 0.0, warmup_steps=warmup, decay=schedule)  # refuses an unknown schedule

    place = choose_device(device)
    lightning_name = lightning_precision(precision, place)
    if compile:
        check_compiler(place, "compile")
    model.network.check_training(place, training_dtype(precision, lightning_name))
    path = None if folder is None else Path(folder)
    checkpoint = checkpoint_to_resume(resume, path)
    storage = None
    if path is not None:
        storage = Storage(path, data, 60 * checkpoint_minutes, sampling_defaults or {})
        storage.prepare(
            model, resume=checkpoint is not None, overwrite=overwrite, config=config, device=str(place),
            precision=lightning_name,
        )  # fmt: skip
    sampling = None
    if samples:
        steps = sampler_steps if sampler is None or sampler.takes_steps else None  # as `Pipeline.sample` takes defaults
        sampling = Sampling(data, count=samples, sampler=sampler, steps=steps, seed=seed, folder=path)
    reporter = Reporter(clock, show=progress)
    sets = [data] if held_out is None else [data, held_out]
    for note in dict.fromkeys(note for each in sets for note in each.notes):  # parts of one file have the same
        reporter.note(note)
    if path is not None:
        write_faults(dict.fromkeys(fault for each in sets for fault in each.skipped), path / SKIPPED)

    # Lightning takes seconds to import; what can be refused has been refused by now.
    with quiet():
        from lightning.pytorch import Trainer

        from discdiff.training.averaging import MovingAverage
        from discdiff.training.checkpoint_io import AtomicCheckpointIO
        from discdiff.training.module import TrainingModule
        from discdiff.training.monitor import Monitor

    average = None if ema_decay is None else MovingAverage(ema_decay)
    monitor = Monitor(
        clock,
        FiniteGuard(data, path, seed),
        reporter,
        storage=storage,
        average=average,
        validator=None
        if held_out is None
        else Validator(held_out, limit=validate_sequences, batch_size=batch_size, samples=validate_samples),
        sampling=sampling,
        gradient_clip=gradient_clip,
        validate_every=Every(clock, validate_every),
        samples_every=Every(clock, samples_every or validate_every),
        log_every=log_every,
        metrics_path=path / "metrics.csv" if path is not None and "csv" in loggers else None,
    )
    module = TrainingModule(
        model,
        loss,
        mean_length=float(data.model_lengths.double().mean()),
        seed=seed,
        make_optimizer=functools.partial(
            make_optimizer, optimizer, learning_rate=learning_rate, betas=betas, weight_decay=weight_decay
        ),
        rate_factor=lambda step: rate_factor(
            step, clock.progress(step), warmup_steps=warmup, decay=schedule, timed=max_minutes is not None
        ),
    )
    (model.double() if precision == "float64" else model).train()
    terminated = False
    with around(place, seed, model.network, compile, gradient_checkpointing), interruptible(monitor):
        trainer = Trainer(
            accelerator=place.type,
            devices=1 if place.type == "cpu" else [place.index],
            precision=lightning_name,
            max_steps=max_steps,
            max_epochs=-1,
            logger=make_loggers(loggers, path) or False,
            callbacks=[*([] if average is None else [average]), monitor, *callbacks],
            plugins=[AtomicCheckpointIO()],
            limit_val_batches=0,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=path,
        )
        try:
            trainer.fit(
                module,
                BatchLoader(data, batch_size, steps=max_steps, seed=seed),
                ckpt_path=None if checkpoint is None else str(checkpoint),
                weights_only=True,
            )
        except SystemExit:  # Lightning's answer to Ctrl-C and to SIGTERM
            terminated = not monitor.interrupted
        finally:
            monitor.close()
    if average is not None:
        average.finish(module)
    model.to(place).eval()
    if storage is not None and monitor.step:
        storage.save_run(model)
    ended = not (terminated or monitor.interrupted)
    if ended and monitor.step and storage is not None and held_out is not None and profile_sequences:
        profile = profile_of(model, held_out, limit=profile_sequences, batch_size=batch_size)
        if profile is not None:
            storage.save_profile(profile)
            reporter.note(f"{profile}: `discdiff sample --error`")
    if not ended:
        reporter.note(_farewell(monitor.step or 0, path))
        raise SystemExit(143) if terminated else KeyboardInterrupt
    return FitResult(
        steps=trainer.global_step,
        seconds=clock.seconds,
        tokens_per_second=monitor.tokens_per_second(),
        padding=monitor.meter.padding,
        loss=monitor.meter.recent(),
        validation=monitor.validation,
        stopped="steps" if trainer.global_step >= max_steps else "time",
        folder=path,
    )


def _farewell(step: int, folder: Path | None) -> str:
    if folder is None or not step:
        return f"Stopped after {step:,} steps."
    return f"Stopped after {step:,} steps. {folder} can be used as it is; `--resume` (resume=True) goes on from there."


def _dataset(data: Dataset | Sequences, domain: Domain | None) -> Dataset:
    return SequenceDataset.from_tokens(data, domain) if isinstance(data, Sequences) else data


def _check(model: Diffusion, train: Dataset, valid: Dataset | None, loss: Loss, sampler: Sampler | None) -> None:
    """Refuse data, losses and samplers that the model cannot take."""
    check_loss(loss, model)
    if sampler is not None:  # else it would be told at the first bound only
        check_sampler(sampler, model, Unconstrained())
    states = model.process.vocab_size
    for name, data in (("train", train), ("valid", valid)):
        if data is not None and (data.vocab_size > states or (data.domain is not None and data.vocab_size != states)):
            raise IncompatibleError(
                f"{name} data and model",
                got=f"{data.vocab_size} tokens in the data" + (", the end token included" if data.end_token else ""),
                expected=f"{states}, as the model's process has",
                remedy="Build the process with the data's vocab_size.",
            )
        if data is not None and data.end_token != train.end_token:
            raise IncompatibleError(
                "valid and train data",
                got="an end token in one of them",
                expected="in both or in none",
                remedy="Read both with the same options.",
            )
        if data is not None and data.label_names != train.label_names:
            raise IncompatibleError(
                "valid and train data",
                got=f"classes {data.label_names}",
                expected=f"{train.label_names}",
                remedy="Read the validation set with label_names=train.label_names.",
            )


def _check_numbers(**numbers: float | None) -> None:
    for name, value in numbers.items():
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"{name}: got {value}, expected a positive number")
