"""The parts of training by themselves: guard, checkpoints, average, schedule, log, what a person sees."""

from __future__ import annotations

import io
import math
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from rich.console import Console
from safetensors import safe_open
from torch import Tensor

import discdiff as dd
from discdiff.data import BatchLoader, SequenceDataset
from discdiff.errors import CheckpointError, ConfigError, TrainingError
from discdiff.randomness import Randomness
from discdiff.training import FitResult, Validation
from discdiff.training.averaging import MovingAverage
from discdiff.training.checkpoint_io import AtomicCheckpointIO
from discdiff.training.metrics_log import Meter, MetricsFile
from discdiff.training.module import parameter_groups
from discdiff.training.progress import Reporter
from discdiff.training.schedule import Clock, Every, rate_factor
from tests.training.conftest import make_model
from tests.training.test_fit import assert_same_weights

Fit = Callable[..., FitResult]


# ---- numbers that are none -----------------------------------------------------------------------
class Poisoned(dd.losses.Loss):
    """AnyOrder, but one sequence's loss is not a number from its second time on."""

    def __init__(self, row: int, *, gradient_only: bool = False) -> None:
        self.row, self.gradient_only, self.seen = row, gradient_only, 0

    def __call__(self, model: Any, sequences: dd.Sequences, *, generator: Randomness) -> Tensor:
        values = dd.losses.AnyOrder()(model, sequences, generator=generator)
        assert sequences.ids is not None
        here = sequences.ids == self.row
        self.seen += int(here.sum())
        if self.seen < 2:
            return values
        if self.gradient_only:  # the root has an infinite derivative at 0
            return values + (here * (values - values.detach()).square().sqrt())
        return torch.where(here, values * float("nan"), values)


@pytest.mark.parametrize("gradient_only", [False, True])
def test_training_stops_at_a_loss_that_is_no_number(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, gradient_only: bool
) -> None:
    model, loss = make_model(), Poisoned(17, gradient_only=gradient_only)
    with pytest.raises(TrainingError) as caught:
        quick_fit(model, train, loss=loss, max_steps=60, folder=tmp_path, ema_decay=None)
    message = str(caught.value)
    assert ("gradient norm is nan" if gradient_only else "the loss is nan; sequences: record 18.") in message
    assert "failed_batch.safetensors" in message
    assert all(parameter.isfinite().all() for parameter in model.parameters()), "the weights were not touched"
    with safe_open(tmp_path / "failed_batch.safetensors", "pt") as kept:
        step, epoch, seed = (int(kept.metadata()[key]) for key in ("step", "epoch", "seed"))
        ids = kept.get_tensor("ids")
    assert 17 in ids.tolist()
    assert f"step {step + 1}:" in message
    again = BatchLoader(train, 16, steps=60, seed=seed).batch(step)
    assert again.epoch == epoch == 1
    assert again.sequences.ids is not None
    assert torch.equal(again.sequences.ids, ids)


# ---- checkpoints ---------------------------------------------------------------------------------
class Unsaveable:
    """Fails in the middle of being written."""

    def __reduce__(self) -> Any:
        raise OSError(28, "No space left on device")


def test_a_failed_save_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    path, files = tmp_path / "last.ckpt", AtomicCheckpointIO()
    files.save_checkpoint({"step": 1, "weights": torch.ones(3)}, path)
    with pytest.raises(OSError, match="No space left"):
        files.save_checkpoint({"step": 2, "weights": torch.ones(1000), "x": Unsaveable()}, path)
    assert files.load_checkpoint(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    files.remove_checkpoint(path)
    files.remove_checkpoint(path)
    assert not path.exists()


def save_for_ever(path: Path) -> None:
    for step in range(10**9):
        AtomicCheckpointIO().save_checkpoint({"step": step, "weights": torch.full((300_000,), float(step))}, path)


def test_a_kill_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """Checkpoints are written as fast as possible by a process that is then killed."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs fork")
    process = multiprocessing.get_context("fork").Process(target=save_for_ever, args=(tmp_path / "last.ckpt",))
    process.start()
    while not (tmp_path / "last.ckpt").exists():
        time.sleep(0.01)
    time.sleep(0.123)
    process.kill()
    process.join()
    loaded = AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")
    assert bool((loaded["weights"] == loaded["step"]).all())


def test_checkpoints_are_read_safely(tmp_path: Path) -> None:
    files = AtomicCheckpointIO()
    for url in ("https://example.org/a.ckpt", "s3://bucket/a.ckpt", "file:///a.ckpt"):
        with pytest.raises(CheckpointError, match="local files only"):
            files.load_checkpoint(url)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        files.load_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "damaged.ckpt").write_bytes(b"not a checkpoint at all")
    with pytest.raises(CheckpointError, match="damaged"):
        files.load_checkpoint(tmp_path / "damaged.ckpt")
    torch.save({"object": Callback()}, tmp_path / "pickled.ckpt")
    with pytest.raises(CheckpointError, match="no checkpoint of discdiff"):
        files.load_checkpoint(tmp_path / "pickled.ckpt")


def test_checkpoints_keep_the_users_permissions(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    finally:
        os.umask(umask)
    assert (tmp_path / "last.ckpt").stat().st_mode & 0o777 == 0o644


# ---- the moving average --------------------------------------------------------------------------
class Record(Callback):
    """Keeps the weights after each step."""

    def __init__(self) -> None:
        self.weights: list[list[Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.weights.append([p.detach().clone() for p in pl_module.model.parameters()])


def test_the_average_is_its_formula(quick_fit: Fit, train: SequenceDataset) -> None:
    model, record = make_model(), Record()
    quick_fit(model, train, valid=train, validate_sequences=4, validate_every=4, max_steps=12, ema_decay=0.5,
              callbacks=[record])  # fmt: skip
    average = record.weights[0]
    for n, weights in enumerate(record.weights):
        decay = min(0.5, n / (n + 9))
        average = [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
    for ours, expected, last in zip(model.parameters(), average, record.weights[-1], strict=True):
        torch.testing.assert_close(ours, expected)
        assert not expected.requires_grad or not torch.equal(expected, last)
    plain = make_model()
    quick_fit(plain, train, max_steps=12, ema_decay=None)
    for ours, last in zip(plain.parameters(), record.weights[-1], strict=True):
        assert torch.equal(ours, last), "looking at the model and averaging it do not change its training"


def test_the_live_weights_come_back_after_an_error(quick_fit: Fit, train: SequenceDataset) -> None:
    class Fails(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            average = next(c for c in trainer.callbacks if isinstance(c, MovingAverage))
            live = pl_module.model.network.tokens.weight
            before = live.detach().clone()
            try:
                with average.averaged(pl_module):
                    self.swapped = not torch.equal(live, before)
                    raise RuntimeError
            except RuntimeError:
                self.restored = torch.equal(live, before)

    check = Fails()
    quick_fit(make_model(), train, max_steps=3, ema_decay=0.9, callbacks=[check])
    assert check.swapped
    assert check.restored


def test_weight_decay_spares_vectors() -> None:
    decayed, spared = parameter_groups(make_model(), 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in spared["params"]} == {1}
    counted = len(decayed["params"]) + len(spared["params"])
    assert counted == sum(p.requires_grad for p in make_model().parameters())


# ---- schedule and clock --------------------------------------------------------------------------
def test_rate_factor() -> None:
    def rate(step: int, decay: Any = "cosine", **options: Any) -> float:
        return rate_factor(step, step / 100, warmup_steps=10, decay=decay, **options)

    assert rate(0, "constant") == pytest.approx(0.1)
    assert [rate(step, "constant") for step in (9, 50, 100)] == [1, 1, 1]
    assert rate(50) == pytest.approx(0.5)
    assert rate(100) == pytest.approx(0)
    assert rate(25, "linear") == pytest.approx(0.75)
    assert all(rate(step) >= rate(step + 1) for step in range(10, 100))
    assert rate_factor(3, 0.5, warmup_steps=0, decay="constant") == 1
    late = rate_factor(0, 0.3, warmup_steps=500, decay="constant", timed=True)
    assert late == 1, "a run that ends by time does not spend it warming up"
    with pytest.raises(ConfigError, match="'cosine' or 'linear' or 'constant'"):
        rate(1, "stairs")


def test_clock() -> None:
    clock = Clock(100)
    assert [clock.progress(step) for step in (0, 50, 100, 200)] == [0, 0.5, 1, 1]
    clock = Clock(100, max_minutes=1)
    clock.before = 30.0
    assert clock.progress(1) == pytest.approx(0.5, abs=0.01)
    assert clock.progress(90) == pytest.approx(0.9)
    with clock.pause():
        time.sleep(0.02)
    assert clock.paused >= 0.02
    clock.longest_pause = 15.0
    assert clock.progress(1) == pytest.approx(30 / 45, abs=0.01), "time is kept for the last bound"


def test_every() -> None:
    assert [step for step in range(1, 20) if Every(Clock(100), 6).due(step)] == [6, 12, 18]
    for most, expected in ((500, 100), (5000, 500), (10**6, 1000)):
        assert Every(Clock(most), None).steps == expected
    clock = Clock(10**9, max_minutes=1)
    every = Every(clock, None)
    clock.before = 5.0
    assert not every.due(1)
    clock.before = 7.0
    assert every.due(2)
    assert not every.due(3)
    clock.before, clock.paused = 13.0, 5.0
    assert not every.due(4), "pauses have taken too much of the time"
    clock.before = 31.0
    assert every.due(5)


# ---- figures -------------------------------------------------------------------------------------
def test_meter_weighs_by_tokens() -> None:
    meter = Meter(window=2)
    assert math.isnan(meter.recent())
    for loss, tokens in ((9.0, 1), (1.0, 30), (2.0, 10)):
        meter.add(torch.tensor(loss), tokens)
    assert meter.recent() == pytest.approx(50 / 40)
    assert meter.take() == pytest.approx(59 / 41)
    assert math.isnan(meter.take())
    assert meter.tokens == 41


def test_metrics_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsFile(path, 0)
    for step in (1, 2, 3):
        first.write({"step": step, "loss": 1 / step})
    first.close()
    second = MetricsFile(path, 2)
    second.write({"step": 3, "loss": 0.25})
    second.close()
    lines = [line.split(",")[:4] for line in path.read_text().splitlines()]
    assert lines[1:] == [["1", "", "", "1"], ["2", "", "", "0.5"], ["3", "", "", "0.25"]]
    MetricsFile(path, 0).close()
    assert len(path.read_text().splitlines()) == 1


# ---- what a person sees --------------------------------------------------------------------------
def test_plain_lines() -> None:
    stream = io.StringIO()
    reporter = Reporter(Clock(1000, 10), console=Console(file=stream, width=200))
    reporter.start(0)
    assert not reporter.due
    reporter.update(100, 1.25, 54_321.0)
    reporter.bound = Validation(1.5, 2.16, 0.01, 10, 100)
    reporter.busy("validating", 1, 2)
    reporter.note("a note with [brackets]")
    reporter.update(500, 1.0, 54_321.0)
    reporter.stop()
    first, note, second = stream.getvalue().splitlines()
    assert first.startswith("step 100/1,000  loss 1.2500  54,321 tokens/s")
    assert note == "a note with [brackets]"
    assert "bound 1.5000 ± 0.0100" in second
    assert "left" in second


def test_bar_on_a_terminal() -> None:
    stream = io.StringIO()
    reporter = Reporter(Clock(1000), console=Console(file=stream, width=160, force_terminal=True))
    reporter.start(0)
    reporter.update(500, 1.25, 1000.0)
    reporter._next = 0.0
    reporter.busy("validating", 3, 4)
    reporter.note("a note")
    reporter.stop()
    shown = stream.getvalue()
    assert "step 500/1,000  loss 1.2500" in shown
    assert "validating 3/4" in shown
    assert "a note" in shown


def test_silence(capsys: pytest.CaptureFixture[str], quick_fit: Fit, train: SequenceDataset) -> None:
    quick_fit(make_model(), train, max_steps=2)
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""


def test_fit_reports_on_standard_error(
    capsys: pytest.CaptureFixture[str], quick_fit: Fit, valid: SequenceDataset
) -> None:
    from discdiff.data import SequenceDataset
    from tests.letters import Letters

    stream = SequenceDataset.from_sequences(Letters(streams=True), ["abcd" * 20], length=9)
    quick_fit(make_model(), stream, max_steps=4, samples=2, sampler_steps=2, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "the last 8 of 80 tokens do not fill a block and are left out" in shown.err
    assert "step 4 sample: '" in shown.err
    assert "step 4/4  loss" in shown.err


def test_lightning_is_imported_late() -> None:
    code = "import sys, discdiff.training; sys.exit('lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_same_model_whatever_the_threads_say(quick_fit: Fit, train: SequenceDataset) -> None:
    threads = torch.get_num_threads()
    one, two = make_model(), make_model()
    quick_fit(one, train, max_steps=3)
    assert torch.get_num_threads() == threads
    quick_fit(two, train, max_steps=3)
    assert_same_weights(one, two)
