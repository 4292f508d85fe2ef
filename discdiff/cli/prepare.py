"""Encode files into the cache, so that training starts at once.

examples:
  discdiff data prepare reads.fasta --domain dna
  discdiff data prepare molecules.csv --domain smiles --domain-option validate=syntax --sequence-column smiles
  discdiff data prepare corpus.jsonl --domain text --length 256
  discdiff data prepare --config my.yaml --data-root data               # the files of a configuration

`discdiff train` with the same file and options finds what this wrote, and says so; files of less than 32 MB (8 MB
compressed) it reads anew, unless `--data.cache true` is given. The cache is $DISCDIFF_CACHE, or
~/.cache/discdiff; `--cache FOLDER` takes another one, as does `data.cache` in a configuration.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discdiff.cli import reading
from discdiff.cli.options import positive
from discdiff.errors import ConfigError

if TYPE_CHECKING:
    from discdiff.data import SequenceDataset
    from discdiff.experiment import Experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("file", nargs="?", type=Path, metavar="FILE", help="the file to encode")
    add("--config", type=Path, metavar="FILE", help="encode the files of this configuration, as it says")
    add("--data-root", metavar="FOLDER", help="folder that the configuration's paths are relative to")
    reading.add_domain_arguments(parser)
    add("--length", type=positive, metavar="N", help="the longest sequence, or a stream's block; default of these 256")
    add("--on-long", choices=("error", "skip", "crop"), help="what to do with longer sequences; default error")
    group = parser.add_argument_group("reading")
    reading.add_file_arguments(group)
    reading.add_fault_arguments(group)
    add("--cache", metavar="FOLDER", help="where to write")
    add("--quiet", action="store_true", help="no progress on standard error")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from discdiff.data import SequenceDataset
    from discdiff.data.faults import RefusedError, write_faults

    reading.check_skipped(arguments)
    experiment = _experiment(arguments)
    data = experiment.data
    if arguments.on_error != "raise":
        data.on_error = arguments.on_error
    data.cache = arguments.cache or (data.cache if isinstance(data.cache, str) else True)
    data.valid_fraction = 0.0
    if data.windows is not None or data.valid_windows is not None:
        raise ConfigError("windows of a genome are cut out of the file as it is: there is nothing to prepare")
    start = time.monotonic()
    try:
        found = experiment.read(progress=not arguments.quiet)
    except RefusedError as error:
        if arguments.skipped is not None:
            write_faults(error.faults, arguments.skipped)
        raise
    parts = {"train": found.train, "valid": found.valid}
    if data.path("test") is not None:
        parts["test"] = data.read(
            experiment.domain, "test", label_names=found.train.label_names, progress=not arguments.quiet
        )
    for split, part in parts.items():
        if part is not None:
            assert isinstance(part, SequenceDataset), "windows were refused"
            _tell(str(data.path(split)), part, time.monotonic() - start)
            start = time.monotonic()
    if arguments.skipped is not None:
        write_faults(
            [fault for part in parts.values() if part is not None for fault in part.skipped], arguments.skipped
        )
    return 0


def _experiment(arguments: argparse.Namespace) -> Experiment:
    from discdiff.experiment import Experiment
    from discdiff.experiment.configuration import parse_yaml

    if (arguments.file is None) == (arguments.config is None):
        raise ConfigError("name a file to encode, or a configuration: --config FILE")
    if arguments.config is not None:
        given = {**reading.file_options(arguments), "domain": arguments.domain, "length": arguments.length}
        given |= {"domain_option": arguments.domain_option, "on_long": arguments.on_long}
        if name := next((name for name, value in given.items() if value), None):
            raise ConfigError(f"--{name.replace('_', '-')}: with --config, the configuration says it; write it there")
        root = {} if arguments.data_root is None else {"root": arguments.data_root}
        return Experiment.load(arguments.config, values={"data": root} if root else None)
    from discdiff.data.files import check_file
    from discdiff.domain import domain_names

    check_file(arguments.file)
    if arguments.domain is None:
        raise ConfigError(f"name the domain: --domain {' or '.join(domain_names())}")
    given = reading.file_options(arguments)
    length = arguments.length or reading.usual_length(arguments.domain)
    data: dict[str, Any] = {"train": str(arguments.file), "length": length}
    data |= {name: given.pop(name) for name in reading.COLUMNS if name in given}
    if arguments.on_long is not None:
        data["on_long"] = arguments.on_long
    if "where" in given:
        # values as a configuration has them, so that `discdiff train` finds the same entry
        where = {name: [parse_yaml(value, name) for value in values] for name, values in given.pop("where").items()}
        data["where"] = {name: values[0] if len(values) == 1 else values for name, values in where.items()}
    if given:
        data["options"] = given
    domain = {"class_path": arguments.domain, "init_args": reading.domain_options(arguments)}
    stated = {"domain": domain, "data": data}
    return Experiment.load(values=stated)


def _tell(path: str, part: SequenceDataset, seconds: float) -> None:
    for note in part.notes[:-1]:
        print(f"{path}: {note}", file=sys.stderr)
    size = sum(file.stat().st_size for file in part.folder.iterdir()) / 1e6 if part.folder is not None else 0.0
    print(f"{path}: {len(part):,} records, {part.tokens:,} tokens, {size:,.1f} MB in {part.folder} ({seconds:.1f} s)")
