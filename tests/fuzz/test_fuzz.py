"""A short walk over every reader and parser; `benchmarks/fuzz.py` goes far."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz.files import file_targets
from tests.fuzz.parsers import ParserTarget, parser_targets

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
COUNT = 4000 if THOROUGH else 120
SLOW = {"config": 12, "smiles-rule-grammar": 5, "dna-rule-require": 20, "smiles-rule-valence": 40}
"""Inputs for targets that take long over each."""


@pytest.mark.parametrize("name", file_targets())
def test_readers(name: str, tmp_path: Path) -> None:
    target = file_targets()[name]
    results = [target.check(target.input(seed), tmp_path) for seed in range(COUNT)]
    assert not {"empty", "silent"} & set(results)
    assert "read" in results, "some inputs are whole, or nothing behind the first check is tried"
    assert len(set(results)) > 1, "and some are not"


@pytest.mark.parametrize("name", file_targets())
def test_valid_files_are_read(name: str, tmp_path: Path) -> None:
    """The files that are changed are what they are meant to be."""
    from tests.fuzz.files import PACK

    target = file_targets()[name]
    for data in target.valid:
        assert target.check(PACK[target.compression](data), tmp_path) == "read"


@pytest.mark.parametrize("name", parser_targets())
def test_parsers(name: str, tmp_path: Path) -> None:
    target = parser_targets()[name]
    count = SLOW.get(name, 40) * (30 if THOROUGH else 1)
    results = [target.check(target.input(seed), tmp_path) for seed in range(count)]
    assert "silent" not in results
    assert len(set(results)) > 1 or count < 100, "some are read, others refused"


@pytest.mark.parametrize("name", sorted(set(parser_targets()) - {"config"}))
def test_valid_texts_are_read(name: str) -> None:
    target = parser_targets()[name]
    assert isinstance(target, ParserTarget)
    for text in target.valid:
        assert target.read(text) is not None


def test_an_input_is_a_function_of_name_and_seed() -> None:
    fasta = file_targets()["fasta"]
    inputs = [fasta.input(seed) for seed in range(200)]
    assert inputs == [fasta.input(seed) for seed in range(200)]
    assert len(set(inputs)) > 150
    assert fasta.input(3) != file_targets()["fasta-skip"].input(3)


def test_what_a_reader_lets_pass_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself: an error that is not ours goes through it, as do data sets of nothing."""
    fasta = file_targets()["fasta"]
    monkeypatch.setattr("domains.letters.read_entries", lambda *a, **k: iter([None]))
    with pytest.raises(AttributeError):
        fasta.check(b">a\nACGT\n", tmp_path)
