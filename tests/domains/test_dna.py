"""The DNA domain: round trips, options, validity, figures against hand counts, pictures, real files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discdiff.domain import Domain, domain
from discdiff.errors import UnknownTokenError
from domains.dna import DNA

TEXT = st.text("ACGT", max_size=50)


@given(TEXT)
def test_round_trip(text: str) -> None:
    dna = DNA()
    assert dna.decode(dna.encode(text)) == text
    assert dna.encode(text.lower()) == dna.encode(text)
    assert dna.symbols(dna.encode(text)) == list(text)
    assert dna.units(text) == len(text)


def test_by_name_and_from_a_run_folder(tmp_path: Path) -> None:
    made = domain("dna", on_unknown="skip", rna=True, max_length=80)
    assert isinstance(made, DNA)
    made.save_tokenizer(tmp_path)
    back = Domain.from_json(json.loads(json.dumps(made.to_json())), tmp_path)
    assert isinstance(back, DNA)
    assert back.options() == made.options()
    assert back.encode("ACGU") == [0, 1, 2, 3]
    assert (back.vocab_size, back.unit, back.streams) == (4, "base", False)


def test_rna() -> None:
    assert DNA(rna=True).encode("acgu") == [0, 1, 2, 3]
    assert DNA(rna=True).canonical("ACGU") == "ACGT"
    with pytest.raises(UnknownTokenError, match="rna=True"):
        DNA().encode("ACGU")


def test_gaps() -> None:
    assert DNA(gaps="drop").encode("A-C.G") == [0, 1, 2]
    kept = DNA(gaps="keep")
    assert kept.vocab_size == 5
    assert kept.decode(kept.encode("A-C.G")) == "A-C-G"
    # positions are those of the sequence as it stands
    with pytest.raises(UnknownTokenError, match="column 5: 'N'"):
        DNA(gaps="drop").encode("A--CN")


@pytest.mark.parametrize(
    ("sequence", "reason"),
    [
        ("ACGT", None),
        ("acgt", None),
        ("", "empty"),
        (" ", "empty"),
        ("ACN", "outside the alphabet: 'N' at position 3"),
        ("AC", "too short: 2 of at least 3"),
        ("ACGTACGT", "too long: 8 of at most 6"),
    ],
)
def test_validity(sequence: str, reason: str | None) -> None:
    assert DNA(min_length=3, max_length=6).invalid(sequence) == reason


@given(st.lists(TEXT.filter(bool), min_size=1, max_size=6), st.lists(TEXT.filter(bool), min_size=1, max_size=6))
def test_kmers_against_counting(samples: list[str], reference: list[str]) -> None:
    found = DNA().metrics(samples, reference=reference)["kmers"]
    for k in range(1, 7):
        left, right = (
            Counter(text[i : i + k] for text in texts for i in range(len(text) - k + 1))
            for texts in (samples, reference)
        )
        figures = found[str(k)]
        assert (figures["kmers"], figures["reference_kmers"]) == (left.total(), right.total())
        if not left or not right:
            assert figures["total_variation"] is None
            continue
        p, q = (np.array([side[word] / side.total() for word in sorted({*left, *right})]) for side in (left, right))
        assert figures["total_variation"] == pytest.approx(np.abs(p - q).sum() / 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = [np.nansum(np.where(x > 0, x * np.log2(2 * x / (p + q)), 0)) for x in (p, q)]
        assert figures["jensen_shannon"] == pytest.approx(sum(parts) / 2, abs=1e-12)


def test_gc() -> None:
    figures = DNA().metrics(["GGCC", "ATGC", "aaaa"], reference=["GCGC"] * 2)["gc"]
    assert figures["mean"] == pytest.approx(0.5)
    assert figures["std"] == pytest.approx(np.std([1, 0.5, 0]))
    assert figures["reference"]["mean"] == 1
    assert figures["wasserstein"] == pytest.approx(0.5)


def test_figures_of_nothing() -> None:
    figures = DNA().metrics([], reference=["ACGT"], training=["ACGT"])
    assert figures["valid"]["ratio"] is None
    assert figures["gc"]["mean"] is None
    assert figures["kmers"]["3"]["jensen_shannon"] is None
    json.dumps(figures)


def test_pictures(tmp_path: Path) -> None:
    samples, reference = ["ACGTACGT", "TTGTACGA", "N", ""], ["ACGTACGA"] * 3
    drawn = DNA().plots(tmp_path / "plots", samples, reference=reference)
    assert {"GC content", "Frequencies of 4-mers", "Bases by position, samples"} <= set(drawn)
    for path in drawn.values():
        assert path.read_bytes().startswith(b"\x89PNG")
    assert DNA().plots(tmp_path, [])


@pytest.mark.parametrize(
    ("name", "count", "length"),
    [
        ("lambda_phage.fasta.xz", 1, 48502),
        ("ecoli_promoters.test.tsv.xz", 592, 50),
        ("yeast_upstream.test.fasta.xz", 315, None),
    ],
)
def test_real_files(shared_dir: Path, name: str, count: int, length: int | None) -> None:
    dna = DNA()
    records = list(dna.read(shared_dir / "data" / "dna" / name))
    assert len(records) == count
    if length:
        assert {len(r.sequence) for r in records} == {length}
    for record in records:
        assert dna.decode(dna.encode(record.sequence)) == record.sequence


def test_real_figures(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "dna"
    dna = DNA()
    test, train = (
        [r.sequence for r in dna.read(folder / f"ecoli_promoters.{split}.tsv.xz")] for split in ("test", "valid")
    )
    figures = dna.metrics(test, reference=train, training=train)
    assert figures["valid"] == {"ratio": 1.0, "count": 592, "of": 592, "reasons": {}}
    assert figures["novel"]["ratio"] == 1.0  # no sequence occurs in two splits
    assert figures["kmers"]["1"]["jensen_shannon"] < 0.001
    assert figures["gc"]["wasserstein"] < 0.02
