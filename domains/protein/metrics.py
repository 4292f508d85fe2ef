"""Figures of protein samples: isoelectric point, hydropathy, aromaticity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from discdiff.errors import require
from discdiff.metrics import summary, wasserstein

if TYPE_CHECKING:
    from domains.protein.domain import Protein

MOST = 2000
PROPERTIES = {
    "isoelectric_point": "isoelectric point (pH)",
    "gravy": "GRAVY (mean Kyte-Doolittle hydropathy)",
    "aromaticity": "fraction of F, W and Y",
}


def properties(protein: Protein, sequences: Sequence[str], *, most: int = MOST) -> dict[str, NDArray[np.float64]]:
    """Properties of the valid sequences by Bio.SeqUtils.ProtParam, float64 `[n]` each.

    Gaps are not residues. Where there are more than `most` sequences, evenly spaced ones are taken.
    """
    analysis = require("Bio.SeqUtils.ProtParam").ProteinAnalysis
    texts = [protein.normalized(s).replace("-", "") for s in sequences if protein.invalid(s) is None]
    texts = [text for text in texts if text]
    if len(texts) > most:
        texts = [texts[int(i)] for i in np.linspace(0, len(texts) - 1, most)]
    analyses = [analysis(text) for text in texts]
    return {name: np.array([getattr(a, name)() for a in analyses], dtype=np.float64) for name in PROPERTIES}


def property_metrics(protein: Protein, samples: Sequence[str], reference: Sequence[str] | None) -> dict[str, Any]:
    """For each property: mean, std, min, max and `count`; with a reference its own, and the 1-Wasserstein distance."""
    found = properties(protein, samples)
    expected = None if reference is None else properties(protein, reference)
    result: dict[str, Any] = {}
    for name, values in found.items():
        result[name] = {"count": len(values)} | summary(values)
        if expected is not None:
            result[name]["reference"] = {"count": len(expected[name])} | summary(expected[name])
            result[name]["wasserstein"] = wasserstein(values, expected[name])
    return result
