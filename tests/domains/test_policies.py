"""Characters outside the alphabet: what each policy does with them, and that it is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from discdiff.errors import ConfigError, UnknownTokenError
from domains.dna import DNA
from domains.protein import Protein
from tests.domains.reading import fault, put, read

MIXED = ">s1\nACGT\n>s2\nANNCRGT\n>s3\nNN\n"


def test_skip_is_counted(tmp_path: Path) -> None:
    path = put(tmp_path, MIXED)
    said = r"2 of 3 records left out: 'N' is not in the DNA alphabet ACGT \(first: record s2, column 2: 'N'"
    with pytest.warns(UserWarning, match=said):
        assert read(path, DNA(on_unknown="skip")) == [("s1", "ACGT")]
    error = fault(put(tmp_path, ">s1\nNN\n"), DNA(on_unknown="skip"))
    assert "no record is left" in str(error)


def test_split_names_the_pieces(tmp_path: Path) -> None:
    path = put(tmp_path, MIXED)
    with (
        pytest.warns(UserWarning, match=r"1 records cut for characters outside ACGT \(first: record s2, column 2"),
        pytest.warns(UserWarning, match=r"1 of 5 records left out: .*first: record s3"),  # nothing is left of it
    ):
        assert read(path, DNA(on_unknown="split")) == [
            ("s1", "ACGT"), ("s2:1-1", "A"), ("s2:4-4", "C"), ("s2:6-7", "GT"),
        ]  # fmt: skip


def test_random_draws_what_the_code_means(tmp_path: Path) -> None:
    path = put(tmp_path, ">s1\n" + "R" * 200 + "\n")
    domain = DNA(on_unknown="random")
    with pytest.warns(UserWarning, match="1 records filled at random"):
        first = read(path, domain)
    with pytest.warns(UserWarning, match="filled"):
        assert read(path, domain) == first  # the same on every run
    assert set(first[0][1]) == {"A", "G"}
    assert domain.decode(domain.encode("R" * 200)) == first[0][1]
    error = fault(put(tmp_path, ">s1\nA RX\n"), domain)
    assert "record s1, column 3: 'X'" in str(error)


@pytest.mark.parametrize("options", [{"on_unknown": "ignore"}, {"gaps": "no"}, {"min_length": 0}, {"max_length": 0}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        DNA(**options)


def test_stop_codons(tmp_path: Path) -> None:
    assert read(put(tmp_path, ">p1\nMKV*\n"), Protein()) == [("p1", "MKV")]
    error = fault(put(tmp_path, ">p1\nMK*V*\n"), Protein())
    assert "record p1, column 3: '*' is not in the protein alphabet" in str(error)
    assert "a stop codon is accepted at the end only" in str(error)
    path = put(tmp_path, ">p1\nMK*V*\n")
    with pytest.warns(UserWarning, match="cut"):
        assert read(path, Protein(on_unknown="split")) == [("p1:1-2", "MK"), ("p1:4-4", "V")]
    assert "the sequence is empty" in str(fault(put(tmp_path, ">p1\n*\n"), Protein()))


@pytest.mark.parametrize("letter", "BJOUXZ")
def test_rare_residues(letter: str) -> None:
    with pytest.raises(UnknownTokenError, match=f"column 2: '{letter}' is not in the protein alphabet .*on_unknown="):
        Protein().encode(f"M{letter}V")
    drawn = Protein(on_unknown="random").encode(f"M{letter}V")
    assert Protein().decode(drawn)[1] in {"B": "DN", "J": "IL", "O": "K", "U": "C", "Z": "EQ"}.get(
        letter, "ACDEFGHIKLMNPQRSTVWY"
    )


def test_all_gaps_is_an_error(tmp_path: Path) -> None:
    error = fault(put(tmp_path, ">s1\nAC\n>s2\n--\n"), DNA(gaps="drop"))
    assert "record s2, line 3: the sequence is empty" in str(error)
