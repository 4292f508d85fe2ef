"""The command line: one file a command."""

from discdiff.cli.entry import main

__all__ = ["main"]
