"""Pictures of DNA samples: GC content, k-mers, what stands at each position."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from discdiff.metrics import encoded, ngram_counts
from domains.dna.metrics import gc_fractions
from domains.figures import composition, histogram, position_frequencies, scatter

if TYPE_CHECKING:
    from domains.dna.domain import DNA

_K = 4


def plot_dna(dna: DNA, folder: Path, samples: Sequence[str], reference: Sequence[str] | None) -> dict[str, Path]:
    """Draw into `folder`; maps captions to PNG files."""
    sets = {"samples": samples} | ({} if reference is None else {"reference": reference})
    fractions = {name: gc_fractions(dna, sequences) for name, sequences in sets.items()}
    pictures = {"GC content": histogram(folder / "gc.png", fractions, "fraction of G and C")}
    rows = {name: encoded(dna, sequences)[0] for name, sequences in sets.items()}
    if "reference" in rows:
        x, y = (_frequencies(dna, rows[name]) for name in ("reference", "samples"))
        words = ["".join(word) for word in product(dna.alphabet.letters, repeat=_K)]
        path = scatter(
            folder / "kmers.png", x, y, f"{_K}-mers of the reference", f"{_K}-mers of the samples", names=words
        )
        pictures[f"Frequencies of {_K}-mers"] = path
    for name, tokens in rows.items():
        if (frequencies := position_frequencies(tokens, dna.vocab_size)) is not None:
            caption = f"Bases by position, {name}"
            pictures[caption] = composition(
                folder / f"positions_{name}.png", frequencies, list(dna.alphabet.letters), caption
            )
    return pictures


def _frequencies(dna: DNA, rows: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    codes, counts = ngram_counts(rows, _K, dna.vocab_size)
    found = np.zeros(dna.vocab_size**_K)
    found[codes] = counts / max(int(counts.sum()), 1)
    return found
