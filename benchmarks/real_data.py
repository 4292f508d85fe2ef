"""Train a config on real data, then measure it: bound on held-out data, samples, infills; one JSON file a run.

    python benchmarks/real_data.py configs/qm9.yaml --data-root ../shared/data --threads 2 \
        --template 'CC{6}O' --result benchmarks/results/qm9-cpu.json --training.max_minutes 10

Words after the known options go to the configuration, as in `discdiff train`.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

import discdiff as dd
from discdiff.data import SequenceDataset
from discdiff.experiment import Experiment


def hardware() -> dict[str, Any]:
    """What the figures were measured on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "machine": platform.machine(),
        "processor": capabilities.get("cpu_name"),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def held_out(experiment: Experiment, pipe: dd.Pipeline, sequences: int) -> tuple[str, SequenceDataset]:
    """The test split, or the validation split where there is none; at most `sequences` of it, always the same ones."""
    split = "test" if experiment.data.path("test") is not None else "valid"
    dataset = experiment.data.read(pipe.domain, split, label_names=pipe.label_names)
    assert isinstance(dataset, SequenceDataset), "windows of genomes are no part of these tasks"
    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[:sequences]
    return split, dataset.subset(chosen.sort().values)


def bound(pipe: dd.Pipeline, dataset: SequenceDataset, samples: int) -> dict[str, Any]:
    """The bound on -log p, per token and per unit."""
    started = time.time()
    generator = torch.Generator().manual_seed(1)
    found = dd.nelbo(pipe.model, dataset.batch(torch.arange(len(dataset))), generator=generator, samples=samples)
    units = sum(pipe.domain.units(text) for text in dataset.texts())
    tokens_in_unit = float(found.tokens.sum()) / units
    return {
        "sequences": len(dataset),
        "nats_per_token": found.nats_per_token,
        "standard_error": found.standard_error,
        "bits_per_unit": found.bits_per_token * tokens_in_unit,
        "bits_per_unit_standard_error": found.standard_error / math.log(2) * tokens_in_unit,
        "unit": pipe.domain.unit,
        "method": found.method,
        "noise_levels_per_sequence": samples,
        "weights": "moving average, eval mode",
        "seconds": round(time.time() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--data-root", default="../shared/data")
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="run folder; runs/NAME-OF-RESULT by default")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=None, help="network calls for sampling; the config's by default")
    parser.add_argument("--bound-samples", type=int, default=8)
    parser.add_argument("--bound-sequences", type=int, default=2000)
    parser.add_argument("--reference", type=int, default=10_000, help="sequences that the samples are compared with")
    parser.add_argument("--template", action="append", default=[], help="infill this, 8 samples; may be repeated")
    parser.add_argument("--label", help="class to sample from, for a labelled config")
    arguments, overrides = parser.parse_known_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    experiment = Experiment.load(arguments.config, values={"data": {"root": arguments.data_root}}, overrides=overrides)
    folder = arguments.folder or Path("runs", arguments.result.stem)
    started = time.time()
    fitted = experiment.run(folder, overwrite=True)
    pipe = dd.Pipeline.load(folder)
    domain = pipe.domain
    held, dataset = held_out(experiment, pipe, arguments.bound_sequences)
    texts = dataset.texts()

    sampled_at = time.time()
    drawn = pipe.sample(arguments.samples, steps=arguments.steps, seed=2, labels=arguments.label, progress=True)
    seconds = time.time() - sampled_at
    path = experiment.data.path("train")
    assert path is not None
    train = [r.sequence for r in domain.read(path, **experiment.data.reader_options("train"))]
    metrics = domain.metrics(drawn, reference=texts[: arguments.reference], training=train)
    infills = {t: pipe.infill(t, 8, steps=arguments.steps, seed=3) for t in arguments.template}
    result = {
        "command": "python " + " ".join(sys.argv),
        "config": arguments.config,
        "seed": experiment.seed,
        "hardware": hardware(),
        "parameters": sum(p.numel() for p in pipe.model.parameters()),
        "training": {
            "steps": fitted.steps,
            "seconds": round(fitted.seconds, 1),
            "tokens_per_second": round(fitted.tokens_per_second),
            "optimizer": experiment.training.optimizer,
            "learning_rate": experiment.training.learning_rate,
            "batch_size": experiment.training.batch_size,
            "precision": json.loads((folder / "environment.json").read_text())["precision"],
        },
        "bound": {"split": held, **bound(pipe, dataset, arguments.bound_samples)},
        "sampling": {"count": len(drawn), "seconds": round(seconds, 1), "metrics": metrics, "examples": drawn[:10]},
        "infills": infills,
        "total_seconds": round(time.time() - started, 1),
    }
    arguments.result.parent.mkdir(parents=True, exist_ok=True)
    arguments.result.write_text(json.dumps(result, indent=2, default=float, ensure_ascii=False) + "\n")
    print(json.dumps({name: result[name] for name in ("training", "bound")}))


if __name__ == "__main__":
    main()
