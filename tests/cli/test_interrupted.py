"""`discdiff train` that was stopped: what the commands then say, and how it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from discdiff.training.lock import FolderLock
from discdiff.unfinished import LOCK_FILE
from tests.cli.conftest import SMALL, Discdiff, Workshop, write_fasta


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_stopped_before_the_first_step(
    workshop: Workshop, discdiff: Discdiff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    begin = ["train", workshop.fasta, "--domain=dna", "--output", run, *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr("discdiff.training.module.TrainingModule.training_step", interrupt)
        ran = discdiff(*begin)
    assert ran.code == 130
    assert "Stopped before the first step; `--resume` (resume=True) starts it." in ran.err
    for command in (["sample", run], ["show", run], ["score", run, workshop.fasta]):
        ran = discdiff(*command)
        assert ran.code == 2
        assert f"{run}: has no config.json. Training there has saved no model yet; if it was stopped, go on" in ran.err
        assert f"`discdiff train --output {run} --resume`" in ran.err
    assert f"{run}: the folder is not empty. Go on with --resume" in discdiff(*begin).err
    ran = discdiff("train", "--output", run, "--resume")
    assert ran.code == 0, ran.err
    assert "no checkpoint yet: training starts from its first step" in ran.err
    assert discdiff("sample", run, "-n", "1", "--quiet").code == 0


def test_nothing_to_resume(discdiff: Discdiff, tmp_path: Path) -> None:
    for make in (False, True):
        if make:
            (tmp_path / "empty").mkdir()
        ran = discdiff("train", "--output", tmp_path / "empty", "--resume")
        assert (ran.code, ran.out) == (2, "")
        assert "no checkpoint to resume from; leave out --resume to start a run" in ran.err
    (tmp_path / "empty" / LOCK_FILE).touch()
    ran = discdiff("train", "--output", tmp_path / "empty", "--resume")
    assert ran.code == 2
    assert "has no config.yaml that says how to go on; give the first command again, with --resume" in ran.err


def test_what_a_killed_process_leaves_first_is_no_run(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    """The file of its lock, before anything else: training begins there as in an empty folder."""
    run = tmp_path / "run"
    run.mkdir()
    (run / LOCK_FILE).write_text("{}")
    assert discdiff("train", workshop.fasta, "--domain=dna", "--output", run, "--quiet", *SMALL).code == 0


def test_settings_stay_where_resuming_is_refused(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    run, data = tmp_path / "run", write_fasta(tmp_path / "mine.fasta", 40)
    assert discdiff("train", data, "--domain=dna", "--output", run, "--quiet", *SMALL).code == 0
    before = (run / "config.yaml").read_text()
    write_fasta(data, 40, seed=1)
    ran = discdiff("train", "--output", run, "--resume", "--training.max_steps", "10")
    assert ran.code == 2
    assert "of the training data was" in ran.err
    assert (run / "config.yaml").read_text() == before
    write_fasta(data, 40)
    assert discdiff("train", "--output", run, "--resume", "--training.max_steps", "5", "--quiet").code == 0
    assert (run / "config.yaml").read_text() == before.replace("max_steps: 3", "max_steps: 5")


def test_two_at_once(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    run = tmp_path / "run"
    assert discdiff("train", workshop.fasta, "--domain=dna", "--output", run, "--quiet", *SMALL).code == 0
    first = FolderLock(run)
    first.acquire()
    ran = discdiff("train", "--output", run, "--resume", "--training.max_steps", "5")
    assert ran.code == 2
    assert "has been training there since" in ran.err
    assert discdiff("sample", run, "-n", "1", "--quiet").code == 0
    first.release()


def test_divergence_is_an_option(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    words = ["train", workshop.fasta, "--domain=dna", "--output", tmp_path / "run", "--quiet", *SMALL]
    assert "on_divergence" in discdiff(*words, "--training.on_divergence", "ignore").err
    assert discdiff(*words, "--training.on_divergence", "skip", "--training.max_skipped", "3").code == 0
    settings = (tmp_path / "run" / "config.yaml").read_text()
    assert "on_divergence: skip" in settings
    assert "max_skipped: 3" in settings
