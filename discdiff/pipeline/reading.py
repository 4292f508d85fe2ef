"""The samples of a job, read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from discdiff.errors import DiscdiffError
from discdiff.pipeline.job import read_settings
from discdiff.pipeline.part_formats import READERS, Row


def read_parts(folder: str | Path, *, partial: bool = False) -> Iterator[Row]:
    """The samples of a job in order, a part in memory at a time.

    A sample is a mapping: `index` (from 0 on) and `sequence`; from Parquet and JSON lines also `label`, `calls`,
    `seed`, `valid`, `reason` (why not) and `certificate` (what its schedule loses). A table of them is
    `pandas.DataFrame(read_parts(folder))`.

    Args:
        folder: that of `Pipeline.sample_to` or `discdiff sample -o FOLDER`.
        partial: read what is there of a job that is not finished.

    Raises:
        DiscdiffError: no job, a part that is damaged, or one that is missing and not left out by `partial`.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    size, n = settings["part_size"], settings["n"]
    found = {path.name.partition(".")[0]: path for path in folder.glob("part-*.*")}
    parts = [(part, found.get(f"part-{part:06d}")) for part in range(-(-n // size))]
    missing = sum(path is None for _, path in parts)
    if missing and not partial:
        raise DiscdiffError(
            f"{folder}: {missing} of {len(parts)} parts are missing; make them by the command that began the job, or "
            "read what is there: partial=True"
        )
    return _rows([(part * size, min(n, (part + 1) * size), path) for part, path in parts if path is not None])


def _rows(parts: list[tuple[int, int, Path]]) -> Iterator[Row]:
    for first, end, path in parts:
        form = READERS.get(path.suffix.removeprefix("."))
        fault = "is of no format that jobs have" if form is None else form.fault(path, range(first, end))
        if form is None or fault is not None:
            raise DiscdiffError(f"{path}: {fault}; the command that began the job makes it again")
        yield from form.decode(path.read_bytes(), first)


__all__ = ["read_parts"]
