"""Pictures of protein samples: composition, lengths, properties, what stands at each position."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from discdiff.metrics import encoded
from domains.figures import bars, composition, histogram, position_frequencies
from domains.protein.metrics import PROPERTIES, properties

if TYPE_CHECKING:
    from domains.protein.domain import Protein


def plot_protein(
    protein: Protein, folder: Path, samples: Sequence[str], reference: Sequence[str] | None
) -> dict[str, Path]:
    """Draw into `folder`; maps captions to PNG files."""
    sets = {"samples": samples} | ({} if reference is None else {"reference": reference})
    letters = list(protein.alphabet.letters)
    rows = {name: encoded(protein, sequences)[0] for name, sequences in sets.items()}
    shares = {}
    for name, tokens in rows.items():
        counts = np.bincount(np.concatenate([*tokens, np.empty(0, np.int64)]), minlength=len(letters))
        shares[name] = counts / max(int(counts.sum()), 1)
    lengths = {name: [len(row) for row in tokens] for name, tokens in rows.items()}
    pictures = {
        "Amino acids": bars(folder / "amino_acids.png", letters, shares, "frequency"),
        "Lengths": histogram(folder / "lengths.png", lengths, "length (residues)"),
    }
    found = {name: properties(protein, sequences) for name, sequences in sets.items()}
    for key, label in PROPERTIES.items():
        values = {name: one[key] for name, one in found.items()}
        pictures[label[0].upper() + label[1:]] = histogram(folder / f"{key}.png", values, label)
    for name, tokens in rows.items():
        same = len({len(row) for row in tokens}) == 1
        frequencies = position_frequencies(tokens, len(letters)) if same else None
        if frequencies is not None:
            caption = f"Residues by position, {name}"
            pictures[caption] = composition(folder / f"positions_{name}.png", frequencies, letters, caption)
    return pictures
