"""Whether batches are made faster than they are learned from: the loader alone, beside the training step.

    python -m benchmarks.loader                        # ZINC-like molecules in buckets of like length
    python -m benchmarks.loader --config G2            # on a GPU: 131,072 tokens a batch
    python -m benchmarks.loader --data ../shared/data/smiles/zinc250k.csv.xz

The loader goes through whole epochs, their shuffling included, and copies each batch to where it is learned from; the
step is that of `benchmarks.train`, on the same batches. They take turns. Prints one JSON line: real tokens a second of
both and their ratio turn by turn, median, least and greatest. A ratio of 5 means that a sixth of the time would go to
the loader if nothing of it ran beside the step, as on one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import discdiff as dd
from benchmarks.arguments import check_data, file, positive
from benchmarks.automata import spread
from benchmarks.real_data import hardware
from benchmarks.shapes import SHAPES, Shape
from benchmarks.train import OurStep, free_model, generator, molecules, now
from discdiff.data import SequenceDataset
from discdiff.data.batches import Batch, BatchLoader

ENOUGH = 5.0


def dataset(shape: Shape, data: Path | None, sequences: int) -> SequenceDataset:
    """The molecules of a file, random ones of such lengths, or random rows of one length."""
    if shape.mean_length is not None or data is not None:
        return molecules(shape, data)
    tokens = torch.randint(shape.vocab - 1, (sequences, shape.length), generator=generator(0))
    return SequenceDataset.from_tokens(dd.Sequences.full(tokens))


def arriving(loader: BatchLoader, device: str) -> Iterator[Batch]:
    """The loader's batches where they are learned from."""
    for batch in loader:
        yield replace(batch, sequences=batch.sequences.to(device))


def measure(arguments: argparse.Namespace, shape: Shape) -> dict[str, Any]:
    """The record."""
    data = dataset(shape, arguments.data, arguments.sequences)
    source = arriving(BatchLoader(data, shape.batch, steps=sys.maxsize), arguments.device)
    half = arguments.dtype == "bfloat16"
    vocab = max(shape.vocab - 1, data.vocab_size)
    step = OurStep(
        free_model(shape, arguments.device, vocab), dd.losses.AnyOrder(), half=half, compiled=arguments.compile
    )
    for batch in (next(source), next(source)):  # warm-up
        step((batch.sequences, batch.keys(0)))
    epoch = -(-len(data) // shape.batch)
    loaded, learned = [], []
    for _ in range(arguments.turns):
        tokens, start = 0, now(arguments.device)
        for _ in range(epoch):  # wherever it begins, the shuffling of one epoch falls into it
            batch = next(source)
            tokens += batch.tokens
        loaded.append(tokens / (now(arguments.device) - start))
        batches = [next(source) for _ in range(arguments.steps)]
        start = now(arguments.device)
        for batch in batches:
            step((batch.sequences, batch.keys(0)))
        learned.append(sum(batch.tokens for batch in batches) / (now(arguments.device) - start))
    ratios = [one / two for one, two in zip(loaded, learned, strict=True)]
    return {
        "benchmark": "loader",
        "config": shape.name,
        "command": " ".join(["python -m benchmarks.loader", *sys.argv[1:]]),
        "shape": vars(shape),
        "sequences": len(data),
        "batches_an_epoch": epoch,
        "dtype": arguments.dtype,
        "turns": arguments.turns,
        "steps_a_turn": arguments.steps,
        "loader_tokens_per_second": spread(loaded),
        "step_tokens_per_second": spread(learned),
        "ratio": spread(ratios),
        "enough": sorted(ratios)[len(ratios) // 2] >= ENOUGH,
        **hardware(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=list(SHAPES), default="S3")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], help="of the step's products; the shape's by default"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile the network")
    parser.add_argument("--turns", type=positive, default=5)
    parser.add_argument("--steps", type=positive, default=2, help="training steps in a turn")
    parser.add_argument(
        "--sequences", type=positive, default=20_000, help="rows of one length; molecules are 20,000 or the file's"
    )
    parser.add_argument("--data", type=file, help="SMILES for S3; random tokens of such lengths by default")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    check_data(parser, arguments)
    torch.set_num_threads(arguments.threads)
    shape = SHAPES[arguments.config]
    if arguments.data is not None:
        shape = replace(shape, vocab=dd.domain("smiles").vocab_size + 1)
    arguments.dtype = arguments.dtype or shape.dtype
    print(json.dumps(measure(arguments, shape)), flush=True)


if __name__ == "__main__":
    main()
