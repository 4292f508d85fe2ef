"""FASTA, FASTQ, GenBank and Stockholm: every row of bad input gives an error with file, record, place and remedy."""

from __future__ import annotations

import gzip
import io
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discdiff.domain import Record
from discdiff.errors import ConfigError, DataError, DiscdiffError
from domains.dna import DNA
from domains.fasta import write_fasta
from domains.protein import Protein
from tests.domains.reading import fault, put, read


# ---- FASTA that is fine ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        ">s1 first\nACGT\nAC\n>s2\nGGG\n",
        ">s1 first\r\nACGTAC\r\n>s2\r\nGGG\r\n",
        ">s1\rACGT\rAC\r>s2\rGGG\r",
        "\n\n>s1\nACGT\n\nAC\n\n>s2\nGGG",
        "\ufeff>s1\nACGTAC\n>s2\nGGG\n",
        ">s1\nacgtac\n>s2\nggg\n",
        ">s1\nACG TAC \n>s2\n\tGGG\n",
        "> s1\nACGTAC\n>s2\nGGG\n",
    ],
    ids=["plain", "crlf", "cr", "blank lines", "bom", "soft mask", "spaces", "space before name"],
)
def test_fasta(tmp_path: Path, text: str) -> None:
    assert read(put(tmp_path, text)) == [("s1", "ACGTAC"), ("s2", "GGG")]
    assert read(put(tmp_path, gzip.compress(text.encode()), "reads.fa.gz")) == [("s1", "ACGTAC"), ("s2", "GGG")]


def test_headers_have_columns(tmp_path: Path) -> None:
    path = put(tmp_path, ">s1 group=x len=3\nACG\n>s2 group=y len=2\nAC\n")
    records = list(DNA().read(path, label_column="group"))
    assert records == [Record("ACG", "s1", "x", 1), Record("AC", "s2", "y", 2)]
    assert read(path, where={"group": "y"}) == [("s2", "AC")]
    assert read(path, where={"len": [3, 4]}, name_column="group") == [("x", "ACG")]
    error = fault(path, label_column="class")
    assert "record s1, line 1: no class=... in the header (found: group, len)" in str(error)
    assert "no record satisfies where={'group': 'z'}" in str(fault(path, where={"group": "z"}))
    assert "sequence_column is for tables" in str(fault(path, sequence_column="x"))


@given(st.lists(st.tuples(st.text("ACGT", min_size=1, max_size=200), st.none() | st.from_regex(r"\A[!-~]{1,20}\Z"))))
def test_what_is_written_is_read(tmp_path: Path, rows: list[tuple[str, str | None]]) -> None:
    records = [Record(sequence, name) for sequence, name in rows]
    text = io.StringIO()
    DNA().write(records, text)
    assert all(len(line) <= 60 for line in text.getvalue().splitlines() if not line.startswith(">"))
    if not records:
        assert text.getvalue() == ""
        return
    path = put(tmp_path, text.getvalue())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names may repeat
        back = list(DNA().read(path))
    assert [r.sequence for r in back] == [r.sequence for r in records]
    assert [r.name for r in back] == [r.name or f"sequence_{i}" for i, r in enumerate(records, 1)]


def test_writing() -> None:
    text = io.StringIO()
    write_fasta([Record("A" * 90, "long", "1"), Record("CC", place=7)], text, width=80)
    assert text.getvalue() == f">long label=1\n{'A' * 80}\n{'A' * 10}\n>sequence_7\nCC\n"
    with pytest.raises(DataError, match="record 1: a name with a line break cannot be a FASTA header"):
        write_fasta([Record("A", "x\n>y")], io.StringIO())


# ---- FASTA that is not -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "no records: every line is blank"),
        (b"ACGT\n", "line 1: expected '>' at the start of a record, got 'ACGT' (give each sequence a header line"),
        (b"\n# made by me\n>s1\nACGT\n", "line 2: expected '>' at the start of a record, got '# made by me'"),
        (b"; comment\n>s1\nACGT\n", "line 1: expected '>' at the start of a record, got '; comment' (comment lines"),
        (b"id\tsequence\ns1\tACGT\n", "(a table? give it the suffix .tsv or .csv)"),
        (b">s1\nACGT\n>s2\n>s3\nAC\n", "record s2, line 3: a record without a sequence"),
        (b">s1\nACGT\n>s2\n", "record s2, line 3: a record without a sequence"),
        (b">s1\n\n \n", "record s1, line 1: a record without a sequence"),
        (b">s1\nAC\x00T\n", "record s1, line 2, column 3: byte offset 6: byte 0x00"),
        (b">s1\nACG\nA\x00T\n", "record s1, line 3, column 5: byte offset 9: byte 0x00"),
        (b">s1\nAC\n>s\x002\nAC\n", "line 3, column 3: byte offset 9: byte 0x00"),
        (b">s1\nAC\xe9T\n", "record s1, line 2, column 3: byte offset 6: byte 0xe9: not UTF-8"),
        (
            b">s1 M\xfcller\nACT\n",
            "line 1, column 6: byte offset 5: byte 0xfc: not UTF-8 (convert the file to UTF-8, or name",
        ),
        (bytes(range(128, 160)) + bytes(range(1, 32)), "byte 0x80: not UTF-8; this looks like binary data"),
        (b">s1\nAC4T\n", "record s1, column 3: '4' is not in the DNA alphabet ACGT"),
        (b">s1\nACGT\nACRT\n", "record s1, column 7: 'R' is not in the DNA alphabet ACGT (on_unknown='skip'"),
        (b">s1\nacnt\n", "record s1, column 3: 'n' is not in the DNA alphabet ACGT (on_unknown="),
        (b">s1\nAC-T\n", "record s1, column 3: '-' is not in the DNA alphabet ACGT (an alignment? gaps='drop'"),
        (b">s1\nAC.T\n", "record s1, column 3: '.' is not in the DNA alphabet ACGT (an alignment? gaps='drop'"),
        (b">s1\nACG*\n", "record s1, column 4: '*' is not in the DNA alphabet ACGT"),
        (b">s1\nACU\n", "record s1, column 3: 'U' is not in the DNA alphabet ACGT (RNA? rna=True reads U as T)"),
        (b">s1\nACL\n", "record s1, column 3: 'L' is not in the DNA alphabet ACGT (a protein?"),
        (">s1\nAСG\n".encode(), "record s1, column 2: 'С' (U+0421) is not in the DNA alphabet ACGT"),
        ("ACGT".encode("utf-16"), "not UTF-8 but UTF-16"),
    ],
)
def test_bad_fasta(tmp_path: Path, content: bytes, expected: str) -> None:
    assert expected in str(fault(put(tmp_path, content)))


def test_encoding_by_choice(tmp_path: Path) -> None:
    path = put(tmp_path, b">M\xfcller\nACT\n")
    assert read(path, encoding="latin-1") == [("Müller", "ACT")]


def test_bad_compression(tmp_path: Path) -> None:
    assert "not gzip" in str(fault(put(tmp_path, b">s1\nACGT\n", "reads.fa.gz")))
    whole = gzip.compress(b"".join(b">s%d\nACGT\n" % i for i in range(1000)))
    assert "truncated gzip file" in str(fault(put(tmp_path, whole[:-100], "reads.fa.gz")))


def test_names_missing_or_twice(tmp_path: Path) -> None:
    path = put(tmp_path, ">\nAC\n>s1\nAC\n> \nGT\n")
    with pytest.warns(UserWarning, match="2 of 3 records have no name; they go by number"):
        assert [r.title for r in DNA().read(path)] == ["1", "s1", "3"]
    path = put(tmp_path, ">s1\nAC\n>s2\nAC\n>s1\nGT\n>s1\nT\n")
    with pytest.warns(UserWarning, match=r"2 of 4 records repeat the name of an earlier one \(first: 's1'\)"):
        assert len(read(path)) == 4


def test_nameless_records_go_by_number_in_errors(tmp_path: Path) -> None:
    assert "record 2, column 1: 'N'" in str(fault(put(tmp_path, ">s1\nAC\n>\nN\n")))
    assert "record 2, line 3: a record without a sequence" in str(fault(put(tmp_path, ">s1\nAC\n>\n")))


def test_lines_by_choice(tmp_path: Path) -> None:
    path = put(tmp_path, "ACGT\n\n  GG \n", "plain.txt")
    assert read(path, format="lines") == [(None, "ACGT"), (None, "GG")]
    with pytest.raises(ConfigError, match="format: got 'fata', expected one of fasta, fastq"):
        read(path, format="fata")


# ---- FASTQ -----------------------------------------------------------------------------------------------------------
FASTQ = "@r1 x\nACGT\n+\nIIII\n@r2\nGG\n+r2\n@I\n"


@pytest.mark.parametrize("text", [FASTQ, FASTQ.replace("\n", "\r\n"), FASTQ + "\n", FASTQ.rstrip("\n")])
def test_fastq(tmp_path: Path, text: str) -> None:
    assert read(put(tmp_path, text, "reads.fq")) == [("r1", "ACGT"), ("r2", "GG")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@r1\nACGT\n+\nIII\n", "record r1, line 4: 3 quality characters for 4 bases"),
        ("@r1\nACGT\n+\nIII\n@r2\nAC\n+\nII\n", "record r1, line 4: 3 quality characters for 4 bases"),
        ("@r1\nACGT\n+\n", "record r1, line 1: truncated: the file ends before the quality"),
        ("@r1\nACGT\n", "record r1, line 1: truncated: the file ends before the line '+'"),
        ("@r1\n", "record r1, line 1: truncated: the file ends before the sequence"),
        ("@r1\nAC\n+\nII\nr2\nAC\n+\nII\n", "line 5: expected '@' at the start of record 2, got 'r2'"),
        ("@r1\nAC\nGT\n+\nIIII\n", "record r1, line 3: expected '+' after the sequence, got 'GT'"),
        ("@r1\n\n+\n\n", "record r1, line 2: a record without a sequence"),
        ("@r1\nANG\n+\nIII\n", "record r1, column 2: 'N' is not in the DNA alphabet"),
    ],
)
def test_bad_fastq(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in str(fault(put(tmp_path, text, "reads.fastq")))


def test_fastq_needs_its_at_sign(tmp_path: Path) -> None:
    error = fault(put(tmp_path, "r1\nAC\n+\nII\n"), format="fastq")
    assert "line 1: expected '@' at the start of record 1, got 'r1'" in str(error)


# ---- GenBank and Stockholm -------------------------------------------------------------------------------------------
GENBANK = """LOCUS       X1                        10 bp    DNA     linear   UNK 01-JAN-1980
DEFINITION  test thing.
ACCESSION   X1
VERSION     X1.1
FEATURES             Location/Qualifiers
ORIGIN
        1 acgtacgtaa
//
"""
STOCKHOLM = "# STOCKHOLM 1.0\n#=GF ID test\ns1/1-3 MK-V\ns2/2-4 MkAV\n#=GC SS_cons HHHH\n//\n"


def test_genbank(tmp_path: Path) -> None:
    path = put(tmp_path, GENBANK + GENBANK.replace("X1", "X2"), "plasmid.gb")
    assert read(path) == [("X1.1", "ACGTACGTAA"), ("X2.1", "ACGTACGTAA")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GENBANK[:-4], "truncated: the last entry has no line '//' (copy or download it again)"),
        (
            GENBANK.replace("ORIGIN\n        1 acgtacgtaa\n", "CONTIG      join(X:1..10)\n"),
            "record X1.1: a record without",
        ),
        (GENBANK.replace("acgtacgtaa", "acgtncgtaa"), "record X1.1, column 5: 'N'"),
    ],
)
def test_bad_genbank(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in str(fault(put(tmp_path, text, "plasmid.gb")))


def test_stockholm(tmp_path: Path) -> None:
    path = put(tmp_path, STOCKHOLM, "family.sto")
    assert read(path, Protein(gaps="drop")) == [("s1/1-3", "MKV"), ("s2/2-4", "MKAV")]
    assert read(path, Protein(gaps="keep")) == [("s1/1-3", "MK-V"), ("s2/2-4", "MKAV")]
    assert "record s1/1-3, column 3: '-' is not in the protein alphabet" in str(fault(path, Protein()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (STOCKHOLM[:-3], "truncated: the last entry has no line '//'"),
        (STOCKHOLM.replace("MkAV", "MkA"), "cannot be read as stockholm: Sequences have different lengths"),
        ("# STOCKHOLM 1.0\n//\n", "no records (0)"),
    ],
)
def test_bad_stockholm(tmp_path: Path, text: str, expected: str) -> None:
    error = fault(put(tmp_path, text, "family.sto"), Protein(gaps="drop"))
    assert expected in str(error)
    assert "\n" not in str(error)


# ---- all formats -----------------------------------------------------------------------------------------------------
def test_tables_are_read_by_their_suffix(tmp_path: Path) -> None:
    path = put(tmp_path, "id\tsequence\ty\ns1\tacgt\t1\n", "t.tsv")
    assert list(DNA().read(path, label_column="y")) == [Record("ACGT", "s1", "1", 1)]
    assert read(put(tmp_path, "sequence,x\nNA,1\n", "t.csv"), Protein()) == [(None, "NA")]
    assert "record s1, column 1: 'X' is not" in str(fault(put(tmp_path, "id,sequence\ns1,X\n", "t.csv")))
    assert read(put(tmp_path, "id,sequence\ns1,AC\n", "t.txt"), format="table") == [("s1", "AC")]


def test_every_error_is_of_one_kind(tmp_path: Path) -> None:
    for content in (b"\x80\x81", b">", b">a", b"@", b"LOCUS", b"# STOCKHOLM", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\x00"):
        for name in ("f", "f.fa", "f.gb", "f.csv", "f.tsv", "f.parquet"):
            with pytest.raises(DiscdiffError) as caught:
                read(put(tmp_path, content, name))
            assert name in str(caught.value)
