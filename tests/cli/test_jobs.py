"""`discdiff sample -o FOLDER` and `infill`: part files from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import discdiff as dd
from discdiff.pipeline import read_parts
from discdiff.pipeline.draws import Draws
from tests.cli.conftest import Discdiff, Workshop


def test_sample_into_a_folder(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    """All that `sample` takes holds in a job too; the same words go on, others are refused by name."""
    folder = tmp_path / "job"
    words = ["sample", workshop.dna, "-o", f"{folder}/", "--part-size", "10", "--sampler", "any_order", "--steps", "3",
             "--forbid", "EcoRI", "--rule", "gc=20-80%", "--temperature", "0.9", "--top-k", "3", "--seed", "5",
             "--length", "9", "--batch-size", "4"]  # fmt: skip
    ran = discdiff(*words, "-n", "25")
    assert ran.code == 0, ran.err
    assert ran.out == ""
    assert f"{folder}: 25 samples in 3 parts\n" in ran.err
    expected = dd.Pipeline.load(workshop.dna).sample(
        25, sampler=dd.samplers.AnyOrder(), steps=3, rules={"forbid": ["EcoRI"], "gc": ["20-80%"]}, temperature=0.9,
        top_k=3, seed=5, length=9, batch_size=4,
    )  # fmt: skip
    assert [row["sequence"] for row in read_parts(folder)] == expected
    assert f"{folder}: 25 samples in 3 parts, 3 of them from before" in discdiff(*words, "-n", "25").err
    ran = discdiff(*words, "-n", "25", "--top-p", "0.5")
    assert ran.code == 2
    assert "job.json: top_p: got 0.5, expected null, that of the job begun there" in ran.err
    assert discdiff(*words, "-n", "35").code == 0
    assert [row["sequence"] for row in read_parts(folder)][:25] == expected


@pytest.mark.parametrize("way", ["--json", "--format=jsonl", "existing"])
def test_what_makes_a_folder(way: str, workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    """A folder that is there, a name that ends as folders do, or an option of jobs."""
    folder = tmp_path / "job"
    if way == "existing":
        folder.mkdir()
    words: list[str] = {"--json": [f"{folder}/", "--json"], "existing": [f"{folder}"]}.get(way, [f"{folder}", way])
    ran = discdiff("infill", workshop.dna, "NNTATANN", "-n", "3", "-o", *words)
    assert ran.code == 0, ran.err
    (part,) = folder.glob("part-*")
    assert part.suffix == (".parquet" if way == "existing" else ".jsonl")
    assert [row["sequence"] for row in read_parts(folder)] == dd.Pipeline.load(workshop.dna).infill("NNTATANN", 3)
    assert json.loads((folder / "job.json").read_text())["arguments"]["template"] == "NNTATANN"


MISTAKES = {
    "--part-size 5": "--part-size: is for samples that go into a folder; say -o FOLDER",
    "--devices 2": "--devices: is for samples that go into a folder",
    "-o job/ --format csv": "--format: invalid choice: 'csv'",
    "-o job/ --json --format own": "--json --format own: two formats; give one",
    "-o job/ --error 0.1 --format own": "--error 0.1 --format own: the domain's format has no room",
    "-o job/ --shard 3/2": "--shard: got '3/2', expected I/N with I from 1 to N",
    "-o job/ --shard 1": "--shard: got '1', expected I/N",
    "-o taken.txt --devices 2": "taken.txt: this is a file; a job takes a folder",
    "-o .": "this is a folder with taken.txt and no job.json in it",
    "-o job/ --forbid EcoRX": "EcoRX",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes(
    words: str, workshop: Workshop, discdiff: Discdiff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.txt").touch()
    ran = discdiff("sample", workshop.dna, *words.split())
    assert ran.code == 2
    assert MISTAKES[words] in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["taken.txt"]


def test_a_stream_comes_some_at_a_time(
    workshop: Workshop, discdiff: Discdiff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To one file or standard output: in order, numbered throughout, and never more in memory than that."""
    words = ("sample", workshop.dna, "-n", "10", "--batch-size", "2")
    whole, as_json = discdiff(*words).out, discdiff(*words, "--json").out
    rows, largest = Draws.rows, 0

    def watched(self: Draws, numbers: Any, report: Any) -> Any:
        nonlocal largest
        largest = max(largest, len(numbers))
        return rows(self, numbers, report)

    monkeypatch.setattr(Draws, "rows", watched)
    monkeypatch.setattr("discdiff.cli.jobs.AT_A_TIME", 4)
    assert discdiff(*words, "-o", tmp_path / "samples.fasta").code == 0
    assert (tmp_path / "samples.fasta").read_text() == whole
    assert discdiff(*words, "--json").out == as_json
    assert largest == 4


def test_many_samples_in_one_piece_are_advised(
    workshop: Workshop, discdiff: Discdiff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discdiff.cli.jobs.MANY", 4)
    said = "-o FOLDER/ keeps them in parts, and goes on from there"
    words = ("-n", "4", "-o", tmp_path / "samples.fasta")
    assert said in discdiff("sample", workshop.dna, *words).err
    assert said not in discdiff("sample", workshop.dna, *words, "--quiet").err
    assert said not in discdiff("sample", workshop.dna, "-n", "3").err
