"""Constrained samples beside rejection sampling, as particles grow: how far the two laws are apart.

    python -m benchmarks.agreement runs/ecoli_promoters --rule require=TATAAT --rule gc=30-45% --threads 1
    python -m benchmarks.agreement --draw benchmarks/results/agreement.jsonl docs/pictures/agreement.png

Free samples that satisfy the rules follow the sampler's own law given them: what constrained samples tend to as
particles grow (docs/constraints.md). Both sets are compared by their 3-mer counts and composition: the energy distance
between them (Székely and Rizzo 2013) beside that of 400 random splits of the two sets together, a permutation test.
Prints one JSON line for each number of particles.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import discdiff as dd
from benchmarks.real_data import hardware
from discdiff.metrics import encoded

SPLITS = 400


def features(pipe: dd.Pipeline, texts: Sequence[str]) -> np.ndarray:
    """Counts of runs of 1 to 3 tokens, and where each token stands on average: `[N, F]`."""
    size, rows = pipe.domain.vocab_size, encoded(pipe.domain, texts)[0]
    found = []
    for row in rows:
        counts = []
        for k in range(1, 4):
            codes = sum(row[i : len(row) - k + 1 + i] * size ** (k - 1 - i) for i in range(k))
            counts.append(np.bincount(codes, minlength=size**k))
        places = [np.mean(np.nonzero(row == token)[0]) / 10 if (row == token).any() else 0 for token in range(size)]
        found.append(np.concatenate([*counts, places]))
    return np.array(found, dtype=float)


def energy(distances: np.ndarray, mine: np.ndarray) -> float:
    """2 E|X − Y| − E|X − X'| − E|Y − Y'| from all distances, `mine` saying which rows are X."""
    x, y = np.nonzero(mine)[0], np.nonzero(~mine)[0]
    within = sum(distances[np.ix_(p, p)].sum() / (len(p) * (len(p) - 1)) for p in (x, y))
    return float(2 * distances[np.ix_(x, y)].mean() - within)


def compared(first: np.ndarray, second: np.ndarray, seed: int) -> dict[str, float]:
    """The energy distance, what random splits have, and the share of them that have as much."""
    both = np.concatenate([first, second])
    square = (both**2).sum(1)
    distances = np.sqrt(np.maximum(square[:, None] + square - 2 * both @ both.T, 0))
    mine = np.arange(len(both)) < len(first)
    draws, seen = np.random.default_rng(seed), energy(distances, mine)
    null = np.array([energy(distances, draws.permutation(mine)) for _ in range(SPLITS)])
    return {
        "energy_distance": seen,
        "null_mean": float(null.mean()),
        "null_95": float(np.quantile(null, 0.95)),
        "p": float((1 + (null >= seen).sum()) / (1 + SPLITS)),
    }


def draw(results: Path, picture: Path) -> None:
    """The distance against the number of particles, and what chance gives."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    figure, axis = plt.subplots(figsize=(6, 3.6), dpi=80, layout="constrained")
    x = [row["particles"] for row in rows]
    axis.plot(x, [row["energy_distance"] for row in rows], marker="o", label="constrained against rejection")
    axis.plot(x, [row["null_95"] for row in rows], color="k", lw=0.8, ls="--", label="95% of random splits stay below")
    axis.set(xscale="log", xlabel="particles", ylabel="energy distance", title=" and ".join(rows[0]["rules"]))
    axis.set_xticks(x, [str(k) for k in x])
    axis.legend()
    figure.savefig(picture)


def measure(arguments: argparse.Namespace) -> None:
    pipe = dd.Pipeline.load(arguments.run, device="cpu")
    rules: dict[str, list[str]] = {}
    for word in arguments.rule:
        name, _, value = word.partition("=")
        rules.setdefault(name, []).append(value)
    span = dd.rules.Span(pipe.max_length, pipe.max_length)
    languages = [pipe.domain.rules[name].read(value, span) for name, values in rules.items() for value in values]
    how: dict[str, Any] = {"sampler": dd.samplers.FirstHitting(), "length": pipe.max_length}
    accepted: list[str] = []
    started, free = time.time(), 0
    while len(accepted) < arguments.count and time.time() - started < 60 * arguments.minutes:
        found = pipe.sample(512, seed=10_000 + free, batch_size=256, **how)
        accepted += [t for t in found if all(language.accepts(pipe.domain.encode(t)) for language in languages)]
        free += len(found)
    accepted = accepted[: arguments.count]
    rejection = (time.time() - started) / len(accepted)
    target = features(pipe, accepted)
    for particles in arguments.particles:
        started = time.time()
        drawn = pipe.sample(len(accepted), rules=rules, particles=particles, seed=arguments.seed, batch_size=256, **how)
        row = {
            "command": "python -m benchmarks.agreement " + " ".join(sys.argv[1:]),
            "rules": arguments.rule,
            "particles": particles,
            "samples": len(drawn),
            "seconds_a_sample": (time.time() - started) / len(drawn),
            "seconds_a_sample_by_rejection": rejection,
            "free_samples": free,
            "share_accepted": len(accepted) / free,
            **compared(features(pipe, drawn), target, arguments.seed),
            "seed": arguments.seed,
            "hardware": hardware(),
        }
        print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--rule", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--count", type=int, default=1500, help="samples of each kind")
    parser.add_argument("--minutes", type=float, default=10, help="for rejection sampling, at most")
    parser.add_argument("--particles", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--draw", type=Path, nargs=2, metavar=("RESULTS", "PICTURE"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.draw:
        draw(*arguments.draw)
    elif arguments.run is None or not arguments.rule:
        parser.error("a run and --rule are needed")
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
