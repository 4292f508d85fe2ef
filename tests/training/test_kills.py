"""Killed at any moment, a run goes on where it was, and its folder is whole."""

from __future__ import annotations

import csv
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import discdiff as dd
from benchmarks import kills
from discdiff.data import SequenceDataset
from discdiff.domain import Domain
from discdiff.errors import CheckpointError
from discdiff.manifest import CONFIG_FILE, read_manifest
from discdiff.run_folder import finish_save, load_run, save_run
from discdiff.training import FitResult, storage
from discdiff.training.metrics_log import COLUMNS, MetricsFile
from discdiff.training.optimizers import Together
from discdiff.unfinished import CHECKPOINT, LOCK_FILE, SAVING
from tests.letters import Letters
from tests.training.conftest import make_model
from tests.training.forked import ended, start
from tests.training.test_fit import assert_same_weights

Fit = Callable[..., FitResult]


@pytest.fixture(autouse=True)
def _letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Domain, "from_json", staticmethod(lambda *_: Letters()))


def killed(work: Callable[[], Any], owner: Any, name: str, calls: int = 0) -> None:
    """Do the work in a process that dies when the function has been called so often."""

    def doomed() -> None:
        with kills.deadly(kills.Moment(owner, name, 0), calls):
            work()

    assert ended(start(doomed)) == -signal.SIGKILL


def molecules() -> SequenceDataset:
    draw = random.Random(0)
    made = ["".join(draw.choices(["C", "N", "O", "C(C)", "c1ccccc1"], k=draw.randint(2, 8))) for _ in range(300)]
    return SequenceDataset.from_sequences(dd.domain("smiles"), made)


SOME = [
    pytest.param({}, 2, id="whole batches"),
    pytest.param({"accumulate": 2, "workers": 2}, 10, id="parts", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("options", "count"), SOME)
def test_killed_runs_end_as_the_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], count: int
) -> None:
    """A few kills; `benchmarks/results/kills.jsonl` records many."""
    monkeypatch.undo()
    seen = kills.sweep(molecules(), tmp_path, kills=count, seed=0, **options)
    assert seen["kills"] >= count
    assert (seen["unequal"], seen["differences"]) == (0, [])


def test_the_comparison_sees_a_difference() -> None:
    one = {"weights": torch.ones(2), "rows": [{"loss": "1.5"}], "n": float("nan")}
    assert not list(kills.differences(one, {"weights": torch.ones(2), "rows": [{"loss": "1.5"}], "n": float("nan")}))
    other = {"weights": torch.tensor([1, 1 + 1e-7]), "rows": [{"loss": "1.6"}], "n": float("nan")}
    assert list(kills.differences(one, other)) == ["/weights", "/rows/0/loss: '1.5' and '1.6'"]
    assert list(kills.differences([1], [1, 2]))


def test_killed_before_the_first_checkpoint(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Resuming says so, and begins."""
    folder = tmp_path / "run"
    killed(lambda: quick_fit(make_model(), train, max_steps=8, folder=folder), Together, "step", 2)
    assert not (folder / CHECKPOINT).exists()
    with pytest.raises(CheckpointError, match=r"has saved no model yet.* --output .*run --resume`"):
        load_run(folder)
    resumed, whole = make_model(), make_model()
    quick_fit(resumed, train, max_steps=8, folder=folder, resume=True, progress=True)
    assert "no checkpoint yet: training starts from its first step" in capsys.readouterr().err
    quick_fit(whole, train, max_steps=8)
    assert_same_weights(resumed, whole)
    (folder / CHECKPOINT).unlink()
    with pytest.raises(CheckpointError, match="no such checkpoint"):  # a trained model is not begun anew
        quick_fit(make_model(), train, max_steps=8, folder=folder, resume=True)


def test_killed_between_the_last_checkpoint_and_the_model(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path
) -> None:
    """There is nothing left to train; resuming writes the model and its profile all the same."""
    options: dict[str, Any] = {"max_steps": 6, "folder": tmp_path, "valid": train, "profile_sequences": 8}
    killed(lambda: quick_fit(make_model(), train, **options), storage, "save_run")
    assert (tmp_path / CHECKPOINT).exists()
    assert not (tmp_path / CONFIG_FILE).exists()
    resumed = make_model()
    assert str(quick_fit(resumed, train, resume=True, **options)).startswith("already has 6 steps")
    whole = make_model()
    quick_fit(whole, train, max_steps=6)
    assert_same_weights(load_run(tmp_path).model, whole)
    assert load_run(tmp_path).profile is not None


@pytest.mark.parametrize("renames", range(3))
def test_killed_while_the_model_is_replaced(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, renames: int
) -> None:
    """At each moment the folder holds the model before or the one after, never a mixture."""
    before, after = make_model(), make_model()
    quick_fit(before, train, max_steps=3, folder=tmp_path)
    quick_fit(after, train, max_steps=6, schedule="constant")
    run = load_run(tmp_path)
    run.model.load_state_dict(after.state_dict())
    killed(lambda: save_run(run, tmp_path), Path, "replace", renames)
    left = list(tmp_path.glob(f"{SAVING}*"))
    found = load_run(tmp_path).model
    moved = not (left[0] / "model.safetensors").exists()
    assert_same_weights(found, after if moved else before)
    finish_save(tmp_path)
    assert not list(tmp_path.glob(f"{SAVING}*"))
    assert_same_weights(load_run(tmp_path).model, after if moved else before)
    assert read_manifest(tmp_path)["max_length"] == train.length


def test_a_line_cut_in_two_is_dropped(tmp_path: Path) -> None:
    """As are the lines of steps that are taken again; `12` is what is left of `120`."""
    path = tmp_path / "metrics.csv"
    lines = [",".join([str(step), *["1"] * (len(COLUMNS) - 1)]) for step in (10, 20, 30)]
    for torn in ("12", "20,1,1", "\0\0\0\0"):
        path.write_text("\r\n".join([",".join(COLUMNS), *lines, torn]))
        log = MetricsFile(path, 20)
        log.write(dict.fromkeys(COLUMNS, 25))
        log.close()
        with path.open(newline="") as stream:
            assert [row["step"] for row in csv.DictReader(stream)] == ["10", "20", "25"]


def test_a_kill_while_a_log_is_taken_up_again_loses_no_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = MetricsFile(path, 0)
    for step in (10, 20):
        log.write(dict.fromkeys(COLUMNS, step))
    log.close()
    before = path.read_bytes()
    for owner, name in ((os, "fsync"), (Path, "replace")):
        killed(lambda: MetricsFile(path, 20), owner, name)
        assert path.read_bytes() == before


def test_what_a_killed_run_left_half_written_goes(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    killed(lambda: quick_fit(make_model(), train, max_steps=4, folder=tmp_path), os, "fsync", 4)
    killed(lambda: quick_fit(make_model(), train, max_steps=4, folder=tmp_path, overwrite=True), storage, "save_run")
    quick_fit(make_model(), train, max_steps=6, folder=tmp_path, resume=True)
    assert [path.name for path in tmp_path.rglob(".*")] == []
    assert not (tmp_path / LOCK_FILE).exists()
