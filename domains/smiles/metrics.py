"""Figures of quality that only molecules have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from discdiff.metrics import summary, wasserstein
from domains.smiles.chemistry import canonical
from domains.smiles.drawing import atom_spans
from domains.smiles.properties import internal_diversity, properties, valid_molecules

MOST = 2_000
MOST_PAIRED = 1_000
_ELEMENT = re.compile(r"\[[0-9]*((?!Uu)[A-Z][a-z]?|[a-z]{1,2}|\*)")
_RING = re.compile(r"%\([0-9]+\)|%[0-9][0-9]|[0-9]")


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


def possibly_equal(samples: Sequence[str], training: Sequence[str]) -> list[str]:
    """The training molecules that may be one of the samples, so that only these need canonical forms.

    Equal molecules have the same heavy atoms and the same number of rings, and both can be counted in the string.
    Nothing that could be equal is left out; of ZINC250k about a quarter stays for a thousand samples.
    """
    wanted = {_skeleton(canonical(one)) for one in dict.fromkeys(samples)}
    return [one for one in training if (key := _skeleton(one)) is None or key in wanted]


def _skeleton(smiles: str) -> tuple[object, ...] | None:
    """Heavy atoms by element and ring bonds of a connected SMILES; None where the string does not tell."""
    if "." in smiles:
        return None  # parts across a dot may be joined by ring bonds, as in C1.C1
    elements: list[str] = []
    start, between = 0, ""
    for begin, end in atom_spans(smiles):
        atom = smiles[begin:end]
        if atom[0] == "[":
            if (found := _ELEMENT.match(atom)) is None:
                return None
            atom = found[1]
        elements.append(atom.capitalize())
        between += smiles[start:begin] + " "
        start = end
    rings = len(_RING.findall(between + smiles[start:]))
    return (*sorted(element for element in elements if element != "H"), rings)
