"""Score sequences: an upper bound on -log p of each, in nats and bits per unit.

examples:
  discdiff score runs/promoters held_out.fasta                  # a table on standard output
  discdiff score runs/zinc molecules.csv --sequence-column smiles --where split=test -o scores.tsv
  discdiff score runs/core promoters.tsv --label 1 --noise-levels 32 # a smaller standard error
  discdiff score runs/promoters held_out.fasta --tolerance 0.01     # as many noise levels as that takes
  discdiff score runs/promoters held_out.fasta --order left_to_right --per-token
  discdiff score runs/promoters held_out.fasta --span 30:35 --order random   # a site given the rest
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
    group = parser.add_argument_group("likelihoods (absorbing runs; by default the bound, of any run)")
    group.add_argument(
        "--order", choices=("left_to_right", "random"), help="exact likelihood in this order, a network call a token"
    )
    group.add_argument(
        "--orders", type=options.at_least_two, metavar="K", help="mixture over K random orders; tighter than the bound"
    )
    group = parser.add_argument_group("what is scored (any likelihood)")
    group.add_argument(
        "--span", type=span_of, metavar="START:END", help="tokens START to END, counted from 1, given all the others"
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
    pipeline = options.load(arguments)
    dataset = options.read(pipeline, arguments.file, arguments)
    scores = pipeline.score(
        dataset,
        samples=arguments.noise_levels,
        tolerance=arguments.tolerance,
        order=arguments.order,
        orders=arguments.orders,
        span=arguments.span,
        per_token=arguments.per_token,
        seed=arguments.seed,
        labels=arguments.label,
        batch_size=arguments.batch_size,
        progress=not arguments.quiet,
    )
    unit = pipeline.domain.unit
    names = dataset.titles(range(len(dataset)))
    with output.results(arguments.output) as stream:
        if arguments.per_token and not arguments.json:
            stream.write("name\tposition\ttoken\tnats\n")
        elif not arguments.json:
            stream.write(f"name\t{unit}s\tnats\tstandard_error\tbits_per_{unit}\n")
        for name, score in zip(names, scores, strict=True):
            first = 1 if arguments.span is None else arguments.span[0] + 1
            costs = [] if score.per_token is None else list(zip(score.symbols, score.per_token, strict=True))
            if arguments.json:
                numbers = {"nats": score.nats, "standard_error": score.standard_error}
                row = {"name": name, "sequence": score.sequence, "unit": unit, "units": score.units, **numbers}
                each = {"tokens": [{"position": p, "token": s, "nats": n} for p, (s, n) in enumerate(costs, first)]}
                row = {**row, "bits_per_unit": score.bits_per_unit}
                output.write_json({**row, **each} if arguments.per_token else row, stream)
            elif arguments.per_token:
                for place, (symbol, nats) in enumerate(costs, first):
                    stream.write(f"{name}\t{place}\t{symbol}\t{nats:.4f}\n")
            else:
                columns = (name, str(score.units), *(f"{n:.4f}" for n in (score.nats, score.standard_error)))
                stream.write("\t".join(columns) + f"\t{score.bits_per_unit:.4f}\n")
    if not arguments.quiet:
        units = sum(score.units for score in scores)
        bits = sum(score.bits_per_unit * score.units for score in scores) / units
        print(f"{len(scores)} sequences, {units} {unit}s: {bits:.4f} bits per {unit}", file=sys.stderr)
    return 0
