"""Molecules that come inside the RDKit wheel: a corpus without a download."""

from __future__ import annotations

import csv
from pathlib import Path

from discdiff.errors import DataError, require
from domains.smiles.chemistry import molecule


def shipped_paths() -> list[Path]:
    """The files: NCI first_5K (public domain) and the test sets of the PAINS filters (WEHI, ChEMBL).

    Raises:
        DataError: this build of RDKit comes without its data folder.
    """
    data = Path(require("rdkit.RDConfig").RDDataDir)
    pains = data / "Pains" / "test_data"
    paths = [data / "NCI" / "first_5K.smi", pains / "wehi_mols.csv", pains / "test_set3.txt"]
    for path in paths:
        if not path.is_file():
            raise DataError(
                "this RDKit comes without it", path=path, remedy="install RDKit from PyPI: pip install rdkit"
            )
    return paths


def shipped_smiles(*, longest: int = 60) -> list[str]:
    """About 15,000 different molecules of one fragment, valid, in canonical SMILES, in the order of the files.

    Args:
        longest: molecules with more characters are left out.

    Raises:
        DataError: as `shipped_paths`.
    """
    write = require("rdkit.Chem").MolToSmiles
    found: dict[str, None] = {}
    for path in shipped_paths():
        for smiles in _column(path):
            parsed = molecule(smiles)
            if parsed is not None and len(one := str(write(parsed))) <= longest and "." not in one:
                found[one] = None
    return list(found)


def _column(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as stream:
        if path.suffix == ".csv":
            return [row[0] for row in csv.reader(stream) if row]
        lines = [line.split() for line in stream if line.strip() and not line.startswith("#")]
    # a line of the test set is: number, SMARTS of the filter, SMILES, identifier, source
    return [line[2 if path.suffix == ".txt" else 0] for line in lines]
