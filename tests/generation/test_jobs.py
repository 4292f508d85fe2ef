"""Jobs of samples: whoever makes a part, and how often a job is cut short, the parts are the same."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import discdiff as dd
from discdiff.errors import DiscdiffError, DiscdiffWarning, IncompatibleError
from discdiff.pipeline import Pipeline, read_parts
from discdiff.pipeline import draws as draws_module
from tests.generation.conftest import CUT, contents, holding


def sequences(folder: Path) -> list[str]:
    return [row["sequence"] for row in read_parts(folder)]


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int, stop: Callable[[], None]) -> None:
    """Have `stop` called in the midst of drawing, after some parts."""
    rows, drawn = draws_module.Draws.rows, 0

    def counted(self: Any, numbers: torch.Tensor, report: Any) -> Any:
        nonlocal drawn
        drawn += 1
        if drawn == after + 1:
            stop()
        return rows(self, numbers, report)

    monkeypatch.setattr(draws_module.Draws, "rows", counted)


def ctrl_c() -> None:
    raise KeyboardInterrupt


# ---- what comes out ------------------------------------------------------------------------------------------------
def test_samples_are_those_of_the_pipeline(pipe: Pipeline, whole: Path) -> None:
    rows = list(read_parts(whole))
    assert [row["index"] for row in rows] == list(range(50))
    expected = pipe.sample(50, steps=4)
    assert [row["sequence"] for row in rows] == expected
    assert [row["calls"] for row in rows] == expected.calls
    assert {(row["seed"], row["valid"], row["reason"], row["label"]) for row in rows} == {(0, True, None, None)}
    assert sorted(path.name for path in whole.iterdir()) == [
        "job.json", "job.lock", *(f"part-00000{k}.parquet" for k in range(5))
    ]  # fmt: skip


def test_more_or_fewer_processes_make_the_same_files(pipe: Pipeline, whole: Path, tmp_path: Path) -> None:
    """In two shards, and then parts from the middle first: byte by byte those of one process."""
    first = pipe.sample_to(tmp_path, 50, shard=(2, 2), **CUT)
    assert sorted(contents(tmp_path)) == ["part-000001.parquet", "part-000003.parquet"]
    assert (first.made, first.missing) == (24, 3)
    assert "3 are made by other processes or shards" in str(first)
    second = pipe.sample_to(tmp_path, 50, shard=(1, 2), **CUT)
    assert (second.found, second.made, second.missing) == (2, 26, 0)
    assert contents(tmp_path) == contents(whole)


def test_ranks_begin_elsewhere(pipe: Pipeline, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two processes begins in the middle, and makes all where the first has died."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    interrupt(monkeypatch, 1, ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        pipe.sample_to(tmp_path, 50, **CUT)
    assert sorted(contents(tmp_path)) == ["part-000002.parquet"]
    pipe.sample_to(tmp_path, 50, **CUT)
    assert contents(tmp_path) == contents(whole)


# ---- interruptions --------------------------------------------------------------------------------------------------
def test_ctrl_c(
    pipe: Pipeline, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The part at hand is lost, the others stand, the way on is told, and Ctrl-C works as before."""
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupt(patch, 2, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            pipe.sample_to(tmp_path, 50, **CUT)
    assert signal.getsignal(signal.SIGINT) is handler
    assert f"2 of 5 parts of {tmp_path} are finished and stand; the same command goes on" in capsys.readouterr().err
    assert sorted(contents(tmp_path)) == ["part-000000.parquet", "part-000001.parquet"]
    stamps = {path.name: path.stat().st_ino for path in tmp_path.glob("part-*")}
    report = pipe.sample_to(tmp_path, 50, **CUT)
    assert (report.found, report.made) == (2, 26)
    assert {name: (tmp_path / name).stat().st_ino for name in stamps} == stamps  # not made again
    assert contents(tmp_path) == contents(whole)


def test_sigterm_ends_after_the_part_at_hand(
    pipe: Pipeline, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit) as stopped:
            pipe.sample_to(tmp_path, 50, **CUT)
    assert stopped.value.code == 143
    assert sorted(contents(tmp_path)) == ["part-000000.parquet", "part-000001.parquet"]
    pipe.sample_to(tmp_path, 50, **CUT)
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_full_disk(number: int, pipe: Pipeline, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence; earlier parts stand, nothing is left half-written, and the job goes on."""
    forced, calls = os.fsync, 0

    def fails(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 6:  # job.json and two parts, and the folder after each
            raise OSError(number, os.strerror(number))
        forced(handle)

    with monkeypatch.context() as patch:
        patch.setattr("discdiff.pipeline.job.os.fsync", fails)
        with pytest.raises(DiscdiffError) as refused:
            pipe.sample_to(tmp_path, 50, **CUT)
    message = str(refused.value)
    assert f"part-000002.parquet: cannot be written ({os.strerror(number)}); 2 of 5 parts are finished" in message
    assert "\n" not in message
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []
    pipe.sample_to(tmp_path, 50, **CUT)
    assert contents(tmp_path) == contents(whole)


def test_what_killed_processes_left_is_removed(pipe: Pipeline, whole: Path, tmp_path: Path) -> None:
    """But for what a living one is writing."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    dead, living = (tmp_path / f".part-00000{k}.parquet.{'ab' * 16}.tmp" for k in (1, 3))
    for path in (dead, living):
        path.write_bytes(b"PAR1")
    with holding(tmp_path, 2 + 3):
        pipe.sample_to(tmp_path, 50, **CUT)
    assert (dead.exists(), living.exists()) == (False, True)
    pipe.sample_to(tmp_path, 50, **CUT)
    assert not living.exists()


# ---- other processes ------------------------------------------------------------------------------------------------
def test_a_claimed_part_is_left_to_its_process(pipe: Pipeline, whole: Path, tmp_path: Path) -> None:
    """While that lives; then the same call makes it."""
    tmp_path.joinpath("job.lock").touch()
    with holding(tmp_path, 1, 2 + 0, 2 + 4):
        report = pipe.sample_to(tmp_path, 50, **CUT)
        assert report.missing == 2
        assert sorted(contents(tmp_path)) == [f"part-00000{k}.parquet" for k in (1, 2, 3)]
        with pytest.raises(DiscdiffError, match="2 of 5 parts are missing"):
            read_parts(tmp_path)
        assert [row["index"] for row in read_parts(tmp_path, partial=True)] == list(range(12, 48))
    assert pipe.sample_to(tmp_path, 50, **CUT).missing == 0
    assert contents(tmp_path) == contents(whole)


def test_without_locks(pipe: Pipeline, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has none is no obstacle, and shards are recommended."""

    def refuses(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuses)
    with pytest.warns(DiscdiffWarning, match="has no locks; several processes need a shard each"):
        pipe.sample_to(tmp_path, 50, **CUT)
    assert contents(tmp_path) == contents(whole)


# ---- the same job, or another ---------------------------------------------------------------------------------------
OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 1}, "seed: got 1, expected 0, that of the job begun there"),
    "temperature": ({"temperature": 0.9}, "temperature: got 0.9, expected null"),
    "steps": ({"steps": 5}, "steps: got 5, expected 4"),
    "sampler": ({"sampler": dd.samplers.AnyOrder()}, "sampler: got {"),
    "length": ({"length": 6}, "length: got 6, expected null"),
    "rules": ({"rules": {"forbid": "EcoRI"}}, 'rules: got {"forbid": ["EcoRI"]}, expected {}'),
    "template": ({"template": "NNTATANN"}, 'template: got "NNTATANN", expected null'),
    "precision": ({"precision": "bf16"}, 'precision: got "bfloat16", expected "float32"'),
    "batch_size": ({"batch_size": 4}, "batch_size: got 4, expected 5"),
    "part_size": ({"part_size": 13}, "part_size: got 13, expected 12"),
    "format": ({"format": "jsonl"}, 'format: got "jsonl", expected "parquet"'),
    "tag": ({"check": lambda text: True, "tag": "all"}, 'tag: got "all", expected null'),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_job_is_refused(name: str, pipe: Pipeline, whole: Path) -> None:
    changes, message = OTHERS[name]
    before = contents(whole), (whole / "job.json").read_text()
    with pytest.raises(IncompatibleError) as refused:
        pipe.sample_to(whole, 50, **{**CUT, **changes})
    assert message in str(refused.value)
    assert "name another folder" in str(refused.value)
    assert before == (contents(whole), (whole / "job.json").read_text())


def test_one_rule_however_it_is_given(pipe: Pipeline, tmp_path: Path) -> None:
    pipe.sample_to(tmp_path, 5, rules={"forbid": "EcoRI"}, **CUT)
    assert pipe.sample_to(tmp_path, 5, rules={"forbid": ["EcoRI"]}, **CUT).made == 0


def test_another_run_is_refused(pipe: Pipeline, whole: Path) -> None:
    dna = dd.domain("dna")
    weights = Pipeline(pipe.model, dna, pipe.lengths, 12)
    moved = {name: value + 1e-7 for name, value in pipe.model.state_dict().items()}
    kept = {name: value.clone() for name, value in pipe.model.state_dict().items()}
    try:
        pipe.model.load_state_dict(moved)
        with pytest.raises(IncompatibleError, match=r"the run's weights: got [0-9a-f]{12}…, expected [0-9a-f]{12}…"):
            weights.sample_to(whole, 50, **CUT)
    finally:
        pipe.model.load_state_dict(kept)
    assert weights.sample_to(whole, 50, **CUT).made == 0
    lengths = Pipeline(pipe.model, dna, dd.data.LengthModel.of([6, 9, 12]), 12)
    with pytest.raises(IncompatibleError, match="the run's lengths"):
        lengths.sample_to(whole, 50, **CUT)


def test_more_samples(pipe: Pipeline, whole: Path, tmp_path: Path) -> None:
    """Whole parts stand; a last part that was cut short is made again, whole; fewer are refused."""
    pipe.sample_to(tmp_path, 30, **CUT)
    stamps = {path.name: path.stat().st_ino for path in sorted(tmp_path.glob("part-*"))[:2]}
    with holding(tmp_path, 1), pytest.raises(IncompatibleError, match="expected 30 while other processes are at work"):
        pipe.sample_to(tmp_path, 50, **CUT)
    report = pipe.sample_to(tmp_path, 50, **CUT)
    assert (report.found, report.made) == (2, 26)
    assert {name: (tmp_path / name).stat().st_ino for name in stamps} == stamps
    assert contents(tmp_path) == contents(whole)
    with pytest.raises(IncompatibleError, match="n: got 30, expected 50, that of the job begun there"):
        pipe.sample_to(tmp_path, 30, **CUT)


def test_folders_of_something_else(pipe: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DiscdiffError, match=r"this is a folder with thesis.tex and no job.json in it"):
        pipe.sample_to(tmp_path, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(DiscdiffError, match="this is a file; a job takes a folder"):
        pipe.sample_to(tmp_path / "thesis.tex", 5)
    with pytest.raises(DiscdiffError, match=r"holds no job.json"):
        read_parts(tmp_path)


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "not JSON": (lambda saved: "{", "cannot be read"),
    "a list": (lambda saved: [1], "damaged: no format_version"),
    "no version": (lambda saved: {k: v for k, v in saved.items() if k != "format_version"}, "no format_version"),
    "newer": (
        lambda saved: saved | {"format_version": 2, "discdiff": "9.0"},
        "format version 2, this discdiff reads 1. discdiff 9.0 wrote it; update discdiff",
    ),
    "unknown key": (lambda saved: saved | {"colour": 1}, "keys missing or unknown: colour"),
    "missing key": (lambda saved: {k: v for k, v in saved.items() if k != "run"}, "keys missing or unknown: run"),
    "no number": (lambda saved: saved | {"n": "many"}, "damaged: n is 'many'"),
    "nothing": (lambda saved: saved | {"part_size": 0}, "damaged: part_size is 0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_settings(fault: str, pipe: Pipeline, whole: Path, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    changed = change(json.loads((whole / "job.json").read_text()))
    (tmp_path / "job.json").write_text(changed if isinstance(changed, str) else json.dumps(changed))
    for use in (lambda: pipe.sample_to(tmp_path, 50, **CUT), lambda: read_parts(tmp_path)):
        with pytest.raises(DiscdiffError) as refused:
            use()
        assert message in str(refused.value)
        assert str(tmp_path / "job.json") in str(refused.value)
