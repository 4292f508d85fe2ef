"""Score sequences: an upper bound on -log p of each, in nats and bits per unit.

examples:
  discdiff score runs/promoters held_out.fasta                  # a table on standard output
  discdiff score runs/zinc molecules.csv --sequence-column smiles --where split=test -o scores.tsv
  discdiff score runs/core promoters.tsv --label 1 --noise-levels 32 # a smaller standard error
  discdiff score runs/promoters held_out.fasta --tolerance 0.01     # as many noise levels as that takes
  discdiff score runs/promoters held_out.fasta --order left_to_right --per-token
  discdiff score runs/promoters held_out.fasta --span 30:35 --order random   # a site given the rest
  discdiff score runs/text held_out.txt --unit byte --json | head

Columns: name, units (bases, residues, characters, ...), nats, standard_error of nats, bits per unit. The names of the
figures say what they are: `nats_upper_bound`, estimated, with the standard error of the estimate; `nats_exact_in_order`
with --order; `nats_mixture_upper_bound`, a bound in expectation, with --orders. All are given the sequence's length.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from discdiff.cli import options, output, reading

if TYPE_CHECKING:
    from discdiff.pipeline import SequenceScore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_run_argument(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="sequences, in a format of the domain")
    reading.add_reading_arguments(parser)
    options.add_scoring_arguments(parser)
    group = parser.add_argument_group("likelihoods (absorbing runs; by default the bound, of any run)")
    group.add_argument(
        "--order", choices=("left_to_right", "random"), help="exact likelihood in this order, a network call a token"
    )
    group.add_argument(
        "--orders", type=options.at_least_two, metavar="K", help="mixture over K random orders; tighter than the bound"
    )
    group = parser.add_argument_group("what is scored (any likelihood)")
    group.add_argument(
        "--span",
        type=span_of,
        metavar="START:END",
        help="tokens START to END, counted from 1, given all the others; not for streams, which are cut into blocks",
    )
    group.add_argument("--per-token", action="store_true", help="what each token costs; the bound or --order")
    output.add_output_arguments(parser, "a table")


def span_of(text: str) -> tuple[int, int]:
    """The 0-based half-open span of `START:END`, counted from 1, both included."""
    first, colon, last = text.partition(":")
    if not colon or not first.isdecimal() or not last.isdecimal() or not 1 <= int(first) <= int(last):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected START:END, counted from 1, such as 5:12")
    return int(first) - 1, int(last)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    output.check_output(arguments.output)
    reading.check_skipped(arguments)
    pipeline = options.load(arguments)
    dataset = reading.read(pipeline, arguments.file, arguments)
    scores = pipeline.score(
        dataset,
        samples=arguments.noise_levels,
        tolerance=arguments.tolerance,
        order=arguments.order,
        orders=arguments.orders,
        span=arguments.span,
        per_token=arguments.per_token,
        unit=arguments.unit,
        seed=arguments.seed,
        labels=arguments.label,
        batch_size=arguments.batch_size,
        progress=not arguments.quiet,
    )
    unit, kind = scores[0].unit, scores[0].claim.replace(" ", "_")
    names = dataset.titles(range(len(dataset)))
    with output.results(arguments.output) as stream:
        if arguments.per_token and not arguments.json:
            stream.write(f"name\tposition\ttoken\tnats_{kind}\n")
        elif not arguments.json:
            stream.write(f"name\t{unit}s\tnats_{kind}\tstandard_error\tbits_per_{unit}_{kind}\n")
        for name, score in zip(names, scores, strict=True):
            first = 1 if arguments.span is None else arguments.span[0] + 1
            costs = [] if score.per_token is None else list(zip(score.symbols, score.per_token, strict=True))
            if arguments.json:
                numbers = {"nats": score.nats, "standard_error": score.standard_error}
                row = {"name": name, "sequence": score.sequence, "unit": unit, "units": score.units, **numbers}
                each = {"tokens": [{"position": p, "token": s, "nats": n} for p, (s, n) in enumerate(costs, first)]}
                row = {**row, "bits_per_unit": score.bits_per_unit, "figure": score.claim, "method": score.method}
                output.write_json({**row, **each} if arguments.per_token else row, stream)
            elif arguments.per_token:
                for place, (symbol, nats) in enumerate(costs, first):
                    stream.write(f"{name}\t{place}\t{symbol}\t{nats:.4f}\n")
            else:
                columns = (name, str(score.units), *(f"{n:.4f}" for n in (score.nats, score.standard_error)))
                stream.write("\t".join(columns) + f"\t{score.bits_per_unit:.4f}\n")
    if not arguments.quiet:
        print(summary(scores), file=sys.stderr)
    return 0


def summary(scores: Sequence[SequenceScore]) -> str:
    """All sequences in one line, and what the figure is."""
    units, unit = sum(score.units for score in scores), scores[0].unit
    bits = sum(score.nats for score in scores) / math.log(2) / units
    error = math.sqrt(sum(score.standard_error**2 for score in scores)) / math.log(2) / units
    certain = "" if error == 0 else f", standard error {error:.4f}"
    figure = f"{bits:.4f} bits per {unit} ({scores[0].claim}{certain})"
    return f"{len(scores)} sequences, {units} {unit}s: {figure}; {scores[0].method}"
