"""Options of reading files, which several commands share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discdiff.cli import output
from discdiff.errors import ConfigError

if TYPE_CHECKING:
    from discdiff.data.dataset import SequenceDataset
    from discdiff.pipeline import Pipeline

COLUMNS = ("sequence_column", "label_column", "name_column")
FORM = ("separator", "encoding", "format")


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of reading files."""
    group = parser.add_argument_group("reading")
    add_file_arguments(group)
    group.add_argument(
        "--on-long",
        choices=("error", "skip", "crop"),
        default="error",
        help="what to do with sequences longer than the model's; default error",
    )
    add_fault_arguments(group)


def add_file_arguments(group: argparse._ActionsContainer) -> None:
    """Add what a file does not tell of itself: columns of tables, and the format."""
    add = group.add_argument
    add("--sequence-column", metavar="NAME", help="column of sequences in a table")
    add("--label-column", metavar="NAME", help="column of classes")
    add("--name-column", metavar="NAME", help="column of names")
    add("--where", action="append", default=[], metavar="COLUMN=VALUE", help="keep these rows only; may be repeated")
    add("--separator", metavar="C", help="the character between columns; default: told by the name")
    add("--encoding", metavar="NAME", help="of text files; default utf-8")
    add("--format", metavar="NAME", help="of DNA and proteins where the name does not tell it, such as lines")


def add_fault_arguments(group: argparse._ActionsContainer) -> None:
    """Add what to do with records that cannot be used."""
    group.add_argument(
        "--on-error",
        choices=("raise", "skip", "report"),
        default="raise",
        help="records that cannot be used: stop at the first, leave them out, or list them and refuse; default raise",
    )
    group.add_argument("--skipped", type=Path, metavar="FILE", help="list here, as JSON lines, what cannot be used")


def check_skipped(arguments: argparse.Namespace) -> None:
    """Refuse a list of faults that could not be written, or would take the place of what is read.

    Raises:
        DiscdiffError: names the file.
    """
    output.check_output(arguments.skipped)
    for name in ("file", "config", "reference", "training"):
        read = getattr(arguments, name, None)
        if read is not None and arguments.skipped is not None and Path(read).resolve() == arguments.skipped.resolve():
            raise ConfigError(f"--skipped {arguments.skipped}: this is what is read; name another file for the list")


def add_domain_arguments(group: argparse._ActionsContainer, default: str = "") -> None:
    """Add the domain that reads a file, and its options."""
    group.add_argument("--domain", metavar="NAME", help=f"dna, protein, smiles, text, tokens{default}")
    group.add_argument(
        "--domain-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the domain, such as lines=true of text; may be repeated",
    )


def domain_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `--domain-option` gives, read as YAML.

    Raises:
        ConfigError: a word of another form, or no YAML.
    """
    found: dict[str, Any] = {}
    for word in arguments.domain_option:
        from discdiff.experiment.configuration import parse_yaml

        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"--domain-option {word}: expected NAME=VALUE, such as --domain-option lines=true")
        found[name] = parse_yaml(value, f"--domain-option {name}")
    return found


def usual_length(name: str) -> int | None:
    """The length where no configuration says one: of what is cut into blocks; None for that of the longest record."""
    from discdiff.domain import domain

    return 256 if "." not in name and domain(name).streams else None


def file_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given of a file, as `Domain.read` takes it."""
    given: dict[str, Any] = {name: getattr(arguments, name) for name in (*COLUMNS, *FORM)}
    given = {name: value for name, value in given.items() if value is not None}
    return given | ({"where": where_of(arguments.where)} if arguments.where else {})


def where_of(words: list[str], option: str = "--where") -> dict[str, list[str]]:
    """Columns and the values that a row may have, from `COLUMN=VALUE` words.

    Raises:
        ConfigError: a word of another form.
    """
    where: dict[str, list[str]] = {}
    for word in words:
        column, equals, value = word.partition("=")
        if not equals or not column:
            raise ConfigError(f"{option} {word}: expected COLUMN=VALUE, such as {option} split=test")
        where.setdefault(column, []).append(value)
    return where


def read(pipeline: Pipeline, path: Path, arguments: argparse.Namespace) -> SequenceDataset:
    """The sequences of a file, encoded for a run; what was left out is said on standard error."""
    from discdiff.data.faults import RefusedError, write_faults

    try:
        dataset = pipeline.read(path, on_long=arguments.on_long, on_error=arguments.on_error, **file_options(arguments))
    except RefusedError as error:
        if arguments.skipped is not None:
            write_faults(error.faults, arguments.skipped)
        raise
    for note in dataset.notes:
        print(f"{path}: {note}", file=sys.stderr)
    if arguments.skipped is not None:
        write_faults(dataset.skipped, arguments.skipped)
    return dataset
