"""Where the rows of a table come from: CSV and TSV, Parquet. (`discdiff.data.hub` has one more.)"""

from __future__ import annotations

import csv
import difflib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from discdiff.data.faults import Faults
from discdiff.data.paths import plain_suffix, tell
from discdiff.data.streams import open_text, unpacked
from discdiff.errors import ConfigError, DataError, require

_SEPARATORS = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a bar"}


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row by column; `place` is its number, `line` where it begins in a text file, else None."""

    place: int
    line: int | None
    cells: dict[str, str | None]


class RowError(DataError):
    """A row that is not well-formed; the next may be."""


class Source(ABC):
    """A table: its columns, and its rows one after the other."""

    path: str | Path
    columns: list[str]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    @abstractmethod
    def rows(self, columns: list[str], faults: Faults) -> Iterator[Row]:
        """The cells of these columns; rows that cannot be read go to `faults`."""

    def fault(self, message: str, row: Row, remedy: str) -> DataError:
        """The error for what a row holds."""
        record = row.place if row.line is None else None
        return DataError(message, path=self.path, record=record, line=row.line, remedy=remedy)

    def missing(self, message: str, names: Collection[str], option: str) -> DataError:
        """The error for a column that is not there, with those that are."""
        near = difflib.get_close_matches(next(iter(names)), self.columns, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "" if option == "where" else f"; name one by {option}="
        return DataError(message, path=self.path, remedy=f"columns found: {', '.join(self.columns)}{hint}")


class Delimited(Source):
    """CSV and TSV."""

    def __init__(self, path: Path, separator: str | None, encoding: str) -> None:
        self.path = path
        separator = "\t" if separator == "\\t" else separator
        if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
            raise ConfigError(f"separator: got {separator!r}, expected one character, such as ';' or '\\t'")
        if csv.field_size_limit() < 1 << 31:
            csv.field_size_limit((1 << 31) - 1)  # a chromosome is one cell
        self._stream = open_text(path, encoding, newline="")
        try:
            header = self._header_line()
            self.separator = separator or _separator(path, header)
            self._reader = csv.reader(self._lines(header), delimiter=self.separator, strict=True)
            self.columns = [name.strip() for name in self._next() or []]
            self._check_columns()
        except BaseException:
            self._stream.close()
            raise

    def close(self) -> None:
        self._stream.close()

    def _header_line(self) -> str:
        self._skipped = 0
        for line in self._stream:
            if line.strip():
                return line
            self._skipped += 1
        raise DataError("the table is empty (0 records)", path=self.path)

    def _lines(self, header: str) -> Iterator[str]:
        yield header
        yield from self._stream

    def _next(self) -> list[str] | None:
        begun = self.line + 1
        try:
            return next(self._reader, None)
        except csv.Error as error:
            unclosed = "unexpected end of data" in str(error)
            message = 'a quote (") is opened and never closed' if unclosed else f"not well-formed: {error}"
            kind = DataError if unclosed else RowError  # what follows an open quote is all within it
            remedy = "close it, or double each quote that is part of the text"
            raise kind(message, path=self.path, line=begun, remedy=remedy) from error

    @property
    def line(self) -> int:
        return self._skipped + int(self._reader.line_num)

    def _check_columns(self) -> None:
        twice = sorted({name for name in self.columns if name and self.columns.count(name) > 1})
        if twice:
            message = f"column {twice[0]!r} occurs {self.columns.count(twice[0])} times"
            raise DataError(message, path=self.path, line=self.line, remedy="rename one")

    def rows(self, columns: list[str], faults: Faults) -> Iterator[Row]:
        where = [(name, self.columns.index(name)) for name in columns]
        place = 0
        while True:
            line = self.line + 1
            try:
                cells = self._next()
            except RowError as error:
                place += 1
                faults.add(error)
                continue
            if cells is None:
                return
            if not cells:
                continue
            place += 1
            if len(cells) == len(self.columns):
                yield Row(place, line, {name: cells[i] for name, i in where})
            else:
                faults.add(self._ragged(cells, line), reason="more or fewer cells than the header has columns")

    def _ragged(self, cells: list[str], line: int) -> DataError:
        named = _SEPARATORS.get(self.separator, repr(self.separator))
        more = f'a cell that contains {named} must stand in quotes ("...")'
        return DataError(
            f"{len(cells)} cells where the header has {len(self.columns)} columns", path=self.path, line=line,
            remedy=more if len(cells) > len(self.columns) else "an empty cell still needs its separator",
        )  # fmt: skip

    def missing(self, message: str, names: Collection[str], option: str) -> DataError:
        if len(self.columns) == 1:
            for other, named in _SEPARATORS.items():
                if other in self.columns[0]:
                    return DataError(
                        f"{message}: the header is one column, {self.columns[0]!r}",
                        path=self.path,
                        line=self._skipped + 1,
                        remedy=f"columns seem to be separated by {named}: pass separator={other!r}",
                    )
        return super().missing(message, names, option)


class Parquet(Source):
    """Parquet, a batch of rows at a time; `lists` takes columns of lists, as their items with spaces between."""

    def __init__(self, path: Path, lists: bool) -> None:
        self.path, self._lists = path, lists
        parquet = require("pyarrow.parquet")
        self._stack = ExitStack()
        try:
            plain = self._stack.enter_context(unpacked(path))
            self._file: Any = self._stack.enter_context(parquet.ParquetFile(plain))
        except _arrow_errors() as error:
            self._stack.close()
            if isinstance(error, DataError):
                raise
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"cannot be read as Parquet: {first}", path=path, remedy="write the file again") from error
        self.columns = list(self._file.schema_arrow.names)

    def close(self) -> None:
        self._stack.close()

    def rows(self, columns: list[str], faults: Faults) -> Iterator[Row]:
        for name in columns:
            check_type(self.path, name, self._file.schema_arrow.field(name).type, self._lists)
        place, total = 0, max(self._file.metadata.num_rows, 1)
        try:
            for batch in self._file.iter_batches(batch_size=4096, columns=columns):
                for cells in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
                    place += 1
                    yield Row(place, None, {n: as_text(c) for n, c in zip(columns, cells, strict=True)})
                tell(place / total)
        except _arrow_errors() as error:
            if isinstance(error, DataError):
                raise
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"damaged Parquet file: {first}", path=self.path, record=place + 1, remedy="write the file again"
            ) from error


def _arrow_errors() -> tuple[type[Exception], ...]:
    """What pyarrow raises on a damaged file; ours are among them, as kin of ValueError."""
    return (OSError, ValueError, require("pyarrow").lib.ArrowException)


def check_type(path: str | Path, name: str, kind: Any, lists: bool) -> None:
    """Refuse an Arrow column that holds no text.

    Raises:
        DataError: bytes, structs, or lists where `lists` does not take them.
    """
    types = require("pyarrow.types")
    listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    if binary or (types.is_nested(kind) and not (listed and lists)):
        raise DataError(f"column {name!r} holds {kind}, not text", path=path, remedy="store strings")


def as_text(cell: Any) -> str | None:
    """A cell as text; a list as its items with spaces between."""
    if isinstance(cell, list):
        return " ".join(map(str, cell))
    return None if cell is None else str(cell)


def _separator(path: Path, header: str) -> str:
    suffix = plain_suffix(path)
    if suffix in (".tsv", ".tab"):
        return "\t"
    if suffix == ".csv":
        return ","
    return "\t" if "\t" in header else ","


__all__ = ["Delimited", "Parquet", "Row", "Source", "as_text", "check_type"]
