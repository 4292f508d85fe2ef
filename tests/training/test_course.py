"""What belongs to a run's course: schedule, clock, figures, and what a person sees."""

from __future__ import annotations

import io
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from discdiff.data import SequenceDataset
from discdiff.errors import ConfigError
from discdiff.training import FitResult, Validation
from discdiff.training.metrics_log import Meter, MetricsFile
from discdiff.training.progress import Reporter
from discdiff.training.schedule import Clock, Every, rate_factor
from tests.letters import Letters
from tests.training.conftest import make_model
from tests.training.test_fit import assert_same_weights

Fit = Callable[..., FitResult]


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
        meter.add(torch.tensor(loss), tokens, 2 * tokens)
    assert meter.recent() == pytest.approx(50 / 40)
    assert meter.take() == pytest.approx(59 / 41)
    assert math.isnan(meter.take())
    assert meter.tokens == 41
    assert meter.padding == 0.5
    assert Meter().padding == 0


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
    reporter.update(100, 1.25, 54_321.0, 0.031)
    reporter.bound = Validation(1.5, 2.16, 0.01, 10, 100)
    reporter.busy("validating", 1, 2)
    reporter.note("a note with [brackets]")
    reporter.update(500, 1.0, 54_321.0, 0.031)
    reporter.stop()
    first, note, second = stream.getvalue().splitlines()
    assert first.startswith("step 100/1,000  loss 1.2500  54,321 tokens/s, 3.1% padding")
    assert note == "a note with [brackets]"
    assert "bound 1.5000 ± 0.0100" in second
    assert "left" in second


def test_bar_on_a_terminal() -> None:
    stream = io.StringIO()
    reporter = Reporter(Clock(1000), console=Console(file=stream, width=160, force_terminal=True))
    reporter.start(0)
    reporter.update(500, 1.25, 1000.0, 0.0)
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


def test_fit_reports_on_standard_error(capsys: pytest.CaptureFixture[str], quick_fit: Fit) -> None:
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
