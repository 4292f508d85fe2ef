"""Files of molecules: SMILES lines, tables and SD files, as records of SMILES."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discdiff.data.files import Faults, accepted_values, is_table, open_text, plain_suffix, read_table
from discdiff.domain import Record
from discdiff.errors import DataError, require
from domains.smiles import chemistry
from domains.smiles.hints import hint

GUESSES = ("smiles", "canonical_smiles", "isomeric_smiles", "smi", "sequence", "structure")
SD_FILES = (".sdf", ".sd", ".mol")


@dataclass(frozen=True)
class Entry:
    """A record, and the line where it begins if the file has lines. `fault`: why there is no SMILES."""

    record: Record
    line: int | None = None
    fault: str | None = None


def read_entries(path: str | Path, faults: Faults, *, encoding: str = "utf-8", **options: Any) -> Iterator[Entry]:
    """Records of a file by its suffix (under that of a compression): tables, SD files, else SMILES lines.

    Raises:
        DataError: the file or table cannot be read; options that the format does not take.
    """
    suffix = plain_suffix(path)
    if is_table(path):
        guesses = options.pop("guesses", GUESSES)
        for record in read_table(path, encoding=encoding, guesses=guesses, faults=faults, **options):
            yield Entry(record)
        return
    taken = {"name_column", "label_column", "where"} if suffix in SD_FILES else set()
    if foreign := [name for name, value in options.items() if value is not None and name not in taken]:
        kind = "an SD file" if suffix in SD_FILES else "a file of SMILES lines"
        raise DataError(f"{kind} has no {foreign[0]}", path=path, remedy="options about columns are for tables")
    if suffix in SD_FILES:
        yield from _sd_file(path, encoding, faults, **options)
    else:
        yield from _lines(path, encoding, faults)


def _lines(path: str | Path, encoding: str, faults: Faults) -> Iterator[Entry]:
    place = 0
    with open_text(path, encoding) as stream:
        for number, line in faults.filled(enumerate(stream, 1), comment="#"):
            smiles, _, name = line.strip().replace("\t", " ").partition(" ")
            if line[0].isspace():
                place += 1
                faults.add(
                    DataError(
                        "the line begins with white space: no SMILES before the name", path=path, line=number,
                        remedy="the SMILES comes first, then its name",
                    )
                )  # fmt: skip
                continue
            if not place and smiles.lower() in GUESSES:
                faults.remark(f"line {number} ({smiles}) is taken for a header")
                continue
            place += 1
            yield Entry(Record(smiles, name.strip() or None, place=place), number)
    if not place:
        raise DataError("no SMILES in it (0 records)", path=path)


def _sd_file(
    path: str | Path,
    encoding: str,
    faults: Faults,
    name_column: str | None = None,
    label_column: str | None = None,
    where: Mapping[str, object] | None = None,
) -> Iterator[Entry]:
    place, kept = 0, 0
    wanted = {name: accepted_values(value) for name, value in (where or {}).items()}
    for line, block in _blocks(path, encoding):
        place += 1
        values = _properties(block)
        asked = filter(None, (name_column, label_column, *wanted))
        if lacking := [name for name in asked if name not in values and (place == 1 or name not in wanted)]:
            faults.add(
                DataError(
                    f"no property {lacking[0]!r}", path=path, record=place, line=line,
                    remedy=f"properties of this molecule: {', '.join(values) or 'none'}",
                )
            )  # fmt: skip
            continue
        if any(values.get(name) not in values_ for name, values_ in wanted.items()):
            continue
        kept += 1
        smiles, fault = _smiles_of(block)
        name = values[name_column] if name_column else "".join(block[:1]).strip()
        label = values[label_column] if label_column else None
        yield Entry(Record(smiles, name or None, label or None, place), line, fault)
    if not kept and not faults.count:
        raise DataError(
            "no molecule in it (0 records)" if not place else f"none of {place} molecules has {where}", path=path
        )


def _blocks(path: str | Path, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of each molecule and the 1-based line where it begins."""
    block: list[str] = []
    start = 1
    with open_text(path, encoding) as stream:
        for number, line in enumerate(stream, 1):
            if line.startswith("$$$$"):
                yield start, block
                block, start = [], number + 1
            else:
                block.append(line.rstrip("\n"))
    if any(line.strip() for line in block):
        if not any(line.startswith("M  END") for line in block):
            raise DataError(
                "the last molecule has no 'M  END'", path=path, line=start, remedy="the file may be truncated"
            )
        yield start, block


def _properties(block: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for i, line in enumerate(block):
        if line.startswith(">") and "<" in line:
            name = line.partition("<")[2].partition(">")[0]
            values[name] = block[i + 1].strip() if i + 1 < len(block) else ""
    return values


def _smiles_of(block: list[str]) -> tuple[str, str | None]:
    """The SMILES that RDKit writes for a molecule block (canonical: a block has no order of its own), or the fault."""
    chem = require("rdkit.Chem")
    with chemistry.quiet() as log:
        parsed = chem.MolFromMolBlock("\n".join(block), sanitize=False, removeHs=False)
    if parsed is None:
        return "", "parse error: " + (" ".join(log) or "RDKit cannot read the molecule block")
    with chemistry.quiet() as log:
        found = chem.MolFromMolBlock("\n".join(block))
    if found is None:
        return "", chemistry.sanitization_fault(parsed)
    return (str(chem.MolToSmiles(found)), None) if found.GetNumAtoms() else ("", "empty: no atoms")


def rejected(entry: Entry, fault: str, path: str | Path, domain_remedy: str) -> DataError:
    """The error for a record that is no molecule: file, row, SMILES, RDKit's reason and the remedy."""
    record = entry.record
    shown = f"{record.sequence!r}: " if record.sequence else ""
    return DataError(
        f"{shown}{fault}", path=path, record=record.name or record.place,
        line=entry.line if record.name or entry.line != record.place else None,
        remedy=hint(record.sequence) or domain_remedy,
    )  # fmt: skip
