"""Files of integers: npy, Parquet, tables and lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from discdiff.data.files import Faults, check_file, is_table, open_text, plain_suffix, read_table, tell, unpacked
from discdiff.domain import Record
from discdiff.errors import DataError, UnknownTokenError

if TYPE_CHECKING:
    from domains.tokens.domain import Tokens

GUESSES = ("tokens", "sequence", "codes", "ids", "input_ids")
_NUMBERS = re.compile(r"[\d\s,;\[\]()+-]*")


def read_tokens(tokens: Tokens, path: str | Path, *, faults: Faults | None = None, **options: Any) -> Iterator[Record]:
    """Records of a file; see `Tokens.read`."""
    path = check_file(path)
    if faults is None:
        faults = Faults(path)
        yield from read_tokens(tokens, path, faults=faults, **options)
        faults.warn(1)  # the first record that cannot be used has been raised
        return
    suffix = plain_suffix(path)
    if suffix == ".npy":
        records = _array(path, **options)
    elif options or (is_table(path) and not (suffix in (".csv", ".tsv", ".tab") and not _has_header(path))):
        table: dict[str, Any] = {"guesses": GUESSES, "lists": True, "faults": faults} | options
        records = read_table(path, **table)
    else:
        records = _lines(path, faults)
    yield from _checked(tokens, path, records, faults)


def _checked(tokens: Tokens, path: Path, records: Iterable[Record], faults: Faults) -> Iterator[Record]:
    count = 0
    for record in records:
        try:
            # V may not be known before the data have been seen
            sequence = tokens.canonical(record.sequence) if tokens.options()["vocab_size"] is None else None
            sequence = tokens.decode(tokens.encode(record.sequence)) if sequence is None else sequence
        except UnknownTokenError as error:
            located = UnknownTokenError(
                error.message, path=path, record=record.title, column=error.column, remedy=error.remedy
            )
            faults.add(located)
            continue
        if not sequence:
            faults.add(DataError("the sequence is empty", path=path, record=record.title))
            continue
        count += 1
        yield Record(sequence, record.name, record.label, record.place)
    if not count and not faults.count:
        raise DataError("no sequences (0 records)", path=path)


def _array(path: Path, **options: Any) -> Iterator[Record]:
    for option in options:
        raise DataError(f"{option} is for tables; an npy file has no columns", path=path, remedy="leave it out")
    with unpacked(path) as plain:
        array = _loaded(path, plain)
        if array.dtype.kind not in "iu":
            raise DataError(f"got {array.dtype}, expected integers", path=path, remedy="convert it before saving")
        if not array.size:
            raise DataError(f"the array is empty: shape {array.shape}", path=path)
        rows = array.reshape(1, -1) if array.ndim < 2 else array
        for place, row in enumerate(rows, start=1):
            yield Record(" ".join(map(str, row.ravel().tolist())), place=place)
            if not place % 1024:
                tell(place / len(rows))


def _loaded(path: Path, plain: Path) -> NDArray[Any]:
    with plain.open("rb") as file:
        magic, version = file.read(6), file.read(2)
        header = int.from_bytes(file.read(2 if version[:1] == b"\x01" else 4), "little")
    if magic != b"\x93NUMPY":
        kind = "an archive of arrays (npz)" if magic.startswith(b"PK") else "no npy file"
        raise DataError(f"this is {kind}", path=path, remedy="write one array with numpy.save")
    if header > plain.stat().st_size:  # NumPy would make room for it before it finds that it is not there
        raise DataError("damaged npy file: truncated within its header", path=path, remedy="copy or write it again")
    try:
        array: NDArray[Any] = np.load(plain, mmap_mode="r", allow_pickle=False)
    except MemoryError:
        raise
    except Exception as error:  # NumPy parses the header as Python, which has errors of its own
        if "Python objects" in str(error):
            remedy = "save rows of different lengths as lists in Parquet"
            raise DataError("the array holds Python objects, not integers", path=path, remedy=remedy) from error
        raise DataError(f"damaged npy file: {error}", path=path, remedy="write it again with numpy.save") from error
    return array


def _has_header(path: Path) -> bool:
    with open_text(path) as stream:
        return not _NUMBERS.fullmatch(next((line for line in stream if line.strip()), ""))


def _lines(path: Path, faults: Faults) -> Iterator[Record]:
    with open_text(path) as stream:
        for place, (_, line) in enumerate(faults.filled(enumerate(stream, 1)), start=1):
            yield Record(line.strip(), place=place)
