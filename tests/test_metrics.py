"""The figures that all domains share, against direct computation."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discdiff.errors import DiscdiffError
from discdiff.metrics import (
    basic_metrics,
    jensen_shannon,
    ngram_counts,
    summary,
    total_variation,
    wasserstein,
)
from domains.dna import DNA
from domains.tokens import Tokens

NUMBERS = st.lists(st.integers(-20, 20), min_size=1, max_size=30)


@given(NUMBERS, NUMBERS)
def test_wasserstein_against_scipy(left: list[int], right: list[int]) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    assert wasserstein(left, right) == pytest.approx(scipy_stats.wasserstein_distance(left, right), abs=1e-12)


@given(NUMBERS)
def test_wasserstein_is_a_distance(values: list[int]) -> None:
    assert wasserstein(values, values) == 0
    assert wasserstein(values, [v + 3 for v in values]) == pytest.approx(3)
    assert wasserstein(values, []) is None


@given(st.lists(st.lists(st.integers(0, 4), max_size=12), max_size=6), st.integers(1, 4))
def test_ngrams_against_counting(rows: list[list[int]], n: int) -> None:
    codes, counts = ngram_counts([np.array(row, dtype=np.int64) for row in rows], n, 5)
    direct = Counter(tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1))
    found = {
        tuple(int(d) for d in np.base_repr(code, 5).zfill(n)): count for code, count in zip(codes, counts, strict=True)
    }
    assert found == direct


def test_ngrams_of_large_vocabularies() -> None:
    rows = [np.array([49_999, 0, 49_999], dtype=np.int64)]
    codes, _ = ngram_counts(rows, 2, 50_000)
    assert codes.tolist() == [49_999, 49_999 * 50_000]
    with pytest.raises(DiscdiffError, match="ask for shorter ones"):
        ngram_counts(rows, 5, 50_000)


def test_ngrams_over_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [np.arange(i % 7, dtype=np.int64) for i in range(50)]
    whole = ngram_counts(rows, 2, 7)
    monkeypatch.setattr("discdiff.metrics._CHUNK", 10)
    parts = ngram_counts(rows, 2, 7)
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))


def counts(values: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(sorted(values), dtype=np.int64), np.array([values[k] for k in sorted(values)], dtype=np.int64)


def test_distances_of_counts() -> None:
    same, other = counts({1: 2, 5: 2}), counts({2: 7})
    assert total_variation(same, counts({1: 10, 5: 10})) == 0
    assert total_variation(same, other) == jensen_shannon(same, other) == 1
    assert total_variation(same, counts({1: 1})) == 0.5
    assert jensen_shannon(same, same) == 0
    assert total_variation(same, counts({})) is None
    assert jensen_shannon(counts({}), same) is None


def test_summary() -> None:
    assert summary([1, 3]) == {"mean": 2, "std": 1, "min": 1, "max": 3}
    assert summary([]) == {"mean": None, "std": None, "min": None, "max": None}


def test_every_ratio_has_its_counts() -> None:
    figures = basic_metrics(
        DNA(max_length=6), ["ACGT", "acgt", "ANGT", "NNNN", "ACGTACG", "GGGG", ""], training=["gggg", "TTTT"]
    )
    assert figures == {
        "count": 7,
        "valid": {
            "ratio": 3 / 7,
            "count": 3,
            "of": 7,
            "reasons": {"outside the alphabet": 2, "too long": 1, "empty": 1},
        },
        "unique": {"ratio": 2 / 3, "count": 2, "of": 3},
        "novel": {"ratio": 1 / 2, "count": 1, "of": 2},
        "length": {
            "unit": "base",
            "mean": 27 / 7,
            "std": pytest.approx(np.std([4, 4, 4, 4, 7, 4, 0])),
            "min": 0,
            "max": 7,
        },
    }


def test_reference() -> None:
    figures = basic_metrics(DNA(), ["AC", "ACG", "N"], reference=["AC", "ACGT"])
    assert figures["length"]["reference"]["mean"] == 3
    assert figures["length"]["wasserstein"] == pytest.approx(1)
    composition = figures["composition"]
    assert composition["unigram"] == pytest.approx((abs(2 / 5 - 2 / 6) * 2 + abs(1 / 5 - 1 / 6) + 1 / 6) / 2)
    assert composition["bigram"] == pytest.approx((abs(2 / 3 - 2 / 4) + abs(1 / 3 - 1 / 4) + 1 / 4) / 2)
    assert (composition["tokens"], composition["reference_tokens"], composition["unencodable"]) == (5, 6, 1)
    assert "novel" not in figures


def test_training_sets_may_hold_what_is_invalid() -> None:
    figures = basic_metrics(Tokens(5), ["1 2", "3"], training=["1,2", "x y"])
    assert figures["novel"] == {"ratio": 0.5, "count": 1, "of": 2}


def test_nothing_at_all() -> None:
    figures = basic_metrics(DNA(), [], reference=[], training=[])
    assert figures["valid"]["ratio"] is figures["unique"]["ratio"] is figures["novel"]["ratio"] is None
    assert figures["composition"]["unigram"] is None
    json.dumps(figures)
