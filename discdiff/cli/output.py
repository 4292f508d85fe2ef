"""Where results go: standard output, or a file that appears whole or not at all."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from discdiff.errors import DiscdiffError

if TYPE_CHECKING:
    from discdiff.domain import Domain
    from discdiff.pipeline import Samples


def add_output_arguments(parser: argparse.ArgumentParser, own: str) -> None:
    """Add `-o` and `--json`."""
    group = parser.add_argument_group("output")
    group.add_argument("-o", "--output", type=Path, metavar="FILE", help="write here instead of standard output")
    group.add_argument("--json", action="store_true", help=f"JSON lines instead of {own}")


def check_output(path: Path | None) -> None:
    """Refuse, before any work, an output file that could not be written."""
    if path is None:
        return
    if path.is_dir():
        raise DiscdiffError(f"{path}: this is a folder; name a file to write")
    if not path.parent.is_dir():
        raise DiscdiffError(f"{path}: the folder {path.parent} does not exist; create it first")


@contextmanager
def results(path: Path | None) -> Iterator[TextIO]:
    """A stream for results. A file is moved into place when all has been written; after an error there is none."""
    if path is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    check_output(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)  # mkstemp's file is private
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    print(f"wrote {path}", file=sys.stderr)


def write_sequences(domain: Domain, samples: Samples, path: Path | None, *, as_json: bool, quiet: bool = True) -> None:
    """Write samples in the domain's own format, or as JSON lines with the reason for each invalid one.

    What their schedule loses is said on standard error and, in JSON, of each.
    """
    from discdiff.domain import Record

    certificate = samples.certificate
    if certificate is not None and not quiet:
        print(certificate, file=sys.stderr)
    with results(path) as stream:
        if not as_json:
            domain.write((Record(s, name=f"sample_{i}", place=i) for i, s in enumerate(samples, 1)), stream)
            return
        for i, sequence in enumerate(samples):
            reason = domain.invalid(sequence)
            row = {"name": f"sample_{i + 1}", "sequence": sequence, "valid": reason is None, "reason": reason}
            if samples.certificates:
                row |= {"certificate": samples.certificates[i].to_json()}
            write_json(row, stream)


def write_json(row: Mapping[str, Any], stream: TextIO) -> None:
    """Write one JSON line."""
    stream.write(json.dumps(row, ensure_ascii=False) + "\n")
