"""Draw new sequences from a trained run.

examples:
  discdiff sample runs/promoters -n 100                         # FASTA on standard output
  discdiff sample runs/promoters -n 1000 -o samples.fasta       # the file appears when all is done
  discdiff sample runs/zinc -n 1000000 -o million/ --devices 2  # part files; killed, the same command goes on
  discdiff sample runs/zinc -n 64 --sampler first_hitting       # exact: one token at a time, no steps
  discdiff sample runs/zinc -n 64 --steps 32 --temperature 0.9  # fewer steps, sharper choices
  discdiff sample runs/zinc -n 64 --error 0.1                   # as few calls as lose 0.1 nats; see discdiff profile
  discdiff sample runs/promoters --require TATAAT --forbid EcoRI  # holds in every sample
  discdiff sample runs/zinc -n 64 --valid                       # molecules that RDKit reads, all of them
  discdiff sample runs/core -n 10 --label 1 --length 70 --json
"""

from __future__ import annotations

import argparse

from discdiff.cli import jobs, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_run_argument(parser)
    options.add_rule_arguments(parser)
    options.add_sampling_arguments(parser)
    parser.add_argument("--length", type=options.positive, metavar="L", help="tokens; default: as in the training set")
    jobs.add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    into = jobs.folder(arguments)
    asked, how = options.rules(arguments), options.sampling(arguments)  # before the model is loaded
    options.check_asked(arguments.run_folder, asked, length=arguments.length)
    how |= {"length": arguments.length, "rules": asked, "valid": arguments.valid, "template": None}
    return jobs.to_stream(arguments, how) if into is None else jobs.to_folder(arguments, how, into)
