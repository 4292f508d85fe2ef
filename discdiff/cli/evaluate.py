"""Evaluate a run: its bound on held-out sequences, and the quality of its samples.

examples:
  discdiff evaluate runs/promoters --reference held_out.fasta
  discdiff evaluate runs/promoters      # on the run's own test part (or file), or without one on what it validated with
  discdiff evaluate runs/zinc --reference zinc.csv --where split=test --training zinc.csv --training-where split=train
  discdiff evaluate runs/zinc --reference test.smi --plots plots/ --json -o zinc.json
  discdiff evaluate runs/text --reference test.txt -n 0 --unit byte   # the bound alone, in bits per byte

The bound is an upper bound on -log p of the reference, in nats and bits per unit, with the standard error of the
estimate. Samples are judged by the domain: validity with reasons, uniqueness, novelty against --training, distances of
lengths and composition to the reference, and the domain's own figures.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from discdiff.cli import options, output, reading

if TYPE_CHECKING:
    from discdiff.data.dataset import SequenceDataset
    from discdiff.pipeline import Pipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_run_argument(parser)
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="held-out sequences; without it, those that the run held out"
    )
    parser.add_argument("--training", type=Path, metavar="FILE", help="training set, for the novelty of samples")
    parser.add_argument(
        "--training-where", action="append", default=[], metavar="COLUMN=VALUE", help="rows of a table for --training"
    )
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the domain's pictures into this folder")
    reading.add_reading_arguments(parser)
    options.add_scoring_arguments(parser, alone=False)
    options.add_sampling_arguments(parser, count=1000, none=True)
    output.add_output_arguments(parser, "a report")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    output.check_output(arguments.output)
    reading.check_skipped(arguments)
    how = options.sampling(arguments)  # before the model is loaded
    pipeline = options.load(arguments)
    pipeline.domain.counter(arguments.unit)
    reference, named = _reference(pipeline, arguments)
    training = _training(pipeline, arguments)
    report: dict[str, Any] = {"run": options.name_of(arguments), "reference": named}
    # samples first: options that do not fit the run show there at once
    samples = pipeline.sample(arguments.n, **how) if arguments.n else None
    report["bound"] = _bound(pipeline, reference, arguments)
    if samples is not None:
        texts = reference.texts()
        if samples.certificate is not None:
            report["certificate"] = str(samples.certificate)
        report["samples"] = pipeline.domain.metrics(samples, reference=texts, training=training)
        if arguments.plots is not None:
            arguments.plots.mkdir(parents=True, exist_ok=True)
            drawn = pipeline.domain.plots(arguments.plots, samples, reference=texts)
            report["plots"] = {caption: str(path) for caption, path in drawn.items()}
    with output.results(arguments.output) as stream:
        if arguments.json:
            output.write_json(report, stream)
        else:
            write_report(report, stream)
    return 0


def _reference(pipeline: Pipeline, arguments: argparse.Namespace) -> tuple[SequenceDataset, str]:
    """The sequences to evaluate on, and what they are called in the report."""
    if arguments.reference is not None:
        return reading.read(pipeline, arguments.reference, arguments), str(arguments.reference)
    from discdiff.experiment.held_out import held_out

    found, part = held_out(arguments.run_folder, pipeline.domain, pipeline.label_names)
    return found, f"the run's own {part} part"


def _training(pipeline: Pipeline, arguments: argparse.Namespace) -> list[str] | None:
    if arguments.training is None:
        return None
    columns = reading.file_options(arguments)
    for own in ("where", "label_column", "name_column"):  # those of the reference
        columns.pop(own, None)
    if arguments.training_where:
        columns["where"] = reading.where_of(arguments.training_where, "--training-where")
    from discdiff.data.faults import Faults

    # sequences that the model could not have learned are no matter for novelty; they are told of all the same
    faults = Faults(arguments.training, arguments.on_error)
    found = [record.sequence for record in pipeline.domain.read(arguments.training, faults=faults, **columns)]
    for note in faults.finish(len(found)):
        print(f"{arguments.training}: {note}", file=sys.stderr)
    return found


def _bound(pipeline: Pipeline, reference: SequenceDataset, arguments: argparse.Namespace) -> dict[str, Any]:
    bound = pipeline.bound(
        reference,
        samples=arguments.noise_levels,
        tolerance=arguments.tolerance,
        unit=arguments.unit,
        labels=arguments.label,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        progress=not arguments.quiet,
    )
    return {
        "unit": bound.unit,
        "sequences": len(reference),
        "units": bound.units,
        "nats_per_unit": bound.nats_per_unit,
        "bits_per_unit": bound.bits_per_unit,
        "standard_error_bits": bound.standard_error / math.log(2),
        "nats_per_token": bound.bound.nats_per_token,
        "method": bound.bound.method,
        "notes": reference.notes,
    }


def write_report(report: dict[str, Any], stream: TextIO, indent: str = "") -> None:
    """Write nested figures as indented lines."""
    for key, value in report.items():
        name = key.replace("_", " ")
        if isinstance(value, dict) and {"ratio", "count", "of"} <= set(value):
            share = "-" if value["ratio"] is None else f"{value['ratio']:.2%}"
            stream.write(f"{indent}{name}: {share} ({value['count']} of {value['of']})\n")
            write_report({k: v for k, v in value.items() if k not in ("ratio", "count", "of")}, stream, indent + "  ")
        elif isinstance(value, dict):
            if value:
                stream.write(f"{indent}{name}:\n")
                write_report(value, stream, indent + "  ")
        elif isinstance(value, list):
            for item in value:
                stream.write(f"{indent}{name}: {item}\n")
        elif value is not None:
            stream.write(f"{indent}{name}: {f'{value:.4f}' if isinstance(value, float) else value}\n")
