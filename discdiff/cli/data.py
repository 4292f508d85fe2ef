"""Look at data files before they are learned from.

examples:
  discdiff data inspect reads.fasta.gz                          # counts, lengths, alphabet, duplicates, faults
  discdiff data inspect molecules.csv --domain smiles --length 64 --picture lengths.png
  discdiff data prepare reads.fasta --domain dna                # encode them ahead of training
  discdiff data inspect 'hf://owner/name?split=train&column=text' --limit 10000 --json

`discdiff data COMMAND --help` has the options.
"""

from __future__ import annotations

import argparse

from discdiff.cli import inspect, prepare

# modules with `add_arguments` and `run`, by the name of the subcommand
SUBCOMMANDS = {
    "inspect": inspect,
    "prepare": prepare,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    commands = parser.add_subparsers(
        dest="subcommand", metavar="COMMAND", title="commands", required=True, parser_class=type(parser)
    )
    for name, module in SUBCOMMANDS.items():
        summary, _, examples = (module.__doc__ or "").partition("\n\n")
        command = commands.add_parser(
            name,
            help=summary.rstrip("."),
            description=summary,
            epilog=examples.strip("\n"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(parser=command)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    return SUBCOMMANDS[arguments.subcommand].run(arguments)
