"""The domain of integers: round trips, the learned vocabulary, files, figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from discdiff.domain import Domain, Record, domain
from discdiff.errors import CheckpointError, ConfigError, DataError, DiscdiffError, UnknownTokenError
from domains.tokens import Tokens


@given(st.lists(st.integers(0, 99)))
def test_round_trip(numbers: list[int]) -> None:
    tokens = Tokens(100)
    text = tokens.decode(numbers)
    assert tokens.encode(text) == numbers
    assert tokens.decode(tokens.encode(text)) == text
    assert tokens.units(text) == len(numbers)


@pytest.mark.parametrize("text", ["5 3 9", "5,3,9", "[5, 3, 9]", " 5\t3;9\n", "(5, 3, 9)", "05 3 +9"])
def test_ways_to_write(text: str) -> None:
    assert Tokens(10).encode(text) == [5, 3, 9]
    assert Tokens(10).canonical(text) == "5 3 9"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("5 10", 2, "token 10 is not in 0..9 (raise vocab_size or correct the data)"),
        ("5 -1 3", 2, "'-1' is no token (expected integers from 0 on"),
        ("5 3 x", 3, "'x' is no token"),
        ("1.5", 1, "'1.5' is no token"),
        ("5 ²", 2, "'²' is no token"),
    ],
)
def test_bad_tokens(text: str, column: int, message: str) -> None:
    with pytest.raises(UnknownTokenError) as caught:
        Tokens(10).encode(text, record="r1")
    assert (caught.value.column, caught.value.record) == (column, "r1")
    assert message in str(caught.value)
    assert str(Tokens(10).invalid(text)).startswith("outside the range: ")


def test_symbols_and_decode() -> None:
    assert Tokens(10).symbols([0, 10, 9]) == ["0", "_", "9"]
    with pytest.raises(DiscdiffError, match=r"got token 10, expected 0\.\.9"):
        Tokens(10).decode([1, 10])
    assert Tokens(10).invalid("") == "empty"


def test_vocabulary_is_given_or_learned(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vocab_size is not known; pass vocab_size="):
        _ = Tokens().vocab_size
    with pytest.raises(ConfigError, match="expected a positive number"):
        Tokens(0)
    with pytest.raises(DataError, match="no tokens to learn vocab_size from"):
        Tokens().fit([])
    assert Tokens(50).fit(["1 2"]).vocab_size == 50
    learned = Tokens().fit(["1 2", "7"])
    assert learned.vocab_size == 8
    learned.save_tokenizer(tmp_path)
    back = Domain.from_json(learned.to_json(), tmp_path)
    assert back.vocab_size == 8
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("1 7 0").ids == [1, 7, 0] == back.encode("1 7 0")
    assert tokenizer.decode([1, 7, 0]) == "1 7 0"


def test_run_folders_that_do_not_fit(tmp_path: Path) -> None:
    Tokens(8).save_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="got 8 tokens, expected 9"):
        Tokens(9).load_tokenizer(tmp_path)
    empty = Tokens()
    empty.load_tokenizer(tmp_path)
    assert empty.vocab_size == 8
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot be read as a tokenizer"):
        Tokens().load_tokenizer(tmp_path)


# ---- files -----------------------------------------------------------------------------------------------------------
def npy(path: Path, array: Any, **options: Any) -> None:
    np.save(path, np.asarray(array), **options)


def rows(path: Path, size: int | None = 100, **options: Any) -> list[str]:
    return [record.sequence for record in Tokens(size).read(path, **options)]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ([[1, 2], [3, 4]], ["1 2", "3 4"]),
        ([1, 2, 3], ["1 2 3"]),
        ([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], ["1 2 3 4", "5 6 7 8"]),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint16"])
def test_npy(tmp_path: Path, array: list[Any], expected: list[str], dtype: str) -> None:
    npy(tmp_path / "codes.npy", np.array(array, dtype=dtype))
    assert rows(tmp_path / "codes.npy") == expected


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path: npy(path, [[0.5, 1.0]]), "got float64, expected integers (convert it before saving)"),
        (lambda path: npy(path, np.empty((0, 4), int)), "the array is empty: shape (0, 4)"),
        (lambda path: npy(path, [[1, 100]]), "record 1, column 2: token 100 is not in 0..99"),
        (lambda path: npy(path, [[1], [-1]]), "record 2, column 1: '-1' is no token"),
        (
            lambda path: npy(path, np.array([[1], [1, 2]], dtype=object), allow_pickle=True),
            "the array holds Python objects, not integers (save rows of different lengths as lists in Parquet)",
        ),
        (lambda path: path.write_text("1 2 3"), "this is no npy file (write one array with numpy.save)"),
        (lambda path: path.write_bytes(b"PK\x03\x04"), "this is an archive of arrays (npz)"),
        (lambda path: path.write_bytes(b""), "this is no npy file"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "damaged npy file"),
    ],
)
def test_bad_npy(tmp_path: Path, write: Callable[[Path], object], expected: str) -> None:
    path = tmp_path / "codes.npy"
    write(path)
    with pytest.raises(DataError) as caught:
        rows(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_lines(tmp_path: Path) -> None:
    for name, text in (("t.txt", "1 2 3\n\n4 5\n"), ("t.csv", "1,2,3\n4,5\n"), ("t.tsv", "1\t2\t3\n4\t5\n")):
        (tmp_path / name).write_text(text)
        assert rows(tmp_path / name) == ["1 2 3", "4 5"]
    (tmp_path / "bad.txt").write_text("1 2\n3 x\n")
    with pytest.raises(UnknownTokenError, match=r"bad.txt, record 2, column 2: 'x' is no token"):
        rows(tmp_path / "bad.txt")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match="the file is empty"):
        rows(tmp_path / "empty.txt")


def test_tables(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"tokens": [[1, 2], [3]], "label": ["a", "b"]}), path)
    assert list(Tokens(5).read(path, label_column="label")) == [
        Record("1 2", None, "a", 1),
        Record("3", None, "b", 2),
    ]
    (tmp_path / "t.csv").write_text('tokens,y\n"1, 2",a\n3,b\n')
    assert rows(tmp_path / "t.csv") == ["1 2", "3"]
    assert rows(tmp_path / "t.csv", where={"y": "b"}) == ["3"]


def test_reading_before_the_vocabulary_is_known(tmp_path: Path) -> None:
    npy(tmp_path / "codes.npy", [[1, 5], [7, 2]])
    tokens = Tokens()
    texts = [record.sequence for record in tokens.read(tmp_path / "codes.npy")]
    assert tokens.fit(texts).vocab_size == 8


def test_options_of_npy(tmp_path: Path) -> None:
    npy(tmp_path / "codes.npy", [[1, 5]])
    with pytest.raises(DataError, match="label_column is for tables; an npy file has no columns"):
        rows(tmp_path / "codes.npy", label_column="y")


# ---- figures ---------------------------------------------------------------------------------------------------------
def test_figures_and_pictures(tmp_path: Path) -> None:
    tokens = domain("tokens", vocab_size=10)
    figures = tokens.metrics(["1 2", "1, 2", "3 11", ""], reference=["1 2 3"], training=["[1, 2]"])
    assert figures["valid"] == {"ratio": 0.5, "count": 2, "of": 4, "reasons": {"outside the range": 1, "empty": 1}}
    assert figures["unique"]["count"] == 1
    assert figures["novel"]["count"] == 0
    assert figures["length"]["unit"] == "token"
    json.dumps(figures)
    drawn = tokens.plots(tmp_path, ["1 2", "3"], reference=["1 2 3"])
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn.values())
    assert len(drawn) == 2
