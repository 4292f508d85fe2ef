"""Several processes at one job, killed at will."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import discdiff as dd
from discdiff.errors import DiscdiffError, DiscdiffWarning, IncompatibleError
from discdiff.pipeline import Pipeline, predicting, read_parts
from discdiff.pipeline.ranks import Rank, this_rank
from tests.generation.conftest import contents

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ("--steps", "4", "--batch-size", "8", "--part-size", "40", "--device", "cpu")


def start(run: Path, folder: Path, n: int, *more: str, **environment: str) -> subprocess.Popen[str]:
    """`discdiff sample` in a session of its own."""
    words = [sys.executable, "-m", "discdiff", "sample", str(run), "-n", str(n), "-o", f"{folder}/", *COMMAND, *more]
    path = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words, env=os.environ | path | environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def kill_when(child: subprocess.Popen[str], folder: Path, parts: int) -> None:
    """SIGKILL for the whole session once so many parts are there."""
    deadline = time.monotonic() + 240
    while len(list(folder.glob("part-*"))) < parts:
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < deadline, "no part came"
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


@pytest.fixture(scope="module")
def run(pipe: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "dna"
    pipe.save(folder)
    return folder


def test_killed_and_started_again(pipe: Pipeline, run: Path, tmp_path: Path) -> None:
    """A process is killed by SIGKILL; then two go on. Nothing is lost, nothing twice, and all as if undisturbed."""
    folder, n = tmp_path / "job", 800
    kill_when(start(run, folder, n), folder, 2)
    before = len(contents(folder))
    assert 2 <= before < 20, "killed too late to show anything"
    how = {"steps": 4, "batch_size": 8, "part_size": 40}
    report = pipe.sample_to(folder, n, devices=2, **how)  # type: ignore[arg-type]
    assert report.found == before
    assert report.missing == 0
    rows = list(read_parts(folder))
    assert [row["index"] for row in rows] == list(range(n))
    assert [path.name for path in folder.iterdir() if path.name.endswith(".tmp")] == []
    pipe.sample_to(tmp_path / "whole", n, **how)  # type: ignore[arg-type]
    assert contents(tmp_path / "whole") == contents(folder)


@pytest.mark.slow
def test_two_processes_killed_twice(run: Path, pipe: Pipeline, tmp_path: Path) -> None:
    folder, n = tmp_path / "job", 24_000
    for parts in (40, 200):
        kill_when(start(run, folder, n, "--devices", "2"), folder, parts)
    child = start(run, folder, n, "--devices", "2")
    _, said = child.communicate()
    assert child.returncode == 0, said
    assert [row["index"] for row in read_parts(folder)] == list(range(n))
    pipe.sample_to(tmp_path / "whole", n, steps=4, batch_size=8, part_size=40)
    assert contents(tmp_path / "whole") == contents(folder)


@pytest.mark.slow
def test_ranks_of_a_launcher_share_a_job(run: Path, pipe: Pipeline, tmp_path: Path) -> None:
    """Started at once, as torchrun does: no part is made twice, whoever writes `job.json`."""
    folder, n = tmp_path / "job", 4000
    world = {"WORLD_SIZE": "3"}
    children = [start(run, folder, n, **world, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(3)]
    said = [child.communicate()[1] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], said
    assert [row["index"] for row in read_parts(folder)] == list(range(n))
    pipe.sample_to(tmp_path / "whole", n, steps=4, batch_size=8, part_size=40)
    assert contents(tmp_path / "whole") == contents(folder)


@pytest.mark.parametrize("dead", [False, True])
def test_a_process_that_fails_is_told_and_replaced(
    pipe: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: bool
) -> None:
    """Here one that is no Python at all; it may have ended before it is told what to do."""
    monkeypatch.setattr("discdiff.pipeline.ranks.sys.executable", "/bin/false")
    if dead:
        start = subprocess.Popen

        def started(*given: Any, **options: Any) -> Any:
            child = start(*given, **options)
            child.wait()
            return child

        monkeypatch.setattr("discdiff.pipeline.ranks.subprocess.Popen", started)
    with pytest.warns(DiscdiffWarning, match="process 2 of 2 ended with code 1; what it left is made here"):
        report = pipe.sample_to(tmp_path, 30, devices=2, part_size=10, steps=3)
    assert (report.made, report.missing) == (30, 0)


def test_a_process_stops_without_the_one_that_started_it(pipe: Pipeline, tmp_path: Path) -> None:
    from discdiff.pipeline.asking import Asked
    from discdiff.pipeline.generating import Division, generate

    asked = Asked(steps=3)
    for parent, parts in ((os.getppid() + 1, 0), (os.getppid(), 3)):
        division = Division(part_size=10, parent=parent)
        if parts:
            generate(pipe, tmp_path, 30, asked, pipe.draws(asked), division, progress=False)
        else:
            with pytest.raises(KeyboardInterrupt):
                generate(pipe, tmp_path, 30, asked, pipe.draws(asked), division, progress=False)
        assert len(contents(tmp_path)) == parts


def test_devices_within_a_launcher(pipe: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(IncompatibleError, match="devices: got 2 in one of 4 processes that torchrun or srun started"):
        pipe.sample_to(tmp_path, 5, devices=2)


RANKS = {
    "alone": ({}, Rank(0, 1, 0)),
    "torchrun": ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Rank(5, 8, 1)),
    "srun": ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1"}, Rank(3, 4, 1)),
    "both": (
        {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2",
         "SLURM_LOCALID": "0"},
        Rank(2, 4, 0),
    ),
    "sbatch without srun": ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}, Rank(0, 1, 0)),
    "nonsense": ({"RANK": "4", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}, Rank(0, 1, 0)),
    "words": ({"RANK": "first", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}, Rank(0, 1, 0)),
}  # fmt: skip


@pytest.mark.parametrize("launcher", RANKS)
def test_ranks(launcher: str) -> None:
    environment, expected = RANKS[launcher]
    assert this_rank(environment) == expected


def test_lightning_calls_module_and_writer(pipe: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part goes through `predict_step` and the prediction writer, and no result is kept in memory."""
    seen: list[tuple[int, int]] = []
    write = predicting.PartWriter.write_on_batch_end

    def watched(
        self: predicting.PartWriter, trainer: object, module: object, rows: list[object], *more: object
    ) -> None:
        seen.append((int(str(more[1])), len(rows)))
        write(self, trainer, module, rows, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(predicting.PartWriter, "write_on_batch_end", watched)
    pipe.sample_to(tmp_path, 30, part_size=12, steps=3)
    assert seen == [(0, 12), (1, 12), (2, 6)]


def test_rows_for_ray(run: Path, pipe: Pipeline) -> None:
    """Goes to a worker as bytes, before and after its first batch, and samples by number."""
    import pickle

    import numpy as np

    from discdiff.pipeline import SampleRows

    expected = pipe.sample(20, steps=4, seed=3)
    made = SampleRows(run, steps=4, seed=3, device="cpu")
    for _ in range(2):
        made = pickle.loads(pickle.dumps(made))
        batches = [made({"id": np.arange(first, first + 5)}) for first in (15, 0, 5, 10)]
        found = {int(i): text for batch in batches for i, text in zip(batch["id"], batch["sequence"], strict=True)}
        assert [found[i] for i in range(20)] == expected
        assert sorted(batches[0]) == ["calls", "id", "sequence"]
    filled = SampleRows(run, template="NNTATANN", steps=4, device="cpu", column="row")({"row": [0, 1, 2]})
    assert list(filled["sequence"]) == pipe.infill("NNTATANN", 3, steps=4)
    with pytest.raises(DiscdiffError, match="no argument 'step'"):
        SampleRows(run, step=4)


def test_rows_of_a_run_with_labels(tmp_path: Path) -> None:
    from discdiff.data import LengthModel
    from discdiff.pipeline import SampleRows
    from tests.generation.conftest import trained

    dna = dd.domain("dna")
    Pipeline(trained(dna, num_labels=2), dna, LengthModel.of([5]), 5, ["no", "yes"]).save(tmp_path / "run")
    found = SampleRows(tmp_path / "run", steps=2, device="cpu")({"id": [3, 0]})
    assert list(found["label"]) == ["yes", "no"]
