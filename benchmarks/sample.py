"""Sampling against the textbook loop in one process: seconds, network calls, head rows, memory; and one law.

    python -m benchmarks.sample --config S1 --steps 64 --turns 5 --threads 2 > benchmarks/results/sample-s1-64.json

The textbook loop evaluates every row at every step, takes logits at all positions and draws every position of every row
anew from its ancestral posterior over the whole vocabulary by a Gumbel race, as published code does. Both use one
network with the same random weights, the head's too. All textbook steps cost the same: a turn takes some of them, and
the seconds of a whole run are their median times the steps. Samples are whole runs, turn by turn with the textbook's
steps; ratios are of one turn, and the median and the extremes of turns are given.

The laws are compared on a small network, drawn whole by both: sequences of four tokens of four kinds are counted, and
the two tables of 256 counts put to a chi-square test of homogeneity.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import scipy.stats
import torch
from torch import Tensor

import discdiff as dd
from benchmarks.arguments import positive
from benchmarks.real_data import hardware
from discdiff.networks import Context, Network
from discdiff.parameterizations import Parameterization
from discdiff.prediction import Positions
from discdiff.processes import Process
from discdiff.samplers import noise_levels


@dataclass(frozen=True)
class Config:
    """Shapes of a model and of its batch."""

    vocab: int
    batch: int
    length: int = 128
    dim: int = 256
    depth: int = 6
    heads: int = 8


CONFIGS = {"S1": Config(50_258, 16), "S2": Config(64, 32)}
LAW = Config(vocab=4, batch=4096, length=4, dim=32, depth=2, heads=2)
CALLS = Config(vocab=64, batch=512, dim=16, depth=1, heads=1)


class Measured(Network):
    """Another network, its seconds and what it was asked for."""

    def __init__(self, inner: Network) -> None:
        super().__init__()
        self.inner, self.num_states = inner, inner.num_states
        self.clear()

    def clear(self) -> None:
        self.seconds, self.evaluated, self.head_rows = {"body": 0.0, "head": 0.0}, 0, 0

    @contextmanager
    def clock(self, part: str, device: torch.device) -> Iterator[None]:
        wait(device)
        started = time.perf_counter()
        yield
        wait(device)
        self.seconds[part] += time.perf_counter() - started

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.inner.configure(process, parameterization)
        self.num_outputs = self.inner.num_outputs

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        self.evaluated += len(tokens)
        with self.clock("body", tokens.device):
            return self.inner.hidden(tokens, sigma, context)

    def trunk(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        self.evaluated += len(tokens)
        with self.clock("body", tokens.device):
            return self.inner.trunk(tokens, sigma, context)

    def finish(self, trunk: Tensor, sigma: Tensor | None, context: Context, where: Positions) -> Tensor:
        with self.clock("body", trunk.device):
            return self.inner.finish(trunk, sigma, context, where)

    def head(self, hidden: Tensor) -> Tensor:
        self.head_rows += hidden.shape[:-1].numel()
        with self.clock("head", hidden.device):
            return self.inner.head(hidden)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def model_of(config: Config, device: torch.device, seed: int = 0) -> tuple[dd.Diffusion, Measured]:
    """Random weights, those that start at zero too: the head's, so that tokens differ, and the local mixing's."""
    process = dd.Absorbing(config.vocab)
    network = Measured(dd.Transformer(process.num_states, config.dim, config.depth, config.heads))
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional()).to(device).eval()
    draw = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad and not bool(parameter.any()):
            scale = parameter.shape[-1] ** -0.5
            parameter.data = (torch.randn(parameter.shape, generator=draw) * scale).to(device)
    return model, network


@torch.no_grad()
def textbook(
    model: dd.Diffusion,
    config: Config,
    steps: int,
    generator: torch.Generator,
    *,
    first: int | None = None,
    race: torch.dtype = torch.float32,
) -> Tensor:
    """Tokens `[B, L]` of the textbook loop, after its `first` steps or all; its race is run in float32 or float64."""
    mask, device = config.vocab, model.device
    x = torch.full((config.batch, config.length), mask, device=device)
    levels = noise_levels(model.schedule, steps)
    for level in levels if first is None else levels[:first]:
        masked, still = (-torch.expm1(-torch.tensor(each)).item() for each in (level.sigma, level.sigma_next))
        hidden = model.network.hidden(x, None, Context())
        p = model.network.head(hidden).float().softmax(-1).to(race)
        q = torch.cat([p * (masked - still), torch.full_like(p[..., :1], still)], -1)
        noise = torch.rand(q.shape, generator=generator, device=device, dtype=race).clamp_(min=1e-10).log_().neg_()
        x = torch.where(x == mask, (q / noise).argmax(-1), x)
    return x


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int]]:
    """Bytes at the peak above those held at the start; of a CPU, the process's resident pages, looked at every 2 ms."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        return
    before, highest, done = resident(), [0], threading.Event()

    def look() -> None:
        while not done.wait(0.002):
            highest[0] = max(highest[0], resident() - before)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield lambda: highest[0]
    finally:
        done.set()
        watcher.join()


def resident() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def same_law(device: torch.device, steps: int, draws: int, how: dict[str, Any]) -> dict[str, Any]:
    """Chi-square test of homogeneity between both loops on the small network."""
    model, _ = model_of(LAW, device, seed=1)
    cells = LAW.vocab**LAW.length
    place = LAW.vocab ** torch.arange(LAW.length, device=device)
    tables = torch.zeros(2, cells)
    generator = torch.Generator(device).manual_seed(2)
    for start in range(0, draws, LAW.batch):
        keys = dd.Keys(3, torch.arange(start, start + LAW.batch, device=device))
        mine = dd.sample(model, LAW.batch, length=LAW.length, steps=steps, generator=keys, **how).tokens
        for row, tokens in enumerate((textbook(model, LAW, steps, generator), mine)):
            tables[row] += torch.bincount((tokens * place).sum(-1), minlength=cells).cpu()
    few = tables.sum(0) < 10  # their counts are put together
    table = torch.cat([tables[:, ~few], tables[:, few].sum(1, keepdim=True)], 1)
    table = table[:, table.sum(0) > 0]
    share = tables[0].log().nan_to_num(neginf=0)
    return {
        "draws_each": int(tables[0].sum()),
        "steps": steps,
        "cells": table.shape[1],
        "entropy_nats": float(torch.tensor(draws).log() - (tables[0] * share).sum() / tables[0].sum()),
        "p_value": float(scipy.stats.chi2_contingency(table.numpy()).pvalue),
    }


def expected_calls(steps: int, length: int) -> float:
    """N (1 − (1 − 1/N)^L): steps in which a row reveals something."""
    return steps * (1 - (1 - 1 / steps) ** length)


def calls(device: torch.device, steps: int) -> dict[str, float]:
    """Network calls a row of many rows, of a network that costs nothing."""
    model, _ = model_of(CALLS, device)
    keys = dd.Keys(4, torch.arange(CALLS.batch, device=device))
    drawn = dd.sample(model, CALLS.batch, length=CALLS.length, steps=steps, generator=keys)
    assert drawn.calls is not None
    mean = float(drawn.calls.double().mean())
    return {"rows": CALLS.batch, "mean": mean, "over_expected": mean / expected_calls(steps, CALLS.length)}


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    config, steps, device = CONFIGS[arguments.config], arguments.steps, torch.device(arguments.device)
    model, network = model_of(config, device)
    how: dict[str, Any] = {"precision": arguments.precision, "compiled": arguments.compile}
    race = torch.float64 if arguments.race == "float64" else torch.float32
    keep: dict[str, list[float]] = {}

    def note(**values: float) -> None:
        for name, value in values.items():
            keep.setdefault(name, []).append(value)

    for turn in range(arguments.turns + 1):  # the first one warms up
        network.clear()
        with peak_memory(device) as peak:
            wait(device)
            started = time.perf_counter()
            keys = dd.Keys(turn, torch.arange(config.batch, device=device))
            drawn = dd.sample(model, config.batch, length=config.length, steps=steps, generator=keys, **how)
            wait(device)
            mine = time.perf_counter() - started
            my_peak = peak()
        assert drawn.calls is not None
        inside, rows = sum(network.seconds.values()), network.evaluated
        shares = {f"{part}_share": seconds / mine for part, seconds in network.seconds.items()}
        head_rows = network.head_rows / config.batch
        generator = torch.Generator(device).manual_seed(turn)
        with peak_memory(device) as peak:
            wait(device)
            started = time.perf_counter()
            textbook(model, config, steps, generator, first=arguments.textbook_steps, race=race)
            wait(device)
            theirs = (time.perf_counter() - started) / arguments.textbook_steps * steps
            their_peak = peak()
        if turn:
            note(seconds_a_sample=mine / config.batch, textbook_seconds_a_sample=theirs / config.batch)
            note(ratio=theirs / mine, sampler_share=1 - inside / mine, **shares)
            note(calls_a_row=float(drawn.calls.double().mean()), rows_evaluated=rows / config.batch)
            note(head_rows_a_row=head_rows)
            note(peak_bytes=my_peak, textbook_peak_bytes=their_peak)
    return {
        "command": "python -m benchmarks.sample " + " ".join(sys.argv[1:]),
        "config": arguments.config,
        **vars(config),
        "steps": steps,
        "turns": arguments.turns,
        "textbook_steps_timed": arguments.textbook_steps,
        "textbook_head_rows_a_row": steps * config.length,
        "dtype": str(model.dtype),
        **how,
        "textbook_race": arguments.race,
        "parameters": sum(p.numel() for p in model.parameters()),
        **{name: spread(values) for name, values in keep.items()},
        "expected_calls": expected_calls(steps, config.length),
        "calls_of_many_rows": calls(device, steps),
        "law": same_law(device, steps=6, draws=arguments.draws, how=how),
        "hardware": hardware(),
    }


def records(found: dict[str, Any]) -> list[dict[str, Any]]:
    """One line for each loop, as `benchmarks.limits` reads them."""
    same = {name: found[name] for name in ("command", "config", "steps", "turns", "hardware")}
    theirs = {name.removeprefix("textbook_"): value for name, value in found.items() if name.startswith("textbook_")}
    mine = {name: value for name, value in found.items() if name not in same and not name.startswith("textbook_")}
    mine["dtype"] = found["precision"] or str(found["dtype"]).removeprefix("torch.")
    theirs["dtype"] = "float32"
    return [
        {"benchmark": "sample", "contender": name, **same, **part, "seconds_per_sample": part["seconds_a_sample"]}
        for name, part in (("discdiff", mine), ("textbook", theirs))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=CONFIGS, default="S1")
    parser.add_argument("--steps", type=positive, default=64)
    parser.add_argument("--turns", type=positive, default=5)
    parser.add_argument("--textbook-steps", type=positive, default=2, help="textbook steps timed in a turn")
    parser.add_argument("--draws", type=positive, default=40_960, help="of each loop, to compare their laws")
    parser.add_argument("--race", choices=("float32", "float64"), default="float32", help="of the textbook's draws")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="of our body; the textbook's is float32")
    parser.add_argument("--compile", action="store_true", help="our body through torch's compiler")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=positive)
    arguments = parser.parse_args()
    if arguments.textbook_steps > arguments.steps:
        parser.error(f"--textbook-steps {arguments.textbook_steps}: expected no more than --steps {arguments.steps}")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for record in records(measure(arguments)):
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
