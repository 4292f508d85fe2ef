"""Training that is killed again and again: the run that comes out is the one that was never interrupted, bit by bit.

    python -m benchmarks.kills                               # 20 kills of a run on molecules that RDKit ships
    python -m benchmarks.kills --data zinc.csv --kills 100 --accumulate 2 --workers 2

A small model is trained once in peace. Then the same run is started in a process of its own and killed with SIGKILL at
random moments, some of them aimed: while a checkpoint or the run folder is written, while the bound or samples are
taken, at the end of an epoch. It is resumed until it ends, and begun anew until enough kills are done. After each kill
what is in the folder must be usable, or say how to go on; after each run weights, their average, the optimiser's state,
`metrics.csv` without its columns of time, and `samples.txt` must equal those of the peaceful run. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import discdiff as dd
from benchmarks.arguments import file, positive
from discdiff.data import SequenceDataset
from discdiff.errors import CheckpointError
from discdiff.training import fit
from discdiff.unfinished import CHECKPOINT

TIMES = ("seconds", "tokens_per_second")
STEPS, SEQUENCES, BATCH = 48, 300, 16  # two and a half epochs


def dataset(path: Path | None) -> SequenceDataset:
    """A few hundred real molecules."""
    domain = dd.domain("smiles")
    if path is not None:
        whole = SequenceDataset.read(domain, path)
        return SequenceDataset.from_sequences(domain, whole.decode(whole.batch(range(SEQUENCES))))
    from domains.smiles.shipped import shipped_smiles

    return SequenceDataset.from_sequences(domain, shipped_smiles(longest=30)[:SEQUENCES])


def train(data: SequenceDataset, folder: Path, *, resume: bool, options: dict[str, Any], callbacks: Any = ()) -> None:
    """The run: dropout, average, bounds, samples, and a checkpoint nearly each step."""
    process = dd.Absorbing(data.vocab_size)
    network = dd.Transformer(process.num_states, dim=16, depth=1, heads=2, dropout=0.1)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    fit(
        model, data, valid=data, max_steps=STEPS, batch_size=BATCH, validate_every=11, validate_sequences=8,
        validate_samples=2, samples_every=13, samples=2, sampler_steps=2, log_every=1 if STEPS < 20 else 5,
        profile_sequences=0, checkpoint_minutes=0.02 / 60, folder=folder, resume=resume, seed=3, device="cpu",
        precision="float32", progress=False, loggers=("csv",), callbacks=callbacks, **options,
    )  # fmt: skip


# ---- killing ---------------------------------------------------------------------------------------------------------
Where = tuple[str, int]  # a moment, and how many times it is passed before the process dies there


def die() -> None:
    """The end, without a word."""
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def deadly(where: Where) -> Iterator[None]:
    """Die at the n-th pass of a moment inside."""
    moments: dict[str, tuple[Any, str]] = {
        "write of a checkpoint": (os, "fsync"),
        "rename": (Path, "replace"),
        "write of a log": (os, "write"),
        "bound": (dd.likelihood, "nelbo"),
    }
    name, count = where
    owner, attribute = moments[name]
    before = getattr(owner, attribute)
    left = [count]

    def passed(*args: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            die()
        return before(*args, **named)

    setattr(owner, attribute, passed)
    try:
        yield
    finally:
        setattr(owner, attribute, before)


def child(work: Callable[[], None]) -> int:
    """Start a process that does the work; its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work()
    except BaseException as error:  # noqa: BLE001 - the end of this process
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def finish(work: Callable[[], None]) -> None:
    """Run in a process of its own, to the end."""
    if os.waitpid(child(work), 0)[1]:
        raise RuntimeError("a run that nobody killed failed")


def attempt(work: Callable[[], None], draw: random.Random, seconds: float) -> str | None:
    """Run until the end or a kill; says where it was killed, or None at the end.

    Raises:
        RuntimeError: it failed by itself.
    """
    aimed = draw.random() < 0.6
    where: Where | None = None
    if aimed:
        name = draw.choice(["write of a checkpoint", "rename", "write of a log", "bound"])
        where = name, draw.randrange({"bound": 4, "write of a log": 8}.get(name, 60))

    def doomed() -> None:
        if where is None:
            work()
        else:
            with deadly(where):
                work()

    pid = child(doomed)
    if where is None:
        time.sleep(draw.uniform(0.05, 1.0) * seconds)
        done, status = os.waitpid(pid, os.WNOHANG)
        if not done:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
    else:
        _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return "any moment" if where is None else where[0]
    if os.WEXITSTATUS(status):
        raise RuntimeError(f"a run failed, its last kill before that at {where}")
    return None


# ---- what must be equal ----------------------------------------------------------------------------------------------
def differences(one: Any, two: Any, place: str = "") -> Iterator[str]:
    """Where two nested states differ."""
    if isinstance(one, torch.Tensor):
        if not (isinstance(two, torch.Tensor) and one.dtype == two.dtype and torch.equal(one, two)):
            yield place
    elif isinstance(one, dict):
        if not isinstance(two, dict) or set(one) != set(two):
            yield f"{place}: keys"
        else:
            for key in one:
                yield from differences(one[key], two[key], f"{place}/{key}")
    elif isinstance(one, list | tuple):
        if len(one) != len(two):
            yield f"{place}: length"
        else:
            for i, (a, b) in enumerate(zip(one, two, strict=True)):
                yield from differences(a, b, f"{place}/{i}")
    elif one != two and not (one != one and two != two):
        yield f"{place}: {one!r} and {two!r}"


def state(folder: Path) -> dict[str, Any]:
    """All of a run that must not depend on interruptions."""
    saved = torch.load(folder / CHECKPOINT, weights_only=True)  # noqa: TID251
    for callback in saved["callbacks"].values():
        callback.pop("seconds", None)
    with (folder / "metrics.csv").open(newline="") as stream:
        rows = [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(stream)]
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "global_step", "loops", "averaging_state")
    return {
        **{key: saved[key] for key in kept if key in saved},
        "metrics": rows,
        "samples": (folder / "samples.txt").read_text(),
        "weights": dd.Pipeline.load(folder).model.state_dict(),
    }


def usable(folder: Path) -> bool:
    """Whether a model can be loaded; if not, the message must say how to go on."""
    try:
        dd.Pipeline.load(folder)
    except CheckpointError as error:
        if "--resume" not in str(error) and folder.exists():
            raise
        return False
    return True


def sweep(data: SequenceDataset, root: Path, *, kills: int, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """Kill `kills` times; what was seen."""
    peaceful, draw = root / "peaceful", random.Random(seed)
    train(data, peaceful, resume=False, options=options)  # here, so that what is forked has everything imported
    expected, start = state(peaceful), time.monotonic()
    finish(lambda: train(data, root / "timed", resume=False, options=options))
    seconds = time.monotonic() - start
    moments: Counter[str] = Counter()
    runs = unequal = unusable = 0
    faults: list[str] = []
    while sum(moments.values()) < kills:
        folder, dead = root / f"run-{runs}", 0
        while True:
            begun = folder.exists() and any(folder.iterdir())
            work = lambda: train(data, folder, resume=begun, options=options)  # noqa: E731, B023 - called at once
            killed = attempt(work, draw, seconds) if dead < 40 else finish(work)  # type: ignore[func-returns-value]
            if killed is None:
                break
            dead += 1
            moments[killed] += 1
            unusable += not usable(folder)
        runs += 1
        found = list(differences(expected, state(folder)))
        unequal += bool(found)
        faults += found[: 3 - len(faults)]
        shutil.rmtree(folder)
    return {
        "kills": sum(moments.values()),
        "runs": runs,
        "unequal": unequal,
        "differences": faults,
        "killed at": dict(sorted(moments.items())),
        "kills before a first model": unusable,
        "seconds": round(time.monotonic() - start),
    }


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=file, help="molecules; by default those that RDKit ships")
    parser.add_argument("--kills", type=positive, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--accumulate", type=positive, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    options = {"workers": arguments.workers, "accumulate": arguments.accumulate}
    import inspect

    options = {k: v for k, v in options.items() if k in inspect.signature(fit).parameters}
    with tempfile.TemporaryDirectory() as root:
        seen = sweep(dataset(arguments.data), Path(root), kills=arguments.kills, seed=arguments.seed, options=options)
    command = ["python", "-m", "benchmarks.kills", *sys.argv[1:]]
    print(json.dumps({"command": " ".join(command), "seed": arguments.seed, **options, **seen}), flush=True)


if __name__ == "__main__":
    main()
