"""Hugging Face data sets where a file is expected: names on the hub, saved folders, builders with files.

    hf://owner/name?split=train&column=text&config=en&revision=main
    hf://folder?split=test                         # a folder of files, or one written by `save_to_disk`
    hf://json?data_files=shards/*.jsonl.zst        # a builder of `datasets`, for formats that we do not read

They are memory-mapped Arrow: a batch of rows is in memory at a time. Scripts of a repository are never run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from discdiff.data.faults import Faults
from discdiff.data.paths import tell
from discdiff.data.sources import Row, Source, as_text, check_type
from discdiff.errors import DataError, require

_KEYS = ("split", "column", "config", "revision", "data_files")
_BATCH = 4096


class Hub(Source):
    """A data set of the Hugging Face hub, or of a folder.

    Args:
        path: `hf://…`, or a folder that `save_to_disk` wrote.
        lists: take columns of lists, as their items with spaces between.
        streaming: take rows from the network as they come, to look at them, instead of storing the data set first.

    Raises:
        DataError: no such data set, split or option, with those that there are.
        MissingDependencyError: `datasets` is not installed.
    """

    def __init__(self, path: str | Path, lists: bool, streaming: bool = False) -> None:
        self._lists = lists
        self._name, self.path, query = _parse(str(path))
        self._asked = dict(parse_qsl(query, keep_blank_values=True))
        if odd := [key for key in self._asked if key not in _KEYS]:
            raise DataError(f"unknown option {odd[0]!r}", path=self.path, remedy=f"known: {', '.join(_KEYS)}")
        if not self._name:
            raise DataError("no name", path=self.path, remedy="such as hf://owner/name?split=train")
        self._data = self._loaded(streaming)
        # a stream may not know its columns before its first row
        self.columns = list(self._data.column_names or next(iter(self._data), {}))
        if (column := self._asked.get("column")) and column not in self.columns:
            raise self.missing(f"no column {column!r}", (column,), "column")

    @property
    def column(self) -> str | None:
        """The column of sequences that the name asks for, or None."""
        return self._asked.get("column")

    @property
    def identity(self) -> tuple[str, int]:
        """What tells the rows from those of another data set, and how many bytes of Arrow they take."""
        return str(self._data._fingerprint), int(self._data.data.nbytes)

    def close(self) -> None:
        del self._data

    def rows(self, columns: list[str], faults: Faults) -> Iterator[Row]:
        features = self._data.features or {}
        classes = {name: getattr(features.get(name), "names", None) for name in columns}
        place, total = 0, getattr(self._data, "num_rows", None)
        for table in self._data.select_columns(columns).with_format("arrow").iter(batch_size=_BATCH):
            if not place:
                for name in columns:
                    check_type(self.path, name, table.schema.field(name).type, self._lists)
            for cells in zip(*(table.column(name).to_pylist() for name in columns), strict=True):
                place += 1
                yield Row(place, None, {n: _cell(c, classes[n]) for n, c in zip(columns, cells, strict=True)})
            if total:
                tell(place / total)

    def _loaded(self, streaming: bool) -> Any:
        datasets = require("datasets")
        # ours are ValueErrors; those of `datasets` and of the network come of these four
        expected = (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError)
        folder, asked = Path(self._name), self._asked
        verbose = datasets.utils.logging.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        try:
            if any((folder / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
                found = datasets.load_from_disk(str(folder), keep_in_memory=False)
            else:
                files = asked.get("data_files")
                found = datasets.load_dataset(
                    self._name, asked.get("config"), revision=asked.get("revision"), streaming=streaming,
                    data_files=files if files is None else files.split(","),
                )  # fmt: skip
        except expected as error:
            raise self._refused(error) from error
        finally:
            if verbose:
                datasets.enable_progress_bars()
        return self._split(found)

    def _split(self, found: Any) -> Any:
        asked = self._asked.get("split")
        if not isinstance(found, dict):  # one set, saved without splits
            if asked is not None:
                raise DataError(
                    f"no split {asked!r}", path=self.path, remedy="it is one set without splits: leave it out"
                )
            return found
        names = list(found)
        if asked is None:
            asked = names[0] if len(names) == 1 else "train"
        if asked not in found:
            raise DataError(
                f"no split {asked!r}" if "split" in self._asked else "which split?", path=self.path,
                remedy=f"splits found: {', '.join(names)}; name one by ?split=",
            )  # fmt: skip
        return found[asked]

    def _refused(self, error: Exception) -> DataError:
        first = " ".join(str(error).split())[:300]
        if "Dataset scripts are no longer supported" in first:
            return DataError(
                "it is a script, and no code of others is run", path=self.path, remedy="convert it to Parquet"
            )
        config = "config" in first.lower() and "missing" in first.lower()
        remedy = "name the configuration by ?config=" if config else "check the name, and that the network is there"
        return DataError(f"cannot be loaded: {first}", path=self.path, remedy=remedy)


def _parse(path: str) -> tuple[str, str, str]:
    """Of `hf://name?key=value`: the name, the whole as it is told, the options. `Path` may have taken slashes."""
    prefix = re.match(r"hf:/*", path)
    if prefix is None:
        return path, path, ""
    name, mark, query = path[prefix.end() :].partition("?")
    if name and not Path(unquote(name)).exists() and Path("/", unquote(name)).exists():
        name = f"/{name}"
    return unquote(name), f"hf://{name}{mark}{query}", query


def _cell(cell: Any, classes: list[str] | None) -> str | None:
    """A cell as text, a class number as the class's name."""
    if classes is not None and isinstance(cell, int) and 0 <= cell < len(classes):
        return classes[cell]
    return as_text(cell)


__all__ = ["Hub"]
