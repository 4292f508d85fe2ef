"""The table of letters: exact both ways, and equal to its export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from discdiff.errors import ConfigError, DiscdiffError, UnknownTokenError
from domains.alphabet import Alphabet
from domains.dna import DNA
from domains.protein import Protein

DNA_LETTERS = Alphabet("ACGT", "DNA")


@given(st.text("ACGT"))
def test_round_trip(text: str) -> None:
    assert DNA_LETTERS.decode(DNA_LETTERS.encode(text)) == text


@given(st.lists(st.integers(0, 3)))
def test_round_trip_of_tokens(tokens: list[int]) -> None:
    assert DNA_LETTERS.encode(DNA_LETTERS.decode(tokens)) == tokens


@given(st.text())
def test_every_other_character_is_found(text: str) -> None:
    outside = [i for i, c in enumerate(text) if c not in "ACGT"]
    assert DNA_LETTERS.first_unknown(text) == (outside[0] if outside else None)
    if outside:
        with pytest.raises(UnknownTokenError) as caught:
            DNA_LETTERS.encode(text, record="r1")
        assert caught.value.column == outside[0] + 1
        assert caught.value.record == "r1"


def test_the_message_shows_what_cannot_be_seen() -> None:
    with pytest.raises(UnknownTokenError, match=r"record x, column 2: 'С' \(U\+0421\) is not in the DNA alphabet ACGT"):
        DNA_LETTERS.encode("AС", record="x")  # Cyrillic
    with pytest.raises(UnknownTokenError, match=r"column 1: '\\x00' \(U\+0000\)"):
        DNA_LETTERS.encode("\x00")


def test_all_of_latin1() -> None:
    letters = "".join(map(chr, range(255)))
    alphabet = Alphabet(letters, "bytes")
    assert alphabet.decode(alphabet.encode(letters)) == letters
    assert alphabet.first_unknown("ab\xff") == 2
    assert alphabet.first_unknown("ab一") == 2


@pytest.mark.parametrize("letters", ["", "AA", "A一", "".join(map(chr, range(256)))])
def test_what_is_no_alphabet(letters: str) -> None:
    with pytest.raises(ConfigError, match="1 to 255 distinct Latin-1 characters"):
        Alphabet(letters, "bad")


@pytest.mark.parametrize("tokens", [[4], [0, -1], [255]])
def test_what_is_no_token(tokens: list[int]) -> None:
    with pytest.raises(DiscdiffError, match=r"decode: got token .*, expected 0\.\.3"):
        DNA_LETTERS.decode(tokens)


def test_symbols_show_the_mask() -> None:
    assert DNA_LETTERS.symbols([0, 4, 3]) == ["A", "_", "T"]


@pytest.mark.parametrize("domain", [DNA(), Protein(), DNA(gaps="keep")])
def test_export_equals_the_table(tmp_path: Path, domain: DNA | Protein) -> None:
    domain.save_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    letters = domain.alphabet.letters
    assert tokenizer.get_vocab() == {letter: i for i, letter in enumerate(letters)}
    random = np.random.default_rng(0)
    for length in (0, 1, 7, 500):
        tokens = random.integers(0, len(letters), length).tolist()
        text = domain.decode(tokens)
        assert tokenizer.encode(text).ids == domain.encode(text) == tokens
        assert tokenizer.decode(tokens) == text
    # what the table refuses the export refuses too: nothing is dropped in silence
    with pytest.raises(Exception, match="UNK"):
        tokenizer.encode("A@A")
