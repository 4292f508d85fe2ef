"""Files of text as records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from discdiff.data.files import accepted_values, open_text, plain_suffix, read_table
from discdiff.domain import Record
from discdiff.errors import DataError

GUESSES = ("text", "sequence", "content", "document", "sentence")
TABLES = (".csv", ".tsv", ".tab", ".parquet", ".pq")
_BLOCK = 1 << 22


def read_records(
    path: str | Path, *, lines: bool, join: str, encoding: str = "utf-8", **options: Any
) -> Iterator[Record]:
    """Records of a file by its suffix: tables, JSON Lines, else plain text.

    Args:
        path: the file.
        lines: a plain text file has a record a line.
        join: put after each document of tables and JSON Lines.
        encoding: of the characters.
        options: of tables and JSON Lines.

    Raises:
        DataError: names file, line, and column or byte; options that the format does not take.
    """
    suffix = plain_suffix(path)
    if suffix in TABLES:
        records = read_table(path, encoding=encoding, guesses=options.pop("guesses", GUESSES), **options)
    elif suffix in (".jsonl", ".ndjson"):
        records = _json_lines(path, encoding, **options)
    else:
        if foreign := [name for name, value in options.items() if value is not None]:
            raise DataError(
                f"a text file has no {foreign[0]}", path=path, remedy="options about columns are for tables"
            )
        yield from _lines(path, encoding) if lines else _stream(path, encoding)
        return
    for record in records:
        yield replace(record, sequence=record.sequence + join) if join else record


def _stream(path: str | Path, encoding: str) -> Iterator[Record]:
    with open_text(path, encoding) as stream:
        place = 0
        while block := stream.readlines(_BLOCK):
            place += 1
            yield Record("".join(block), place=place)


def _lines(path: str | Path, encoding: str) -> Iterator[Record]:
    found = False
    with open_text(path, encoding) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                found = True
                yield Record(line.removesuffix("\n"), place=number)
    if not found:
        raise DataError("all lines are blank (0 records)", path=path)


def _json_lines(
    path: str | Path,
    encoding: str,
    sequence_column: str | None = None,
    label_column: str | None = None,
    name_column: str | None = None,
    where: Mapping[str, object] | None = None,
) -> Iterator[Record]:
    wanted = {name: accepted_values(value) for name, value in (where or {}).items()}
    place = kept = 0
    with open_text(path, encoding) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            place += 1
            row = _object(line.rstrip(), path, number)
            field = sequence_column or next((guess for guess in GUESSES if guess in row), "text")
            for needed in filter(None, (field, label_column, name_column, *wanted)):
                if needed not in row:
                    raise DataError(
                        f"no field {needed!r}", path=path, line=number, remedy=f"fields of this line: {', '.join(row)}"
                    )
            if any(str(row[name]) not in values for name, values in wanted.items()):
                continue
            text = row[field]
            if not isinstance(text, str):
                raise DataError(
                    f"field {field!r} holds {json.dumps(text)[:40]}, not a string", path=path, line=number,
                    remedy="name the field of the text by sequence_column=",
                )  # fmt: skip
            if not text:
                raise DataError(
                    f"the text (field {field!r}) is empty", path=path, line=number, remedy="delete the line"
                )
            kept += 1
            named = name_column or next((guess for guess in ("id", "name") if guess in row), None)
            name = None if named is None or row[named] is None else str(row[named])
            label = None if label_column is None or row[label_column] is None else str(row[label_column])
            yield Record(text, name, label, place)
    if not kept:
        raise DataError(f"none of {place} lines has {where}" if place else "no lines (0 records)", path=path)


def _object(line: str, path: str | Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"not JSON: {error.msg}", path=path, line=number, column=error.colno, remedy="each line is one object"
        ) from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, thousands of brackets
        raise DataError(
            f"not JSON that can be read: {error}", path=path, line=number, remedy="each line is one flat object"
        ) from error
    if not isinstance(row, dict):
        raise DataError(
            f"expected an object, got {type(row).__name__}", path=path, line=number, remedy='such as {"text": "..."}'
        )
    return row
