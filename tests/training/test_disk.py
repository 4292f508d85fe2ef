"""Disks that are full, fail, or may not be written to: what was saved before stands, and it is said what to do."""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from discdiff.data import SequenceDataset
from discdiff.errors import CheckpointError, DiscdiffWarning
from discdiff.training import FitResult
from discdiff.training.checkpoint_io import AtomicCheckpointIO
from discdiff.training.lock import FolderLock
from discdiff.training.metrics_log import COLUMNS, MetricsFile
from discdiff.unfinished import CHECKPOINT
from tests.training.conftest import make_model
from tests.training.forked import make_read_only, needs_small_disks, result, small_disk
from tests.training.test_fit import assert_same_weights
from tests.training.test_resume import At

Fit = Callable[..., FitResult]


def saved_step(folder: Path) -> int:
    return torch.load(folder / CHECKPOINT, weights_only=True)["global_step"]


def fill(folder: Path) -> None:
    """Leave no room."""
    with (folder / "filler").open("wb", buffering=0) as stream, suppress(OSError):
        for _ in itertools.repeat(None):
            stream.write(bytes(1024))
    assert not shutil.disk_usage(folder).free


# ---- a full disk -----------------------------------------------------------------------------------------------------
def test_a_full_disk(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    """A real one. The checkpoint before stands, training goes on, and at the end says what to do; then resumes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    needs_small_disks(disk)
    run = disk / "run"
    options: dict[str, Any] = {
        "max_steps": 12, "valid": train, "validate_every": 4, "validate_sequences": 4, "folder": run, "log_every": 1,
        "samples": 2, "sampler_steps": 2, "profile_sequences": 0,
    }  # fmt: skip

    def work() -> Any:
        small_disk(disk, 2000)
        try:
            quick_fit(make_model(), train, callbacks=[At(6, "on_train_batch_end", lambda: fill(disk))], **options)
        except CheckpointError as error:
            message = str(error)
        stood = saved_step(run)
        (disk / "filler").unlink()
        resumed, whole = make_model(), make_model()
        quick_fit(resumed, train, resume=True, **options)
        quick_fit(whole, train, max_steps=12)
        assert_same_weights(resumed, whole)
        lines = [line.split(",")[0] for line in (run / "metrics.csv").read_text().splitlines()]
        return message, stood, lines

    (message, stood, lines), told = result(work, tmp_path)
    assert "step 12 could not be saved (No space left on device); that of step 4 stands." in message
    assert "Make room there, then go on with `--resume`." in message
    assert stood == 4
    assert sum("step 8 could not be saved" in warning and "tries again" in warning for warning in told) == 1
    assert lines == ["step", *map(str, range(1, 13))]


def test_tensorboard_is_no_reason_to_stop(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk its thread dies, and from then on each of its calls fails: figures, samples, and the end."""

    def dead(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = "tensorboard.summary.writer.event_file_writer._AsyncWriter._check_worker_status"
    full = At(3, "on_train_batch_end", lambda: monkeypatch.setattr(writer, dead))
    with pytest.warns(DiscdiffWarning, match="^TensorBoardLogger cannot write: No space left on device$") as told:
        quick_fit(
            make_model(), train, callbacks=[full], max_steps=8, valid=train, validate_every=2, validate_sequences=4,
            log_every=1, folder=tmp_path / "run", profile_sequences=0, samples=2, sampler_steps=2,
            loggers=("csv", "tensorboard"),
        )  # fmt: skip
    assert saved_step(tmp_path / "run") == 8
    assert sum("TensorBoardLogger" in str(each.message) for each in told) == 1


def test_room_is_made_in_time(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    """Saving is tried again; lines of the log that could not be written come later."""
    disk = tmp_path / "disk"
    disk.mkdir()
    needs_small_disks(disk)

    def work() -> Any:
        small_disk(disk, 2000)
        full = At(6, "on_train_batch_end", lambda: fill(disk))
        again = At(10, "on_train_batch_end", lambda: (disk / "filler").unlink())
        quick_fit(
            make_model(), train, callbacks=[full, again], max_steps=12, valid=train, validate_every=4, log_every=1,
            validate_sequences=4, folder=disk / "run", profile_sequences=0,
        )  # fmt: skip
        lines = [line.split(",")[0] for line in (disk / "run" / "metrics.csv").read_text().splitlines()]
        return saved_step(disk / "run"), lines

    (step, lines), told = result(work, tmp_path)
    assert step == 12
    assert lines == ["step", *map(str, range(1, 13))]
    assert any("step 8 could not be saved" in warning for warning in told)


def test_a_disk_that_is_full_from_the_start(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    """Nothing is trained that could not be kept, and nothing of the run that is there is lost."""
    disk = tmp_path / "disk"
    disk.mkdir()
    needs_small_disks(disk)

    def work() -> Any:
        small_disk(disk, 2000)
        run = disk / "run"
        quick_fit(make_model(), train, max_steps=4, folder=run, log_every=1, config="a: 1\n")
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        fill(disk)
        messages = []
        for folder, resume in ((run, True), (disk / "new", False)):
            try:
                quick_fit(make_model(), train, max_steps=8, folder=folder, resume=resume, config="a: 2\n")
            except CheckpointError as error:
                messages.append(str(error))
        after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        return messages, before == after

    (messages, same), _ = result(work, tmp_path)
    assert same
    assert len(messages) == 2
    assert all("No space left on device" in message for message in messages), messages


def test_a_limit_on_sizes(tmp_path: Path) -> None:
    """Whatever torch's writer makes of it, the cause is told."""
    path, files = tmp_path / "last.ckpt", AtomicCheckpointIO()

    def work() -> Any:
        files.save_checkpoint({"step": 1}, path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            files.save_checkpoint({"step": 2, "weights": torch.ones(100_000)}, path)
        except OSError as error:
            return error.errno, files.load_checkpoint(path), [p.name for p in tmp_path.iterdir()]

    assert result(work, tmp_path)[0] == [errno.EFBIG, {"step": 1}, ["last.ckpt"]]


# ---- a disk that fails -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("owner", "call"), [(os, "fsync"), (Path, "replace")], ids=["write", "rename"])
@pytest.mark.parametrize("last", [False, True], ids=["periodic", "last"])
def test_a_failing_disk(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, call: str,
    last: bool,
) -> None:  # fmt: skip
    """EIO from step 6 on, to the end or to step 9; a checkpoint is due at 4, 8 and 12."""
    options: dict[str, Any] = {
        "max_steps": 12, "valid": train, "validate_every": 4, "validate_sequences": 4, "profile_sequences": 0,
    }  # fmt: skip

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = getattr(owner, call)
    calls = [At(6, "on_train_batch_end", lambda: monkeypatch.setattr(owner, call, fail))]
    if not last:
        calls.append(At(9, "on_train_batch_end", lambda: monkeypatch.setattr(owner, call, before)))
    ends: AbstractContextManager[Any] = nullcontext()
    if last:
        ends = pytest.raises(CheckpointError, match=r"step 12 could not .* See to the disk, then go on")
    told = r"step 8 could not be saved \(Input/output error\); that of step 4 stands"
    with pytest.warns(DiscdiffWarning, match=told), ends:
        quick_fit(make_model(), train, folder=tmp_path, callbacks=calls, **options)
    monkeypatch.setattr(owner, call, before)
    assert saved_step(tmp_path) == (4 if last else 12)
    assert not list((tmp_path / "checkpoints").glob(".*"))
    whole, resumed = make_model(), make_model()
    quick_fit(whole, train, max_steps=12)
    quick_fit(resumed, train, folder=tmp_path, resume=True, **options)
    assert_same_weights(resumed, whole)


def test_lines_wait_for_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where half a line was written before."""
    path = tmp_path / "metrics.csv"
    log, write = MetricsFile(path, 0), os.write
    rooms = [3, 0]

    def little(handle: int, data: bytes) -> int:
        room = rooms.pop(0) if rooms else len(data)
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data[:room])

    monkeypatch.setattr(os, "write", little)
    log.write(dict.fromkeys(COLUMNS, 1111))
    assert log.trouble is not None
    assert "No space left on device; its lines wait" in log.trouble
    log.write(dict.fromkeys(COLUMNS, 2222))
    assert not log.trouble
    log.close()
    assert path.read_text().splitlines()[1:] == [",".join([number] * len(COLUMNS)) for number in ("1111", "2222")]


# ---- folders that cannot be written to -------------------------------------------------------------------------------
def test_a_read_only_disk(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    needs_small_disks(disk)

    def work() -> Any:
        small_disk(disk, 2000)
        quick_fit(make_model(), train, max_steps=2, folder=disk / "run")
        make_read_only(disk)
        messages = []
        for folder, resume in ((disk / "run", True), (disk / "new", False)):
            try:
                quick_fit(make_model(), train, max_steps=4, folder=folder, resume=resume)
            except CheckpointError as error:
                messages.append(str(error).removeprefix(str(folder)))
        return messages

    assert result(work, tmp_path)[0] == [
        ": cannot be written to (Read-only file system); name another folder",
        ": cannot be made (Read-only file system); name another folder",
    ]


def test_a_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be written to \(Permission denied\); name another folder"):
        FolderLock(tmp_path).acquire()


def test_the_temporary_folder_is_not_used(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be on another file system, from which nothing can be renamed: here there is none at all."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    quick_fit(make_model(), train, max_steps=2, folder=tmp_path / "run")
    quick_fit(make_model(), train, max_steps=4, folder=tmp_path / "run", resume=True)
    assert saved_step(tmp_path / "run") == 4


# ---- files that are damaged ------------------------------------------------------------------------------------------
def test_truncated_checkpoints_are_refused(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    """Cut anywhere; the model of the run folder can still be used, and nothing in the folder is changed."""
    quick_fit(make_model(), train, max_steps=2, folder=tmp_path, config="a: 1\n")
    whole = (tmp_path / CHECKPOINT).read_bytes()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    files = AtomicCheckpointIO()
    for kept in [*range(0, len(whole), len(whole) // 40), len(whole) - 1]:
        (tmp_path / CHECKPOINT).write_bytes(whole[:kept])
        with pytest.raises(CheckpointError, match=r"last\.ckpt: damaged"):
            files.load_checkpoint(tmp_path / CHECKPOINT)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: damaged"):
        quick_fit(make_model(), train, max_steps=4, folder=tmp_path, resume=True, config="a: 2\n")
    assert {path: path.read_bytes() for path in before} == before
    assert not [path for path in tmp_path.iterdir() if path.is_file() and path not in before]


def test_settings_are_kept_where_training_goes_on(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    """A resumed run writes its own only once it goes on: not if it is refused, nor with nothing left to do."""
    quick_fit(make_model(), train, max_steps=3, folder=tmp_path, config="a: 1\n")
    environment = json.loads((tmp_path / "environment.json").read_text())
    with pytest.raises(CheckpointError, match="another model"):
        quick_fit(make_model(dim=32), train, max_steps=6, folder=tmp_path, resume=True, config="a: 2\n")
    quick_fit(make_model(), train, max_steps=3, folder=tmp_path, resume=True, config="a: 3\n")
    assert (tmp_path / "config.yaml").read_text() == "a: 1\n"
    assert json.loads((tmp_path / "environment.json").read_text()) == environment
    quick_fit(make_model(), train, max_steps=4, folder=tmp_path, resume=True, config="a: 4\n")
    assert (tmp_path / "config.yaml").read_text() == "a: 4\n"


def test_a_checkpoint_without_its_model(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full between the two, it is said which is there; resuming writes the other."""

    def fail(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr("discdiff.training.storage.save_run", fail)
        message = r"the model of step 3 could not be saved \(No space left on device\); its checkpoint was\. Make room"
        with pytest.raises(CheckpointError, match=message):
            quick_fit(make_model(), train, max_steps=3, folder=tmp_path)
    assert saved_step(tmp_path) == 3
    quick_fit(make_model(), train, max_steps=3, folder=tmp_path, resume=True)
    assert (tmp_path / "config.json").exists()


def test_a_failure_waits_where_other_processes_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of several reaches the place where all meet, and hears of its full disk there, once."""
    alone, first = AtomicCheckpointIO(), AtomicCheckpointIO(several=True)
    target = tmp_path / "last.ckpt"
    first.save_checkpoint({"step": 1}, target)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        alone.save_checkpoint({"step": 2}, target)
    first.save_checkpoint({"step": 2}, target)
    with pytest.raises(OSError, match="No space left"):
        first.raise_kept()
    first.raise_kept()
    assert first.load_checkpoint(target) == {"step": 1}
