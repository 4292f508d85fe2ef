"""Figures of DNA samples: GC content and k-mers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from discdiff.metrics import encoded, jensen_shannon, ngram_counts, summary, total_variation, wasserstein

if TYPE_CHECKING:
    from domains.dna.domain import DNA

LONGEST_KMER = 6


def gc_fractions(dna: DNA, sequences: Sequence[str]) -> NDArray[np.float64]:
    """Fraction of G and C among the bases of each sequence that has any, float64 `[n]`."""
    texts = [text for sequence in sequences if (text := dna.normalized(sequence))]
    return np.array([(text.count("G") + text.count("C")) / len(text) for text in texts], dtype=np.float64)


def gc_metrics(dna: DNA, samples: Sequence[str], reference: Sequence[str] | None) -> dict[str, Any]:
    """Mean, std, min and max of the GC fraction; with a reference its own, and the 1-Wasserstein distance."""
    values = gc_fractions(dna, samples)
    result: dict[str, Any] = dict(summary(values))
    if reference is not None:
        expected = gc_fractions(dna, reference)
        result["reference"] = summary(expected)
        result["wasserstein"] = wasserstein(values, expected)
    return result


def kmer_metrics(dna: DNA, samples: Sequence[str], reference: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For k = 1..6: Jensen-Shannon divergence (bits) and total variation of the k-mer frequencies, with their numbers.

    Both grow when k-mers are few for the 4^k there are: compare sets of equal size, and look at `kmers`.
    """
    rows, _ = encoded(dna, samples)
    others, _ = encoded(dna, reference)
    result: dict[str, dict[str, Any]] = {}
    for k in range(1, LONGEST_KMER + 1):
        left, right = ngram_counts(rows, k, dna.vocab_size), ngram_counts(others, k, dna.vocab_size)
        result[str(k)] = {
            "jensen_shannon": jensen_shannon(left, right),
            "total_variation": total_variation(left, right),
            "kmers": int(left[1].sum()),
            "reference_kmers": int(right[1].sum()),
        }
    return result
