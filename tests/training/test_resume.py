"""A run that was interrupted and resumed is the run that was not, bit by bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

import discdiff as dd
from discdiff.data import SequenceDataset
from discdiff.errors import CheckpointError, TrainingError
from discdiff.training import FitResult
from tests.letters import Letters
from tests.training.conftest import make_model, words
from tests.training.test_fit import assert_same_weights

Fit = Callable[..., FitResult]
STEPS = 30  # two epochs and a bit of 200 sequences in batches of 16


class At(Callback):
    """Does something in a hook when `step` steps have been taken."""

    def __init__(self, step: int, hook: str, action: Callable[[], None]) -> None:
        def run(trainer: Any, *_: Any) -> None:
            if trainer.global_step == step:
                action()

        setattr(self, hook, run)


def ctrl_c() -> None:
    raise KeyboardInterrupt


def sigint() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def uninterrupted(quick_fit: Fit, train: SequenceDataset) -> torch.nn.Module:
    model = make_model(dropout=0.1)
    quick_fit(model, train, max_steps=STEPS, seed=5)
    return model


@pytest.mark.parametrize("step", [1, 12, 13, 14, 27, 29])
def test_resumed_weights_are_bit_equal(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, uninterrupted: torch.nn.Module, step: int
) -> None:
    options: dict[str, Any] = {"max_steps": STEPS, "seed": 5, "folder": tmp_path}
    before = signal.getsignal(signal.SIGINT)  # ignored, in a shell's background
    with pytest.raises(KeyboardInterrupt):
        quick_fit(make_model(dropout=0.1), train, callbacks=[At(step, "on_train_batch_end", ctrl_c)], **options)
    assert signal.getsignal(signal.SIGINT) is before
    torch.rand(3)
    resumed = make_model(dropout=0.1)
    result = quick_fit(resumed, train, resume=True, **options)
    assert result.steps == STEPS
    assert_same_weights(resumed, uninterrupted)


@pytest.mark.parametrize("step", [9, 10])
def test_resumed_with_bounds_samples_and_a_signal(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, uninterrupted: torch.nn.Module, step: int
) -> None:
    """Looking at the model changes nothing; Ctrl-C ends the step and saves; the log has one line a step."""
    valid = SequenceDataset.from_sequences(train.domain, words(20, 2))  # type: ignore[arg-type]
    options: dict[str, Any] = {
        "max_steps": STEPS, "seed": 5, "folder": tmp_path, "valid": valid, "validate_every": 5, "samples": 2,
        "sampler_steps": 2, "log_every": 1, "validate_samples": 2,
    }  # fmt: skip
    interrupted = make_model(dropout=0.1)
    with pytest.raises(KeyboardInterrupt):
        quick_fit(interrupted, train, callbacks=[At(step, "on_train_batch_start", sigint)], **options)
    assert (tmp_path / "model.safetensors").exists()
    assert not interrupted.training
    log = (tmp_path / "metrics.csv").read_text().splitlines()
    assert log[-1].startswith(f"{step + 1},")
    resumed = make_model(dropout=0.1)
    result = quick_fit(resumed, train, resume=True, **options)
    assert result.validation is not None
    assert_same_weights(resumed, uninterrupted)
    steps = [line.split(",")[0] for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    assert steps == ["step", *map(str, range(1, STEPS + 1))]


def test_resumed_after_sigterm(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, uninterrupted: torch.nn.Module
) -> None:
    options: dict[str, Any] = {"max_steps": STEPS, "seed": 5, "folder": tmp_path}
    terminate = At(11, "on_train_batch_start", lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as caught:
        quick_fit(make_model(dropout=0.1), train, callbacks=[terminate], **options)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    resumed = make_model(dropout=0.1)
    quick_fit(resumed, train, resume=True, **options)
    assert_same_weights(resumed, uninterrupted)


def test_ctrl_c_inside_a_step_keeps_the_last_checkpoint(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, uninterrupted: torch.nn.Module
) -> None:
    """A step cut in two is no state to go on from: the checkpoint of the last bound stands."""
    options: dict[str, Any] = {
        "max_steps": STEPS, "seed": 5, "folder": tmp_path, "valid": train, "validate_sequences": 4,
        "validate_every": 6,
    }  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        quick_fit(make_model(dropout=0.1), train, callbacks=[At(9, "on_before_optimizer_step", ctrl_c)], **options)
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 6
    resumed = make_model(dropout=0.1)
    quick_fit(resumed, train, resume=True, **options)
    assert_same_weights(resumed, uninterrupted)


def test_ctrl_c_during_validation(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, uninterrupted: torch.nn.Module,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from discdiff.training import evaluation

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    options: dict[str, Any] = {
        "max_steps": STEPS, "seed": 5, "folder": tmp_path, "valid": train, "validate_sequences": 4,
        "validate_every": 7,
    }  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "nelbo", interrupted)
        with pytest.raises(KeyboardInterrupt):
            quick_fit(make_model(dropout=0.1), train, **options)
    resumed = make_model(dropout=0.1)
    quick_fit(resumed, train, resume=True, **options)
    assert_same_weights(resumed, uninterrupted)


def test_a_finished_run_can_be_extended(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    options: dict[str, Any] = {"schedule": "constant", "warmup_steps": 0, "seed": 5}
    long, short, again = make_model(), make_model(), make_model()
    quick_fit(long, train, max_steps=20, **options)
    quick_fit(short, train, max_steps=13, folder=tmp_path, **options)
    for steps in (13, 10):
        result = quick_fit(again, train, max_steps=steps, folder=tmp_path, resume=True, **options)
        assert result.steps == 13
        assert str(result).startswith("already has 13 steps")
        assert_same_weights(again, short)
    again = make_model()
    assert quick_fit(again, train, max_steps=20, folder=tmp_path, resume=True, **options).steps == 20
    assert_same_weights(again, long)


def test_nothing_to_resume_from(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    for resume, folder, message in (
        (True, tmp_path, "no such checkpoint"),
        (True, None, "needs the run's folder"),
        (tmp_path / "none.ckpt", None, "no such checkpoint"),
        ("https://example.org/last.ckpt", None, "local files only"),
    ):
        with pytest.raises(CheckpointError, match=message):
            quick_fit(make_model(), train, max_steps=3, resume=resume, folder=folder)
    assert not list(tmp_path.iterdir())


def test_resuming_with_other_data_is_refused(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    quick_fit(make_model(), train, max_steps=3, folder=tmp_path)
    other = SequenceDataset.from_sequences(train.domain, words(200, 9))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="checksum of the training data"):
        quick_fit(make_model(), other, max_steps=6, folder=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="another model"):
        quick_fit(make_model(dim=32), train, max_steps=6, folder=tmp_path, resume=True)


def test_resuming_with_other_labels_is_refused(quick_fit: Fit, tmp_path: Path) -> None:
    """The same sequences, of other classes."""
    texts = ["abcd", "bcda", "cdab", "dabc"] * 5
    one, other = (SequenceDataset.from_sequences(Letters(), texts, labels=labels * 5) for labels in ("0101", "0011"))
    process = dd.Absorbing(4)
    network = dd.Transformer(process.num_states, dim=16, depth=1, heads=2, num_labels=2)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    quick_fit(model, one, max_steps=2, batch_size=8, folder=tmp_path)
    quick_fit(model, one, max_steps=3, batch_size=8, folder=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="checksum of the training data"):
        quick_fit(model, other, max_steps=4, batch_size=8, folder=tmp_path, resume=True)


def test_an_error_leaves_the_last_checkpoint(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    def fail() -> None:
        raise TrainingError("as a callback may")

    options: dict[str, Any] = {"valid": train, "validate_every": 4, "validate_sequences": 4, "folder": tmp_path}
    with pytest.raises(TrainingError, match="as a callback may"):
        quick_fit(make_model(), train, max_steps=20, callbacks=[At(6, "on_train_batch_end", fail)], **options)
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4


class Settings(Callback):
    """Keeps what the optimiser is about to step with, by the number of steps taken."""

    def __init__(self) -> None:
        self.of: dict[int, list[tuple[object, ...]]] = {}

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.of[trainer.global_step] = [
            (group["lr"], tuple(group.get("betas", ())), group["weight_decay"]) for group in optimizer.param_groups
        ]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_with_other_settings_of_the_optimiser(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], optimizer: str
) -> None:
    """From the next step on they are those of a run that had them from its first."""
    options: dict[str, Any] = {"max_steps": STEPS, "seed": 5, "optimizer": optimizer, "warmup_steps": 20}
    other: dict[str, Any] = {"learning_rate": 1e-3, "betas": (0.8, 0.9), "weight_decay": 0.3}
    whole, first, second, third = Settings(), Settings(), Settings(), Settings()
    quick_fit(make_model(), train, callbacks=[whole], **options, **other)
    options |= {"folder": tmp_path, "progress": True}
    with pytest.raises(KeyboardInterrupt):
        quick_fit(make_model(), train, callbacks=[first, At(12, "on_train_batch_end", ctrl_c)], **options)
    capsys.readouterr()
    with pytest.raises(KeyboardInterrupt):
        quick_fit(
            make_model(), train, callbacks=[second, At(20, "on_train_batch_end", ctrl_c)], resume=True, **options,
            **other,
        )  # fmt: skip
    told = capsys.readouterr().err
    for line in (
        "learning_rate is 0.001 from here on; it was 0.005",
        "weight_decay is 0.3 from",
        "betas is (0.8, 0.9)",
    ):
        assert told.count(line) == 1
    quick_fit(make_model(), train, callbacks=[third], resume=True, **options, **other)
    assert "from here on" not in capsys.readouterr().err
    assert sorted(second.of) == list(range(12, 20))
    for step in range(12, STEPS):
        assert (second.of | third.of)[step] == whole.of[step]
        assert first.of[5] != whole.of[5]
