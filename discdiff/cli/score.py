"""Score sequences: an upper bound on -log p of each, in nats and bits per unit.

examples:
  discdiff score runs/promoters held_out.fasta                  # a table on standard output
  discdiff score runs/zinc molecules.csv --sequence-column smiles --where split=test -o scores.tsv
  discdiff score runs/core promoters.tsv --label 1 --noise-levels 32 # a smaller standard error
  discdiff score runs/promoters held_out.fasta --json | head

Columns: name, units (bases, residues, characters, ...), nats, standard_error of nats, bits per unit. The bound is that
of a sequence given its length. The standard error is that of the estimate.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from discdiff.cli import options, output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_run_argument(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="sequences, in a format of the domain")
    options.add_reading_arguments(parser)
    options.add_scoring_arguments(parser)
    output.add_output_arguments(parser, "a table")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    output.check_output(arguments.output)
    pipeline = options.load(arguments)
    dataset = options.read(pipeline, arguments.file, arguments)
    scores = pipeline.score(
        dataset,
        samples=arguments.noise_levels,
        seed=arguments.seed,
        labels=arguments.label,
        batch_size=arguments.batch_size,
        progress=not arguments.quiet,
    )
    unit = pipeline.domain.unit
    names = dataset.titles(range(len(dataset)))
    with output.results(arguments.output) as stream:
        if not arguments.json:
            stream.write(f"name\t{unit}s\tnats\tstandard_error\tbits_per_{unit}\n")
        for name, score in zip(names, scores, strict=True):
            if arguments.json:
                numbers = {"nats": score.nats, "standard_error": score.standard_error}
                row = {"name": name, "sequence": score.sequence, "unit": unit, "units": score.units, **numbers}
                output.write_json({**row, "bits_per_unit": score.bits_per_unit}, stream)
            else:
                columns = (name, str(score.units), *(f"{n:.4f}" for n in (score.nats, score.standard_error)))
                stream.write("\t".join(columns) + f"\t{score.bits_per_unit:.4f}\n")
    if not arguments.quiet:
        units = sum(score.units for score in scores)
        bits = sum(score.bits_per_unit * score.units for score in scores) / units
        print(f"{len(scores)} sequences, {units} {unit}s: {bits:.4f} bits per {unit}", file=sys.stderr)
    return 0
