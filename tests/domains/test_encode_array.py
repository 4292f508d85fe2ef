"""The quick way to tokens gives what the slow one gives, faults included; what a reader keeps stays small."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import discdiff as dd
from discdiff.domain import Domain
from discdiff.errors import UnknownTokenError
from domains.names import NameCounts
from domains.text.reading import _blocks

DOMAINS = {
    "dna": dd.domain("dna"),
    "rna": dd.domain("dna", rna=True),
    "dna with gaps": dd.domain("dna", gaps="keep"),
    "dna without gaps": dd.domain("dna", gaps="drop"),
    "drawn": dd.domain("dna", on_unknown="random"),
    "protein": dd.domain("protein"),
    "smiles": dd.domain("smiles"),
    "tokens": dd.domain("tokens", vocab_size=300),
    "text": dd.domain("text", tokenizer="characters").fit(["ACGTacgt -é"]),
}
STRINGS = st.one_of(
    st.text("ACGTacgt", max_size=40),
    st.text("ACGTUNRYacgtun-. \n\t*", max_size=12),
    st.text("ACDEFGHIKLMNPQRSTVWYacdef", max_size=30).map(lambda s: s + "*"),
    st.text("CNOcn1()=[]+é", max_size=8),
    st.lists(st.integers(0, 320), max_size=6).map(lambda numbers: " ".join(map(str, numbers))),
    st.text(max_size=6),
)


def outcome(encode: object, text: str) -> object:
    try:
        return np.asarray(encode(text, record="r1")).tolist()  # type: ignore[operator]
    except UnknownTokenError as error:
        return str(error)


@pytest.mark.parametrize("domain", DOMAINS.values(), ids=list(DOMAINS))
@given(text=STRINGS)
def test_arrays_are_the_lists(domain: Domain, text: str) -> None:
    assert outcome(domain.encode_array, text) == outcome(domain.encode, text)


def test_letters_take_one_byte_each() -> None:
    assert DOMAINS["protein"].encode_array("mkv*").dtype == np.uint8
    assert DOMAINS["dna"].encode_array("ac gt").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("exact", [0, 1, 3, 50, 10_000])
def test_repeated_names_are_counted(exact: int) -> None:
    draw = random.Random(0)
    names = [f"n{draw.randrange(60)}" for _ in range(300)]
    counts = NameCounts(exact)
    for name in names:
        counts.add(name)
    repeated, first = counts.repeated()
    assert repeated == 300 - len(set(names))
    if exact > 60:
        seen: set[str] = set()
        assert first == next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    assert NameCounts(exact).repeated() == (0, "")


def test_long_texts_come_in_parts_cut_at_lines_or_spaces() -> None:
    lines = "".join(f"line {i} of the text\n" for i in range(200))
    parts = list(_blocks(io.StringIO(lines), 100))
    assert "".join(parts) == lines
    assert all(part.endswith("\n") for part in parts)
    assert max(map(len, parts)) <= 220
    one = " ".join(f"word{i}" for i in range(2000))  # a single line, as some corpora are
    parts = list(_blocks(io.StringIO(one), 100))
    assert "".join(parts) == one
    assert all(part.startswith(" ") for part in parts[1:])
    assert max(map(len, parts)) <= 300
    solid = "x" * 3000
    parts = list(_blocks(io.StringIO(solid), 100))
    assert "".join(parts) == solid
    assert max(map(len, parts)) <= 500
