"""How a module becomes a command: its docstring is the help, with the examples below."""

from __future__ import annotations

import argparse
from typing import Any


def add_command(commands: Any, name: str, module: Any) -> argparse.ArgumentParser:
    """Add a command, or a command's own, and give its parser.

    Args:
        commands: what `add_subparsers` gave.
        name: the command's.
        module: has `add_arguments`, and a docstring of one sentence and of examples.
    """
    summary, _, examples = (module.__doc__ or "").partition("\n\n")
    command: argparse.ArgumentParser = commands.add_parser(
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
    return command
