"""Every domain reads each of its formats, plain and compressed: the same records written in each come back the same."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from Bio import SeqIO, bgzf
from Bio.Seq import Seq
from Bio.SeqRecord import SeqRecord
from rdkit import Chem

from discdiff.data.files import is_table
from discdiff.domain import Domain
from discdiff.errors import DataError
from domains.dna import DNA
from domains.protein import Protein
from domains.smiles import SMILES
from domains.text import Text
from domains.tokens import Tokens

NAMES = ["one", "two", "three"]


def blocks(data: bytes) -> bytes:
    """Compress as bgzip does."""
    raw = io.BytesIO()
    with bgzf.BgzfWriter(fileobj=raw) as writer:
        writer.write(data)
        writer.flush()
        return raw.getvalue() + bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": gzip.compress, ".bgz": blocks, ".bz2": bz2.compress, ".xz": lzma.compress,
}  # fmt: skip


def fasta(rows: list[str]) -> bytes:
    return "".join(f">{name} of test\n{row[:3]}\n{row[3:]}\n" for name, row in zip(NAMES, rows, strict=True)).encode()


def fastq(rows: list[str]) -> bytes:
    return "".join(f"@{n}\n{row}\n+\n{'I' * len(row)}\n" for n, row in zip(NAMES, rows, strict=True)).encode()


def genbank(kind: str) -> Callable[[list[str]], bytes]:
    def write(rows: list[str]) -> bytes:
        text = io.StringIO()
        records = [
            SeqRecord(Seq(row), id=name, name=name, annotations={"molecule_type": kind})
            for name, row in zip(NAMES, rows, strict=True)
        ]
        SeqIO.write(records, text, "genbank")
        return text.getvalue().encode()

    return write


def stockholm(rows: list[str]) -> bytes:
    return ("# STOCKHOLM 1.0\n" + "".join(f"{n} {r}\n" for n, r in zip(NAMES, rows, strict=True)) + "//\n").encode()


def delimited(column: str, separator: str) -> Callable[[list[str]], bytes]:
    def write(rows: list[str]) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=separator)
        writer.writerow(["id", column, "more"])
        writer.writerows([name, row, "x"] for name, row in zip(NAMES, rows, strict=True))
        return text.getvalue().encode()

    return write


def parquet(column: str, convert: Callable[[str], Any] = str) -> Callable[[list[str]], bytes]:
    def write(rows: list[str]) -> bytes:
        raw = io.BytesIO()
        pq.write_table(pa.table({"id": NAMES, column: [convert(row) for row in rows]}), raw)
        return raw.getvalue()

    return write


def smi(rows: list[str]) -> bytes:
    return "".join(f"{row}\t{name}\n" for name, row in zip(NAMES, rows, strict=True)).encode()


def sdf(rows: list[str]) -> bytes:
    text = ""
    for name, row in zip(NAMES, rows, strict=True):
        block = Chem.MolToMolBlock(Chem.MolFromSmiles(row)).split("\n", 1)[1]
        text += f"{name}\n{block}> <kind>\nx\n\n$$$$\n"
    return text.encode()


def lines(rows: list[str]) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def json_lines(rows: list[str]) -> bytes:
    return "".join(json.dumps({"id": name, "text": row}) + "\n" for name, row in zip(NAMES, rows, strict=True)).encode()


def npy(rows: list[str]) -> bytes:
    raw = io.BytesIO()
    np.save(raw, np.array([list(map(int, row.split())) for row in rows], dtype=np.int32))
    return raw.getvalue()


def numbers(row: str) -> list[int]:
    return list(map(int, row.split()))


@dataclass(frozen=True)
class Cell:
    """A format of a domain. `named`: whether it has names."""

    domain: Domain
    suffix: str
    rows: list[str]
    write: Callable[[list[str]], bytes]
    named: bool = True

    def __str__(self) -> str:
        return f"{self.domain.name}{self.suffix}"


BASES, RESIDUES = ["ACGTAC", "GGGTTT", "TTTAAA"], ["MKVLAA", "ACDEFG", "WYWYWY"]
MOLECULES, TEXTS = ["CCO", "c1ccccc1", "CC(=O)O"], ["one line", "zweite Zeile, mit Komma", 'third "é" 行']
CODES = ["1 2 3", "7 8 9", "0 5 5"]
dna, protein, smiles, text, tokens = DNA(), Protein(), SMILES(), Text(lines=True), Tokens(10)
CELLS = [
    *(Cell(dna, suffix, BASES, fasta) for suffix in (".fasta", ".fa", ".fna")),
    Cell(dna, ".fastq", BASES, fastq),
    Cell(dna, ".gb", BASES, genbank("DNA")),
    Cell(dna, ".tsv", BASES, delimited("sequence", "\t")),
    Cell(dna, ".csv", BASES, delimited("seq", ",")),
    Cell(dna, ".parquet", BASES, parquet("sequence")),
    Cell(protein, ".faa", RESIDUES, fasta),
    Cell(protein, ".sto", RESIDUES, stockholm),
    Cell(protein, ".gp", RESIDUES, genbank("protein")),
    Cell(protein, ".tsv", RESIDUES, delimited("sequence", "\t")),
    Cell(protein, ".csv", RESIDUES, delimited("sequence", ",")),
    Cell(protein, ".parquet", RESIDUES, parquet("sequence")),
    Cell(smiles, ".smi", MOLECULES, smi),
    Cell(smiles, ".csv", MOLECULES, delimited("smiles", ",")),
    Cell(smiles, ".tsv", MOLECULES, delimited("SMILES", "\t")),
    Cell(smiles, ".sdf", MOLECULES, sdf),
    Cell(smiles, ".parquet", MOLECULES, parquet("smiles")),
    Cell(text, ".txt", TEXTS, lines, named=False),
    Cell(text, ".jsonl", TEXTS, json_lines),
    Cell(text, ".csv", TEXTS, delimited("text", ",")),
    Cell(text, ".tsv", TEXTS, delimited("text", "\t")),
    Cell(text, ".parquet", TEXTS, parquet("text")),
    Cell(tokens, ".npy", CODES, npy, named=False),
    Cell(tokens, ".txt", CODES, lines, named=False),
    Cell(tokens, ".csv", CODES, delimited("tokens", ",")),
    Cell(tokens, ".tsv", CODES, delimited("tokens", "\t")),
    Cell(tokens, ".parquet", CODES, parquet("tokens", numbers)),
]


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_same_records_come_back(tmp_path: Path, cell: Cell, compression: str) -> None:
    path = tmp_path / f"records{cell.suffix}{compression}"
    path.write_bytes(PACK[compression](cell.write(cell.rows)))
    found = list(cell.domain.read(path))
    assert [record.sequence for record in found] == cell.rows
    assert [record.name for record in found] == (NAMES if cell.named else [None] * 3)
    assert [record.place for record in found] == [1, 2, 3]


@pytest.mark.parametrize("compression", [".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("cell", [c for c in CELLS if c.suffix in (".parquet", ".npy")], ids=str)
def test_compressed_binary_files_that_are_cut(tmp_path: Path, cell: Cell, compression: str) -> None:
    path = tmp_path / f"records{cell.suffix}{compression}"
    path.write_bytes(PACK[compression](cell.write(cell.rows))[:-12])
    with pytest.raises(DataError, match=r"(truncated|damaged) \w+ file .*copy or download it again") as caught:
        list(cell.domain.read(path))
    assert str(path) in str(caught.value)
    path.write_bytes(cell.write(cell.rows))
    with pytest.raises(DataError, match="the file holds no compressed data"):
        list(cell.domain.read(path))


@pytest.mark.parametrize("cell", [c for c in CELLS if c.suffix == ".parquet"], ids=str)
def test_a_saved_data_set_is_read_as_its_table(tmp_path: Path, cell: Cell) -> None:
    import datasets

    path = tmp_path / "records.parquet"
    path.write_bytes(cell.write(cell.rows))
    datasets.Dataset(pa_table(path)).save_to_disk(tmp_path / "saved")
    assert is_table(tmp_path / "saved")
    assert list(cell.domain.read(tmp_path / "saved")) == list(cell.domain.read(path))


def pa_table(path: Path) -> Any:
    from datasets.table import InMemoryTable

    return InMemoryTable(pq.read_table(path))
