"""`discdiff profile`, and `--error`, which it is for."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

import pytest

from discdiff.cli.options import at_least_eight
from discdiff.pipeline import Pipeline
from discdiff.run_folder import PROFILE_FILE, load_profile
from discdiff.samplers.profiling import FEWEST
from tests.cli.conftest import SMALL, Discdiff, Workshop


@pytest.fixture
def run(workshop: Workshop, tmp_path: Path) -> Path:
    """A copy of a run, which may be changed."""
    shutil.copytree(workshop.dna, tmp_path / "run")
    (tmp_path / "run" / PROFILE_FILE).unlink(missing_ok=True)
    return tmp_path / "run"


def test_profile(run: Path, discdiff: Discdiff) -> None:
    """The table, the file and the picture; then samples to an error, with the certificate beside them."""
    refused = discdiff("sample", run, "-n", "2", "--error", "0.1")
    assert refused.code == 2
    assert "without a profile" in refused.err
    assert "discdiff profile RUN" in refused.err

    ran = discdiff("profile", run, "-n", "32", "--error", "0.002", "--check", "32")
    assert ran.code == 0, ran.err
    header, *rows = [line.split("\t") for line in ran.out.splitlines()]
    assert header == ["error", "calls", "nats", "standard_error", "nats_of_even_blocks"]
    assert [row[0] for row in rows] == ["0.002", "0.01", "0.03", "0.1", "0.3", "1", "3", "check"]
    calls = [int(row[1]) for row in rows[:-1]]
    assert calls == sorted(calls, reverse=True)
    assert rows[-1][1] == rows[0][1]
    for row in rows[:-1]:
        assert float(row[2]) <= float(row[0])
    assert "a profile of 32 draws of the model" in ran.err
    assert (run / "profile.png").stat().st_size > 5_000

    drawn = discdiff("sample", run, "-n", "3", "--error", "0.002", "--length", "14", "--json")
    assert drawn.code == 0, drawn.err
    assert drawn.err.startswith("KL ≤ ")
    assert "calls instead of 14" in drawn.err
    profile = load_profile(run)
    assert profile is not None
    plan = profile.blocks(14, error=0.002)
    for line in drawn.out.splitlines():
        assert json.loads(line)["certificate"] == plan.certificate.to_json()
    assert discdiff("sample", run, "-n", "3", "--error", "0.1", "--quiet").err == ""
    filled = discdiff("infill", run, "NNTATANN", "-n", "2", "--error", "0.1")
    assert "KL about " in filled.err
    plain = discdiff("sample", run, "-n", "3", "--json")
    assert "certificate" not in json.loads(plain.out.splitlines()[0])


def test_profile_of_a_file(run: Path, workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    """On held-out sequences, as JSON, the picture elsewhere."""
    picture = tmp_path / "curve.svg"
    ran = discdiff("profile", run, workshop.fasta, "--json", "--quiet", "--length", "12", "--picture", picture)
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert (found["source"], found["sequences"], found["length"]) == ("data", 40, 12)
    assert [point["known"] for point in found["curve"]] == list(range(12))
    assert all(sum(row["sizes"]) == 12 for row in found["schedules"])
    assert picture.read_text().lstrip().startswith("<?xml")
    assert not (run / "profile.png").exists()
    assert Pipeline.load(run).profile is not None


def test_a_larger_profile_is_not_replaced_silently(run: Path, discdiff: Discdiff) -> None:
    said = [discdiff("profile", run, "-n", str(count)).err for count in (8, 24, 24, 16)]
    assert ["replaces a profile" in err for err in said] == [False, False, False, True]
    assert said[-1].splitlines()[-2] == "replaces a profile of 24 sequences"


def test_a_picture_of_another_kind_is_refused_first(run: Path, discdiff: Discdiff, tmp_path: Path) -> None:
    ran = discdiff("profile", run, "--picture", tmp_path / "curve.docx")
    assert ran.code == 2
    assert "curve.docx: expected a name that ends in .png, .svg, .pdf" in ran.err
    assert not (run / PROFILE_FILE).exists()


def test_training_measures_one(workshop: Workshop, discdiff: Discdiff) -> None:
    """On the sequences that are held out, and says so. Two of forty are too few: nothing is made of them."""
    assert load_profile(workshop.dna) is None
    again = ["train", workshop.fasta, "--output", workshop.folder / "runs" / "profiled", "--domain", "dna"]
    small = ["--network.dim=16", "--network.depth=1", "--network.heads=2", "--training.max_steps=2"]
    quick = ["--training.samples=0", "--training.device=cpu", "--training.loggers=[csv]", "--data.valid_fraction=0.3"]
    ran = discdiff(*again, *small, *quick)
    assert ran.code == 0, ran.err
    assert re.search(r"a profile of \d+ sequences of data, measured in \d", ran.err)
    profile = load_profile(workshop.folder / "runs" / "profiled")
    assert profile is not None
    assert profile.source == "data"
    none = discdiff(*again, "--overwrite", *small, *quick, "--training.profile_sequences=0")
    assert none.code == 0, none.err
    assert not (workshop.folder / "runs" / "profiled" / PROFILE_FILE).exists()


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (["--network.block_size=4", "--loss=Blockwise"], "got a block-causal network, expected one that sees"),
        (["--process=Uniform", "--parameterization=Score", "--loss=ScoreEntropy"], "got the process Uniform, expected"),
    ],
)
def test_runs_without_profiles(
    workshop: Workshop, discdiff: Discdiff, tmp_path: Path, parts: list[str], told: str
) -> None:
    """Errors are refused at once, not for want of a profile, which would be refused next."""
    run = tmp_path / "run"
    assert discdiff("train", workshop.fasta, "--output", run, "--domain", "dna", *SMALL, *parts).code == 0
    for words in (["sample", run, "--error", "0.1"], ["profile", run]):
        ran = discdiff(*words)
        assert ran.code == 2
        assert told in ran.err
        assert "(--steps)" in ran.err
        assert "discdiff profile" not in ran.err
        assert "sequences" not in ran.err


def test_the_fewest_sequences() -> None:
    """The command line knows the number without torch."""
    assert at_least_eight(str(FEWEST)) == FEWEST
    with pytest.raises(argparse.ArgumentTypeError):
        at_least_eight(str(FEWEST - 1))


def test_evaluate_says_it(run: Path, workshop: Workshop, discdiff: Discdiff) -> None:
    assert discdiff("profile", run, "-n", "16", "--quiet").code == 0
    words = ["evaluate", run, "--reference", workshop.fasta, "--noise-levels", "2", "-n", "4", "--error", "0.1"]
    ran = discdiff(*words)
    assert ran.code == 0, ran.err
    assert "certificate: KL ≤ " in ran.out
