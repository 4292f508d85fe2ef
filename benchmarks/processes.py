"""Which noise for which alphabet: forward processes against one another, everything else alike.

    python -m benchmarks.processes configs/ecoli_promoters.yaml --steps 400 --seeds 0 1 2
    python -m benchmarks.processes configs/uniprot.yaml --steps 400 --seeds 0 1 2 --data.length 128

Same network, parameterisation (a denoiser that is shown σ), objective (the continuous-time bound), schedule, batches
and number of steps; a bound on the same held-out sequences. Prints one JSON line a run: process × seed. Words after the
known options go to the configuration of all runs, as in `discdiff train`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

import discdiff as dd
from benchmarks.real_data import bound, hardware, held_out
from discdiff.experiment import Experiment

EVERYWHERE: dict[str, list[str]] = {
    "absorbing": ["--process.class_path", "Absorbing"],
    "uniform": ["--process.class_path", "Uniform"],
    "marginal": ["--process.class_path", "Marginal"],
    "hybrid": ["--process.class_path", "Hybrid"],
}
OF_DOMAIN: dict[str, dict[str, list[str]]] = {
    "protein": {
        "blosum62": ["--process.class_path", "RateMatrix", "--process.rates", "BLOSUM62"],
    },
    "dna": {
        "hky85": ["--process.class_path", "RateMatrix", "--process.rates", "HKY85"],
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--processes", nargs="+", help="default: all that the domain has")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data-root", default="../shared/data")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--bound-samples", type=int, default=16)
    parser.add_argument("--bound-sequences", type=int, default=1000)
    arguments, words = parser.parse_known_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    alike = ["--parameterization.class_path", "Denoiser", "--loss.class_path", "ContinuousELBO"]
    alike += ["--training.max_steps", str(arguments.steps), "--training.max_minutes", "null", "--training.samples", "0"]
    alike += ["--training.validate_sequences", "64", *words]
    values = {"data": {"root": arguments.data_root}, "sampling": {"sampler": None}}
    domain = type(Experiment.load(arguments.config, values=values).domain).__module__.split(".")[1]
    known = EVERYWHERE | OF_DOMAIN.get(domain, {})
    for seed in arguments.seeds:
        for name in arguments.processes or known:
            experiment = Experiment.load(
                arguments.config, values=values, overrides=[*alike, *known[name], "--seed", str(seed)]
            )
            with tempfile.TemporaryDirectory() as folder:
                fitted = experiment.run(Path(folder, "run"), progress=False)
                pipe = dd.Pipeline.load(Path(folder, "run"))
            split, dataset = held_out(experiment, pipe, arguments.bound_sequences)
            result = {
                "config": arguments.config,
                "process": name,
                "overrides": [*alike, *known[name]],
                "seed": seed,
                "steps": fitted.steps,
                "seconds": round(fitted.seconds, 1),
                "tokens_per_second": round(fitted.tokens_per_second),
                "bound": {"split": split, **bound(pipe, dataset, arguments.bound_samples)},
                "hardware": hardware(),
            }
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
