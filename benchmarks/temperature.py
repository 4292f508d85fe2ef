"""Validity against diversity: samples of a trained run at several temperatures.

    python benchmarks/temperature.py runs/zinc250k --reference ../shared/data/smiles/zinc250k.csv.xz --count 1000

Prints one JSON line a temperature. Sampling is the run's own; each draw is tempered, not the sequence's law.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

import discdiff as dd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--reference", type=Path, required=True, help="held-out sequences; of tables, the split `test`")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 0.8, 0.6, 0.5, 0.4])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    pipe = dd.Pipeline.load(arguments.run)
    where = {"where": {"split": "test"}} if ".csv" in arguments.reference.suffixes else {}
    reference = [record.sequence for record in pipe.domain.read(arguments.reference, **where)]
    for tau in arguments.temperatures:
        drawn = pipe.sample(arguments.count, temperature=tau, seed=arguments.seed)
        metrics = pipe.domain.metrics(drawn, reference=reference)
        result = {
            "command": "python " + " ".join(sys.argv),
            "temperature": tau,
            "seed": arguments.seed,
            "valid": metrics["valid"],
            "unique": metrics["unique"],
            "bigram_total_variation": metrics["composition"]["bigram"],
            "mean_length": metrics["length"]["mean"],
            "examples": drawn[:4],
        }
        print(json.dumps(result, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
