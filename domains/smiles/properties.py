"""Properties of molecules that say whether samples look like those of a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from discdiff.errors import require
from domains.smiles.chemistry import molecule

PROPERTIES = {
    "qed": "drug-likeness QED",
    "logp": "Crippen logP",
    "weight": "molecular weight (Da)",
    "sa": "synthetic accessibility",
}
"""Names and titles: QED (Bickerton 2012), logP (Wildman & Crippen 1999), weight, SA (Ertl & Schuffenhauer 2009)."""


def valid_molecules(smiles: Sequence[str], most: int | None = None) -> list[Any]:
    """RDKit's molecules of the valid strings; of more than `most`, that many at even distances."""
    found = [one for one in (molecule(text) for text in evenly(smiles, most)) if one is not None]
    return [one for one in found if one.GetNumAtoms()]


def evenly(items: Sequence[str], most: int | None) -> Sequence[str]:
    """At most `most` of the items, at even distances: no draw, so that figures repeat."""
    if most is None or len(items) <= most:
        return items
    return [items[i * len(items) // most] for i in range(most)]


def properties(molecules: Sequence[Any]) -> dict[str, list[float]]:
    """Each property of each molecule; one that RDKit cannot compute for a molecule is left out of its list."""
    descriptors, qed = require("rdkit.Chem.Descriptors"), require("rdkit.Chem.QED")
    crippen, scorer = require("rdkit.Chem.Crippen"), require("rdkit.Contrib.SA_Score.sascorer")
    functions = {
        "qed": qed.qed,
        "logp": crippen.MolLogP,
        "weight": descriptors.MolWt,
        "sa": scorer.calculateScore,
    }
    found: dict[str, list[float]] = {name: [] for name in functions}
    with require("rdkit.rdBase").BlockLogs():
        for one in molecules:
            for name, function in functions.items():
                try:
                    value = float(function(one))
                except (ValueError, RuntimeError, ZeroDivisionError, OverflowError):
                    continue  # molecules without a bond, say
                if math.isfinite(value):
                    found[name].append(value)
    return found


def internal_diversity(molecules: Sequence[Any]) -> float | None:
    """Mean of 1 - Tanimoto similarity over all pairs of molecules, Morgan fingerprints of radius 2, 2048 bits.

    Benhenda 2017, IntDiv with p = 1 but without the pairs of a molecule with itself. None of fewer than two.
    """
    if len(molecules) < 2:
        return None
    generator = require("rdkit.Chem.rdFingerprintGenerator").GetMorganGenerator(radius=2, fpSize=2048)
    similar = require("rdkit.DataStructs").BulkTanimotoSimilarity
    prints = [generator.GetFingerprint(one) for one in molecules]
    total = math.fsum(math.fsum(similar(prints[i], prints[:i])) for i in range(1, len(prints)))
    return 1 - total / (len(prints) * (len(prints) - 1) / 2)
