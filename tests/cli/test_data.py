"""`discdiff data inspect`: what it says, as text and as JSON, and its picture."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import pytest

from discdiff.cli import data
from tests.cli.conftest import Discdiff


@pytest.fixture
def molecules(tmp_path: Path) -> Path:
    path = tmp_path / "molecules.csv"
    path.write_text("id,smiles,kind\n1,CCO,a\n2,OCC,b\n3,C(C,a\n4,c1ccccc1CCN,a\n5,CCO,b\n")
    return path


def test_report(discdiff: Discdiff, molecules: Path) -> None:
    ran = discdiff("data", "inspect", molecules, "--length", "4", "--label-column", "kind", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == str(molecules)
    for said in (
        "domain:      smiles (guessed; --domain NAME says otherwise)",
        "columns:     id, smiles, kind",
        "records:     4 that can be used, 1 that cannot",
        "tokens:      20",
        "invalid:     1 × parse error: extra open parentheses",
        "lengths:     min 3, quartiles 3, 3, 3, max 11; mean 5.0 (tokens)",
        "length=N:    3 takes 50%, 11 takes 100%",
        "length=4:    1 of 4 sequences are longer (25.00%); cropped, 7 tokens go (35.00%)",
        "duplicates:  1 exact, 2 in the canonical form (record 5 = record 1)",
        "label:       a: 2 (50.0%)",
        "alphabet:    5 different",
    ):
        assert said in lines, said
    assert any(line.startswith("             first: record 3: 'C(C'") for line in lines)
    assert any(line.split() == ["3", "█" * 50, "3"] for line in lines)


def test_json_and_a_named_domain(discdiff: Discdiff, molecules: Path, tmp_path: Path) -> None:
    ran = discdiff("data", "inspect", molecules, "--domain", "smiles", "--json", "--length", "4", "--exact-only")
    found = json.loads(ran.out)
    assert found["guessed"] is False
    assert found["cut"] == {"length": 4, "records": 1, "symbols": 7}
    assert found["duplicates"] == 1
    assert found["canonical_duplicates"] is None
    ran = discdiff("data", "inspect", molecules, "--json", "-o", tmp_path / "found.json", "--where", "kind=b")
    assert ran.out == ""
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["guessed"], found["domain"], found["records"]) == (True, "smiles", 2)


def test_picture_and_list(discdiff: Discdiff, molecules: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    listing, picture = tmp_path / "faults.jsonl", tmp_path / "lengths.png"
    assert discdiff("data", "inspect", molecules, "--picture", picture, "--skipped", listing).code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [json.loads(line)["record"] for line in listing.read_text().splitlines()] == ["3"]


def test_options_of_the_domain_and_of_reading(discdiff: Discdiff, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("né\nné\nabc\n".encode("latin-1"))
    words = ["data", "inspect", path, "--domain", "text", "--encoding", "latin-1", "--quiet"]
    assert "stream:      10 characters" in discdiff(*words).out
    ran = discdiff(*words, "--domain-option", "lines=true")
    assert "records:     3 that can be used" in ran.out
    assert "duplicates:  1 exact" in ran.out
    ran = discdiff(*words, "--domain-option", "lines=true", "--limit", "1")
    assert "(the file goes on: --limit)" in ran.out


def test_what_is_passed_over_is_told(discdiff: Discdiff, tmp_path: Path) -> None:
    path = tmp_path / "a.faa"
    path.write_text(">a\nMKV*\n>b\nMKW\n")
    assert "1 records read without the '*' at the end (first: record a" in discdiff("data", "inspect", path).out
    path = tmp_path / "b.smi"
    path.write_text("# note\nCC\n\nCCO\n")
    assert "no records: 2" in discdiff("data", "inspect", path).out


@pytest.mark.parametrize("words", [["data", "inspect"], ["data", "prepare"]])
def test_the_list_does_not_take_the_place_of_the_data(discdiff: Discdiff, molecules: Path, words: list[str]) -> None:
    before = molecules.read_bytes()
    ran = discdiff(*words, molecules, "--domain", "smiles", "--skipped", molecules)
    assert "this is what is read; name another file" in ran.err
    assert molecules.read_bytes() == before


@pytest.mark.parametrize("given", [";", "\t", "\\t"])
def test_separators(discdiff: Discdiff, tmp_path: Path, given: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("seq;n\nACGT;1\n".replace(";", "\t" if "t" in given or given == "\t" else ";"))
    assert "records:     1" in discdiff("data", "inspect", path, "--separator", given, "--domain", "dna").out


def test_the_remedy_of_an_encoding_is_an_option(discdiff: Discdiff, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("seq,é\nACGT,1\n".encode("latin-1"))
    ran = discdiff("data", "inspect", path, "--domain", "dna")
    assert "or name its own encoding: --encoding latin-1, say" in ran.err
    assert "records:     1" in discdiff("data", "inspect", path, "--domain", "dna", "--encoding", "latin-1").out


@pytest.mark.parametrize("given", ["||", "", '"'])
def test_what_is_no_separator(discdiff: Discdiff, tmp_path: Path, given: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("seq;n\nACGT;1\n")
    ran = discdiff("data", "inspect", path, "--separator", given, "--domain", "dna")
    assert (ran.code, ran.out) == (2, "")
    assert "expected one character, such as ';' or '\\t'" in ran.err


def test_suffixes_count(discdiff: Discdiff, tmp_path: Path) -> None:
    """A file of molecules is no prose, whatever is wrong with it; and what an earlier list said is gone."""
    path, listing = tmp_path / "a.smi", tmp_path / "faults.jsonl"
    path.write_text("# note\nCCO ethanol\nC(C broken\nc1ccccc1 benzene\n\nCXC no\nc1cc odd\nCC(=O)O acid\nN\n")
    assert "smiles (guessed;" in discdiff("data", "inspect", path, "--skipped", listing).out
    assert len(listing.read_text().splitlines()) == 3
    path.write_text("CCO\n")
    assert discdiff("data", "inspect", path, "--skipped", listing).code == 0
    assert not listing.exists()


def test_a_dash_is_standard_output(
    discdiff: Discdiff, molecules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = list(tmp_path.iterdir())
    assert "records:" in discdiff("data", "inspect", molecules, "-o", "-").out
    assert list(tmp_path.iterdir()) == before


def test_a_picture_that_cannot_be_written(discdiff: Discdiff, molecules: Path, tmp_path: Path) -> None:
    """The report comes first, the error names the file, and no half of a picture is left."""
    pytest.importorskip("matplotlib")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        ran = discdiff("data", "inspect", molecules, "--picture", tmp_path / "new.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert ran.code == 2
    assert "records:" in ran.out
    assert ran.err.splitlines()[-1] == f"discdiff: {tmp_path / 'new.png'}: File too large"
    assert not [path for path in tmp_path.iterdir() if "new.png" in path.name]


def test_a_data_set_by_name(discdiff: Discdiff, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"text": ["one", "two"], "n": [1, 2]}).save_to_disk(tmp_path / "saved")
    datasets.enable_progress_bars()
    ran = discdiff("data", "inspect", f"hf://{tmp_path / 'saved'}?column=text", "--quiet", "--domain", "text")
    assert (ran.code, ran.err) == (0, "")
    assert "columns:     text, n" in ran.out


def test_every_subcommand_has_help(discdiff: Discdiff) -> None:
    for name in data.SUBCOMMANDS:
        ran = discdiff("data", name, "--help")
        assert ran.code == 0
        assert f"examples:\n  discdiff data {name}" in ran.out
        assert max(map(len, ran.out.splitlines())) <= 120
