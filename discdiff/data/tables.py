"""Records from tables: CSV, TSV and Parquet. Text stays text: "NA" is a peptide, not a missing value."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from discdiff.data.streams import check_file, open_text, plain_suffix
from discdiff.errors import DataError, require
from discdiff.records import Record

GUESSES = ("sequence", "smiles", "text", "seq")
_NAMES = ("id", "name")
_SEPARATORS = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a bar"}
Row = tuple[int, dict[str, str | None]]


def read_table(
    path: str | Path,
    *,
    sequence_column: str | None = None,
    label_column: str | None = None,
    name_column: str | None = None,
    where: Mapping[str, object] | None = None,
    guesses: Collection[str] = GUESSES,
    separator: str | None = None,
    encoding: str = "utf-8",
    lists: bool = False,
) -> Iterator[Record]:
    """Records of a table with a header row, one a row.

    Args:
        path: CSV, TSV (plain, gz, bz2 or xz) or Parquet.
        sequence_column: the column of sequences; None takes the first of `guesses` that the table has.
        label_column: the column of classes; an empty cell is no label.
        name_column: the column of names; None takes `id` or `name` where there is one.
        where: keeps the rows whose column equals the value (or one of a list of values), compared as text.
        guesses: names that a column of sequences may have, in upper or lower case.
        separator: the character between columns; None goes by the file's name, then by its header.
        encoding: of a text file.
        lists: take Parquet columns of lists, as their items with spaces between.

    Raises:
        DataError: with file and line: a column that is missing or occurs twice, a row with too many or
            too few cells, an unclosed quote, an empty sequence; no row at all, or none that `where` keeps.
    """
    path = check_file(path)
    wanted = {name: accepted_values(value) for name, value in (where or {}).items()}
    source = (
        _Parquet(path, lists) if plain_suffix(path) in (".parquet", ".pq") else _Delimited(path, separator, encoding)
    )
    with source:
        column = sequence_column or _guess(source.columns, guesses)
        if column is None:
            raise source.missing("no column of sequences", guesses, "sequence_column")
        for option, name in {
            "sequence_column": column,
            "label_column": label_column,
            "name_column": name_column,
        }.items():
            if name is not None and name not in source.columns:
                raise source.missing(f"no column {name!r}", (name,), option)
        for name in wanted:
            if name not in source.columns:
                raise source.missing(f"no column {name!r}", (name,), "where")
        named = name_column or _guess(source.columns, _NAMES)
        kept, seen = 0, {name: set[str | None]() for name in wanted}
        used = {column, named, label_column, *wanted} - {None}
        for place, (line, row) in enumerate(source.rows([c for c in source.columns if c in used]), start=1):
            for name in wanted:
                if len(seen[name]) < 20:
                    seen[name].add(row[name])
            if any(row[name] not in values for name, values in wanted.items()):
                continue
            sequence, name, label = (
                row[column],
                row[named] if named else None,
                row[label_column] if label_column else None,
            )
            if not sequence:
                raise source.fault(f"the sequence (column {column!r}) is empty", line, "fill it in or delete the row")
            kept += 1
            yield Record(sequence, name or None, label or None, place)
        if not kept:
            raise _nothing(path, wanted, seen)


def accepted_values(value: object) -> set[str]:
    """The texts that a value of `where` accepts."""
    many = value if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    return {str(one) for one in many}


def _guess(columns: list[str], guesses: Collection[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(columns)}
    return next((lower[guess] for guess in guesses if guess in lower), None)


def _nothing(path: Path, wanted: dict[str, set[str]], seen: dict[str, set[str | None]]) -> DataError:
    for name, values in wanted.items():
        if seen[name] and not seen[name] & values:
            found = ", ".join(sorted(repr(value) for value in seen[name]))
            asked = " or ".join(sorted(repr(value) for value in values))
            return DataError(f"no row has {name} = {asked}", path=path, remedy=f"values found: {found}")
    if wanted and any(seen.values()):
        return DataError(f"no row satisfies all of where = {sorted(wanted)}", path=path, remedy="ask for less")
    return DataError("the table has a header and no rows (0 records)", path=path)


class _Delimited:
    """CSV and TSV."""

    def __init__(self, path: Path, separator: str | None, encoding: str) -> None:
        self.path = path
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

    def __enter__(self) -> _Delimited:
        return self

    def __exit__(self, *error: object) -> None:
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
            raise self.fault(message, begun, "close it, or double each quote that is part of the text") from error

    @property
    def line(self) -> int:
        return self._skipped + int(self._reader.line_num)

    def _check_columns(self) -> None:
        twice = sorted({name for name in self.columns if name and self.columns.count(name) > 1})
        if twice:
            raise self.fault(f"column {twice[0]!r} occurs {self.columns.count(twice[0])} times", 1, "rename one")

    def rows(self, columns: list[str]) -> Iterator[Row]:
        where = [(name, self.columns.index(name)) for name in columns]
        line = self.line + 1
        while (cells := self._next()) is not None:
            if cells:
                if len(cells) != len(self.columns):
                    raise self._ragged(cells, line)
                yield line, {name: cells[i] for name, i in where}
            line = self.line + 1

    def _ragged(self, cells: list[str], line: int) -> DataError:
        named = _SEPARATORS.get(self.separator, repr(self.separator))
        more = f'a cell that contains {named} must stand in quotes ("...")'
        return self.fault(
            f"{len(cells)} cells where the header has {len(self.columns)} columns", line,
            more if len(cells) > len(self.columns) else "an empty cell still needs its separator",
        )  # fmt: skip

    def fault(self, message: str, line: int, remedy: str) -> DataError:
        return DataError(message, path=self.path, line=line, remedy=remedy)

    def missing(self, message: str, names: Collection[str], option: str) -> DataError:
        if len(self.columns) == 1:
            for other, named in _SEPARATORS.items():
                if other in self.columns[0]:
                    return self.fault(
                        f"{message}: the header is one column, {self.columns[0]!r}", self._skipped + 1,
                        f"columns seem to be separated by {named}: pass separator={other!r}",
                    )  # fmt: skip
        return _missing(self.path, message, names, option, self.columns)


class _Parquet:
    """Parquet, a batch of rows at a time."""

    def __init__(self, path: Path, lists: bool) -> None:
        self.path, self._lists = path, lists
        parquet = require("pyarrow.parquet")
        try:
            self._file: Any = parquet.ParquetFile(path)
        except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's errors are kin of these
            first = str(error).splitlines()[0]
            raise DataError(f"cannot be read as Parquet: {first}", path=path, remedy="write the file again") from error
        self.columns = list(self._file.schema_arrow.names)

    def __enter__(self) -> _Parquet:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def rows(self, columns: list[str]) -> Iterator[Row]:
        types = require("pyarrow.types")
        for name in columns:
            kind = self._file.schema_arrow.field(name).type
            listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
            if types.is_binary(kind) or (types.is_nested(kind) and not (listed and self._lists)):
                raise DataError(f"column {name!r} holds {kind}, not text", path=self.path, remedy="store strings")
        row = 0
        for batch in self._batches(columns):
            for cells in zip(*batch, strict=True):
                row += 1
                yield row, {n: _text(c) for n, c in zip(columns, cells, strict=True)}

    def _batches(self, columns: list[str]) -> Iterator[list[list[Any]]]:
        """The cells of some rows, column by column."""
        try:
            for batch in self._file.iter_batches(batch_size=4096, columns=columns):
                yield [batch.column(name).to_pylist() for name in columns]
        except (OSError, ValueError, NotImplementedError) as error:  # a whole footer does not vouch for the pages
            first = str(error).splitlines()[0]
            raise DataError(f"damaged Parquet file: {first}", path=self.path, remedy="write the file again") from error

    def fault(self, message: str, line: int, remedy: str) -> DataError:
        return DataError(message, path=self.path, record=line, remedy=remedy)

    def missing(self, message: str, names: Collection[str], option: str) -> DataError:
        return _missing(self.path, message, names, option, self.columns)


def _text(cell: Any) -> str | None:
    if isinstance(cell, list):
        return " ".join(map(str, cell))
    return None if cell is None else str(cell)


def _missing(path: Path, message: str, names: Collection[str], option: str, columns: list[str]) -> DataError:
    near = difflib.get_close_matches(next(iter(names)), columns, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "" if option == "where" else f"; name one by {option}="
    return DataError(message, path=path, remedy=f"columns found: {', '.join(columns)}{hint}")


def _separator(path: Path, header: str) -> str:
    suffix = plain_suffix(path)
    if suffix in (".tsv", ".tab"):
        return "\t"
    if suffix == ".csv":
        return ","
    return "\t" if "\t" in header else ","
