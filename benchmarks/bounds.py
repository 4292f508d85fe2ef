"""The bound of one trained run by each loss that is one, on the same sequences: do they agree, and which varies least?

    python -m benchmarks.bounds runs/zinc250k ../shared/data/smiles/zinc250k.csv.xz --sequences 500

Prints one JSON line a loss: nats per token with what the loss leaves out added (above t = 1, the reconstruction), its
standard error from independent replicates, the spread of one draw of one sequence, seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

import discdiff as dd
from benchmarks.real_data import hardware
from discdiff import losses
from discdiff.likelihood.scored import Scored
from discdiff.likelihood.terms import reconstruction
from discdiff.losses.masked import masked_cross_entropy
from discdiff.randomness import at_step, uniform

# What covers all noise by itself; the rest integrates from t_min on and wants a reconstruction term.
WHOLE = (losses.MaskFractionCrossEntropy, losses.AnyOrder)
CANDIDATES = (
    losses.ScoreEntropy(),
    losses.ContinuousELBO(),
    losses.TimeCrossEntropy(),
    losses.GeneralizedKL(),
    losses.D3PM(steps=1000),
    losses.MaskFractionCrossEntropy(),
    losses.AnyOrder(),
)


@torch.no_grad()
def above_the_last_level(model: dd.Diffusion, rows: dd.Sequences) -> torch.Tensor:
    """(1 − λ(1)) Σ_i −log p(x0_i | all masked), `[B]`: what integrals over t leave out above t = 1, but (1 − λ)²."""
    one = torch.ones(len(rows), 1, dtype=torch.float64)
    sigma = model.schedule.total_noise(one)
    assert model.process.mask_id is not None, "the absorbing process has one"
    masked = torch.full_like(rows.tokens, model.process.mask_id)
    values = masked_cross_entropy(model, rows, masked, sigma.to(model.dtype)).double()
    return torch.exp(-sigma[:, 0]) * values


@torch.no_grad()
def replicates(
    model: dd.Diffusion, rows: dd.Sequences, loss: losses.Loss, generator: dd.Keys, count: int
) -> torch.Tensor:
    """`count` independent estimates of each sequence's bound: `[count, B]`, nats."""
    beginning = above_the_last_level(model, rows)
    found = []
    for step in range(count):
        draw = at_step(generator, step)
        values = loss(model, rows, generator=draw).double()
        if not isinstance(loss, WHOLE):
            values = values + beginning
            if not isinstance(loss, losses.D3PM):  # its first step is the reconstruction
                scored = Scored.of(model, rows, None, "bounds")
                draw = at_step(generator, count + step)
                coin = uniform((len(rows),), generator=draw, purpose="coin", dtype=torch.float64)
                values = values + reconstruction(model, scored, coin, draw).sum(-1)
        found.append(values)
    return torch.stack(found)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path, help="held-out sequences; of tables, the split `test`")
    parser.add_argument("--sequences", type=int, default=500)
    parser.add_argument("--replicates", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pipe = dd.Pipeline.load(arguments.run, device="cpu")
    where: dict[str, Any] = {"where": {"split": "test"}} if ".csv" in arguments.file.suffixes else {}
    dataset = pipe.read(arguments.file, on_long="skip", **where)
    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[: arguments.sequences]
    rows = pipe.lengths.fill(dataset.batch(chosen.sort().values))
    tokens = float(rows.lengths.sum())
    for loss in CANDIDATES:
        started = time.time()
        parts = [
            replicates(pipe.model, rows[ids], loss, dd.Keys(arguments.seed, ids), arguments.replicates)
            for ids in torch.arange(len(rows)).split(arguments.batch_size)
        ]
        each = torch.cat(parts, dim=1)
        totals = (each.sum(1) / tokens).tolist()
        result = {
            "command": "python -m benchmarks.bounds " + " ".join(sys.argv[1:]),
            "loss": repr(loss),
            "nats_per_token": statistics.fmean(totals),
            "standard_error": statistics.stdev(totals) / len(totals) ** 0.5,
            "sd_of_one_draw_of_a_sequence": float(each.var(0).mean().sqrt()),
            "mean_nats_of_a_sequence": float(each.mean()),
            "sequences": len(rows),
            "replicates": arguments.replicates,
            "seed": arguments.seed,
            "seconds": round(time.time() - started, 2),
            "hardware": hardware(),
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
