"""A run remembers what it held out: `discdiff evaluate RUN` finds it again, a resumed run must have the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import discdiff as dd
from discdiff.experiment.held_out import held_out
from discdiff.training.lock import FolderLock
from tests.cli.conftest import SMALL, Discdiff, write_fasta

SPLIT = ["--data.split", "Hash", "--data.split.valid", "0.2", "--data.split.test", "0.2"]
QUICK = ["-n", "0", "--quiet", "--json"]


@pytest.fixture
def run(discdiff: Discdiff, tmp_path: Path) -> Path:
    fasta, folder = write_fasta(tmp_path / "p.fasta", 60), tmp_path / "run"
    ran = discdiff("train", fasta, "--domain", "dna", "--output", folder, "--quiet", *SMALL, *SPLIT)
    assert (ran.code, ran.err) == (0, "")
    return folder


def test_a_split_is_kept_and_found_again(run: Path, discdiff: Discdiff, tmp_path: Path) -> None:
    saved = json.loads((run / "split.json").read_text())
    assert (saved["split"], saved["seed"], saved["options"]["test"]) == ("Hash", 0, 0.2)
    numbers = np.load(run / "split.npy", allow_pickle=False)
    assert np.bincount(numbers).tolist() == list(saved["sequences"].values())
    assert sum(saved["sequences"].values()) == 60
    lines = (tmp_path / "p.fasta").read_text().splitlines()[1::2]
    found, part = held_out(run, dd.domain("dna"))
    assert part == "test"
    assert found.texts() == [line for line, number in zip(lines, numbers.tolist(), strict=True) if number == 2]
    ran = discdiff("evaluate", run, *QUICK)
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert report["reference"] == "the run's own test part"
    assert report["bound"]["sequences"] == saved["sequences"]["test"]


def test_a_run_that_trains_keeps_its_split(run: Path, discdiff: Discdiff, tmp_path: Path) -> None:
    """Another that would overwrite it is refused before it has changed anything."""
    before, lock = (run / "split.json").read_bytes(), FolderLock(run)
    lock.acquire()
    other = write_fasta(tmp_path / "q.fasta", 50)
    ran = discdiff("train", other, "--domain", "dna", "--output", run, "--overwrite", "--quiet", *SMALL, *SPLIT)
    lock.release()
    assert ran.code == 2
    assert f"process {os.getpid()} on" in ran.err
    assert (run / "split.json").read_bytes() == before


def test_changed_data_are_refused(run: Path, discdiff: Discdiff, tmp_path: Path) -> None:
    with (tmp_path / "p.fasta").open("a") as stream:
        stream.write(">one_more\nACGTACGT\n")
    ran = discdiff("evaluate", run, *QUICK)
    assert ran.code == 2
    assert "not the data that the run" in ran.err
    assert "checksum" in ran.err
    ran = discdiff("train", "--output", run, "--resume", "--quiet")
    assert ran.code == 2
    assert "trained on other parts than the data now give (different: data_checksum" in ran.err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("split.npy", b"\x93NUMPY", "split.npy: cannot be read"),
        ("split.json", b"{", "split.json: cannot be read as the record of a split"),
        ("split.json", b'{"format_version": 7}', "format version 7, this discdiff reads 1"),
        ("split.json", None, "no split.json, which would say what was held out; give --reference FILE"),
        ("config.yaml", None, "no config.yaml, which would name the run's own test set; give --reference FILE"),
    ],
)
def test_a_damaged_record_is_told(run: Path, discdiff: Discdiff, name: str, content: bytes | None, said: str) -> None:
    (run / name).unlink() if content is None else (run / name).write_bytes(content)
    ran = discdiff("evaluate", run, *QUICK)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_a_flipped_part_is_told(run: Path, discdiff: Discdiff) -> None:
    numbers = np.load(run / "split.npy")
    numbers[0] ^= 1
    np.save(run / "split.npy", numbers)
    assert "split.npy: damaged: its checksum" in discdiff("evaluate", run, *QUICK).err


def test_without_a_split_the_validation_part_is_found(discdiff: Discdiff, tmp_path: Path) -> None:
    fasta, folder = write_fasta(tmp_path / "p.fasta", 60), tmp_path / "run"
    words = ["train", fasta, "--domain", "dna", "--output", folder, "--quiet", *SMALL]
    assert discdiff(*words, "--data.valid_fraction", "0.2").code == 0
    assert not (folder / "split.json").exists()
    found, part = held_out(folder, dd.domain("dna"))
    _, valid = dd.domain("dna").dataset(fasta).split(0.2, seed=0)
    assert (part, found.texts()) == ("valid", valid.texts())
    assert discdiff(*words, "--overwrite", "--data.valid_fraction", "0").code == 0
    assert "the run held nothing out" in discdiff("evaluate", folder, *QUICK).err


def test_overwriting_takes_the_old_split_away(run: Path, discdiff: Discdiff, tmp_path: Path) -> None:
    words = ["train", tmp_path / "p.fasta", "--domain", "dna", "--output", run, "--quiet", *SMALL]
    assert discdiff(*words, "--overwrite").code == 0
    assert not (run / "split.json").exists()
    assert not (run / "split.npy").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data.split", "Hahs"], "data.split.class_path: no split 'Hahs'. Did you mean 'Hash'?"),
        (["--data.split", "Hash", "--data.split.vaild", "0.1"], "unknown key 'data.split.init_args.vaild'"),
        (["--data.split", "Hash", "--data.valid", "v.fasta"], "data.split and data.valid both say where the parts are"),
        (["--data.split", "Hash", "--data.split.valid", "1.5"], "valid got 1.5, expected a fraction"),
        (["--data.split", "Scaffold"], "groups of dna sequences: got 'scaffold', expected 'identity'"),
        (
            ["--data.split", "Chromosome", "--data.split.test", "chrX"],
            "no record is left for test (names found: p0",
        ),
    ],
)
def test_splits_that_cannot_be(words: list[str], said: str, discdiff: Discdiff, tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "p.fasta", 20)
    ran = discdiff("train", fasta, "--domain", "dna", "--output", tmp_path / "run", "--quiet", *SMALL, *words)
    assert ran.code == 2
    assert said in ran.err
    assert not (tmp_path / "run").exists()
