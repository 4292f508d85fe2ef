"""`fit`: train a model on a data set."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from discdiff.data.base import Dataset
from discdiff.data.batches import BatchLoader
from discdiff.data.dataset import SequenceDataset
from discdiff.data.faults import SKIPPED, write_faults
from discdiff.errors import ConfigError
from discdiff.losses.any_order import AnyOrder
from discdiff.losses.base import Loss
from discdiff.model import Diffusion
from discdiff.networks.evaluation import check_compiler
from discdiff.samplers.base import Sampler
from discdiff.sequences import Sequences
from discdiff.training.checks import check_numbers, check_parts, check_sharding
from discdiff.training.evaluation import Sampling, Validator, profile_of
from discdiff.training.guard import FiniteGuard, OnDivergence
from discdiff.training.optimizers import OptimizerName, check_optimizer, make_optimizer
from discdiff.training.progress import Reporter
from discdiff.training.result import FitResult
from discdiff.training.schedule import Clock, Decay, Every, rate_factor
from discdiff.training.signals import Stop, interruptible, requeue
from discdiff.training.storage import Storage
from discdiff.training.surroundings import (
    Precision,
    around,
    checkpoint_to_resume,
    choose_device,
    lightning_precision,
    make_loggers,
    quiet,
    training_dtype,
)
from discdiff.training.topology import Peers, StrategyName, Topology

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
    accumulate: int = 1,
    workers: int | None = None,
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
    devices: int | None = None,
    nodes: int | None = None,
    strategy: StrategyName = "auto",
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
    on_divergence: OnDivergence = "stop",
    max_skipped: int = 10,
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
        batch_size: the largest number of sequences in a step's batch, whatever it is cut into.
        accumulate: micro-batches that a step's batch is cut into, to take less memory. Gradients add up to those of the
            whole batch, and steps, schedules, averages and logs are the same, dropout's draws aside.
        workers: threads that make batches ahead of their use, which changes nothing else; by default 2 with a GPU, and
            none without.
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
        devices: processes that train together on this machine, one a GPU, sharing each step's batch. By default those
            that `torchrun` or `srun` has started, else one. Where nothing has started them, `fit` runs this program
            again for each: all of it, what follows `fit` too.
        nodes: machines, by default those on which `torchrun` or `srun` has started processes.
        strategy: "ddp", also called "auto": each process has the whole model; or "fsdp": each holds a part of every
            weight (AdamW only). Losses, steps and checkpoints are those of one process: see docs/scale.md.
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
            weights are those of the uninterrupted run, bit by bit (runs limited by time aside). A run that was stopped
            before its first checkpoint starts from its first step. Another learning rate, betas or decay holds from
            there on.
        overwrite: replace the run that the folder holds.
        checkpoint_minutes: longest time between checkpoints; one is taken at each bound, too. Where one cannot be
            written, the one before stands, a warning says why, and it is tried again within a minute.
        on_divergence: what to do where a loss or gradient is infinite or not a number: "stop", or "skip" the step:
            weights, average and optimiser stay as they were, and the batch is kept in the folder. That takes the memory
            of all these once more.
        max_skipped: how many steps may be skipped, resumed ones included; at the next, training stops.
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
        CheckpointError: the folder holds a run, cannot be written to, or another process trains there; there is nothing
            to resume from; or the end of the run could not be saved (what was saved before stands).
        TrainingError: loss or gradient became infinite or not a number, more than `max_skipped` times where such steps
            are skipped; the batch is kept in the folder.
        KeyboardInterrupt: after Ctrl-C. The step is finished first (a second Ctrl-C does not wait), then checkpoint and
            run folder are written, and the averaged weights are in the model.
        SystemExit: after SIGTERM, likewise, with code 143; in a SLURM job after SIGUSR1 too, which puts the job back
            into the queue.
    """
    data = _dataset(train, domain)
    held_out = None if valid is None else _dataset(valid, domain)
    loss = AnyOrder() if loss is None else loss
    check_parts(model, data, held_out, loss, sampler)
    if gradient_checkpointing:
        model.network.checkpoint_gradients(True)  # refused before anything is written
        model.network.checkpoint_gradients(False)
    check_numbers(
        max_steps=max_steps, batch_size=batch_size, accumulate=accumulate, learning_rate=learning_rate,
        validate_every=validate_every,
        samples_every=samples_every, log_every=log_every, max_minutes=max_minutes, gradient_clip=gradient_clip,
    )  # fmt: skip
    if ema_decay is not None and not 0 <= ema_decay < 1:
        raise ConfigError(f"ema_decay: got {ema_decay}, expected a number in [0, 1), or None")
    clock = Clock(max_steps, max_minutes)
    check_optimizer(optimizer)
    if on_divergence not in get_args(OnDivergence):
        raise ConfigError(f"on_divergence: got {on_divergence!r}, expected 'stop' or 'skip'")
    if max_skipped < 0:
        raise ConfigError(f"max_skipped: got {max_skipped}, expected 0 or more")
    warmup = min(500, max_steps // 20) if warmup_steps is None else warmup_steps
    rate_factor(0, 0.0, warmup_steps=warmup, decay=schedule)  # refuses an unknown schedule

    topology = Topology.choose(devices, nodes, strategy)
    if topology.sharded:
        check_sharding(model, optimizer, compile)
    peers = Peers(topology.rank, topology.processes)
    place = topology.device(choose_device(device), device)
    threads = (2 if place.type == "cuda" else 0) if workers is None else workers
    if threads < 0:
        raise ConfigError(f"workers: got {workers}, expected 0 or more, or None")
    loader = BatchLoader(
        data, batch_size, steps=max_steps, seed=seed, accumulate=accumulate, workers=threads, pin=place.type == "cuda",
        rank=peers.rank, processes=peers.size,
    )  # fmt: skip
    lightning_name = lightning_precision(precision, place)
    if compile:
        check_compiler(place, "compile")
    model.network.check_training(place, training_dtype(precision, lightning_name))
    path = None if folder is None else Path(folder)
    checkpoint = checkpoint_to_resume(resume, path)
    storage = None
    if path is not None:
        storage = Storage(path, data, 60 * checkpoint_minutes, sampling_defaults or {}, first=peers.first)
        if peers.first:
            storage.prepare(
                model, resume=checkpoint is not None, overwrite=overwrite, config=config, device=str(place),
                precision=lightning_name,
            )  # fmt: skip
    sampling = None
    if samples:
        steps = sampler_steps if sampler is None or sampler.takes_steps else None  # as `Pipeline.sample` takes defaults
        sampling = Sampling(data, count=samples, sampler=sampler, steps=steps, seed=seed, folder=path)
    reporter = Reporter(clock, show=progress and peers.first)
    notes = [] if storage is None else storage.notes
    if resume and checkpoint is None:
        notes.append("no checkpoint yet: training starts from its first step")
    sets = [data] if held_out is None else [data, held_out]
    for note in dict.fromkeys([*notes, *(note for each in sets for note in each.notes)]):  # parts of a file share some
        reporter.note(note)
    if path is not None and peers.first:
        write_faults(dict.fromkeys(fault for each in sets for fault in each.skipped), path / SKIPPED)

    # Lightning takes seconds to import; what can be refused has been refused by now.
    with quiet():
        from lightning.pytorch import Trainer

        from discdiff.training.averaging import MovingAverage
        from discdiff.training.checkpoint_io import AtomicCheckpointIO
        from discdiff.training.module import TrainingModule
        from discdiff.training.monitor import Monitor
        from discdiff.training.sharding import ShardedAverage

    (model.double() if precision == "float64" else model).train()
    average: MovingAverage | ShardedAverage | None = None if ema_decay is None else MovingAverage(ema_decay)
    trained = model
    if topology.sharded:  # the model itself is given whole weights where somebody looks at it
        trained, average = copy.deepcopy(model), ShardedAverage(model.to(place), ema_decay)
    monitor = Monitor(
        peers,
        clock,
        FiniteGuard(
            data,
            path,
            seed,
            max_skipped=max_skipped if on_divergence == "skip" else None,
            tell=reporter.note,
            peers=peers,
        ),
        reporter,
        storage=storage,
        average=average,
        validator=None
        if held_out is None
        else Validator(
            held_out, limit=validate_sequences, batch_size=batch_size, samples=validate_samples, peers=peers
        ),
        sampling=sampling,
        gradient_clip=gradient_clip,
        validate_every=Every(clock, validate_every),
        samples_every=Every(clock, samples_every or validate_every),
        log_every=log_every,
        metrics_path=path / "metrics.csv" if path is not None and "csv" in loggers and peers.first else None,
    )
    module = TrainingModule(
        trained,
        loss,
        mean_length=float(data.model_lengths.double().mean()),
        seed=seed,
        parts=accumulate * peers.size,
        sharded=topology.sharded,
        make_optimizer=functools.partial(
            make_optimizer, optimizer, learning_rate=learning_rate, betas=betas, weight_decay=weight_decay
        ),
        rate_factor=lambda step: rate_factor(
            step, clock.progress(step), warmup_steps=warmup, decay=schedule, timed=max_minutes is not None
        ),
    )
    terminated = False
    with (
        around(place, seed, trained.network, compile, gradient_checkpointing),
        interruptible(monitor),
        ExitStack() as stack,
    ):
        if storage is not None:
            stack.callback(storage.close)
        trainer = Trainer(
            **topology.of_trainer(place),
            precision=lightning_name,
            max_steps=max_steps,
            max_epochs=-1,
            accumulate_grad_batches=accumulate,
            logger=make_loggers(loggers, path) or False,
            callbacks=[*([] if average is None else [average]), monitor, *callbacks],
            plugins=[AtomicCheckpointIO(several=not peers.alone), topology.environment()],
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
                loader,
                ckpt_path=None if checkpoint is None else str(checkpoint),
                weights_only=True,
            )
        except SystemExit:  # Lightning's answer to Ctrl-C and to SIGTERM
            terminated = not monitor.interrupted
        finally:
            monitor.close()
        stack.pop_all()  # the folder is ours until the model is saved
    if average is not None:
        average.finish(module)
    model.to(place).eval()
    ended, steps = not (terminated or monitor.interrupted), trainer.global_step
    storage = storage if peers.first else None  # what follows is one process's work
    if storage is not None:
        with closing(storage):
            if steps and (monitor.between_steps or average is not None):
                storage.save_run(model)  # even with nothing left to do: the run before may have been killed first
            profiled = monitor.step is None and storage.has_profile()
            if ended and steps and not profiled and held_out is not None and profile_sequences:
                profile = profile_of(model, held_out, limit=profile_sequences, batch_size=batch_size)
                if profile is not None:
                    storage.save_profile(profile)
                    reporter.note(f"{profile}: `discdiff sample --error`")
    if not ended:
        reporter.note(_farewell(monitor.step or 0, path))
        if monitor.stop == Stop.REQUEUE and peers.first:
            reporter.note(requeue())
        raise KeyboardInterrupt if monitor.stop == Stop.INTERRUPT else SystemExit(143)
    return FitResult(
        steps=steps,
        seconds=clock.seconds,
        tokens_per_second=monitor.tokens_per_second(),
        padding=monitor.meter.padding,
        loss=monitor.meter.recent(),
        validation=monitor.validation,
        stopped="steps" if steps >= max_steps else "time",
        folder=path,
    )


def _dataset(data: Dataset | Sequences, domain: Domain | None) -> Dataset:
    return SequenceDataset.from_tokens(data, domain) if isinstance(data, Sequences) else data


def _farewell(step: int, folder: Path | None) -> str:
    if folder is None:
        return f"Stopped after {step:,} steps."
    if not step:
        return "Stopped before the first step; `--resume` (resume=True) starts it."
    return f"Stopped after {step:,} steps. {folder} can be used as it is; `--resume` (resume=True) goes on from there."
