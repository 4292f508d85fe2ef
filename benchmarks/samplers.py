"""Quality against network calls: every sampler on one trained run, at several numbers of calls.

    python -m benchmarks.samplers runs/zinc250k --reference ../shared/data/smiles/zinc250k.csv.xz --count 500
    python -m benchmarks.samplers runs/text8 --reference TEXT --length 128 --count 64 --threads 1

Prints one JSON line a setting: bits per unit under an n-gram of held-out data (a judge that no sampler has seen), total
variation of bigrams, entropy of the symbols, validity where the domain knows it, network calls a sequence, seconds. No
one of them says enough: a sampler that repeats itself pleases the judge.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import discdiff as dd
from benchmarks.ngram import WittenBell
from benchmarks.real_data import hardware
from discdiff import samplers
from discdiff.samplers import Sampler

Setting = tuple[str, Sampler, int | None]
"""Name, sampler, steps where they are chosen."""


def settings(calls: list[int]) -> Iterator[Setting]:
    """Every sampler at every number of calls that it can be held to."""
    yield "FirstHitting", samplers.FirstHitting(), None
    yield "Ordered(left_to_right)", samplers.Ordered("left_to_right"), None
    yield "Bisection", samplers.Bisection(), None
    for gamma in (0.1, 0.5, 2.0):
        yield f"EntropyBounded({gamma})", samplers.EntropyBounded(gamma), None
    for sweeps in (1.0, 4.0):
        yield f"FirstHitting+Gibbs({sweeps:g})", samplers.PredictorCorrector(final_sweeps=sweeps), None
    for count in calls:
        yield "Ancestral", samplers.Ancestral(), count
        yield "TauLeaping", samplers.TauLeaping(), count
        yield "Trapezoidal", samplers.Trapezoidal(), count
        yield "Remasking(rescale)", samplers.Remasking("rescale"), count
        yield "AnyOrder", samplers.AnyOrder(), count
        yield "AnyOrder(cosine)", samplers.AnyOrder("cosine"), count
        yield "Confidence", samplers.Confidence(), count
        yield "Confidence(sampled)", samplers.Confidence("sampled"), count


def unigram_entropy(rows: list[str]) -> float:
    """Mean over sequences of the entropy of each one's own symbols, in nats."""
    total = 0.0
    for row in rows:
        counts = Counter(row)
        total -= sum(n / len(row) * math.log(n / len(row)) for n in counts.values())
    return total / len(rows)


def draw(
    pipe: dd.Pipeline, sampler: Sampler, steps: int | None, lengths: Tensor, arguments: argparse.Namespace
) -> tuple[list[str], float]:
    """Strings, and network calls a sequence; the same randomness for every sampler."""
    texts, calls = [""] * len(lengths), 0
    for rows in lengths.argsort(descending=True, stable=True).split(arguments.batch_size):
        found = dd.sample(
            pipe.model,
            len(rows),
            lengths=lengths[rows],
            sampler=sampler,
            steps=steps,
            generator=dd.Keys(arguments.seed, rows),
        )
        assert found.calls is not None
        calls += int(found.calls.sum())
        for row, tokens in zip(rows.tolist(), pipe.lengths.cut(found).lists(), strict=True):
            texts[row] = pipe.domain.decode(tokens)
    return texts, calls / len(lengths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--reference", type=Path, required=True, help="held-out sequences; of tables, the split `test`")
    parser.add_argument("--calls", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--only", nargs="+", help="names of samplers")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--length", type=int, help="tokens a sample; default: as in the training set")
    parser.add_argument("--order", type=int, default=6, help="of the judge")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    pipe = dd.Pipeline.load(arguments.run)
    where = {"where": {"split": "test"}} if ".csv" in arguments.reference.suffixes else {}
    reference = [record.sequence for record in pipe.domain.read(arguments.reference, **where)]
    judge = WittenBell(arguments.order).fit(reference)
    own = WittenBell(arguments.order).fit(reference[::2]).bits(reference[1::2]) if len(reference) > 1 else None
    lengths = pipe.lengths.sample(arguments.count, dd.Keys(arguments.seed, torch.arange(arguments.count)))
    if arguments.length:
        lengths = torch.full_like(lengths, arguments.length)
    for name, sampler, steps in settings(arguments.calls):
        if arguments.only and name not in arguments.only:
            continue
        started = time.time()
        drawn, spent = draw(pipe, sampler, steps, lengths, arguments)
        seconds = time.time() - started
        metrics = pipe.domain.metrics(drawn, reference=reference[:10_000])
        bits, symbols = judge.bits(drawn)
        result = {
            "command": "python -m benchmarks.samplers " + " ".join(sys.argv[1:]),
            "sampler": name,
            "steps": steps,
            "count": len(drawn),
            "seed": arguments.seed,
            "calls": spent,
            "seconds": round(seconds, 2),
            "judge_bits_per_unit": bits / symbols,
            "judge_on_held_out": None if own is None else own[0] / own[1],
            "unigram_entropy": unigram_entropy(drawn),
            "unigram_entropy_of_reference": unigram_entropy(reference[:2000]),
            "bigram_total_variation": metrics["composition"]["bigram"],
            "valid": metrics["valid"]["ratio"],
            "unique": metrics["unique"]["ratio"],
            "hardware": hardware(),
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
