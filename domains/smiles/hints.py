"""What a string that is no SMILES may have been meant to be."""

from __future__ import annotations

import re
import unicodedata

_CASE = {
    "CL": "Cl",
    "BR": "Br",
    "NA": "[Na]",
    "SI": "[Si]",
    "SE": "[Se]",
    "LI": "[Li]",
    "MG": "[Mg]",
    "FE": "[Fe]",
}


def hint(smiles: str, *, column: int | None = None) -> str | None:
    """What to do about a string that is not read as SMILES, or None.

    Args:
        smiles: the string.
        column: 0-based position of the fault, where it is known.
    """
    if smiles.startswith(("InChI=", "1S/")):
        return "this is an InChI; rdkit.Chem.MolFromInchi and MolToSmiles turn it into SMILES"
    if re.fullmatch(r"[A-Z]{14}-[A-Z]{10}-[A-Z]", smiles):
        return "this is an InChIKey, which cannot be turned back into a molecule; look the SMILES up"
    if smiles.count(">") - smiles.count("->") >= 2:
        return "this is a reaction; give its molecules on rows of their own"
    if "|" in smiles and re.search(r"\s\|", smiles):
        return "the |...| part is a CXSMILES extension, which is not read; give the SMILES alone"
    for at, character in enumerate(smiles):
        if not character.isascii():
            name = unicodedata.name(character, "unnamed").lower()
            return f"position {at + 1} is U+{ord(character):04X} ({name}), not the ASCII letter it may look like"
        if character.isspace() or not character.isprintable():
            return f"position {at + 1} is {character!r}: a SMILES has no white space or control characters"
    around = smiles[max(column - 1, 0) : column + 2] if column is not None else smiles
    for wrong, right in _CASE.items():
        if wrong in around:
            return f"{wrong!r} may be meant as {right}: upper and lower case differ in SMILES"
    if "," in smiles or ";" in smiles:
        return "a comma or semicolon separates columns: give the file the suffix .csv"
    if "{" in smiles or "_" in smiles:
        return "gaps belong to templates: use infill"
    return None
