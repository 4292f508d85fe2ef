"""How far apart losses, step by step, and the final averaged weights are for other ways to run the same training.

    python -m benchmarks.topology                      # 1, 2 and 4 processes, micro-batches, threads, DDP and FSDP
    python -m benchmarks.topology --data ../shared/data/smiles/qm9.csv.xz --domain smiles --steps 200
    python -m benchmarks.topology --loading            # threads beside processes that make batches

Processes are started by `torchrun` and talk over gloo on CPUs; the first case has one process. The
data are strings of unequal lengths, or the first 2,000 of a file. Prints a JSON line a case: the largest relative
difference of the loss at a step, at which step, and after 50 steps; of the gradient's norm; of the averaged weights
over the largest weight.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback

import discdiff as dd
from benchmarks.arguments import file, positive
from benchmarks.real_data import hardware
from discdiff.data import BatchLoader, SequenceDataset
from discdiff.launch import is_first
from discdiff.training.monitor import Monitor

SAME: dict[str, dict[str, Any]] = {
    "1 process": {},
    "2 processes": {"processes": 2},
    "4 processes": {"processes": 4},
    "2 micro-batches": {"accumulate": 2},
    "4 micro-batches": {"accumulate": 4},
    "2 workers": {"workers": 2},
    "2 processes, 2 micro-batches, 1 worker": {"processes": 2, "accumulate": 2, "workers": 1},
}
CASES = [
    {"optimizer": optimizer, "precision": precision, **case, "name": name}
    for precision in ("float64", "float32")
    for optimizer in ("adamw", "muon")
    for name, case in SAME.items()
] + [
    {"optimizer": "adamw", "precision": "float64", "processes": 2, "strategy": "fsdp", "name": "2 processes, FSDP2"},
    {"optimizer": "adamw", "precision": "float32", "processes": 2, "strategy": "fsdp", "name": "2 processes, FSDP2"},
]


def dataset(data: Path | None, domain: str) -> SequenceDataset:
    """Molecules made here, or the first 2,000 sequences of a file."""
    if data is None:
        made = ["C" * (1 + i % 7) + "O" * (i // 7 % 5) + "N" * (i % 3) for i in range(1003)]
        return SequenceDataset.from_sequences(dd.domain("smiles"), made)
    whole = SequenceDataset.read(dd.domain(domain), data)
    return whole.subset(np.arange(min(2000, len(whole))))


class Curve(Callback):
    """What each step had."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        monitor = next(callback for callback in trainer.callbacks if isinstance(callback, Monitor))
        if trainer.global_step > len(self.losses):
            self.losses.append(float(monitor.meter._recent[-1][0]))
            self.norms.append(float(monitor._norm))  # type: ignore[arg-type]


def run(case: dict[str, Any], arguments: argparse.Namespace, data: SequenceDataset) -> dict[str, Any]:
    """One process's part of one case."""
    process, curve = dd.Absorbing(data.vocab_size), Curve()
    network = dd.Transformer(process.num_states, dim=32, depth=2, heads=2)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    start = time.monotonic()
    dd.fit(
        model, data, max_steps=arguments.steps, batch_size=16, samples=0, progress=False, loggers=(),
        device=arguments.device,
        learning_rate=1e-3, callbacks=[curve], seed=arguments.seed, optimizer=case["optimizer"],
        precision=case["precision"], accumulate=case.get("accumulate", 1), workers=case.get("workers"),
        strategy=case.get("strategy", "auto"),
    )  # fmt: skip
    weights = np.concatenate([weight.detach().double().cpu().numpy().ravel() for weight in model.parameters()])
    return {"losses": curve.losses, "norms": curve.norms, "weights": weights, "seconds": time.monotonic() - start}


def run_all(processes: int, arguments: argparse.Namespace) -> None:
    """The cases of so many processes, in one of them; the first keeps what happened."""
    torch.set_num_threads(1)
    data = dataset(arguments.data, arguments.domain)
    for number, case in enumerate(CASES):
        if case.get("processes", 1) == processes:
            found = run(case, arguments, data)
            if is_first():
                np.savez(arguments.answers / f"{number}.npz", **found)


def started(processes: int, arguments: argparse.Namespace, folder: str) -> None:
    """The cases of so many processes, by `torchrun`."""
    starter = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words = ["-m", "benchmarks.topology", *sys.argv[1:], "--processes", str(processes), "--answers", folder]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *starter, *words], check=True, env=environment)


def compare(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """How far two runs are apart."""
    apart = np.abs(other["losses"] / one["losses"] - 1)
    return {
        "loss_first": one["losses"][0],
        "loss_last": one["losses"][-1],
        "loss_apart": apart.max(),
        "at_step": int(apart.argmax()) + 1,
        "loss_apart_in_50_steps": apart[:50].max(),
        "norm_apart": np.abs(other["norms"] / one["norms"] - 1).max(),
        "weights_apart": np.abs(other["weights"] - one["weights"]).max() / np.abs(one["weights"]).max(),
        "seconds": round(float(other["seconds"]), 1),
    }


class ByStep(torch.utils.data.Dataset[Any]):
    """What torch's own workers take: the batch of a step, by its number."""

    def __init__(self, loader: BatchLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __getitem__(self, step: int) -> Any:
        return self.loader.batch(step)


def loading(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Batches a second, alone and beside a step that keeps a processor busy, by threads and by processes."""
    tokens = torch.randint(255, (20_000, 512), generator=torch.Generator().manual_seed(0))
    data, records = SequenceDataset.from_tokens(dd.Sequences.full(tokens)), []
    weight = torch.randn(512, 512)
    for busy in (False, True):
        for kind, workers in (("caller", 0), ("threads", 1), ("threads", 2), ("processes", 1), ("processes", 2)):
            rates = []
            for _ in range(arguments.turns):
                source: Any = BatchLoader(data, 64, steps=400, workers=workers if kind == "threads" else 0)
                if kind == "processes":
                    source = torch.utils.data.DataLoader(ByStep(source), batch_size=None, num_workers=workers)
                start, count = time.monotonic(), 0
                for _ in source:
                    count += 1
                    if busy:
                        weight @ weight
                rates.append(count / (time.monotonic() - start))
            record = {"workers": workers, "by": kind, "beside_products": busy, "batches_per_second": sorted(rates)}
            records.append({"benchmark": "topology-loading", **record})
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=positive, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=file, help="sequences; made here by default")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--domain", default="smiles", help="of the file")
    parser.add_argument("--loading", action="store_true", help="measure how batches are made ahead")
    parser.add_argument("--turns", type=positive, default=3, help="of --loading")
    parser.add_argument("--processes", type=positive, help=argparse.SUPPRESS)
    parser.add_argument("--answers", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    about = {"command": " ".join(["python -m benchmarks.topology", *sys.argv[1:]]), "seed": arguments.seed}
    if arguments.processes is not None:
        run_all(arguments.processes, arguments)
        return
    if arguments.loading:
        torch.set_num_threads(1)
        for record in loading(arguments):
            print(json.dumps(record | about | hardware()), flush=True)
        return
    first: dict[tuple[str, str], dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for processes in sorted({case.get("processes", 1) for case in CASES}):
            started(processes, arguments, folder)
            for number, case in enumerate(CASES):
                if case.get("processes", 1) == processes:
                    with np.load(Path(folder) / f"{number}.npz") as kept:
                        found = dict(kept)
                    one = first.setdefault((case["optimizer"], case["precision"]), found)
                    record = {"benchmark": "topology", **case, **compare(one, found), **about, **hardware()}
                    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
