"""Two processes train as one does: the same losses, gradients, averages, bounds, files and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import discdiff as dd
from discdiff.errors import ConfigError, IncompatibleError
from discdiff.launch import Launched, launched
from discdiff.training.signals import requeue
from discdiff.training.topology import Topology
from tests.cli.conftest import SMALL, write_fasta
from tests.training.test_resume import At
from tests.training.test_safety import Poisoned
from tests.training.together import Case, free_port, srun, together, train, train_all, values

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


# ---- parts of weights -------------------------------------------------------------------------------
SHARDED: Case = {"strategy": "fsdp", "optimizer": "adamw", "precision": "float64", "schedule": "constant"}


def sharded(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A whole run, one that goes on, and one of whole weights that goes on as one of parts."""
    case = SHARDED | {"max_steps": 12, "valid": 9, "validate_every": 6, "samples": 2, "sampler_steps": 2}
    run = train(case | {"folder": folder / "whole", "profile_sequences": 0})
    again = resumed(folder / "parts", SHARDED, SHARDED)
    return run, again, resumed(folder / "mixed", SHARDED | {"strategy": "ddp"}, SHARDED | {"accumulate": 2})


def test_parts_of_weights(tmp_path: Path) -> None:
    one = train(SHARDED | {"strategy": "ddp", "max_steps": 12, "valid": 9, "validate_every": 6})
    for run, again, mixed in values(together(2, sharded, tmp_path)):
        check_equal(SHARDED | {"max_steps": 12}, one, [run])
        for other in (again, mixed):
            assert other["losses"] == pytest.approx(one["losses"][5:], rel=1e-9)
            for name, weight in one["weights"].items():
                np.testing.assert_allclose(other["weights"][name], weight, rtol=1e-9, atol=1e-11)
    saved = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("whole", "parts")
    ]
    live, average = (saved[0][name]["model.network.output.weight"] for name in ("current_model_state", "state_dict"))
    assert not torch.equal(live, average)
    torch.testing.assert_close(saved[1]["state_dict"]["model.network.output.weight"], average)
    # and one process goes on with what they have left
    alone = SHARDED | {"strategy": "ddp", "max_steps": 14}
    more = train(alone | {"resume": True, "folder": tmp_path / "parts"})["losses"]
    assert more == pytest.approx(train(alone)["losses"][12:], rel=1e-9)


def test_what_needs_whole_weights_is_refused() -> None:
    for wrong, message in ({"optimizer": "muon"}, "optimizer='adamw'"), ({"compile": True}, "compile=False"):
        with pytest.raises(IncompatibleError, match=message):
            train(SHARDED | {"max_steps": 1} | wrong)


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
    found = launched()
    assert found is not None
    return found.rank


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
    return train({"max_steps": 10**6, "max_minutes": 3 / 60, "callbacks": [late], "precision": "float64"})


def test_limited_by_time_all_take_the_same_steps() -> None:
    first, second = values(together(2, limited))
    assert first["steps"] == second["steps"]
    assert first["losses"] == second["losses"], "the learning rate follows from the time"


def commanded(words: list[str]) -> tuple[int, str]:
    """The command line, as one of several processes; its exit code and standard output."""
    import contextlib
    import io

    from discdiff.cli import main

    with contextlib.redirect_stdout(io.StringIO()) as out:
        return main(words), out.getvalue()


def test_the_command_line(tmp_path: Path) -> None:
    fasta, run = write_fasta(tmp_path / "promoters.fasta", 40), str(tmp_path / "run")
    words = ["train", str(fasta), "--domain", "dna", "--output", run, *SMALL, "--training.accumulate=2"]
    assert values(together(2, commanded, words)) == [(0, f"{run}\n"), (0, "")]
    more = ["train", "--output", run, "--resume", "--training.max_steps", "5"]
    assert values(together(2, commanded, more)) == [(0, f"{run}\n"), (0, "")]
    assert len(dd.Pipeline.load(run, device="cpu").sample(2, steps=2, length=8)) == 2
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5


def test_a_slurm_job_is_saved_and_requeued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGUSR1, which SLURM sends before the time is up, reaches the second process first."""
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/asked\n")
    (tmp_path / "scontrol").chmod(0o755)
    run = tmp_path / "run"
    slurm = {"SLURM_JOB_ID": "4711", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ended = together(2, signalled, run, signal.SIGUSR1, 1, launcher=srun, environment=slurm)
    assert ended == [(False, "SystemExit: 143")] * 2
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
    case: Case = {"max_steps": 40, "precision": "float64", "folder": run, "resume": True}
    again = values(together(2, train, case, launcher=srun, environment=slurm))[0]
    assert len(again["losses"]) == 34


def test_one_process_of_slurm_is_requeued_from_within_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from discdiff.training import evaluation

    bound: Any = vars(evaluation)["nelbo"]

    def late(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGUSR1)
        return bound(*arguments, **options)

    before = signal.getsignal(signal.SIGUSR1)
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_JOB_ID", "4711")
        patch.setattr(evaluation, "nelbo", late)
        with pytest.raises(SystemExit) as caught:
            train({"max_steps": 9, "valid": 8, "validate_every": 4, "folder": tmp_path})
    assert caught.value.code == 143
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
    assert signal.getsignal(signal.SIGUSR1) is before


def test_requeueing_says_what_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert requeue() == "SLURM job 7 was not requeued: no scontrol on this node's PATH."
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho not allowed >&2; exit 1\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert requeue() == "SLURM job 5_2 was not requeued: not allowed"


@pytest.mark.slow
@pytest.mark.parametrize("started", ["torchrun", "devices"])
def test_started_for_real(tmp_path: Path, started: str) -> None:
    fasta, run = write_fasta(tmp_path / "promoters.fasta", 40), str(tmp_path / "run")
    words = ["-m", "discdiff", "train", str(fasta), "--domain", "dna", "--output", run, *SMALL]
    starter = ["-m", "torch.distributed.run", "--nproc-per-node", "2"] if started == "torchrun" else []
    words = [sys.executable, *starter, *words, *([] if starter else ["--training.devices=2"])]
    ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=200)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"{run}\n"
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert ran.stderr.count("3 steps in") == 1


SRUN_SCRIPT = """#!/bin/bash
# two tasks on one machine; the second is told that the time is up as soon as there is a first checkpoint
shift
export SLURM_STEP_NUM_TASKS=2 SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=2 SLURM_STEP_NUM_NODES=1 SLURM_NODEID=0
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" & one=$!
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" & two=$!
if [ "$SLURM_RESTART_COUNT" = 0 ]; then
    until [ -f "$RUN/checkpoints/last.ckpt" ]; do sleep 0.1; done
    kill -USR1 $two
fi
wait $one; first=$?
wait $two && exit $first
"""


@pytest.mark.slow
def test_the_slurm_script(tmp_path: Path) -> None:
    """The documented one, by a pretended `srun`: stopped, requeued, started again, done."""
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
    script = next(part.split("```")[0] for part in page.split("```bash\n") if part.startswith("#!/bin/bash"))
    (tmp_path / "job.sh").write_text(script)
    discdiff = f'#!/bin/sh\nexec {sys.executable} -m discdiff "$@"\n'
    asked = f"#!/bin/sh\necho $@ >> {tmp_path}/asked\n"
    for name, text in {"srun": SRUN_SCRIPT, "discdiff": discdiff, "scontrol": asked}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    write_fasta(tmp_path / "promoters.fasta", 40)
    config, run = tmp_path / "my.yaml", tmp_path / "run"
    config.write_text(
        f"domain: dna\ndata: {{train: {tmp_path}/promoters.fasta}}\n"
        "network: {class_path: Transformer, init_args: {dim: 16, depth: 1, heads: 2}}\n"
        "training: {max_steps: 3000, batch_size: 8, samples: 0, device: cpu, loggers: [csv], validate_every: 100, "
        "profile_sequences: 0}\n"
    )
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711", "CONFIG": str(config), "RUN": str(run),
        "SLURM_JOB_NAME": "discdiff", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    steps = []
    for restart in (0, 1):
        words = ["bash", str(tmp_path / "job.sh")]
        ran = subprocess.run(
            words, env=environment | {"SLURM_RESTART_COUNT": str(restart)}, capture_output=True, text=True,
            check=False, timeout=250,
        )  # fmt: skip
        assert ran.returncode == (0 if restart else 143), ran.stderr
        saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        steps.append(saved["global_step"])
    assert 100 <= steps[0] < steps[1] == 3000
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"


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


def test_what_was_asked_for_must_be_what_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Topology.choose(None, None, "auto").processes == 1
    assert Topology.choose(3, None, "ddp").processes == 3
    with pytest.raises(ConfigError, match="nodes: got 2, but 1 started; start it on each with torchrun or srun"):
        Topology.choose(2, 2, "auto")
    with pytest.raises(ConfigError, match="devices: got 0"):
        Topology.choose(0, None, "auto")
    with pytest.raises(ConfigError, match="strategy: got 'dpp', expected 'auto' or 'ddp' or 'fsdp'"):
        Topology.choose(1, None, "dpp")  # type: ignore[arg-type]
    with monkeypatch.context() as slurm:
        for name in SRUN.keys() - {"SLURM_NTASKS_PER_NODE"}:
            slurm.setenv(name, SRUN[name])
        with pytest.raises(ConfigError, match="srun: give --ntasks-per-node"):
            Topology.choose(None, None, "auto")
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert Topology.choose(None, None, "auto") == Topology.choose(4, 2, "ddp")
    with pytest.raises(ConfigError, match="devices: got 2, but 4 started by torchrun; leave it out"):
        Topology.choose(2, None, "auto")
