"""Samples into a folder: the options of jobs, and how they run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from discdiff.cli import options, output
from discdiff.errors import ConfigError

FORMATS = ("parquet", "jsonl", "own")
"""For `--help`, which does not import them; a test compares."""

MANY = 100_000
"""Samples from which on a folder is worth a word."""

AT_A_TIME = 16_384
"""Samples in memory, of those that go to one place."""


class _Output(argparse.Action):
    """A path, and whether it ends as folders do."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        namespace.output, namespace.as_folder = output.named(values), values.endswith(("/", os.sep))


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `-o`, `--json` and the options of jobs."""
    group = parser.add_argument_group("output")
    parser.set_defaults(as_folder=False)
    group.add_argument("-o", "--output", action=_Output, metavar="FILE", help="write here instead of standard output")
    group.add_argument("--json", action="store_true", help="JSON lines instead of the domain's format")
    group = parser.add_argument_group(
        "jobs",
        "-o FOLDER (there already, ending in /, or with one of these) writes part files that appear whole or not at\n"
        "all. The same command goes on after any interruption, and processes that run it side by side share the work.",
    )
    group.add_argument("--format", choices=FORMATS, help="of part files; own is the domain's; default parquet")
    group.add_argument("--part-size", type=options.positive, metavar="N", help="samples in a part; default 32 batches")
    group.add_argument("--devices", type=options.positive, metavar="N", help="processes here, a GPU each; default 1")
    group.add_argument(
        "--shard", type=_shard, metavar="I/N", help="every N-th part alone, from the I-th on: without locks on files"
    )


def _shard(text: str) -> tuple[int, int]:
    first, slash, count = text.partition("/")
    if slash and first.isdigit() and count.isdigit() and 1 <= int(first) <= int(count):
        return int(first), int(count)
    raise argparse.ArgumentTypeError(f"got {text!r}, expected I/N with I from 1 to N, such as 2/8")


def folder(arguments: argparse.Namespace) -> Path | None:
    """The folder of the job that is asked for; None where samples go to a file or to standard output.

    Raises:
        ConfigError: options of jobs without a folder, or two formats.
        DiscdiffError: the folder holds something else, or the file cannot be written.
    """
    names = ("format", "part_size", "devices", "shard")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(arguments, name) is not None]
    path: Path | None = arguments.output
    if path is None:
        if given:
            raise ConfigError(f"{given[0]}: is for samples that go into a folder; say -o FOLDER")
        return None
    if not (given or arguments.as_folder or path.is_dir()):
        output.check_output(path)
        return None
    if arguments.json and arguments.format not in (None, "jsonl"):
        raise ConfigError(f"--json --format {arguments.format}: two formats; give one")
    if arguments.error is not None and arguments.format == "own":
        raise ConfigError(
            f"--error {arguments.error:g} --format own: the domain's format has no room for what each sample loses; "
            "give --format parquet or jsonl"
        )
    from discdiff.pipeline.job import check_folder

    check_folder(path)
    return path


def to_folder(arguments: argparse.Namespace, how: Mapping[str, Any], into: Path) -> int:
    """Make what is missing of a job; `how` are arguments of `Pipeline.sample_to`."""
    from discdiff.manifest import read_manifest

    read_manifest(arguments.run_folder)  # a wrong path is told before torch is imported

    from discdiff.pipeline import Pipeline
    from discdiff.pipeline.ranks import this_rank

    pipeline = Pipeline.load(arguments.run_folder, device=arguments.device or this_rank().device)
    report = pipeline.sample_to(
        into,
        arguments.n,
        format="jsonl" if arguments.json else arguments.format or "parquet",
        part_size=arguments.part_size,
        shard=arguments.shard,
        devices=arguments.devices or 1,
        **how,
    )
    print(report, file=sys.stderr)
    return 0


def to_stream(arguments: argparse.Namespace, how: Mapping[str, Any]) -> int:
    """Write samples to one file, or to standard output; of many, some at a time."""
    if arguments.n >= MANY and not arguments.quiet:
        print(
            f"discdiff: {arguments.n:,} samples in one piece are lost if this is interrupted; -o FOLDER/ keeps them in "
            "parts, and goes on from there",
            file=sys.stderr,
        )
    pipeline = options.load(arguments)

    from discdiff.pipeline.asking import Asked

    asked = Asked.of({name: value for name, value in how.items() if name != "progress"})
    whole = asked.error is not None or asked.grid is not None  # what they lose on average is said first
    chunks = pipeline.draws(asked).chunks(arguments.n, arguments.n if whole else AT_A_TIME, progress=how["progress"])
    output.write_sequences(pipeline.domain, chunks, arguments.output, as_json=arguments.json, quiet=arguments.quiet)
    return 0
