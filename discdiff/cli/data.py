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
from discdiff.cli.commands import add_command

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
        add_command(commands, name, module)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    return SUBCOMMANDS[arguments.subcommand].run(arguments)
