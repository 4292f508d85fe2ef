"""Where results go: standard output, or a file that appears whole or not at all."""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from discdiff.errors import DiscdiffError

if TYPE_CHECKING:
    from discdiff.domain import Domain
    from discdiff.pipeline import Samples
    from discdiff.samplers import Certificate


def add_output_arguments(parser: argparse.ArgumentParser, own: str) -> None:
    """Add `-o` and `--json`."""
    group = parser.add_argument_group("output")
    group.add_argument("-o", "--output", type=named, metavar="FILE", help="write here instead of standard output")
    group.add_argument("--json", action="store_true", help=f"JSON lines instead of {own}")


def named(word: str) -> Path | None:
    """The file of `-o`; `-` is standard output."""
    return None if word == "-" else Path(word)


def save_picture(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib as what the file's name ends in; after an error there is no file."""
    from discdiff.writing import write_whole

    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:].lower(), dpi=120)
    write_whole(path, drawn.getvalue())


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
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None and not isinstance(error, BrokenPipeError):
            error.filename = str(path)  # a full disk does not say which
        raise
    print(f"wrote {path}", file=sys.stderr)


def write_sequences(
    domain: Domain, chunks: Iterable[Samples], path: Path | None, *, as_json: bool, quiet: bool = True
) -> None:
    """Write samples as they come in the domain's own format, or as JSON lines with the reason for each invalid one.

    What their schedule loses is said on standard error and, in JSON, of each; such samples come as one chunk.
    """
    from discdiff.domain import Record

    coming = iter(chunks)
    first = next(coming)
    if first.certificate is not None and not quiet:
        print(first.certificate, file=sys.stderr)
    numbered = enumerate((each for chunk in itertools.chain([first], coming) for each in _each(chunk)), 1)
    with results(path) as stream:
        if not as_json:
            domain.write((Record(text, name=f"sample_{i}", place=i) for i, (text, _) in numbered), stream)
            return
        for i, (text, certificate) in numbered:
            reason = domain.invalid(text)
            row = {"name": f"sample_{i}", "sequence": text, "valid": reason is None, "reason": reason}
            write_json(row if certificate is None else row | {"certificate": certificate.to_json()}, stream)


def _each(samples: Samples) -> Iterator[tuple[str, Certificate | None]]:
    return zip(samples, samples.certificates or itertools.repeat(None), strict=False)


def write_json(row: Mapping[str, Any], stream: TextIO) -> None:
    """Write one JSON line."""
    stream.write(json.dumps(row, ensure_ascii=False) + "\n")
