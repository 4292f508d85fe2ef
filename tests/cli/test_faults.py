"""Bad input: one or two clear lines, exit code 2, nothing half-written."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from discdiff.cli import main
from discdiff.experiment.settings import Data, Training
from discdiff.pipeline import Pipeline, SamplingDefaults
from tests.cli.conftest import Discdiff, Workshop

COMMANDS = ["train", "sample", "infill", "score", "evaluate", "profile", "data", "show", "export", "push", "domains"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "nowhere"], "nowhere: no such run folder. Give the folder that `discdiff train` wrote."),
        (["sample", "a_file"], "a_file: a file, not a run folder"),
        (["sample", "."], "has no config.json"),
        (
            ["score", "one.fasta", "RUN"],
            "and one.fasta stands where that belongs: RUN comes first, then FILE",
        ),
        (["infill", "ACGT" * 100, "RUN"], "RUN comes first, then TEMPLATE"),
        (["infill", "RUN", "ACGT" * 100], "the template has 400 positions"),
        (["infill", "RUN", "RUN"], "is no base"),  # a template may have the name of a run folder
        (["sample", "RUN", "-n", "-3"], "-n: got '-3', expected a positive integer"),
        (["sample", "RUN", "--length", "15"], "length: got 15, expected 1 to 14"),
        (["sample", "RUN", "--sampler", "ancestrl"], "no sampler 'ancestrl'"),
        (["sample", "RUN", "--sampler", "first_hitting", "--steps", "3"], "Leave steps out"),
        (["sample", "RUN", "--label", "yes"], "trained without labels"),
        (["train", "one.fasta", "--on-error", "skip"], "unknown option --on-error; did you mean --data.on_error?"),
        (["train", "one.fasta", "--max_steps", "3"], "did you mean --training.max_steps?"),
        (["sample", "RUN", "--stepz", "3"], "unknown option --stepz; did you mean --steps?"),
        (["sample", "RUN", "--temperature", "0"], "expected a positive number"),
        (["sample", "RUN", "--top-p", "1.5"], "--top-p: got '1.5', expected a number above 0 and at most 1"),
        (["sample", "RUN", "--top-k", "0"], "--top-k: got '0', expected a positive integer"),
        (["infill", "RUN", "ACN{3}", "--top-p", "nan"], "--top-p: got 'nan', expected a number above 0"),
        (["sample", "RUN", "--sampler", "bisection", "--steps", "3"], "it takes ceil(log2(L + 1)) calls. Leave steps"),
        (["sample", "RUN", "--error", "0.1", "--steps", "3"], "--error 0.1 --steps 3: an error chooses the steps"),
        (["sample", "RUN", "--error", "-1"], "--error: got '-1', expected a positive number"),
        (["sample", "RUN", "--error", "0.1", "--grid", "cosine"], "expected the grid 'optimised'. Leave the grid out"),
        (["sample", "RUN", "--grid", "bisection", "--sampler", "euler"], "got Euler, expected Bisection"),
        (["sample", "RUN", "--grid", "even"], "--grid: invalid choice: 'even'"),
        (["profile", "RUN", "--length", "15"], "--length 15: expected 2 to 14, the run's longest"),
        (["sample", "RUN", "--error", "0.1", "--sampler", "first_hitting"], "--error 0.1 --sampler first_hitting: an"),
        (["sample", "RUN", "--error", "0.1", "--temperature", "0.9"], "--error 0.1 --temperature 0.9: what a sequence"),
        (["sample", "RUN", "--error", "0.1", "--top-k", "3", "--particles", "2"], "leave out --top-k and --particles"),
        (["profile", "RUN", "-n", "1"], "-n: got '1', expected an integer of at least 8"),
        (["profile", "RUN", "-n", "7"], "-n: got '7', expected an integer of at least 8"),
        (["profile", "RUN", "--picture", "no/such/folder.png"], "the folder no/such does not exist"),
        (["sample", "RUN", "--device", "abacus"], "device: got 'abacus'"),
        (["sample", "RUN", "-o", "no/such/folder.fasta"], "the folder no/such does not exist"),
        (["sample", "RUN", "-o", "."], "this is a folder"),
        (["infill", "RUN", "N{15}"], "the template has 15 positions; the model was trained on at most 14"),
        (["infill", "RUN", "AC{-3}"], "a gap cannot be negative: -3"),
        (["infill", "RUN", "ACGT!"], "'!' is no base"),
        (["infill", "RUN", ""], "the template is empty"),
        (["infill", "RUN"], "the following arguments are required: TEMPLATE"),
        (["score", "RUN", "nope.fasta"], "nope.fasta: no such file (did you mean 'one.fasta'?)"),
        (["score", "RUN", "empty.fasta"], "empty.fasta: the file is empty"),
        (["score", "RUN", "binary.fasta"], "binary.fasta, line 1"),
        (["score", "RUN", "garbage.fasta"], "this looks like binary data (this is no text file; check the path)"),
        (["score", "RUN", "one.fasta", "--device", "foo"], "device"),
        (["sample", "RUN", "--sampler", "hitting"], "known: ancestral, any_order, "),
        (["score", "RUN", "star.fasta"], "star.fasta, record s1, column 5: '*'"),
        (["score", "RUN", "one.fasta", "--where", "split"], "--where split: expected COLUMN=VALUE"),
        (["score", "RUN", "one.fasta", "--noise-levels", "1"], "expected an integer of at least 2"),
        (["evaluate", "RUN", "--reference", "one.fasta", "--sampler", "ordered", "--steps", "2"], "Leave steps out"),
        (["smaple", "RUN"], "invalid choice: 'smaple'"),
        (["data"], "required: COMMAND"),
        (["data", "inspekt", "one.fasta"], "invalid choice: 'inspekt'"),
        (["data", "inspect", "nope.fasta"], "nope.fasta: no such file (did you mean 'one.fasta'?)"),
        (["data", "inspect", "one.fasta", "--lenght", "3"], "unknown option --lenght; did you mean --length?"),
        (["data", "inspect", "one.fasta", "--domain", "rna"], "no domain 'rna'"),
        (["data", "inspect", "garbage.fasta"], "this looks like binary data"),
        (["data", "inspect", "one.fasta", "--picture", "no/such/folder.png"], "the folder no/such does not exist"),
        (
            ["data", "inspect", "one.fasta", "--picture", "lengths.bmp"],
            "expected a name that ends in .png, .pdf or .svg",
        ),
        (["data", "inspect", "one.csv"], "columns found: id, compound; name one by --sequence-column"),
        (["data", "inspect", "one.csv", "--sequence-column", "kompound"], "did you mean 'compound'?"),
        (["data", "inspect", "one.csv", "--where", "split=test", "--sequence-column", "compound"], "columns found: id"),
        (["data", "inspect", "semicolon.csv"], "pass --separator ';'"),
        (["data", "inspect", "quote.csv"], 'quote.csv, line 2: a quote (") is opened and never closed'),
        (["data", "inspect", "one.csv", "--domain", "dna"], "name one by --sequence-column"),
        (["data", "inspect", "bare.fasta", "--domain", "dna"], "pass --format lines)"),
        (["data", "inspect", "one.fasta", "--domain-option", "a=1"], "name the domain too"),
        (["data", "inspect", "bare.fasta", "--domain", "text", "--domain-option", "line=1"], "did you mean 'lines'?"),
        (["data", "inspect", "one.fasta", "--domain", "dna", "--domain-option", "a"], "expected NAME=VALUE"),
        (["show", "nowhere"], "nowhere: no such run folder. Give the folder that `discdiff train` wrote."),
        (["show", "a_file"], "a_file: a file, not a run folder"),
        (["show", "."], "has no config.json"),
        (["show", "RUN", "-o", "no/such/folder.txt"], "the folder no/such does not exist"),
        (["domains", "dna", "more"], "unknown argument more"),
    ],
)
def test_refusals(
    workshop: Workshop,
    discdiff: Discdiff,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("x")
    (tmp_path / "empty.fasta").touch()
    (tmp_path / "binary.fasta").write_bytes(bytes(range(256)))
    (tmp_path / "garbage.fasta").write_bytes(bytes(range(128, 160)) + bytes(range(1, 32)))
    (tmp_path / "one.csv").write_text("id,compound\n1,CCO\n2,CCN\n")
    (tmp_path / "semicolon.csv").write_text("id;smiles\n1;CCO\n2;CCN\n")
    (tmp_path / "quote.csv").write_text('smiles,id\nCCO,"1\nCCN,2\n')
    (tmp_path / "bare.fasta").write_text("ACGTACGT\n")
    (tmp_path / "star.fasta").write_text(">s1\nacgt*\n")
    (tmp_path / "one.fasta").write_text(">s1\nACGTACGT\n")
    before = sorted(tmp_path.rglob("*"))
    ran = discdiff(*[str(workshop.dna) if word == "RUN" else word for word in words])
    assert ran.code == 2
    assert ran.out == ""
    assert message in ran.err
    said = [line for line in ran.err.splitlines() if not line.startswith(" ")]
    assert len(said) <= 2, ran.err
    assert "on_unknown" not in ran.err, "a policy of training, which the command does not take"
    assert sorted(tmp_path.rglob("*")) == before, "something was left behind"


def test_caret_under_the_fault(workshop: Workshop, discdiff: Discdiff) -> None:
    lines = discdiff("infill", workshop.dna, "ACGT!").err.splitlines()
    assert lines[1:] == ["  ACGT!", "      ^"]


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_damaged_byte(workshop: Workshop, discdiff: Discdiff, tmp_path: Path, file: str) -> None:
    run = shutil.copytree(workshop.dna, tmp_path / "run")
    data = bytearray((run / file).read_bytes())
    data[len(data) // 2] ^= 4
    (run / file).write_bytes(data)
    ran = discdiff("sample", run)
    assert ran.code == 2
    said = "damaged (its sha256 is not the one in config.json). Copy the whole folder again."
    assert ran.err == f"discdiff: {run / file}: {said}\n"


def test_moved_run(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    run = shutil.copytree(workshop.dna, tmp_path / "elsewhere")
    assert discdiff("sample", run, "-n", "2").out == discdiff("sample", workshop.dna, "-n", "2").out


def test_failure_keeps_the_old_file(
    workshop: Workshop, discdiff: Discdiff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from domains.dna import DNA

    def broken(self: object, records: object, stream: Any) -> None:
        stream.write(">half")
        raise OSError(28, "No space left on device")

    target = tmp_path / "samples.fasta"
    target.write_text("old")
    monkeypatch.setattr(DNA, "write", broken)
    ran = discdiff("sample", workshop.dna, "-n", "1", "-o", target)
    assert (ran.code, ran.err) == (2, f"discdiff: {target}: No space left on device\n")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["samples.fasta"]


def test_interrupt(workshop: Workshop, discdiff: Discdiff, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "draws", interrupted)
    ran = discdiff("sample", workshop.dna)
    assert (ran.code, ran.out, ran.err) == (130, "", "discdiff: interrupted\n")


def test_a_fault_of_ours(workshop: Workshop, discdiff: Discdiff, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("boom")

    monkeypatch.setattr(Pipeline, "draws", broken)
    ran = discdiff("sample", workshop.dna)
    assert ran.code == 1
    assert "KeyError at test_faults.py:" in ran.err
    assert "--debug" in ran.err
    with pytest.raises(KeyError):
        main(["sample", str(workshop.dna), "--debug"])


def test_debug_shows_the_traceback() -> None:
    from discdiff.errors import CheckpointError

    with pytest.raises(CheckpointError):
        main(["sample", "nowhere", "--debug"])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(discdiff: Discdiff, command: str) -> None:
    ran = discdiff(command, "--help")
    assert ran.code == 0
    assert f"examples:\n  discdiff {command}" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 120


def test_training_help_names_every_key(discdiff: Discdiff) -> None:
    told = set(re.findall(r"\w+", discdiff("train", "--help").out))
    keys = {field.name for section in (Data, Training, SamplingDefaults) for field in dataclasses.fields(section)}
    assert sorted(keys - told) == []


def test_main_help(discdiff: Discdiff) -> None:
    for words in ([], ["--help"]):
        ran = discdiff(*words)
        assert ran.code == 0
        assert all(f"    {command}" in ran.out for command in COMMANDS)
    assert discdiff("--version").out.startswith("discdiff 0.")


def test_as_a_process(workshop: Workshop) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "discdiff", *words]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)

    good = run("sample", str(workshop.dna), "-n", "1", "--json")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["name"] == "sample_1"
    bad = run("sample", "nowhere")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("discdiff: nowhere: no such run folder.")


def test_help_needs_no_torch() -> None:
    code = """
import sys
from discdiff.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("torch" in sys.modules)
"""
    for words in (["--help"], ["train", "--help"], ["--version"], ["sampel"]):
        line = [sys.executable, "-c", code, *words]
        done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.splitlines()[-1] == "False", words
