"""Tables: text stays text, and no row is misread in silence."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discdiff.data.files import read_table
from discdiff.errors import DataError
from discdiff.records import Record


def table(tmp_path: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def fault(path: Path, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        list(read_table(path, **options))
    assert str(path) in str(caught.value)
    return caught.value


def test_columns_and_labels(tmp_path: Path) -> None:
    path = table(tmp_path, "id,sequence,class\na,ACGT,1\nb,GGG,\n")
    assert list(read_table(path, label_column="class")) == [
        Record("ACGT", "a", "1", 1),
        Record("GGG", "b", None, 2),
    ]
    assert [r.sequence for r in read_table(path, sequence_column="id", name_column="class")] == ["a", "b"]


def test_na_stays_text(tmp_path: Path) -> None:
    words = ["NA", "null", "NaN", "nan", "None", "1e5", "007", "TRUE", "-"]
    path = table(tmp_path, "sequence,n\n" + "".join(f"{word},1\n" for word in words))
    assert [r.sequence for r in read_table(path)] == words


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1), min_size=1))
def test_csv_round_trip(tmp_path: Path, cells: list[str]) -> None:
    path = tmp_path / "round.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerows([["sequence", "n"], *([cell, i] for i, cell in enumerate(cells))])
    assert [r.sequence for r in read_table(path)] == cells


@pytest.mark.parametrize("name", ["t.tsv", "t.tab", "t.txt", "t"])
def test_tabs(tmp_path: Path, name: str) -> None:
    path = table(tmp_path, "name\tsmiles\nx, y\tCCO\n", name)
    assert list(read_table(path)) == [Record("CCO", "x, y", None, 1)]


def test_compressed_with_bom_crlf_and_blank_lines(tmp_path: Path) -> None:
    path = table(tmp_path, gzip.compress(b"\xef\xbb\xbf\r\nSequence,x\r\n\r\nAC,1\r\nGT,2\r\n\r\n"), "t.csv.gz")
    assert [(r.sequence, r.place) for r in read_table(path)] == [("AC", 1), ("GT", 2)]


def test_large_cell(tmp_path: Path) -> None:
    path = table(tmp_path, "sequence\n" + "A" * 200_000 + "\n")
    assert [len(r.sequence) for r in read_table(path)] == [200_000]


def test_where(tmp_path: Path) -> None:
    path = table(tmp_path, "smiles,split,n\nC,train,1\nCC,test,1\nCCC,train,2\nO,valid,1\n")
    assert [r.sequence for r in read_table(path, where={"split": "train"})] == ["C", "CCC"]
    assert [r.sequence for r in read_table(path, where={"split": ["train", "valid"], "n": 1})] == ["C", "O"]
    assert [r.place for r in read_table(path, where={"n": 2})] == [3]
    error = fault(path, where={"split": "trian"})
    assert "no row has split = 'trian' (values found: 'test', 'train', 'valid')" in str(error)
    assert "no row satisfies all of where = ['n', 'split']" in str(fault(path, where={"split": "valid", "n": 2}))
    error = fault(path, where={"splt": "train"})
    assert "no column 'splt' (columns found: smiles, split, n; did you mean 'split'?)" in str(error)


@pytest.mark.parametrize(("cells", "hint"), [("CC,O,1", "must stand in quotes"), ("CC", "cut short|still needs")])
def test_ragged_rows(tmp_path: Path, cells: str, hint: str) -> None:
    path = table(tmp_path, f"smiles,n\nC,1\n{cells}\nO,3\n")
    error = fault(path)
    assert error.line == 3
    assert error.message == f"{cells.count(',') + 1} cells where the header has 2 columns"
    assert any(part in str(error) for part in hint.split("|"))


def test_lines_are_counted_over_quoted_line_breaks(tmp_path: Path) -> None:
    path = table(tmp_path, 'text,n\n"a\nb",1\nc\n')
    assert fault(path, sequence_column="text").line == 4


def test_unclosed_quote(tmp_path: Path) -> None:
    path = table(tmp_path, 'smiles,n\nC,1\n"CC,2\nO,3\n')
    error = fault(path)
    assert 'a quote (") is opened and never closed' in error.message
    assert error.line == 3


def test_text_after_a_quote(tmp_path: Path) -> None:
    assert "not well-formed" in fault(table(tmp_path, 'smiles,n\n"C"C,1\n')).message


def test_missing_column(tmp_path: Path) -> None:
    path = table(tmp_path, "variant,fitness\nVDGV,1\n")
    assert "no column of sequences (columns found: variant, fitness; name one by sequence_column=)" in str(fault(path))
    error = fault(path, sequence_column="varient")
    assert "no column 'varient' (columns found: variant, fitness; did you mean 'variant'?)" in str(error)
    assert "name one by label_column=" in str(fault(path, sequence_column="variant", label_column="zzz"))


@pytest.mark.parametrize(("separator", "named"), [(";", "a semicolon"), ("\t", "a tab"), ("|", "a bar")])
def test_wrong_separator(tmp_path: Path, separator: str, named: str) -> None:
    path = table(tmp_path, f"smiles{separator}y\nCCO{separator}1\n")
    error = fault(path)
    assert f"columns seem to be separated by {named}: pass separator={separator!r}" in str(error)
    assert [r.sequence for r in read_table(path, separator=separator)] == ["CCO"]


def test_column_twice(tmp_path: Path) -> None:
    error = fault(table(tmp_path, "smiles,y,smiles\nC,1,O\n"))
    assert "column 'smiles' occurs 2 times (rename one)" in str(error)


def test_empty_cell_and_no_rows(tmp_path: Path) -> None:
    error = fault(table(tmp_path, "smiles,y\nC,1\n,2\n"))
    assert (error.line, error.message) == (3, "the sequence (column 'smiles') is empty")
    assert "the table has a header and no rows (0 records)" in str(fault(table(tmp_path, "smiles,y\n")))
    assert "the table is empty (0 records)" in str(fault(table(tmp_path, "\n\n")))
    assert "the file is empty" in str(fault(table(tmp_path, "")))


def test_a_fault_in_the_bytes_keeps_its_line(tmp_path: Path) -> None:
    error = fault(table(tmp_path, b"smiles,y\nC,1\nC\xe9,2\n"))
    assert error.line == 3
    assert "byte offset 14" in error.message


def parquet(tmp_path: Path, **columns: list[Any]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "table.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet(tmp_path: Path) -> None:
    path = parquet(tmp_path, id=["a", "b", "c"], sequence=["NA", "AC", "GT"], y=[1, 2, None], split=["x", "y", "x"])
    assert list(read_table(path, label_column="y", where={"split": "x"})) == [
        Record("NA", "a", "1", 1),
        Record("GT", "c", None, 3),
    ]
    assert "no column 'sequense' (columns found: id, sequence, y, split; did you mean 'sequence'?)" in str(
        fault(path, sequence_column="sequense")
    )


def test_parquet_faults(tmp_path: Path) -> None:
    error = fault(parquet(tmp_path, sequence=["AC", None]))
    assert error.record == 2
    assert "the sequence (column 'sequence') is empty" in str(error)
    path = parquet(tmp_path, sequence=[[1, 2], [3]])
    assert "column 'sequence' holds list<" in str(fault(path))
    assert [r.sequence for r in read_table(path, lists=True)] == ["1 2", "3"]
    assert "(0 records)" in str(fault(parquet(tmp_path, sequence=[])))
    assert "cannot be read as Parquet" in str(fault(table(tmp_path, "sequence\nAC\n", "fake.parquet")))


def test_real_tables(shared_dir: Path) -> None:
    folder = shared_dir / "data"
    promoters = list(read_table(folder / "dna/human_core_promoters.test.tsv.xz", label_column="is_promoter"))
    assert len(promoters) == 2897
    assert {r.label for r in promoters} == {"0", "1"}
    assert {len(r.sequence) for r in promoters} == {70}
    variants = list(read_table(folder / "protein/gb1.test.csv.xz", sequence_column="variant"))
    assert len(variants) == 7641
