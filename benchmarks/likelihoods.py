"""Likelihoods of a trained run on a file by every method: nats per token, errors, network calls, seconds; JSON.

python benchmarks/likelihoods.py runs/promoters held_out.fasta --sequences 100 --orders 4
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch

import discdiff as dd


def measured(compute: Callable[[], dd.Bound | dd.Likelihood]) -> dict[str, Any]:
    """Figures of one method."""
    started = time.time()
    found = compute()
    calls = found.calls.sum() if isinstance(found, dd.Likelihood) else found.samples * len(found.tokens)
    return {
        "nats_per_token": found.nats_per_token,
        "bits_per_token": found.bits_per_token,
        "standard_error": found.standard_error,
        "network_calls": int(calls),
        "seconds": round(time.time() - started, 2),
        "method": found.method,
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("file")
    parser.add_argument("--sequences", type=int, default=100)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tolerance", type=float, default=0.01)
    parser.add_argument("--orders", type=int, default=4)
    parser.add_argument("--sequence-column")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipe = dd.Pipeline.load(arguments.run, device="cpu")
    columns = {"sequence_column": arguments.sequence_column} if arguments.sequence_column else {}
    dataset = pipe.read(arguments.file, on_long="skip", **columns)
    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[: arguments.sequences]
    rows, model = pipe.lengths.fill(dataset.batch(chosen.sort().values)), pipe.model
    keys = dd.Keys(0, torch.arange(len(rows)))
    methods: dict[str, Callable[[], dd.Bound | dd.Likelihood]] = {
        "bound": lambda: dd.nelbo(model, rows, generator=keys, samples=arguments.samples),
        "bound to tolerance": lambda: dd.nelbo(model, rows, generator=keys, tolerance=arguments.tolerance),
        "left to right": lambda: dd.ordered_likelihood(model, rows),
        "random order": lambda: dd.ordered_likelihood(model, rows, order="random", generator=keys),
        "mixture over orders": lambda: dd.any_order_likelihood(model, rows, generator=keys, orders=arguments.orders),
    }
    absorbing = isinstance(model.process, dd.Absorbing)
    report = {name: measured(run) for name, run in methods.items() if absorbing or name.startswith("bound")}
    print(json.dumps({"run": arguments.run, "sequences": len(rows), **report}, indent=2))


if __name__ == "__main__":
    main()
