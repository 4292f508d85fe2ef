"""Pictures of molecules, with the given atoms of an infill marked."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from discdiff.errors import require

_ATOM = re.compile(r"\[[^\[\]]*\]|Br|Cl|[BCNOPSFIbcnops*]")
_MARK = (0.62, 0.81, 0.98)


def atom_spans(smiles: str) -> list[tuple[int, int]]:
    """Where each atom stands in a SMILES, as (start, end) of its characters.

    The i-th span is RDKit's atom i, as long as explicit hydrogens are kept (`removeHs=False`).
    """
    return [match.span() for match in _ATOM.finditer(smiles)]


def atoms_within(symbols: Sequence[str], given: Sequence[bool]) -> list[int]:
    """The atoms that are given as a whole.

    Args:
        symbols: the tokens as text, as `SMILES.symbols` shows them.
        given: for each token, whether it was given (clamped).

    Returns:
        Indices of atoms in the order of the string, which is RDKit's; for `molecule_grid_svg(highlights=...)`.
    """
    flags = [flag for symbol, flag in zip(symbols, given, strict=True) for _ in symbol]
    return [i for i, (start, end) in enumerate(atom_spans("".join(symbols))) if all(flags[start:end])]


def molecule_grid_svg(
    smiles: Sequence[str],
    highlights: Sequence[Collection[int]] | None = None,
    legends: Sequence[str] | None = None,
    *,
    columns: int = 4,
    size: tuple[int, int] = (240, 200),
) -> str:
    """A grid of molecules as one SVG element, without outside references; it can be put into HTML as it is.

    Args:
        smiles: one molecule a cell. For one that is not valid the cell says so.
        highlights: for each molecule the atoms to mark (see `atoms_within`); bonds between them are marked too. A
            mapping gives each atom a color of its own, (red, green, blue) from 0 to 1; then bonds are not marked.
        legends: a line under each molecule.
        columns: cells in a row.
        size: width and height of a cell in pixels.
    """
    text = str(_grid("MolDraw2DSVG", smiles, highlights, legends, columns, size))
    return text[text.index("<svg") :].strip() + "\n"


def molecule_grid_png(
    smiles: Sequence[str],
    highlights: Sequence[Collection[int]] | None = None,
    legends: Sequence[str] | None = None,
    *,
    columns: int = 4,
    size: tuple[int, int] = (240, 200),
) -> bytes | None:
    """The same as PNG, or None where RDKit was built without Cairo."""
    if not hasattr(require("rdkit.Chem.Draw.rdMolDraw2D"), "MolDraw2DCairo"):
        return None
    return bytes(_grid("MolDraw2DCairo", smiles, highlights, legends, columns, size))


def _grid(
    kind: str,
    smiles: Sequence[str],
    highlights: Sequence[Collection[int]] | None,
    legends: Sequence[str] | None,
    columns: int,
    size: tuple[int, int],
) -> Any:
    columns = max(1, min(columns, len(smiles)))
    rows = max(1, -(-len(smiles) // columns))
    width, height = size
    draw = require("rdkit.Chem.Draw.rdMolDraw2D")
    canvas = getattr(draw, kind)(columns * width, rows * height, width, height)
    under = list(legends) if legends is not None else [""] * len(smiles)
    marked = list(highlights) if highlights is not None else [()] * len(smiles)
    molecules, atoms, bonds, colors, empty = [], [], [], [], []
    with require("rdkit.rdBase").BlockLogs():
        for i, (one, chosen) in enumerate(zip(smiles, marked, strict=True)):
            molecule = _prepared(one)
            if not molecule.GetNumAtoms():
                empty.append(i)
            inside = {atom for atom in chosen if atom < molecule.GetNumAtoms()}
            molecules.append(molecule)
            atoms.append(sorted(inside))
            ends = ((b.GetIdx(), b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds())
            own = chosen if isinstance(chosen, Mapping) else None
            colors.append({atom: own[atom] if own else _MARK for atom in inside})
            bonds.append([index for index, begin, end in ends if not own and begin in inside and end in inside])
        options = canvas.drawOptions()
        options.prepareMolsBeforeDrawing = False
        options.setHighlightColour(_MARK)
        if len(empty) < len(smiles):
            canvas.DrawMolecules(
                molecules, highlightAtoms=atoms, highlightBonds=bonds, highlightAtomColors=colors, legends=under
            )
        point = require("rdkit.Geometry").Point2D
        for i in empty:
            text = f"{under[i]} (not valid)".strip()
            canvas.SetOffset(0, 0)
            canvas.SetFontSize(11)
            canvas.DrawString(text, point((i % columns + 0.5) * width, (i // columns + 0.5) * height), rawCoords=True)
    canvas.FinishDrawing()
    return canvas.GetDrawingText()


def _prepared(smiles: str) -> Any:
    """A molecule with coordinates and the atoms in the order of the string; one without atoms if it is not valid."""
    chem = require("rdkit.Chem")
    parameters = chem.SmilesParserParams()
    parameters.removeHs = False
    found = chem.MolFromSmiles(smiles, parameters) if smiles else None
    if found is None:
        return chem.MolFromSmiles("")
    return require("rdkit.Chem.Draw.rdMolDraw2D").PrepareMolForDrawing(found, addChiralHs=False)
