"""Molecules as SMILES. RDKit is imported when it is first needed."""

from __future__ import annotations

from domains.smiles.domain import SMILES
from domains.smiles.drawing import atom_spans, atoms_within, molecule_grid_png, molecule_grid_svg
from domains.smiles.shipped import shipped_paths, shipped_smiles

__all__ = [
    "SMILES",
    "atom_spans",
    "atoms_within",
    "molecule_grid_png",
    "molecule_grid_svg",
    "shipped_paths",
    "shipped_smiles",
]
