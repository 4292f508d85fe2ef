"""`--on-error` of the commands that read files: what is left out, what is listed, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import SMALL, Discdiff, Workshop, write_fasta

BAD = ">n\nACGN\n>none\n>long\n" + "ACGT" * 10 + "\n"


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Good promoters, and three records that a run of 14 bases cannot use."""
    path = write_fasta(tmp_path / "faulty.fasta", 20)
    path.write_text(BAD + path.read_text())
    return path


def records(path: Path) -> list[str]:
    return [json.loads(line)["record"] for line in path.read_text().splitlines()]


def test_train(discdiff: Discdiff, faulty: Path, tmp_path: Path) -> None:
    words = ["train", faulty, "--domain", "dna", "--output", tmp_path / "run", "--data.length=14", *SMALL]
    ran = discdiff(*words)
    assert ran.code == 2
    assert "record n, column 4: 'N' is not in the DNA alphabet" in ran.err
    ran = discdiff(*words, "--data.on_error", "report")
    assert ran.code == 2
    assert "3 of 23 records cannot be used" in ran.err
    assert "(correct them; --data.on_error skip leaves them out)\n  record n, column 4: 'N'" in ran.err
    assert not (tmp_path / "run").exists()
    listing = tmp_path / "run.skipped.jsonl"
    assert f"all of them are listed in {listing}" in ran.err
    assert records(listing) == ["n", "none", "long"]
    ran = discdiff(*words, "--data.on_error", "skip")
    assert ran.code == 0
    assert ran.err.count("3 of 23 records left out") == 1  # though two parts of the file know of it
    assert records(tmp_path / "run" / "skipped.jsonl") == ["n", "none", "long"]
    # a run that leaves nothing out leaves no list of an earlier one
    write_fasta(faulty, 20)
    assert discdiff(*words, "--overwrite").code == 0
    assert not (tmp_path / "run" / "skipped.jsonl").exists()


def test_score_and_evaluate(workshop: Workshop, discdiff: Discdiff, faulty: Path, tmp_path: Path) -> None:
    listing = tmp_path / "listing.jsonl"
    for words in (["score", workshop.dna, faulty], ["evaluate", workshop.dna, "--reference", faulty, "-n", "0"]):
        ran = discdiff(*words, "--noise-levels", "2")
        assert ran.code == 2
        assert "column 4: 'N' is not in the DNA alphabet ACGT (--on-error skip leaves such records out)" in ran.err
        ran = discdiff(*words, "--noise-levels", "2", "--on-error", "report", "--skipped", listing)
        assert (ran.code, ran.out) == (2, "")
        assert "3 of 23 records cannot be used" in ran.err
        assert records(listing) == ["n", "none", "long"]
        listing.unlink()
        ran = discdiff(*words, "--noise-levels", "2", "--on-error", "skip", "--skipped", listing)
        assert ran.code == 0
        assert f"{faulty}: 3 of 23 records left out" in ran.err
        assert records(listing) == ["n", "none", "long"]
        assert "20 sequences" in ran.err or "sequences: 20" in ran.out


def test_novelty_leaves_out_what_it_says(workshop: Workshop, discdiff: Discdiff, faulty: Path) -> None:
    words = ["evaluate", workshop.dna, "--reference", workshop.fasta, "--training", faulty, "-n", "2"]
    words += ["--noise-levels", "2"]
    assert "'N' is not in" in discdiff(*words).err
    ran = discdiff(*words, "--on-error", "skip")
    assert ran.code == 0
    assert f"{faulty}: 2 of 23 records left out" in ran.err  # of any length: they only tell what is new


def test_prepare(discdiff: Discdiff, faulty: Path, tmp_path: Path) -> None:
    words = ["data", "prepare", faulty, "--domain", "dna", "--cache", tmp_path / "cache", "--quiet"]
    listing = ["--skipped", tmp_path / "listing.jsonl"]
    assert "'N' is not in" in discdiff(*words).err
    ran = discdiff(*words, "--on-error", "report", *listing)
    assert "2 of 23 records cannot be used" in ran.err
    assert records(tmp_path / "listing.jsonl") == ["n", "none"]
    ran = discdiff(*words, "--on-error", "skip", *listing)
    assert ran.code == 0
    assert "2 of 23 records left out" in ran.err
    assert "21 records" in ran.out
    assert records(tmp_path / "listing.jsonl") == ["n", "none"]
