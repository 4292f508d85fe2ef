"""Figures of quality that only molecules have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from discdiff.metrics import summary, wasserstein
from domains.smiles.properties import internal_diversity, properties, valid_molecules

MOST = 2_000
MOST_PAIRED = 1_000


def molecule_metrics(samples: Sequence[str], reference: Sequence[str] | None) -> dict[str, Any]:
    """Properties and diversity of the valid samples.

    Returns:
        - `properties`: for `qed`, `logp`, `weight` and `sa` the `count` of molecules, mean, std, min, max; with a
          reference the same of that, and `wasserstein`, the 1-Wasserstein distance in the property's own unit. Sets
          of more than 2,000 strings are represented by 2,000 at even distances.
        - `internal_diversity`: `mean` of 1 - Tanimoto over pairs of valid samples (repeats count), and the `count` of
          molecules, at most 1,000.
    """
    found = properties(valid_molecules(samples, MOST))
    result: dict[str, Any] = {name: {"count": len(values)} | summary(values) for name, values in found.items()}
    if reference is not None:
        expected = properties(valid_molecules(reference, MOST))
        for name, values in expected.items():
            result[name]["reference"] = {"count": len(values)} | summary(values)
            result[name]["wasserstein"] = wasserstein(found[name], values)
    paired = valid_molecules(samples, MOST_PAIRED)
    return {
        "properties": result,
        "internal_diversity": {"mean": internal_diversity(paired), "count": len(paired)},
    }
