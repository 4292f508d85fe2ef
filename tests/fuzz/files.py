"""Every reader as a target: a domain, a suffix, valid files, and text that is nearly in the format."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import json
import lzma
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import discdiff as dd
from discdiff.data import SequenceDataset
from discdiff.errors import DiscdiffError
from tests.fuzz.grammars import GRAMMARS
from tests.fuzz.mutators import mutated, random_bytes

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": lambda data: gzip.compress(data, 1, mtime=0),
    ".bz2": lambda data: bz2.compress(data, 1),
    ".xz": lambda data: lzma.compress(data, preset=0),
}


@functools.cache
def text_domain(lines: bool) -> dd.Domain:
    """Byte pairs learned from a few words: any text has tokens."""
    return dd.domain("text", vocab_size=300, lines=lines).fit(["the cat sat on the mat. " * 20])


@dataclass(frozen=True)
class FileTarget:
    """A reader.

    Attributes:
        name: of the target.
        domain: reads the files.
        suffix: of the files, that of a compression included.
        valid: contents of valid files, before they are compressed.
        grammar: writes text that is nearly in the format; None where it is binary.
        options: of the reader.
    """

    name: str
    domain: Callable[[], dd.Domain]
    suffix: str
    valid: tuple[bytes, ...]
    grammar: Callable[[Random], bytes] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def input(self, seed: int) -> bytes:
        """The contents of a file, drawn by a seed: random, nearly valid, or a valid file with changes."""
        random = Random(f"{self.name} {seed}")
        pack = PACK[self.compression]
        kind = random.random()
        if kind < 0.1:
            data = random_bytes(random)
            return pack(data) if random.random() < 0.5 else data
        base = random.choice(self.valid)
        if self.grammar is not None and kind < 0.5:
            base = self.grammar(random)
            if kind < 0.3:
                return pack(base)
        if self.compression and random.random() < 0.7:  # damage the compressed bytes
            return mutated(pack(base), [pack(one) for one in self.valid], random)
        return pack(mutated(base, self.valid, random))

    @property
    def compression(self) -> str:
        """The suffix of the compression, or nothing."""
        return next((end for end in PACK if end and self.suffix.endswith(end)), "")

    def check(self, data: bytes, folder: Path) -> str:
        """Read a file of these contents; what became of it in a word.

        Returns:
            "read", or the name of our error; "empty" (no sequence and no error) and "silent" (an error without a word)
            are faults.

        Raises:
            Exception: what no reader may raise.
        """
        path = folder / f"input{self.suffix}"
        path.write_bytes(data)
        domain = self.domain()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = SequenceDataset.read(
                    domain, path, length=64, on_long="error" if domain.streams else "crop", **self.options
                )
                texts = found.texts()
        except DiscdiffError as error:
            return type(error).__name__ if str(error) else "silent"
        return "read" if texts else "empty"


def _npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _parquet(**columns: Sequence[Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


FASTA = b">one some words key=value\nACGTACGT\nacgt\n>two\nTTTTGGGG\n"
KEYED = b">one key=a\nACGT\n>two key=b other=1\nGG\n"
FASTQ = b"@one\nACGT\n+\nIIII\n@two x\nGGCC\n+two\n!!!!\n"
GENBANK = b"""LOCUS       AB000001                  24 bp    DNA     linear   BCT 01-JAN-2000
DEFINITION  A small record.
ACCESSION   AB000001
VERSION     AB000001.1
SOURCE      Escherichia coli
  ORGANISM  Escherichia coli
            Bacteria.
FEATURES             Location/Qualifiers
     source          1..24
                     /organism="Escherichia coli"
     CDS             complement(join(1..9,12..20))
                     /codon_start=1
ORIGIN
        1 acgtacgtac gtacgtacgt acgt
//
"""
STOCKHOLM = b"""# STOCKHOLM 1.0
#=GF ID X
#=GS one/1-8 AC P1
one/1-8    MKVLAWYQ
two        MKV-AWYQ
#=GC SS_cons   HHHHEEEE
//
"""
SDF = b"""ethanol
     RDKit          2D

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0
    1.2990    0.7500    0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0
    2.5981   -0.0000    0.0000 O   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0
  2  3  1  0
M  END
> <ID>
7

$$$$
"""
CSV = b'name,smiles,sequence,text,label\na,CCO,ACGT,"a, b",x\nb,c1ccccc1,GGGG,"say ""no""",y\nc,NA,AAAA,NA,\n'
JSONL = b"".join(
    json.dumps(row).encode() + b"\n"
    for row in ({"text": "one two", "label": "x", "id": 3}, {"text": "h\u00e9 \U0001f642", "label": None, "id": "b"})
)
PARQUET = _parquet(sequence=["ACGT", "GG"], text=["a b", "\u00e9"], smiles=["CCO", "C"], label=["x", None], n=[1, 2])
LISTS = _parquet(tokens=[[1, 2, 3], [4]], name=["a", "b"])
NPY = tuple(_npy(a) for a in (np.arange(12).reshape(3, 4), np.arange(5, dtype=np.uint8), np.ones((2, 2, 2), np.int16)))


def _kinds() -> list[FileTarget]:
    dna, loose = dd.domain("dna"), dd.domain("dna", on_unknown="skip", gaps="drop")
    protein, gapped = dd.domain("protein"), dd.domain("protein", on_unknown="split", gaps="keep")
    smiles, skipping = (
        dd.domain("smiles"),
        dd.domain("smiles", on_invalid="skip", fragments="largest", canonicalize=True),
    )
    tokens = dd.domain("tokens", vocab_size=1000)

    def constant(domain: dd.Domain) -> Callable[[], dd.Domain]:
        return lambda: domain

    def lines() -> dd.Domain:
        return text_domain(True)

    def stream() -> dd.Domain:
        return text_domain(False)

    fasta, text = GRAMMARS["fasta"], GRAMMARS["text"]
    targets = [
        FileTarget("fasta", constant(dna), ".fasta", (FASTA,), fasta),
        FileTarget(
            "fasta-skip", constant(loose), ".fa", (FASTA, FASTA.replace(b"A", b"N")), fasta, {"name_column": None}
        ),
        FileTarget("fasta-labels", constant(dna), ".fa", (KEYED,), fasta, {"label_column": "key"}),
        FileTarget("fasta-lines", constant(dna), ".txt", (b"ACGT\nGG\n",), text, {"format": "lines"}),
        FileTarget("fastq", constant(dna), ".fastq", (FASTQ,), GRAMMARS["fastq"]),
        FileTarget("genbank", constant(dna), ".gb", (GENBANK,), GRAMMARS["genbank"]),
        FileTarget("stockholm", constant(gapped), ".sto", (STOCKHOLM,), GRAMMARS["stockholm"]),
        FileTarget("protein-fasta", constant(protein), ".faa", (b">p x\nMKVLAWYQ*\n",), fasta),
        FileTarget("smi", constant(smiles), ".smi", (b"CCO ethanol\nc1ccccc1\tbenzene\n[13CH4]\n",), GRAMMARS["smi"]),
        FileTarget("smi-skip", constant(skipping), ".smi", (b"CCO.[Na+]\nC(C x\n",), GRAMMARS["smi"]),
        FileTarget("sdf", constant(smiles), ".sdf", (SDF, SDF * 2), None),
        FileTarget(
            "smiles-csv",
            constant(smiles),
            ".csv",
            (CSV.replace(b"NA", b"CN"),),
            GRAMMARS["csv"],
            {"label_column": "label"},
        ),
        FileTarget("dna-tsv", constant(dna), ".tsv", (CSV.replace(b",", b"\t"),), GRAMMARS["csv"]),
        FileTarget("text-lines", lines, ".txt", (b"one\ntwo \xc3\xa9\n",), text),
        FileTarget("text-stream", stream, ".txt", (b"to be or not to be, that is the question. " * 20,), text),
        FileTarget("jsonl", lines, ".jsonl", (JSONL,), GRAMMARS["jsonl"], {"label_column": "label"}),
        FileTarget("text-csv", lines, ".csv", (CSV,), GRAMMARS["csv"], {"where": {"label": ["x", "y"]}}),
        FileTarget("parquet", lines, ".parquet", (PARQUET,), None, {"label_column": "label"}),
        FileTarget("tokens-txt", constant(tokens), ".txt", (b"1 2 3\n[4, 5]\n",), GRAMMARS["numbers"]),
        FileTarget(
            "tokens-csv", constant(tokens), ".csv", (b"tokens,n\n1 2,3\n4,5\n", b"1,2\n3,4\n"), GRAMMARS["numbers"]
        ),
        FileTarget("tokens-parquet", constant(tokens), ".parquet", (LISTS,), None),
        FileTarget("npy", constant(tokens), ".npy", NPY, None),
    ]
    for kind in (".gz", ".bz2", ".xz"):
        targets.append(FileTarget(f"fasta{kind}", constant(dna), f".fasta{kind}", (FASTA, FASTA * 50), fasta))
        targets.append(FileTarget(f"jsonl{kind}", lines, f".jsonl{kind}", (JSONL,), GRAMMARS["jsonl"]))
    return targets


@functools.cache
def file_targets() -> dict[str, FileTarget]:
    """Every reader by its name."""
    return {target.name: target for target in _kinds()}
