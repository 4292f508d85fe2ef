"""Constrained samples beside rejection sampling, as particles grow: how far the two laws are apart.

    python -m benchmarks.agreement runs/ecoli_promoters --rule require=TATAAT --threads 1
    python -m benchmarks.agreement --draw benchmarks/results/agreement.jsonl docs/pictures/agreement.png

Free samples that satisfy the rules follow the sampler's own law given them: what constrained samples tend to as
particles grow (docs/constraints.md). Both sets are compared by their 3-mer counts and by what stands where: the energy
distance between them (Székely and Rizzo 2013) and the shift of the features' means, beside those of 1,000 random splits
of the two sets together, a permutation test. Prints one JSON line for each number of particles.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import discdiff as dd
from benchmarks.real_data import hardware
from discdiff.languages import Language
from discdiff.metrics import encoded
from discdiff.randomness import Keys

SPLITS = 1000


def features(pipe: dd.Pipeline, texts: Sequence[str]) -> np.ndarray:
    """Counts of runs of 1 to 3 tokens, and which tokens and pairs stand where: float32 `[N, F]`."""
    size, rows = pipe.domain.vocab_size, encoded(pipe.domain, texts)[0]
    found = []
    for row in rows:
        parts = []
        for k in range(1, 4):
            codes = sum(row[i : len(row) - k + 1 + i] * size ** (k - 1 - i) for i in range(k))
            parts.append(np.bincount(codes, minlength=size**k))
            if k < 3:
                parts.append(np.eye(size**k)[codes].reshape(-1))
        found.append(np.concatenate(parts))
    return np.array(found, dtype=np.float32)


def compared(first: np.ndarray, second: np.ndarray, seed: int) -> dict[str, float]:
    """Two statistics of two samples, what random splits of both together have, and the share that have as much.

    `energy`: 2 E|X − Y| − E|X − X'| − E|Y − Y'|, without bias. `shift`: the mean over features of the squared
    difference of the two means in standard errors, 1 where the laws are one.
    """
    both = np.concatenate([first, second])
    both = (both - both.mean(0)) / np.maximum(both.std(0), 1e-6)
    both = both[:, np.ptp(both, axis=0) > 0]
    square = (both**2).sum(1)
    distances = np.sqrt(np.maximum(square[:, None] + square - 2 * both @ both.T, 0))
    np.fill_diagonal(distances, 0)
    n, m = len(first), len(second)
    draws = np.random.default_rng(seed)
    mine = np.zeros((n + m, 1 + SPLITS), dtype=np.float32)
    mine[:n, 0] = 1
    for k in range(SPLITS):
        mine[draws.permutation(n + m)[:n], 1 + k] = 1
    rows = distances.sum(1, dtype=np.float64)
    inside = (mine * (distances @ mine)).sum(0, dtype=np.float64)
    across = rows @ mine - inside
    outside = rows.sum() - inside - 2 * across
    energy = 2 * across / (n * m) - inside / (n * (n - 1)) - outside / (m * (m - 1))
    means = both.T @ mine / n  # all features have mean 0 and variance 1: the others' mean follows
    shift = (means**2).mean(0) * (1 + n / m) ** 2 / (1 / n + 1 / m)
    result: dict[str, float] = {}
    for name, values in (("energy", energy), ("shift", shift)):
        seen, null = values[0], values[1:]
        result |= {
            name: float(seen),
            f"{name}_null_95": float(np.quantile(null, 0.95)),
            f"{name}_p": float((1 + (null >= seen).sum()) / (1 + SPLITS)),
        }
    return result


def draw(results: Path, picture: Path) -> None:
    """Both statistics against the number of particles, and what chance gives."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), dpi=80, layout="constrained")
    x = [row["particles"] for row in rows]
    labels = {"energy": "energy distance", "shift": "shift of means, 1 expected"}
    for axis, (name, label) in zip(axes, labels.items(), strict=True):
        axis.plot(x, [row[name] for row in rows], marker="o", label="constrained against rejection")
        null = [row[f"{name}_null_95"] for row in rows]
        axis.plot(x, null, color="k", lw=0.8, ls="--", label="95% of random splits stay below")
        axis.set(xscale="log", xlabel="particles", ylabel=label)
        axis.set_xticks(x, [str(k) for k in x])
        axis.minorticks_off()
    axes[0].legend()
    figure.suptitle(" and ".join(rows[0]["rules"]))
    figure.savefig(picture)


def constrained(
    pipe: dd.Pipeline, languages: Sequence[Language], count: int, particles: int, seed: int
) -> tuple[list[str], float]:
    """Samples, and the median of their populations' smallest effective sizes."""
    found: list[str] = []
    sizes: list[float] = []
    each = max(1024 // particles, 1)
    for start in range(0, count, each):
        rows = torch.arange(start, min(start + each, count))
        drawn = dd.sample(
            pipe.model,
            len(rows),
            length=pipe.max_length,
            sampler=dd.samplers.FirstHitting(),
            constraint=dd.constraints.Automaton({str(k): language for k, language in enumerate(languages)}),
            particles=particles,
            generator=Keys(seed, rows),
        )
        found += [pipe.domain.decode(row) for row in drawn.lists()]
        sizes += [1.0] * len(rows) if drawn.effective is None else drawn.effective.tolist()
    return found, float(np.median(sizes))


def measure(arguments: argparse.Namespace) -> None:
    pipe = dd.Pipeline.load(arguments.run, device="cpu")
    rules: dict[str, list[str]] = {}
    for word in arguments.rule:
        name, _, value = word.partition("=")
        rules.setdefault(name, []).append(value)
    span = dd.rules.Span(pipe.max_length, pipe.max_length)
    languages = [pipe.domain.rules[name].read(value, span) for name, values in rules.items() for value in values]
    sampler = dd.samplers.FirstHitting()
    accepted: list[str] = []
    started, free = time.time(), 0
    while len(accepted) < arguments.count and time.time() - started < 60 * arguments.minutes:
        found = pipe.sample(
            4096,
            seed=10_000 + 10_000_019 * arguments.seed + free,
            batch_size=512,
            sampler=sampler,
            length=pipe.max_length,
        )
        accepted += [t for t in found if all(language.accepts(pipe.domain.encode(t)) for language in languages)]
        free += len(found)
    share, rejection = len(accepted) / free, (time.time() - started) / max(len(accepted), 1)
    accepted = accepted[: arguments.count]
    target = features(pipe, accepted)
    for particles in arguments.particles:
        started = time.time()
        count = min(len(accepted), max(arguments.runs // particles, 1))
        drawn, effective = constrained(pipe, languages, count, particles, arguments.seed)
        row = {
            "command": "python -m benchmarks.agreement " + " ".join(sys.argv[1:]),
            "rules": arguments.rule,
            "particles": particles,
            "samples": len(drawn),
            "samples_by_rejection": len(accepted),
            "effective_median": effective,
            "seconds_a_sample": (time.time() - started) / len(drawn),
            "seconds_a_sample_by_rejection": rejection,
            "free_samples": free,
            "share_accepted": share,
            **compared(features(pipe, drawn), target, arguments.seed),
            "seed": arguments.seed,
            "hardware": hardware(),
        }
        print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--rule", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--count", type=int, default=4000, help="samples of each kind, at most")
    parser.add_argument("--runs", type=int, default=64_000, help="samples times particles, at most")
    parser.add_argument("--minutes", type=float, default=10, help="for rejection sampling, at most")
    parser.add_argument("--particles", type=int, nargs="+", default=[1, 2, 4, 16, 64])
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
