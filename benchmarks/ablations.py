"""What a part is worth: variants of one config, trained alike, bounded on the same held-out data with the same noise.

    python -m benchmarks.ablations configs/text8.yaml --steps 2000 --variants as-configured dse uniform

Same seed, same batches, same number of steps. Prints one JSON line a variant. Words after the known options go to the
configuration of all variants, as in `discdiff train`.
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

DSE = ["--loss.class_path", "ScoreEntropy"]
VARIANTS: dict[str, list[str]] = {
    "as-configured": [],
    "lambda-dce": ["--loss.class_path", "MaskFractionCrossEntropy"],
    "t-dce": ["--loss.class_path", "TimeCrossEntropy"],
    "dse": DSE,
    "score": ["--parameterization.class_path", "Score", *DSE],
    "uniform": ["--process.class_path", "Uniform", "--parameterization.class_path", "Denoiser", *DSE],
    "no-local-mixing": ["--network.kernel", "0"],
    "adamw": ["--training.optimizer", "adamw", "--training.learning_rate", "2e-3"],
    "float32": ["--training.precision", "float32"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--data-root", default="../shared/data")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--bound-samples", type=int, default=8)
    parser.add_argument("--bound-sequences", type=int, default=1000)
    arguments, words = parser.parse_known_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    alike = ["--training.max_steps", str(arguments.steps), "--training.max_minutes", "null", "--training.samples", "0"]
    alike += ["--training.validate_sequences", "64", *words]
    for name in arguments.variants:
        experiment = Experiment.load(
            arguments.config,
            values={"data": {"root": arguments.data_root}, "sampling": {"sampler": None}},
            overrides=[*alike, *VARIANTS[name]],
        )
        with tempfile.TemporaryDirectory() as folder:
            fitted = experiment.run(Path(folder, "run"), progress=False)
            pipe = dd.Pipeline.load(Path(folder, "run"))
        split, dataset = held_out(experiment, pipe, arguments.bound_sequences)
        result = {
            "config": arguments.config,
            "variant": name,
            "overrides": [*words, *VARIANTS[name]],
            "seed": experiment.seed,
            "steps": fitted.steps,
            "seconds": round(fitted.seconds, 1),
            "tokens_per_second": round(fitted.tokens_per_second),
            "bound": {"split": split, **bound(pipe, dataset, arguments.bound_samples)},
            "hardware": hardware(),
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
