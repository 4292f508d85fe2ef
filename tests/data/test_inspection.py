"""What `inspect` finds in a file, and how a domain is guessed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discdiff.data.inspection import Inspection, bins, guess_domain, inspect
from discdiff.data.paths import watching
from discdiff.domain import domain, domain_names
from discdiff.errors import DataError
from domains.dna import DNA
from domains.smiles import SMILES
from domains.text import Text
from domains.tokens import Tokens

READS = ">a\nACGT\n>b\nAC\n>c\nACGT\n>d\nACNT\n>e\nACCR\n>f\n>g\nAAAAAAAA\n>h\nACNN\n"


def put(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_counts_lengths_alphabet_and_faults(tmp_path: Path) -> None:
    found = inspect(DNA(), put(tmp_path / "reads.fa", READS), listing=tmp_path / "faults.jsonl")
    assert (found.records, found.unit, found.total) == (4, "token", 18)
    assert found.lengths == {4: 2, 2: 1, 8: 1}
    assert found.symbols == {"A": 11, "C": 3, "G": 2, "T": 2}
    assert list(found.symbols) == ["A", "C", "G", "T"]
    assert found.faults == {
        "'N' is not in the DNA alphabet ACGT": 2,
        "'R' is not in the DNA alphabet ACGT": 1,
        "a record without a sequence": 1,
    }
    assert found.first["'N' is not in the DNA alphabet ACGT"].place == "record d, column 3"
    assert (found.duplicates, found.duplicate_places) == (1, [(3, 1)])
    assert found.whole
    assert len((tmp_path / "faults.jsonl").read_text().splitlines()) == 4


def test_quantiles_and_what_a_length_would_cut() -> None:
    found = Inspection("x", "dna", "token", stream=False, records=10)
    found.lengths.update({1: 5, 3: 4, 50: 1})
    assert [found.quantile(share) for share in (0.0, 0.5, 0.51, 0.9, 0.91, 1.0)] == [1, 1, 3, 3, 50, 50]
    assert found.total == 67
    assert found.longer(2) == (5, 4 * 1 + 48)
    assert found.longer(50) == (0, 0)
    assert found.to_json(2)["cut"] == {"length": 2, "records": 5, "symbols": 52}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80))
def test_quantiles_are_those_of_numpy(sizes: list[int]) -> None:
    found = Inspection("x", "dna", "token", stream=False, records=len(sizes))
    found.lengths.update(sizes)
    for share in (0.0, 0.25, 0.5, 0.75, 0.9, 1.0):
        assert found.quantile(share) == np.quantile(sizes, share, method="inverted_cdf")


@given(st.lists(st.integers(1, 500), min_size=1, max_size=80), st.integers(1, 40))
def test_bins_hold_every_length_once(sizes: list[int], most: int) -> None:
    rows = bins({size: sizes.count(size) for size in sizes}, most)
    assert len(rows) <= most
    assert sum(count for _, _, count in rows) == len(sizes)
    assert (rows[0][0], rows[-1][1]) == (min(sizes), max(sizes))
    for start, stop, count in rows:
        assert count == sum(start <= size <= stop for size in sizes)


def test_duplicates_by_letters_and_by_meaning(tmp_path: Path) -> None:
    path = put(tmp_path / "a.smi", "CCO a\nOCC b\nCO c\nCCO d\nC(C)O e\n")
    found = inspect(SMILES(), path)
    assert (found.duplicates, found.canonical_duplicates) == (1, 3)
    assert found.duplicate_places == [(4, 1)]
    found = inspect(SMILES(), put(path, "CCO a\nOCC b\nCO c\n"))
    assert (found.duplicates, found.canonical_duplicates, found.duplicate_places) == (0, 1, [(2, 1)])
    assert inspect(SMILES(), path, canonical=False).canonical_duplicates is None


def test_duplicates_among_many(tmp_path: Path) -> None:
    draw = random.Random(0)
    reads = ["".join(draw.choices("ACGT", k=5)) for _ in range(3000)]
    path = put(tmp_path / "reads.fa", "".join(f">{i}\n{read}\n" for i, read in enumerate(reads)))
    assert inspect(DNA(), path).duplicates == len(reads) - len(set(reads))


def test_labels_and_columns(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "id,sequence,y\n1,AC,yes\n2,GT,no\n3,GG,yes\n")
    found = inspect(DNA(), path, label_column="y")
    assert found.labels == {"yes": 2, "no": 1}
    assert found.columns == ["id", "sequence", "y"]
    assert inspect(DNA(), path, where={"y": "no"}).records == 1


def test_a_limit_is_said(tmp_path: Path) -> None:
    path = put(tmp_path / "reads.fa", ">a\nAC\n>b\nAC\n>c\nGT\n")
    assert (inspect(DNA(), path, limit=2).records, inspect(DNA(), path, limit=2).whole) == (2, False)
    assert inspect(DNA(), path, limit=3).whole


def test_streams_and_vocabularies_that_are_not_learned(tmp_path: Path) -> None:
    path = put(tmp_path / "a.txt", "abba\ncé\n")
    found = inspect(Text(), path)
    assert (found.stream, found.unit, found.total, found.duplicates) == (True, "character", 8, None)
    assert found.symbols == {"a": 2, "b": 2, "\n": 2, "c": 1, "é": 1}
    found = inspect(Text(lines=True), path)
    assert (found.stream, found.lengths) == (False, {4: 1, 2: 1})
    found = inspect(Tokens(), put(tmp_path / "b.txt", "10 2 10\n7\n"))
    assert found.symbols == {"10": 2, "2": 1, "7": 1}
    assert found.lengths == {3: 1, 1: 1}


def test_all_of_it_is_json(tmp_path: Path) -> None:
    found = inspect(DNA(), put(tmp_path / "reads.fa", READS)).to_json(3)
    back = json.loads(json.dumps(found))
    assert back["length"] == {"min": 2, "lower_quartile": 2, "median": 4, "upper_quartile": 4, "max": 8, "mean": 4.5}
    assert back["lengths"] == {"2": 1, "4": 2, "8": 1}
    assert back["invalid"]["count"] == 4
    assert back["invalid"]["reasons"][0] == {
        "reason": "'N' is not in the DNA alphabet ACGT", "count": 2,
        "first": "record d, column 3: 'N' is not in the DNA alphabet ACGT",
    }  # fmt: skip


def test_a_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not gzip"):
        inspect(DNA(), put(tmp_path / "reads.fa.gz", READS))


def test_progress_is_told(tmp_path: Path) -> None:
    path = put(tmp_path / "reads.fa", "".join(f">r{i}\n{'ACGT' * 25}\n" for i in range(10_000)))
    shares: list[float] = []
    with watching(shares.append):
        inspect(DNA(), path)
    assert len(shares) > 4
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


# ---- guesses ---------------------------------------------------------------------------------------------------------
FILES = {
    "reads.fasta": ("dna", ">a\nACGTTGCA\n>b\nACNNNT\n"),
    "gaps.afa": ("dna", ">a\nAC--GTTGCA\n>b\nACC.TT\n"),
    "reads.fq": ("dna", "@a\nACGT\n+\nIIII\n"),
    "proteins.fasta": ("protein", ">a\nMKVLWAALLVTFLAGCQA\n>b\nMXVLSEGEWQLVLHVWAK\n"),
    "rows.tsv": ("protein", "id\tsequence\na\tMKVLWAALLVTFLAGCQA\n"),
    "dna.csv": ("dna", "sequence,y\nACGTACGTA,1\n"),
    "a.smi": ("smiles", "CCO a\nc1ccccc1 b\n"),
    "molecules.csv": ("smiles", "smiles,y\nCCO,1\nc1ccccc1,2\n"),
    "a.txt": ("text", "It was a dark and stormy night.\nThe rain fell in torrents.\n"),
    "a.jsonl": ("text", '{"text": "one"}\n'),
    "faulty.csv": ("smiles", "smiles,y\nCCO,1\nC(C,2\nOCC,3\nc1ccccc1CCN,4\n"),
    "codes.txt": ("tokens", "1 2 3\n10 20 30\n"),
    "codes.csv": ("tokens", "tokens,y\n1 2 3,1\n"),
}


def test_a_file_of_sequences_is_no_prose(tmp_path: Path) -> None:
    known = {each: domain(each) for each in domain_names()}
    assert guess_domain(put(tmp_path / "rna.fa", ">a\nACGUACGUUUGACAGUU\n"), known) in ("dna", "protein")
    with pytest.raises(DataError, match="it looks like no domain's file"):
        guess_domain(put(tmp_path / "bare.fasta", "ACGTACGT\nACGT\n"), known)


@pytest.mark.parametrize("name", FILES)
def test_guesses(tmp_path: Path, name: str) -> None:
    expected, text = FILES[name]
    known = {each: domain(each) for each in domain_names()}
    assert guess_domain(put(tmp_path / name, text), known) == expected


def test_real_files_are_guessed(shared_dir: Path) -> None:
    known = {each: domain(each) for each in domain_names()}
    for name, expected in {
        "dna/ecoli_k12.valid.fasta.xz": "dna",
        "dna/human_core_promoters.test.tsv.xz": "dna",
        "protein/pf00014.valid.afa.xz": "protein",
        "protein/pdb_ss3.test.tsv.xz": "protein",
        "smiles/qm9.csv.xz": "smiles",
        "text/names.test.txt.xz": "text",
        "text/us_addresses.test.jsonl.xz": "text",
    }.items():
        assert guess_domain(shared_dir / "data" / name, known) == expected, name


def test_what_looks_like_nothing_is_said(tmp_path: Path) -> None:
    known = {each: domain(each) for each in ("dna", "tokens")}
    with pytest.raises(
        DataError, match=r"looks like no domain's file \(dna 0%, tokens 0%\) \(name one: --domain NAME\)"
    ):
        guess_domain(put(tmp_path / "a.txt", "hello\n"), known)
    (tmp_path / "b.txt").write_bytes(b"\x01\x00\x02")
    with pytest.raises(DataError, match="byte offset 1: byte 0x00"):
        guess_domain(tmp_path / "b.txt", known)
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        guess_domain(put(tmp_path / "a.parquet", "PAR1"), known)
