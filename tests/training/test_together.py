"""Two processes train as one does: the same losses, gradients, averages, bounds, files and ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from discdiff.errors import ConfigError
from discdiff.launch import Launched, launched
from discdiff.training.topology import Topology
from tests.training.test_resume import At
from tests.training.test_safety import Poisoned
from tests.training.together import Case, together, train, train_all, values

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a forkserver")

EXACT: Case = {"max_steps": 40, "precision": "float64"}
SHORT: Case = {"max_steps": 50, "precision": "float32", "learning_rate": 1e-3}
EQUAL: dict[str, Case] = {
    "adamw": EXACT | {"optimizer": "adamw", "valid": 21, "validate_every": 30},
    "muon": EXACT,
    "mask fraction, end tokens": EXACT | {"loss": "MaskFractionCrossEntropy", "end_token": True},
    "micro-batches": EXACT | {"accumulate": 2, "workers": 1},
    "float32 adamw": SHORT | {"optimizer": "adamw"},
    "float32 muon": SHORT,
}
LONG: dict[str, Case] = {
    name: EQUAL[name] | {"max_steps": 200} for name in ("adamw", "muon", "mask fraction, end tokens")
}


def check_equal(case: Case, one: dict[str, Any], several: list[dict[str, Any]]) -> None:
    """One process's run and that of each of several."""
    tolerance, first = 1e-9 if case["precision"] == "float64" else 1e-5, several[0]
    assert len(one["losses"]) == case["max_steps"]
    assert one["losses"][-1] < 0.97 * one["losses"][0], "it learns"
    np.testing.assert_allclose(first["losses"], one["losses"], rtol=tolerance)
    np.testing.assert_allclose(first["norms"], one["norms"], rtol=100 * tolerance)
    for weight, expected in one["weights"].items():
        if tolerance == 1e-9:  # in float32 Muon makes a step of full size of a gradient that is all rounding
            np.testing.assert_allclose(first["weights"][weight], expected, rtol=tolerance, atol=10 * tolerance)
    for other in several[1:]:
        assert first["losses"] == other["losses"], "all processes see the sums"
        for weight, expected in first["weights"].items():
            np.testing.assert_array_equal(other["weights"][weight], expected)
        assert first["validation"] == other["validation"]
    assert (first["validation"] is None) == (one["validation"] is None)
    if one["validation"] is not None:
        assert first["validation"] == pytest.approx(one["validation"], rel=tolerance)


@pytest.fixture(scope="module")
def runs() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return train_all(EQUAL), values(together(2, train_all, EQUAL))


@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_are_one(runs: tuple[dict[str, Any], list[dict[str, Any]]], name: str) -> None:
    check_equal(EQUAL[name], runs[0][name], [run[name] for run in runs[1]])


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_for_two_hundred_steps(processes: int) -> None:
    one, several = train_all(LONG), values(together(processes, train_all, LONG))
    for name, case in LONG.items():
        check_equal(case, one[name], [run[name] for run in several])


# ---- files, and going on ---------------------------------------------------------------------------
def resumed(folder: Path, first: Case, then: Case) -> dict[str, Any]:
    """Five steps, then the rest from the checkpoint."""
    train({**first, "max_steps": 5, "folder": folder})
    return train({**then, "max_steps": 12, "folder": folder, "resume": True})


RESUMABLE: Case = {"precision": "float64", "schedule": "constant", "warmup_steps": 0, "dropout": 0.1}


def test_resumed_bit_by_bit(tmp_path: Path) -> None:
    """With dropout, whose draws are each process's own."""
    whole = values(together(2, train, RESUMABLE | {"max_steps": 12}))[0]
    again = values(together(2, resumed, tmp_path, RESUMABLE, RESUMABLE))[0]
    assert len(again["losses"]) == 7
    for name, weight in whole["weights"].items():
        np.testing.assert_array_equal(again["weights"][name], weight)


def test_resumed_by_another_number_of_processes(tmp_path: Path) -> None:
    options = RESUMABLE | {"dropout": 0.0}
    whole = train(options | {"max_steps": 12})
    train(options | {"max_steps": 5, "folder": tmp_path / "grown"})
    then = options | {"max_steps": 12, "resume": True}
    grown = values(together(2, train, then | {"folder": tmp_path / "grown"}))[0]
    values(together(2, train, options | {"max_steps": 5, "folder": tmp_path / "shrunk", "accumulate": 2}))
    shrunk = train(then | {"folder": tmp_path / "shrunk"})
    for run in (grown, shrunk):
        assert run["losses"] == pytest.approx(whole["losses"][5:], rel=1e-12)
        for name, weight in whole["weights"].items():
            np.testing.assert_allclose(run["weights"][name], weight, rtol=1e-10, atol=1e-12)


def test_one_process_writes(tmp_path: Path) -> None:
    case = {
        "max_steps": 6, "valid": 8, "validate_every": 3, "validate_samples": 2, "samples": 2, "sampler_steps": 2,
        "folder": tmp_path / "run", "loggers": ("csv", "tensorboard"), "log_every": 1, "profile_sequences": 0,
    }  # fmt: skip
    values(together(2, train, case))
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", *map(str, range(1, 7))]
    text = (tmp_path / "run" / "samples.txt").read_text()
    assert text.count("step 3\n") == text.count("step 6\n") == 1
    assert len(list((tmp_path / "run" / "tensorboard").glob("events*"))) == 1
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
    assert (tmp_path / "run" / "model.safetensors").is_file()


# ---- ends ------------------------------------------------------------------------------------------
def rank() -> int:
    return int(os.environ["RANK"])


def signalled(folder: Path, number: int, of_rank: int) -> dict[str, Any]:
    """One of the processes gets a signal in its sixth step."""
    send = At(5, "on_before_backward", lambda: os.kill(os.getpid(), number) if rank() == of_rank else None)
    return train({"max_steps": 40, "folder": folder, "callbacks": [send], "precision": "float64"})


@pytest.mark.parametrize(
    ("number", "of_rank", "error"),
    [
        (signal.SIGINT, 1, "KeyboardInterrupt: "),
        (signal.SIGTERM, 1, "SystemExit: 143"),
        (signal.SIGTERM, 0, "SystemExit: 143"),
    ],
)
def test_a_signal_to_one_stops_all_after_the_step(tmp_path: Path, number: int, of_rank: int, error: str) -> None:
    assert together(2, signalled, tmp_path, number, of_rank) == [(False, error)] * 2
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
    case: Case = {"max_steps": 40, "precision": "float64"}
    whole, again = train(case), train(case | {"folder": tmp_path, "resume": True})
    assert again["losses"] == pytest.approx(whole["losses"][6:], rel=1e-12)


def killed() -> dict[str, Any]:
    """The second process dies in its sixth step."""
    die = At(5, "on_before_backward", lambda: os.kill(os.getpid(), signal.SIGKILL) if rank() else None)
    return train({"max_steps": 40, "callbacks": [die]})


def test_no_process_waits_for_a_dead_one() -> None:
    start = time.monotonic()
    first, second = together(2, killed, seconds=60)
    assert second is None
    assert first is not None
    assert not first[0]
    assert time.monotonic() - start < 60


def poisoned(folder: Path) -> dict[str, Any]:
    from discdiff.training import fit
    from tests.training.conftest import make_model
    from tests.training.together import dataset

    fit(
        make_model(), dataset(), loss=Poisoned(17), max_steps=60, batch_size=16, samples=0, progress=False,
        device="cpu", loggers=(), folder=folder,
    )  # fmt: skip
    return {}


def test_all_stop_at_a_loss_that_is_no_number_in_one(tmp_path: Path) -> None:
    (_, first), (_, second) = together(2, poisoned, tmp_path)
    assert first == second
    assert "the loss is nan; sequences: record 18." in first
    assert first.startswith("TrainingError")
    assert (tmp_path / "failed_batch.safetensors").is_file()


def limited() -> dict[str, Any]:
    """The clocks differ: a second more has passed for one of them, which then would end earlier."""
    if rank():
        time.sleep(1.0)
    late = At(3, "on_train_batch_start", lambda: time.sleep(1.0) if rank() == 0 else None)
    return train({"max_steps": 10**6, "max_minutes": 2 / 60, "callbacks": [late], "precision": "float64"})


def test_limited_by_time_all_take_the_same_steps() -> None:
    first, second = values(together(2, limited))
    assert 3 < first["steps"] == second["steps"]
    assert first["losses"] == second["losses"], "the learning rate follows from the time"


# ---- who has started whom ---------------------------------------------------------------------------
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
SRUN = {
    "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "3", "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_JOB_NAME": "train",
}  # fmt: skip


def test_launchers_are_told_by_their_environment() -> None:
    assert launched({}) is None
    assert launched(TORCHRUN) == Launched("torchrun", 5, 4, 2)
    assert launched(SRUN) == Launched("srun", 3, 4, 2)
    assert launched(TORCHRUN | SRUN) == Launched("torchrun", 5, 4, 2), "srun may start torchrun on each node"
    assert launched({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}) is None, "a batch script without srun is one process"
    assert launched(SRUN | {"SLURM_JOB_NAME": "bash"}) is None
    with pytest.raises(ConfigError, match="--ntasks-per-node"):
        launched({name: value for name, value in SRUN.items() if name != "SLURM_NTASKS_PER_NODE"})


def test_what_was_asked_for_must_be_what_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Topology.choose(None, None, "auto").processes == 1
    assert Topology.choose(3, None, "ddp").processes == 3
    with pytest.raises(ConfigError, match="nodes: got 2, but 1 started; start it on each with torchrun or srun"):
        Topology.choose(2, 2, "auto")
    with pytest.raises(ConfigError, match="devices: got 0"):
        Topology.choose(0, None, "auto")
    with pytest.raises(ConfigError, match="strategy: got 'dpp', expected 'auto' or 'ddp' or 'fsdp'"):
        Topology.choose(1, None, "dpp")  # type: ignore[arg-type]
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert Topology.choose(None, None, "auto") == Topology.choose(4, 2, "ddp")
    with pytest.raises(ConfigError, match="devices: got 2, but 4 started by torchrun; leave it out"):
        Topology.choose(2, None, "auto")
