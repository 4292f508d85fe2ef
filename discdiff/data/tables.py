"""Records from tables: CSV, TSV, Parquet, Hugging Face data sets. Text stays text: "NA" is a peptide, not missing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from discdiff.data.faults import Faults
from discdiff.data.hub import Hub
from discdiff.data.paths import check_file, is_hub, plain_suffix
from discdiff.data.sources import Delimited, Parquet, Source
from discdiff.errors import DataError
from discdiff.records import Record

GUESSES = ("sequence", "smiles", "text", "seq")
_NAMES = ("id", "name")
_DELIMITED, _PARQUET = (".csv", ".tsv", ".tab"), (".parquet", ".pq")


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
    streaming: bool = False,
    faults: Faults | None = None,
) -> Iterator[Record]:
    """Records of a table with a header row, one a row.

    Args:
        path: CSV, TSV or Parquet (plain, gz, bz2 or xz), or a Hugging Face data set (`discdiff.data.hub`).
        sequence_column: the column of sequences; None takes the first of `guesses` that the table has.
        label_column: the column of classes; an empty cell is no label.
        name_column: the column of names; None takes `id` or `name` where there is one.
        where: keeps the rows whose column equals the value (or one of a list of values), compared as text.
        guesses: names that a column of sequences may have, in upper or lower case.
        separator: the character between columns; None goes by the file's name, then by its header.
        encoding: of a text file.
        lists: take columns of lists, as their items with spaces between (Parquet, data sets).
        streaming: of a data set of the hub: rows from the network as they come, nothing stored.
        faults: takes the rows that cannot be read; without it the first is raised.

    Raises:
        DataError: with file and line: a column that is missing or occurs twice, a row with too many or
            too few cells, an unclosed quote, an empty sequence; no row at all, or none that `where` keeps.
    """
    path = check_file(path)
    faults = faults or Faults(path)
    wanted = {name: accepted_values(value) for name, value in (where or {}).items()}
    with _source(path, separator, encoding, lists, streaming) as source:
        asked = sequence_column or (source.column if isinstance(source, Hub) else None)
        column = asked or _guess(source.columns, guesses)
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
        for row in source.rows([c for c in source.columns if c in used], faults):
            cells = row.cells
            for name in wanted:
                if len(seen[name]) < 20:
                    seen[name].add(cells[name])
            if any(cells[name] not in values for name, values in wanted.items()):
                continue
            sequence = cells[column]
            if not sequence:
                message = f"the sequence (column {column!r}) is empty"
                faults.add(source.fault(message, row, "fill it in or delete the row"), reason="the sequence is empty")
                continue
            kept += 1
            name, label = cells[named] if named else None, cells[label_column] if label_column else None
            yield Record(sequence, name or None, label or None, row.place)
        if not kept and not faults.count:
            raise _nothing(path, wanted, seen)


def _source(path: Path, separator: str | None, encoding: str, lists: bool, streaming: bool) -> Source:
    if is_hub(path):
        return Hub(path, lists, streaming)
    return Parquet(path, lists) if plain_suffix(path) in _PARQUET else Delimited(path, separator, encoding)


def is_table(path: str | Path) -> bool:
    """Whether a file is a table by its name: CSV, TSV, Parquet, or a Hugging Face data set."""
    return plain_suffix(path) in (*_DELIMITED, *_PARQUET) or is_hub(path)


def columns_of(path: str | Path, *, separator: str | None = None, encoding: str = "utf-8") -> list[str]:
    """The columns of a table.

    Raises:
        DataError: it cannot be read.
    """
    with _source(check_file(path), separator, encoding, lists=True, streaming=True) as source:
        return source.columns


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
