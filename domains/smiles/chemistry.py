"""What RDKit says about a SMILES, with its log caught and put into words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from discdiff.errors import require
from domains.smiles.hints import hint

_STAMP = re.compile(r"^\[\d\d:\d\d:\d\d\]\s*")
_PARSE = re.compile(r"SMILES Parse Error: (?P<fault>.+?)(?: while parsing: .*| for input: .*|$)")
_PLACE = re.compile(r"check for mistakes around position (\d+)")
_KINDS = {
    "AtomValenceException": "valence",
    "KekulizeException": "kekulization",
    "AtomKekulizeException": "kekulization",
}


@cache
def _rdkit() -> tuple[Any, Any, Any]:
    """`rdkit.Chem`, the context that blocks its logs, and parameters for parsing alone."""
    chem = require("rdkit.Chem")
    parameters = chem.SmilesParserParams()
    parameters.sanitize = parameters.removeHs = False
    return chem, require("rdkit.rdBase").BlockLogs, parameters


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Keep RDKit's log off the terminal; afterwards the list holds its error lines.

    An RDKit that is too old to hand its log over leaves the list empty.
    """
    base = require("rdkit.rdBase")
    lines: list[str] = []
    capture = getattr(base, "CaptureErrorLog", None)
    with base.BlockLogs():
        if capture is None:
            yield lines
            return
        with capture() as log:
            yield lines
        with suppress(UnicodeDecodeError):  # RDKit may cut a message within a character
            lines += [_STAMP.sub("", line) for line in log.messages.splitlines()]


def molecule(smiles: str) -> Any | None:
    """RDKit's molecule of a SMILES, sanitized; None if it is not valid. Says nothing on the terminal."""
    if not smiles or smiles != "".join(smiles.split()):
        return None  # RDKit would read '' as a molecule without atoms, and white space as the start of a name
    chem, block, _ = _rdkit()
    with block():
        return chem.MolFromSmiles(smiles)


def syntax_fault(smiles: str) -> str | None:
    """Why a string cannot be parsed as a SMILES (atoms, bonds, rings, branches), or None. Valence is not checked."""
    return _parse(smiles)[1]


def fault(smiles: str) -> str | None:
    """Why a SMILES is not valid, or None: RDKit's parser and its full sanitization, as the string stands.

    The words before the first colon are the kind: `empty`, `parse error`, `valence`, `kekulization`, `sanitization`.
    """
    if molecule(smiles) is not None:
        return None
    parsed, wrong = _parse(smiles)
    return wrong or sanitization_fault(parsed)


def sanitization_fault(parsed: Any) -> str:
    """Why RDKit refuses an unsanitized molecule."""
    chem = require("rdkit.Chem")
    with require("rdkit.rdBase").BlockLogs():
        try:
            problems = list(chem.DetectChemistryProblems(parsed))
            if not problems:
                chem.SanitizeMol(parsed)
                return "sanitization: RDKit gives no molecule"
        except (ValueError, RuntimeError) as error:  # RDKit breaks its own conditions on [CH444]
            return f"sanitization: {' '.join(str(error).split())}"
    kind = _KINDS.get(problems[0].GetType(), "sanitization")
    message = " ".join(problems[0].Message().split())
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{kind}: {message[:1].lower()}{message[1:]}{more}"


def _parse(smiles: str) -> tuple[Any | None, str | None]:
    if not smiles:
        return None, "empty: no atoms"
    if any(character.isspace() for character in smiles):
        return None, f"parse error: {hint(smiles) or 'white space'}"
    chem, block, parameters = _rdkit()
    with block():
        parsed = chem.MolFromSmiles(smiles, parameters)
    if parsed is not None:
        return parsed, None
    with quiet() as log:
        chem.MolFromSmiles(smiles, parameters)
    words = "RDKit cannot parse it"
    for line in log:
        if found := _PARSE.search(line):
            words = found["fault"].strip()
            break
    place = next((found[1] for line in log if (found := _PLACE.search(line))), None)
    return None, f"parse error: {words}" + (f" at position {place}" if place else "")


def canonical(smiles: str) -> str:
    """RDKit's canonical isomeric SMILES of a valid SMILES; an invalid one is given back as it is."""
    found = molecule(smiles)
    return smiles if found is None else str(require("rdkit.Chem").MolToSmiles(found))


def scaffold(smiles: str, *, generic: bool = False) -> str | None:
    """The Bemis-Murcko scaffold (rings and what links them), without stereo; None for a molecule without rings.

    Args:
        smiles: a SMILES; an invalid one has no scaffold.
        generic: every atom as carbon and every bond as single.
    """
    found = molecule(smiles)
    if found is None or not found.GetRingInfo().NumRings():
        return None
    chem, murcko = require("rdkit.Chem"), require("rdkit.Chem.Scaffolds.MurckoScaffold")
    chem.RemoveStereochemistry(found)
    with quiet():
        core = murcko.GetScaffoldForMol(found)
        if generic:
            core = murcko.GetScaffoldForMol(murcko.MakeScaffoldGeneric(core))
    return str(chem.MolToSmiles(core)) or None


def largest_fragment(smiles: str) -> str:
    """The fragment with the most heavy atoms (of equals the first), cut out of the string as it stands.

    Ring bonds may join parts across a dot (`C1.C1` is ethane); then the string is one fragment.
    """
    parts = smiles.split(".")
    if len(parts) == 1:
        return smiles
    sizes = []
    for part in parts:
        found, wrong = _parse(part)
        if found is None or wrong:
            return _largest_of_graph(smiles)
        sizes.append(found.GetNumHeavyAtoms())
    return parts[sizes.index(max(sizes))]


def _largest_of_graph(smiles: str) -> str:
    found = molecule(smiles)
    if found is None:
        return smiles
    chem = require("rdkit.Chem")
    parts = chem.GetMolFrags(found, asMols=True, sanitizeFrags=False)
    return str(chem.MolToSmiles(max(parts, key=lambda part: int(part.GetNumHeavyAtoms()))))
