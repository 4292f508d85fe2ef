"""Files of text as records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from discdiff.data.files import Faults, accepted_values, is_table, open_text, plain_suffix, read_table
from discdiff.domain import Record
from discdiff.errors import DataError

GUESSES = ("text", "sequence", "content", "document", "sentence")
_BLOCK = 1 << 22


def read_records(
    path: str | Path,
    *,
    lines: bool,
    join: str,
    encoding: str = "utf-8",
    faults: Faults | None = None,
    **options: Any,
) -> Iterator[Record]:
    """Records of a file by its suffix: tables, JSON Lines, else plain text.

    Args:
        path: the file.
        lines: a plain text file has a record a line.
        join: put after each document of tables and JSON Lines.
        encoding: of the characters.
        faults: takes the rows and lines that cannot be read.
        options: of tables and JSON Lines.

    Raises:
        DataError: names file, line, and column or byte; options that the format does not take.
    """
    if faults is None:
        faults = Faults(path)
        yield from read_records(path, lines=lines, join=join, encoding=encoding, faults=faults, **options)
        faults.warn(1)  # the first record that cannot be used has been raised
        return
    if is_table(path):
        guesses = options.pop("guesses", GUESSES)
        records = read_table(path, encoding=encoding, guesses=guesses, faults=faults, **options)
    elif plain_suffix(path) in (".jsonl", ".ndjson"):
        records = _json_lines(path, encoding, faults, **options)
    else:
        if foreign := [name for name, value in options.items() if value is not None]:
            raise DataError(
                f"a text file has no {foreign[0]}", path=path, remedy="options about columns are for tables"
            )
        yield from _lines(path, encoding, faults) if lines else _stream(path, encoding)
        return
    for record in records:
        yield replace(record, sequence=record.sequence + join) if join else record


def _stream(path: str | Path, encoding: str) -> Iterator[Record]:
    with open_text(path, encoding) as stream:
        for place, block in enumerate(_blocks(stream), 1):
            yield Record(block, place=place)


def _blocks(stream: TextIO, size: int = _BLOCK) -> Iterator[str]:
    """A text in parts of about `size` characters, cut after a line or, in a longer line, before a space."""
    rest = ""
    while part := stream.read(size):
        rest += part
        cut = rest.rfind("\n") + 1 or (rest.rfind(" ") if len(rest) > size else 0)
        if cut <= 0 and len(rest) > 4 * size:  # no place to cut: text without spaces
            cut = len(rest)
        if cut > 0:
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


def _lines(path: str | Path, encoding: str, faults: Faults) -> Iterator[Record]:
    found = False
    with open_text(path, encoding) as stream:
        for number, line in faults.filled(enumerate(stream, 1)):
            found = True
            yield Record(line.removesuffix("\n"), place=number)
    if not found:
        raise DataError("all lines are blank (0 records)", path=path)


def _json_lines(
    path: str | Path,
    encoding: str,
    faults: Faults,
    sequence_column: str | None = None,
    label_column: str | None = None,
    name_column: str | None = None,
    where: Mapping[str, object] | None = None,
) -> Iterator[Record]:
    wanted = {name: accepted_values(value) for name, value in (where or {}).items()}
    place = kept = 0
    with open_text(path, encoding) as stream:
        for number, line in faults.filled(enumerate(stream, 1)):
            place += 1
            try:
                row = _object(line, path, number)
                field = sequence_column or next((guess for guess in GUESSES if guess in row), "text")
                _check_fields(row, filter(None, (field, label_column, name_column, *wanted)), path, number)
                if any(str(row[name]) not in values for name, values in wanted.items()):
                    continue
                text = _text(row, field, path, number)
            except TruncatedError:
                raise
            except DataError as error:
                faults.add(error)
                continue
            kept += 1
            named = name_column or next((guess for guess in ("id", "name") if guess in row), None)
            name = None if named is None or row[named] is None else str(row[named])
            label = None if label_column is None or row[label_column] is None else str(row[label_column])
            yield Record(text, name, label, place)
    if not kept and not faults.count:
        raise DataError(f"none of {place} lines has {where}" if place else "no lines (0 records)", path=path)


class TruncatedError(DataError):
    """A last line that breaks off: no fault of a record, but of the file."""


def _object(line: str, path: str | Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line.rstrip())
    except json.JSONDecodeError as error:
        whole = line.endswith("\n") or line.rstrip().endswith("}")
        raise (DataError if whole else TruncatedError)(
            f"not JSON: {error.msg}" if whole else "truncated: the last line breaks off", path=path, line=number,
            column=error.colno, remedy="each line is one object" if whole else "copy or download it again",
        ) from error  # fmt: skip
    except RecursionError as error:
        raise DataError(
            "not JSON that can be read: nested too deeply",
            path=path,
            line=number,
            remedy="each line is one flat object",
        ) from error
    except ValueError as error:  # Python refuses numbers of more than 4300 digits
        raise DataError(
            f"not JSON that can be read: {error}", path=path, line=number, remedy="each line is one flat object"
        ) from error
    if not isinstance(row, dict):
        raise DataError(
            f"expected an object, got {type(row).__name__}", path=path, line=number, remedy='such as {"text": "..."}'
        )
    return row


def _check_fields(row: dict[str, Any], needed: Iterable[str], path: str | Path, number: int) -> None:
    for name in needed:
        if name not in row:
            raise DataError(
                f"no field {name!r}", path=path, line=number, remedy=f"fields of this line: {', '.join(row)}"
            )


def _text(row: dict[str, Any], field: str, path: str | Path, number: int) -> str:
    text = row[field]
    if not isinstance(text, str):
        raise DataError(
            f"field {field!r} holds {json.dumps(text)[:40]}, not a string", path=path, line=number,
            remedy="name the field of the text by sequence_column=",
        )  # fmt: skip
    if not text:
        raise DataError(f"the text (field {field!r}) is empty", path=path, line=number, remedy="delete the line")
    return text
