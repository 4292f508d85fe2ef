"""What fuzzing has found, each as the input that showed it: refused now by an error that says what is wrong."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import discdiff as dd
from discdiff.errors import ConfigError, DataError, DiscdiffError, IncompatibleError, TemplateError
from discdiff.rules import Span
from tests.fuzz.files import GENBANK, PARQUET, SDF, text_domain


def _npy(header: bytes) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(4, np.int16))
    data = stream.getvalue()
    return data[:10] + header.ljust(118) + data[128:]


FILES: list[tuple[str, Any, str, bytes, str]] = [
    (
        "genbank: authors without a reference",
        dd.domain("dna"), "x.gb", GENBANK.replace(b"SOURCE  ", b"  AUTHORS   A\nSOURCE  "),
        r"x.gb, record 1: cannot be read as genbank: .*'authors'",
    ),
    (
        "jsonl: thousands of nested lists",
        text_domain(True), "x.jsonl", b'{"text": "a"}\n' + b"[" * 3000,
        r"x.jsonl, line 2: not JSON that can be read: nested too deeply",
    ),
    (
        "jsonl: a number of 5,000 digits",
        text_domain(True), "x.jsonl", b'{"text": "a", "n": ' + b"9" * 5000 + b"}\n",
        r"x.jsonl, line 1: not JSON that can be read: .*4300 digits",
    ),
    (
        "parquet: damaged pages under a whole footer",
        text_domain(True), "x.parquet", PARQUET[:4] + b"\xff" * 300 + PARQUET[304:],
        r"x.parquet.*damaged Parquet file: .*",
    ),
    (
        "tokens: a number of 5,000 digits",
        dd.domain("tokens", vocab_size=9), "x.txt", b"1 2\n3 " + b"9" * 5000 + b"\n",
        r"x.txt, record 2, column 2: '9{20}' is no token",
    ),
    (
        "tokens: digits of other scripts and digit separators",
        dd.domain("tokens", vocab_size=99), "x.txt", b"1 1_0\n", r"x.txt, record 1, column 2: '1_0' is no token",
    ),
    (
        "smiles: more hydrogens than an atom can count",
        dd.domain("smiles"), "x.smi", b"CCO\n[13CH444]\n", r"x.smi, record 2: '\[13CH444\]': sanitization: ",
    ),
    (
        "smiles: a parser's message that ends within a character",
        dd.domain("smiles"), "x.smi", ("c1ccccc" + "\ufeff" * 12 + "1\n").encode(),
        r"x.smi, record 1: 'c1ccccc.*: parse error: ",
    ),
    (
        "sdf: a file that begins with the mark of an end",
        dd.domain("smiles"), "x.sdf", b"$$$$\n" + SDF, r"x.sdf, record 1: parse error",
    ),
    (
        "parquet: bytes in a column of text that are no UTF-8",
        text_domain(True), "x.parquet", PARQUET.replace(b"\xc3\xa9", b"a\xa9"),
        r"x.parquet, record 1: damaged Parquet file: .*utf-8",
    ),
    (
        "npy: a header that is no literal",
        dd.domain("tokens", vocab_size=9), "x.npy", _npy(b"{'descr': '<i2', 'shape': (2, "),
        r"x.npy: damaged npy file: ",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("domain", "name", "content", "said"), [row[1:] for row in FILES], ids=[row[0] for row in FILES]
)
def test_files(tmp_path: Path, domain: dd.Domain, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DiscdiffError, match=said):
        domain.dataset(tmp_path / name, length=8 if not domain.streams else None, on_long="crop")


@pytest.mark.parametrize("value", ["812400", "812400-999999999"])
def test_counts_that_would_take_minutes_to_build(value: str) -> None:
    characters = dd.domain("text", tokenizer="characters").fit(["abc"])
    for rule in ("characters", "length"):
        with pytest.raises(IncompatibleError, match=r"an automaton of [\d,]+ states or more"):
            characters.rules[rule].read(value, Span(1, 4))


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ('{"enum": ["a", 1]\n', '{"enum": ["a", 1]\n                   ^'),
        ('{"enum": ["\u2028",\n "a" 1]}', '  "a" 1]}\n       ^'),  # a line of Python's, and not of JSON's
        (" \n \n", "Expecting value"),
    ],
)
def test_schemas_that_break_off(schema: str, shown: str) -> None:
    with pytest.raises(TemplateError, match="the schema is no JSON") as caught:
        text_domain(False).rules["json"].read(schema, Span(1, 4))
    assert shown in str(caught.value)


def test_a_tokenizer_of_a_name_that_is_too_long() -> None:
    with pytest.raises(ConfigError, match="or the path of a tokenizer"):
        dd.domain("text", tokenizer="c" * 5000)


def test_a_path_that_no_file_has() -> None:
    with pytest.raises(IncompatibleError, match="embedded null byte"):
        text_domain(False).rules["words"].read("@a\0b", Span(1, 4))


def test_a_parquet_schema_that_is_not_implemented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    def refuse(*given: Any) -> None:
        raise pa.ArrowNotImplementedError("Integers with more than 64 bits not implemented")

    (tmp_path / "x.parquet").write_bytes(PARQUET)
    monkeypatch.setattr("pyarrow.parquet.ParquetFile", refuse)
    with pytest.raises(DataError, match=r"x\.parquet: cannot be read as Parquet: Integers with more than 64 bits"):
        text_domain(True).dataset(tmp_path / "x.parquet")


def test_an_npy_header_that_says_gigabytes_takes_none(tmp_path: Path) -> None:
    import tracemalloc

    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x03\x00\xff\xff\xff\x2f" + b" " * 100)  # 800 MB of header
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"x\.npy: damaged npy file: truncated within its header"):
            dd.domain("tokens", vocab_size=9).dataset(tmp_path / "x.npy")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_number_that_no_array_holds_is_no_token() -> None:
    with pytest.raises(DataError, match="'2147483648' is no token"):
        dd.domain("tokens").fit(["2147483648"])
