"""What users' files have wrong with them, one row a fault: where it is, what was expected, and what to do about it.

Each fault is read under all three policies: raised at once; left out, counted and listed (if it is a record's; one of
the file is raised, and leaves no data set); or reported at the end.
"""

from __future__ import annotations

import gzip
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from discdiff.data import SequenceDataset
from discdiff.data.faults import RefusedError
from discdiff.domain import Domain
from discdiff.errors import DataError
from domains.dna import DNA
from domains.protein import Protein
from domains.smiles import SMILES
from domains.text import Text
from domains.tokens import Tokens

LINES = Text(tokenizer="characters", lines=True).fit(['abcdefghijklmnopqrstuvwxyz0123456789[]{}:MASKN, \t"é.'])
READS = b"".join(b">s%d\nACGT\n" % i for i in range(4000))


@dataclass(frozen=True)
class Row:
    """One kind of bad input.

    Attributes:
        name: what it is.
        domain: reads it.
        file: its name.
        content: its bytes.
        says: parts of the error.
        kept: the sequences that are left if the faulty records are left out; None for a fault of the whole file.
        options: of reading.
    """

    name: str
    domain: Domain
    file: str
    content: bytes
    says: tuple[str, ...]
    kept: tuple[str, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)


def smiles(name: str, string: str, *says: str) -> Row:
    """A SMILES between two good ones."""
    content = f"CC one\n{string} two\nCO three\n".encode()
    return Row(f"smiles {name}", SMILES(), "a.smi", content, ("line 2", *says), ("CC", "CO"))


ROWS = [
    # ---- nothing in it
    Row("empty FASTA", DNA(), "reads.fa", b"", ("the file is empty",)),
    Row("blank FASTA", DNA(), "reads.fa", b"\n\n", ("no records",)),
    Row("empty text", LINES, "a.txt", b"", ("the file is empty",)),
    Row("blank text", LINES, "a.txt", b"\n \n", ("(0 records)",)),
    Row("empty CSV", DNA(), "a.csv", b"", ("the file is empty",)),
    Row("CSV of a header", DNA(), "a.csv", b"sequence,y\n", ("(0 records)",)),
    Row("empty SMILES file", SMILES(), "a.smi", b"", ("the file is empty",)),
    Row("empty array", Tokens(9), "a.npy", b"", ("no npy file", "numpy.save")),
    # ---- FASTA
    Row("no header", DNA(), "reads.fa", b"ACGT\n", ("line 1", "expected '>'", "format='lines'")),
    Row("text before the first record", DNA(), "reads.fa", b"my reads\n>a\nAC\n", ("line 1", "expected '>'")),
    Row(
        "empty sequence",
        DNA(),
        "reads.fa",
        b">a\nAC\n>b\n>c\nGT\n",
        ("record b", "line 3", "without a sequence"),
        ("AC", "GT"),
    ),
    Row("empty sequence at the end", DNA(), "reads.fa", b">a\nAC\n>b\n", ("record b", "line 3"), ("AC",)),
    Row("byte 0x00", DNA(), "reads.fa", b">s1\nAC\x00T\n", ("record s1", "column 3", "byte 0x00")),
    Row(
        "digits",
        DNA(),
        "reads.fa",
        b">s1\nAC4T\n>s2\nGG\n",
        ("record s1", "column 3", "'4'", "correct the file"),
        ("GG",),
    ),
    Row(
        "ambiguity code",
        DNA(),
        "reads.fa",
        b">a\nACGT\n>b\nACRT\n",
        ("record b", "column 3", "'R'", "on_unknown="),
        ("ACGT",),
    ),
    Row("gap", DNA(), "reads.fa", b">a\nAC-T\n>b\nAC.T\n>c\nTT\n", ("record a", "column 3", "gaps='drop'"), ("TT",)),
    Row(
        "stop inside a protein",
        Protein(),
        "p.fa",
        b">a\nMK*V\n>b\nMKV*\n",
        ("record a", "column 3", "at the end only"),
        ("MKV",),
    ),
    Row(
        "rare residue",
        Protein(),
        "p.fa",
        b">a\nMUV\n>b\nMKV\n",
        ("record a", "column 2", "'U'", "on_unknown="),
        ("MKV",),
    ),
    Row("Latin-1", DNA(), "reads.fa", b">caf\xe9\nAC\n", ("byte offset 4", "not UTF-8", "encoding='latin-1'")),
    Row("UTF-16", DNA(), "reads.fa", ">a\nAC\n".encode("utf-16"), ("byte offset 0", "UTF-16", "encoding='utf-16'")),
    # ---- compression
    Row(
        "truncated gz",
        DNA(),
        "reads.fa.gz",
        gzip.compress(READS)[:-40],
        ("truncated gzip", "copy or download it again"),
    ),
    Row("gz that is none", DNA(), "reads.fa.gz", b">a\nAC\n", ("not gzip", "the suffix that fits")),
    Row(
        "truncated gz of a table",
        DNA(),
        "a.csv.gz",
        gzip.compress(b"sequence\n" + b"ACGT\n" * 40_000)[:-9],
        ("truncated gzip",),
    ),
    # ---- FASTQ
    Row(
        "short quality",
        DNA(),
        "r.fq",
        b"@a\nACGT\n+\nIII\n@b\nAC\n+\nII\n",
        ("record a", "line 4", "3 quality characters"),
        ("AC",),
    ),
    Row("short quality in the last record", DNA(), "r.fq", b"@a\nAC\n+\nII\n@b\nACGT\n+\nII\n", ("record b", "line 8")),
    Row("truncated FASTQ", DNA(), "r.fq", b"@a\nACGT\n+\n", ("record a", "line 1", "truncated")),
    Row("FASTQ without '@'", DNA(), "r.fq", b"@a\nAC\n+\nII\nb\nAC\n+\nII\n", ("line 5", "expected '@'")),
    # ---- tables
    Row(
        "extra comma",
        DNA(),
        "a.csv",
        b"sequence,y\nAC,1\nGT,2,3\nTT,4\n",
        ("line 3", "3 cells", "2 columns", "quotes"),
        ("AC", "TT"),
    ),
    Row("short row", DNA(), "a.csv", b"sequence,y\nAC,1\nGT\nTT,4\n", ("line 3", "1 cells", "separator"), ("AC", "TT")),
    Row("unclosed quote", DNA(), "a.csv", b'sequence,y\nAC,1\n"GT,2\nTT,4\n', ("line 3", "never closed", "close it")),
    Row(
        "text after a quote",
        DNA(),
        "a.csv",
        b'sequence,y\nAC,1\n"G"T,2\nTT,4\n',
        ("line 3", "not well-formed"),
        ("AC", "TT"),
    ),
    Row("semicolons", SMILES(), "a.csv", b"smiles;y\nCCO;1\n", ("'smiles;y'", "a semicolon", "separator=';'")),
    Row("column twice", DNA(), "a.csv", b"\nsequence,y,sequence\nAC,1,GT\n", ("line 2", "occurs 2 times", "rename")),
    Row("no such column", DNA(), "a.csv", b"seqs,y\nAC,1\n", ("columns found: seqs, y", "sequence_column=")),
    Row("empty cell", DNA(), "a.csv", b"sequence,y\n,1\nGT,2\n", ("line 2", "is empty", "fill it in"), ("GT",)),
    Row("damaged Parquet", DNA(), "a.parquet", b"PAR1 no PAR1", ("cannot be read as Parquet", "write the file again")),
    # ---- SMILES
    Row("smiles empty", SMILES(), "a.csv", b'smiles,y\n"",1\nCC,2\n', ("line 2", "is empty"), ("CC",)),
    Row(
        "smiles missing before a name", SMILES(), "a.smi", b"CC a\n  b\nCO c\n", ("line 2", "white space"), ("CC", "CO")
    ),
    Row(
        "name in a table's cell",
        SMILES(),
        "a.csv",
        b"smiles,y\nCCO name,1\nCC,2\n",
        ("record 1", "white space"),
        ("CC",),
    ),
    smiles("unclosed branch", "C(C", "'C(C'", "extra open parentheses", "position 2"),
    smiles("unclosed ring", "C1CC", "unclosed ring"),
    smiles("unknown element", "[Xx]", "syntax error", "position 2"),
    smiles("that cannot be kekulized", "n1cccc1", "kekulize"),
    smiles("with five bonds", "C(C)(C)(C)(C)C", "valence"),
    smiles("in capitals", "CL", "may be meant as Cl"),
    smiles("in Cyrillic letters", "\u0421\u0421\u041e", "U+0421"),
    smiles("that is an InChI", "InChI=1S/CH4/h1H4", "this is an InChI"),
    smiles("that is a reaction", "CCO>>CC", "this is a reaction"),
    Row("smiles with 0x00", SMILES(), "a.smi", b"CC a\nC\x00C b\n", ("line 2", "byte 0x00")),
    # ---- text
    Row(
        "JSON that is none",
        LINES,
        "a.jsonl",
        b'{"text": "a"}\n{"text"\n{"text": "b"}\n',
        ("line 2", "column", "not JSON"),
        ("a", "b"),
    ),
    Row("JSON that breaks off", LINES, "a.jsonl", b'{"text": "a"}\n{"text": "b', ("line 2", "truncated")),
    Row(
        "JSON without the field",
        LINES,
        "a.jsonl",
        b'{"text": "a"}\n{"body": "b"}\n',
        ("line 2", "no field", "body"),
        ("a",),
    ),
    Row("JSON with a number", LINES, "a.jsonl", b'{"text": 3}\n{"text": "b"}\n', ("line 1", "holds 3"), ("b",)),
    Row("unseen character", LINES, "a.txt", "abc\nа\n".encode(), ("record 2", "column 1", "U+0430"), ("abc",)),
    # ---- tokens
    Row(
        "token out of range",
        Tokens(10),
        "a.txt",
        b"1 2\n3 10\n",
        ("record 2", "column 2", "0..9", "vocab_size"),
        ("1 2",),
    ),
    Row("negative token", Tokens(10), "a.txt", b"1 -2\n3 4\n", ("record 1", "column 2", "'-2'"), ("3 4",)),
]


def put(folder: Path, row: Row) -> Path:
    path = folder / row.file
    path.write_bytes(row.content)
    return path


def read(row: Row, path: Path, **options: Any) -> SequenceDataset:
    return SequenceDataset.read(row.domain, path, cache=False, **row.options, **options)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_first_fault_is_raised(tmp_path: Path, row: Row) -> None:
    path = put(tmp_path, row)
    with pytest.raises(DataError) as caught:
        read(row, path)
    said = str(caught.value)
    for part in (str(path), *row.says):
        assert part in said
    assert "\n" not in said


@pytest.mark.parametrize("row", [row for row in ROWS if row.kept is not None], ids=lambda row: row.name)
def test_faults_of_records_are_left_out_counted_and_listed(tmp_path: Path, row: Row) -> None:
    path = put(tmp_path, row)
    assert row.kept is not None
    data = read(row, path, on_error="skip")
    assert tuple(data.texts()) == row.kept
    assert data.skipped
    note = next(note for note in data.notes if "left out" in note)
    assert f"{len(data.skipped)} of {len(data.skipped) + len(row.kept)} records left out" in note
    with pytest.raises(DataError) as raised:
        read(row, path)
    # the list has what would have been raised
    first = data.skipped[0]
    assert (first.path, first.message) == (str(path), raised.value.message)
    assert first.line == raised.value.line
    assert first.column == raised.value.column
    with pytest.raises(RefusedError) as refused:
        read(row, path, on_error="report")
    assert refused.value.faults == data.skipped
    assert f"{len(data.skipped)} of {len(data.skipped) + len(row.kept)} records cannot be used" in str(refused.value)
    assert first.message in str(refused.value)
    assert "on_error='skip'" in str(refused.value)


@pytest.mark.parametrize("on_error", ["skip", "report"])
@pytest.mark.parametrize("row", [row for row in ROWS if row.kept is None], ids=lambda row: row.name)
def test_faults_of_files_leave_no_data_set(tmp_path: Path, row: Row, on_error: str) -> None:
    path = put(tmp_path, row)
    with pytest.raises(DataError) as caught:
        read(row, path, on_error=on_error)
    assert not isinstance(caught.value, RefusedError)
    assert all(part in str(caught.value) for part in row.says)


ACCEPTED = [
    Row("byte-order mark", DNA(), "r.fa", b"\xef\xbb\xbf>a\nAC\n", (), ("AC",)),
    Row("byte-order mark of a table", DNA(), "a.csv", b"\xef\xbb\xbfsequence,y\nAC,1\n", (), ("AC",)),
    Row("lower case", DNA(), "r.fa", b">a\nacGT\n", (), ("ACGT",)),
    Row("CRLF", DNA(), "r.fa", b">a\r\nAC\r\nGT\r\n", (), ("ACGT",)),
    Row("CR", DNA(), "r.fa", b">a\rAC\rGT\r", (), ("ACGT",)),
    Row("blank lines", DNA(), "r.fa", b"\n\n>a\n\nAC\n\nGT\n", (), ("ACGT",)),
    Row("no final newline", DNA(), "r.fa", b">a\nAC", (), ("AC",)),
    Row("CRLF in a table", DNA(), "a.csv", b"sequence,y\r\nAC,1\r\n\r\nGT,2\r\n", (), ("AC", "GT")),
    Row("stop at the end", Protein(), "p.fa", b">a\nMKV*\n", (), ("MKV",)),
    Row("NA", Protein(), "a.csv", b"sequence,y\nNA,1\nNAN,\n", (), ("NA", "NAN")),
    Row("null", LINES, "a.csv", b"text\nnull\nnone\n", (), ("null", "none")),
    Row("null in TSV", LINES, "a.tsv", b"text\tn\nnull\t\nnan\t\n", (), ("null", "nan")),
    Row("name after a SMILES", SMILES(), "a.smi", b"CCO name of it\n", (), ("CCO",)),
    Row(
        "salts and more",
        SMILES(),
        "a.smi",
        b"[Na+].[Cl-]\n[13CH4]\nC[N+](C)(C)C\nN[C@@H](C)C(=O)O\n*C\n[*:1]C\nC%(123)CCCCC%(123)\n[HH]\n",
        (),
        ("[Na+].[Cl-]", "[13CH4]", "C[N+](C)(C)C", "N[C@@H](C)C(=O)O", "*C", "[*:1]C", "C%(123)CCCCC%(123)", "[HH]"),
    ),
    Row("literal [MASK]", LINES, "a.txt", b"a [MASK] b\n", (), ("a [MASK] b",)),
    Row("empty optional cell", DNA(), "a.csv", b"id,sequence,y\n,AC,\n", (), ("AC",), {"label_column": "y"}),
]


@pytest.mark.parametrize("row", ACCEPTED, ids=lambda row: row.name)
def test_what_looks_odd_and_is_not_wrong(tmp_path: Path, row: Row) -> None:
    data = read(row, put(tmp_path, row))
    assert row.kept is not None
    assert tuple(data.texts()) == row.kept
    assert data.skipped == []


def test_mask_in_text_is_text(tmp_path: Path) -> None:
    domain = Text(vocab_size=300).fit(["some text to learn from"] * 3)
    tokens = domain.encode("a [MASK] b")
    assert max(tokens) < domain.vocab_size  # the process's mask is the id after them
    assert domain.decode(tokens) == "a [MASK] b"


def test_a_line_of_twenty_megabytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "chromosome.fa"
    path.write_bytes(b">c\n" + b"ACGT" * 5_000_000 + b"\n")
    record = next(iter(DNA().read(path)))
    assert len(record.sequence) == 20_000_000
    # with a length it is told how far beyond it is, and what would take it
    short = tmp_path / "long.fa"
    short.write_bytes(b">c\n" + b"ACGT" * 5000 + b"\n>d\nAC\n")
    with pytest.raises(
        DataError, match=r"1 of 2 sequences are longer than length=100 .*20000 tokens, record c\).*length=20"
    ):
        SequenceDataset.read(DNA(), short, length=100)


def test_names_missing_and_repeated_are_told(tmp_path: Path) -> None:
    path = tmp_path / "reads.fa"
    path.write_bytes(b">s1\nAC\n>\nGT\n>s1\nTT\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = SequenceDataset.read(DNA(), path)
    assert "1 of 3 records have no name; they go by number" in data.notes
    assert "1 of 3 records repeat the name of an earlier one (first: 's1')" in data.notes
    assert data.titles([1]) == ["record 2"]


def test_labels_of_another_set_are_faults_of_records(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sequence,y\nAC,no\nGT,maybe\n")
    data = SequenceDataset.read(DNA(), path, on_error="skip", label_column="y", label_names=["no", "yes"])
    assert data.texts() == ["AC"]
    assert "label 'maybe' is not one of 'no', 'yes'" in data.skipped[0].message
    assert data.label_names == ["no", "yes"]
