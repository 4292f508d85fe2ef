"""One process trains in a run folder at a time; a dead one is no obstacle, and readers never are."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from discdiff.data import SequenceDataset
from discdiff.domain import Domain
from discdiff.errors import CheckpointError
from discdiff.run_folder import load_run
from discdiff.training import FitResult, lock
from discdiff.training.lock import FolderLock
from discdiff.unfinished import LOCK_FILE
from tests.letters import Letters
from tests.training.conftest import make_model
from tests.training.forked import ended, kill, start, wait_for
from tests.training.test_resume import At

Fit = Callable[..., FitResult]


@pytest.mark.skipif(lock.fcntl is None, reason="no flock here")
def test_a_second_process_is_refused(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Domain, "from_json", staticmethod(lambda *_: Letters()))
    run, there = tmp_path / "run", tmp_path / "there"
    options: dict[str, Any] = {"folder": run, "valid": train, "validate_every": 2, "validate_sequences": 4}

    def wait() -> None:
        there.touch()
        time.sleep(300)

    first = start(lambda: quick_fit(make_model(), train, max_steps=9, callbacks=[At(3, "on_train_batch_end", wait)],
                                    **options))  # fmt: skip
    wait_for(there)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    for how in ({"resume": True}, {"overwrite": True}, {}):
        with pytest.raises(CheckpointError) as caught:
            quick_fit(make_model(), train, max_steps=9, **how, **options)
        assert f"{run}: process {first} on {socket.gethostname()} has been training there since 2" in str(caught.value)
        assert "Wait for it, stop it, or name another folder." in str(caught.value)
    assert load_run(run).max_length == train.length, "reading needs no lock"
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    kill(first)
    assert (run / LOCK_FILE).exists(), "what a killed process leaves"
    assert quick_fit(make_model(), train, max_steps=9, resume=True, **options).steps == 9
    assert not (run / LOCK_FILE).exists()


@pytest.mark.skipif(lock.fcntl is None, reason="no flock here")
def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    """Even where that has forked others, which live on."""

    def hold() -> None:
        mine = FolderLock(tmp_path)
        mine.acquire()
        orphan = start(lambda: time.sleep(300))
        (tmp_path / "orphan.new").write_text(str(orphan))
        (tmp_path / "orphan.new").replace(tmp_path / "orphan")
        time.sleep(300)

    holder = start(hold)
    wait_for(tmp_path / "orphan")
    with pytest.raises(CheckpointError, match=f"process {holder} on"):
        FolderLock(tmp_path).acquire()
    kill(holder)
    try:
        mine = FolderLock(tmp_path)
        assert mine.acquire() is None
        mine.release()
    finally:
        os.kill(int((tmp_path / "orphan").read_text()), 9)


def test_the_lock_is_given_back_after_an_error(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        quick_fit(make_model(), train, max_steps=3, folder=tmp_path, callbacks=[At(1, "on_train_batch_end", fail)])
    assert quick_fit(make_model(), train, max_steps=3, folder=tmp_path, resume=True).steps == 3
    with pytest.raises(CheckpointError, match="holds a run already"):
        quick_fit(make_model(), train, max_steps=3, folder=tmp_path)
    assert quick_fit(make_model(), train, max_steps=3, folder=tmp_path, overwrite=True).steps == 3


def test_many_take_turns(tmp_path: Path) -> None:
    """Of processes that take and give back the lock as fast as they can, no two have it at once."""
    alone = tmp_path / "alone"

    def work() -> None:
        held = 0
        while held < 20:
            mine = FolderLock(tmp_path)
            try:
                mine.acquire()
            except CheckpointError:
                continue
            alone.mkdir()  # fails where another is in
            alone.rmdir()
            mine.release()
            held += 1

    workers = [start(work) for _ in range(3)]
    assert [ended(pid) for pid in workers] == [0, 0, 0]


def test_a_file_system_without_locks(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Training goes on, and says what it cannot promise."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    quick_fit(make_model(), train, max_steps=2, folder=tmp_path, progress=True)
    assert "its file system knows no locks, so nothing keeps a second process" in capsys.readouterr().err
    monkeypatch.setattr(lock, "fcntl", None)
    note = FolderLock(tmp_path).acquire()
    assert note is not None
    assert "this system knows no locks" in note


def test_an_owner_who_left_no_name(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    mine = FolderLock(tmp_path)
    mine.acquire()
    (tmp_path / LOCK_FILE).write_text("{")
    with pytest.raises(CheckpointError, match="another process is training there"):
        FolderLock(tmp_path).acquire()
    mine.release()
