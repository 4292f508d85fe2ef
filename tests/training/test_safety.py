"""The parts that keep a run safe: guard, checkpoints, average."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from safetensors import safe_open
from torch import Tensor

import discdiff as dd
from discdiff.data import BatchLoader, SequenceDataset
from discdiff.errors import CheckpointError, TrainingError
from discdiff.randomness import Randomness
from discdiff.training import FitResult
from discdiff.training.averaging import MovingAverage
from discdiff.training.checkpoint_io import AtomicCheckpointIO
from tests.training.conftest import make_model

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
