"""Memory of a long training run: what is resident after a warm-up, and at the end.

    python -m benchmarks.growth                    # 2,000 steps of a tiny model, a minute
    python -m benchmarks.growth --steps 20000

Bounds, samples, checkpoints, logs and skipped steps are all taken in turn, so that whatever one of them might keep
would show. Prints one JSON line: MiB after a fifth of the steps and at the end, the largest in between, the growth.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor

import discdiff as dd
from benchmarks.arguments import positive
from benchmarks.real_data import hardware
from discdiff.data import SequenceDataset
from discdiff.randomness import Keys, Randomness
from discdiff.training import fit

EVERY = 20


class Faulty(dd.losses.Loss):
    """AnyOrder, but the first sequence has no loss every eighth epoch."""

    def __call__(self, model: Any, sequences: dd.Sequences, *, generator: Randomness) -> Tensor:
        values = dd.losses.AnyOrder()(model, sequences, generator=generator)
        assert isinstance(generator, Keys)
        assert sequences.ids is not None
        return values * float("nan") if generator.step % 8 == 3 and bool((sequences.ids == 0).any()) else values


class Resident(Callback):
    """MiB of this process that are in memory, every few steps."""

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step % EVERY == 0:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.seen[trainer.global_step] = pages * 4096 / 2**20


def measure(steps: int, folder: Path) -> dict[str, Any]:
    """Train so long."""
    letters = "ACGT"
    texts = ["".join(letters[(i * (k + 1) // 3) % 4] for k in range(8 + i % 9)) for i in range(200)]
    data = SequenceDataset.from_sequences(dd.domain("dna"), texts)
    process = dd.Absorbing(data.vocab_size)
    network = dd.Transformer(process.num_states, dim=16, depth=1, heads=2, dropout=0.1)
    model, resident = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional()), Resident()
    fit(
        model, data, valid=data, loss=Faulty(), max_steps=steps, batch_size=8, validate_every=100, validate_samples=2,
        validate_sequences=16, samples_every=100, samples=2, sampler_steps=4, log_every=10, profile_sequences=0,
        checkpoint_minutes=2 / 60, folder=folder, device="cpu", precision="float32", progress=False, loggers=("csv",),
        on_divergence="skip", max_skipped=steps, callbacks=[resident],
    )  # fmt: skip
    warm, end = resident.seen[steps // 5 // EVERY * EVERY], resident.seen[steps // EVERY * EVERY]
    largest = max(mib for step, mib in resident.seen.items() if step >= steps // 5)
    rounded = {"warm": round(warm, 1), "end": round(end, 1), "largest": round(largest, 1)}
    return {"steps": steps, **rounded, "growth": round(end / warm - 1, 5)}


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=positive, default=2000)
    arguments = parser.parse_args()
    if arguments.steps < 5 * EVERY:
        parser.error(f"--steps {arguments.steps}: expected {5 * EVERY} or more")
    if not Path("/proc/self/statm").exists():
        parser.error("needs /proc, as Linux has it")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        seen = measure(arguments.steps, Path(folder))
    print(json.dumps({"command": " ".join(["python -m benchmarks.growth", *sys.argv[1:]]), **seen, **hardware()}))


if __name__ == "__main__":
    main()
