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
import functools
import itertools
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import discdiff as dd
from benchmarks.arguments import file, positive
from benchmarks.real_data import hardware
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


def train(data: SequenceDataset, folder: Path, *, resume: bool, seconds: float = 0.02, **options: Any) -> None:
    """The run: dropout, average, bounds, samples, and a checkpoint every so many seconds."""
    process = dd.Absorbing(data.vocab_size)
    network = dd.Transformer(process.num_states, dim=16, depth=1, heads=2, dropout=0.1)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    fit(
        model, data, valid=data, max_steps=STEPS, batch_size=BATCH, validate_every=11, validate_sequences=8,
        validate_samples=2, samples_every=13, samples=2, sampler_steps=2, log_every=5, profile_sequences=0,
        checkpoint_minutes=seconds / 60, folder=folder, resume=resume, seed=3, device="cpu", precision="float32",
        progress=False, loggers=("csv",), **options,
    )  # fmt: skip


# ---- killing ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Moment:
    """A function that is called in training, at whose n-th call the process dies.

    Attributes:
        owner, name: whose function.
        calls: n is drawn below this.
    """

    owner: Any
    name: str
    calls: int


def moments() -> dict[str, Moment]:
    """Moments worth aiming at."""
    from lightning.pytorch import Trainer

    from discdiff.training import evaluation, storage
    from discdiff.training.optimizers import Together

    return {
        "optimiser's step": Moment(Together, "step", STEPS),
        "start of a checkpoint": Moment(Trainer, "save_checkpoint", 20),
        "within a checkpoint or run folder": Moment(os, "fsync", 80),
        "rename": Moment(Path, "replace", 80),
        "between checkpoint and run folder": Moment(storage, "save_run", 20),
        "line of the log": Moment(os, "write", 8),
        "bound": Moment(evaluation, "nelbo", 4),
        "samples": Moment(evaluation, "sample", 3),
    }


@contextmanager
def deadly(moment: Moment, calls: int) -> Iterator[None]:
    """Inside, die when the function has been called so often."""
    before, left = getattr(moment.owner, moment.name), [calls]

    def passed(*args: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return before(*args, **named)

    setattr(moment.owner, moment.name, passed)
    try:
        yield
    finally:
        setattr(moment.owner, moment.name, before)


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
    name = draw.choice(["any moment", *moments()])
    if name == "any moment":
        pid = child(work)
        time.sleep(draw.uniform(0.02, 1.0) * seconds)
        done, status = os.waitpid(pid, os.WNOHANG)
        if not done:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
    else:
        moment = moments()[name]
        calls = int(moment.calls ** draw.random()) - 1  # early ones more often: a resumed run makes few

        def doomed() -> None:
            with deadly(moment, calls):
                work()

        _, status = os.waitpid(child(doomed), 0)
    if os.WIFSIGNALED(status):
        return name
    if os.WEXITSTATUS(status):
        raise RuntimeError("a run failed that nobody had killed")
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


def sweep(data: SequenceDataset, root: Path, *, kills: int, seed: int, **options: Any) -> dict[str, Any]:
    """Kill `kills` times; what was seen."""
    peaceful, draw = root / "peaceful", random.Random(seed)
    train(data, peaceful, resume=False, **options)  # here, so that what is forked has everything imported
    expected, start = state(peaceful), time.monotonic()
    finish(lambda: train(data, root / "timed", resume=False, **options))
    seconds = time.monotonic() - start
    killed_at: Counter[str] = Counter()
    runs = unequal = unusable = 0
    faults: list[str] = []
    while sum(killed_at.values()) < kills:
        folder, every = root / f"run-{runs}", draw.choice([0.0, 0.02, 0.2, 60.0])
        for dead in itertools.count():
            begun = folder.exists() and any(folder.iterdir())
            work = functools.partial(train, data, folder, resume=begun, seconds=every, **options)
            killed = None
            if dead < 20:
                killed = attempt(work, draw, seconds)
            else:  # a run that is killed early each time would never end
                finish(work)
            if killed is None:
                break
            killed_at[killed] += 1
            unusable += not usable(folder)
        runs += 1
        found = list(differences(expected, state(folder)))
        unequal += bool(found)
        faults += found[: 3 - len(faults)]
        shutil.rmtree(folder)
    return {
        "kills": sum(killed_at.values()),
        "runs": runs,
        "unequal": unequal,
        "differences": faults,
        "killed at": dict(sorted(killed_at.items())),
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
    with tempfile.TemporaryDirectory() as root:
        seen = sweep(dataset(arguments.data), Path(root), kills=arguments.kills, seed=arguments.seed, **options)
    about = {"command": " ".join(["python -m benchmarks.kills", *sys.argv[1:]]), "seed": arguments.seed}
    print(json.dumps(about | options | seen | hardware()), flush=True)


if __name__ == "__main__":
    main()
