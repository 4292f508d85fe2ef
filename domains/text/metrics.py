"""Figures of quality that only text has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from discdiff.metrics import encoded, jensen_shannon, ngram_counts, ratio, summary

if TYPE_CHECKING:
    from discdiff.domain import Domain

Rows = list[NDArray[np.int64]]
_WORD = re.compile(r"\w+|[^\w\s]")


def text_metrics(domain: Domain, samples: Sequence[str], reference: Sequence[str] | None) -> dict[str, Any]:
    """Diversity of texts and their distance to a reference.

    Returns:
        - `distinct`: of the runs of 1, 2 and 3 words in all samples together, how many are different (Li et al. 2016);
        - `entropy`: of the tokens within each text, -Σ p log p in nats over its own token frequencies: mean, std, min,
          max over the samples (a low value shows texts that repeat themselves), and the same of the reference;
        - `divergence`, with `reference`: Jensen-Shannon divergence in bits, in [0, 1], of runs of 1 to 4 characters
          and of 1 and 2 words.
    """
    others = reference or []
    words, of_words = _numbered([*map(_WORD.findall, samples)], [*map(_WORD.findall, others)])
    result: dict[str, Any] = {"distinct": {}, "entropy": _entropy(domain, samples)}
    for n in (1, 2, 3):
        if of_words**n < 1 << 63:
            codes, counts = ngram_counts(words[0], n, of_words)
            result["distinct"][f"{n} words"] = ratio(len(codes), int(counts.sum()))
    if reference is not None:
        result["entropy"]["reference"] = _entropy(domain, reference)
        characters, of_characters = _numbered(samples, others)
        found = {}
        for what, rows, size, orders in (
            ("characters", characters, of_characters, (1, 2, 3, 4)),
            ("words", words, of_words, (1, 2)),
        ):
            for n in orders:
                if size**n < 1 << 63:
                    found[f"{n} {what}"] = jensen_shannon(*(ngram_counts(side, n, size) for side in rows))
        result["divergence"] = found
    return result


def _numbered(*sides: Sequence[Iterable[str]]) -> tuple[list[Rows], int]:
    """Each different item as a number, and how many there are."""
    numbers: dict[str, int] = {}
    rows = [
        [np.array([numbers.setdefault(item, len(numbers)) for item in row], dtype=np.int64) for row in side]
        for side in sides
    ]
    return rows, max(len(numbers), 1)


def _entropy(domain: Domain, texts: Sequence[str]) -> dict[str, float | None]:
    values = []
    for row in encoded(domain, texts)[0]:
        counts = np.unique(row, return_counts=True)[1]
        p = counts / counts.sum()
        values.append(float(-(p * np.log(p)).sum()) if len(row) else 0.0)
    return summary(values)
