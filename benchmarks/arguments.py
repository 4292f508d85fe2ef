"""Types of command-line arguments that benchmarks share; argparse says what is wrong with a value."""

from __future__ import annotations

import argparse
from pathlib import Path

from discdiff.cli.options import positive
from discdiff.manifest import CONFIG_FILE, OLD_FILES


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from 0 to 1")
    return value


def file(text: str) -> Path:
    """A file that is there."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    return Path(text)


def run_folder(text: str) -> Path:
    """A folder that a run was saved in."""
    if not any((Path(text) / name).is_file() for name in (CONFIG_FILE, OLD_FILES[0])):
        raise argparse.ArgumentTypeError(f"{text}: no run folder; `discdiff train` makes one")
    return Path(text)


def check_heads(parser: argparse.ArgumentParser, dim: int, heads: int) -> None:
    """Refuse a size that the Transformer refuses."""
    if dim % (2 * heads):
        parser.error(f"--heads {heads}: expected a number whose double divides --dim {dim}")


def check_data(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse molecules for a shape of something else."""
    if arguments.data is not None and arguments.config != "S3":
        parser.error(f"--data: the file's molecules are for --config S3, not {arguments.config}")


__all__ = ["check_data", "check_heads", "file", "positive", "run_folder", "share"]
