"""The time of day may jump: an hour back, a day ahead. Nothing in training goes by it."""

from __future__ import annotations

import csv
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from discdiff.data import SequenceDataset
from discdiff.training import FitResult
from tests.training.conftest import make_model
from tests.training.test_resume import At, ctrl_c

Fit = Callable[..., FitResult]


@pytest.fixture
def _jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is an hour before or a day after the last one."""
    hours = itertools.accumulate(itertools.cycle([-1, 24, -1, -1, -24, 24]))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600 * next(hours))
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * (now + 3600 * next(hours))))


@pytest.mark.usefixtures("_jumps")
def test_throughput_and_time_taken(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    """Over an interruption, too."""
    start = time.monotonic()
    options: dict[str, Any] = {"max_steps": 20, "folder": tmp_path, "log_every": 1}
    with pytest.raises(KeyboardInterrupt):
        quick_fit(make_model(), train, callbacks=[At(9, "on_train_batch_end", ctrl_c)], **options)
    result = quick_fit(make_model(), train, resume=True, **options)
    assert 0 < result.seconds < time.monotonic() - start
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    assert all(0 < float(row["tokens_per_second"]) < 1e9 for row in rows)
    assert result.tokens_per_second > 0


@pytest.mark.usefixtures("_jumps")
def test_a_limit_of_minutes(quick_fit: Fit, train: SequenceDataset) -> None:
    start = time.monotonic()
    result = quick_fit(make_model(), train, max_steps=10**9, max_minutes=1 / 60)
    assert result.stopped == "time"
    assert result.steps > 1
    assert 0.9 < result.seconds < time.monotonic() - start


@pytest.mark.usefixtures("_jumps")
@pytest.mark.parametrize(("minutes", "saves"), [(1e-9, 6), (60.0, 1)])
def test_checkpoints(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float, saves: int
) -> None:
    """As often as they are due, neither at each jump nor never."""
    from discdiff.training.checkpoint_io import AtomicCheckpointIO

    seen, save = [], AtomicCheckpointIO.save_checkpoint

    def count(self: AtomicCheckpointIO, checkpoint: dict[str, Any], *args: Any, **named: Any) -> None:
        seen.append(checkpoint["global_step"])
        save(self, checkpoint, *args, **named)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", count)
    quick_fit(make_model(), train, max_steps=6, folder=tmp_path, checkpoint_minutes=minutes)
    assert seen == list(range(7 - saves, 7))
