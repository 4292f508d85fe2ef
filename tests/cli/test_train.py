"""`discdiff train`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from discdiff.cli.train import SECTIONS
from discdiff.experiment import Experiment
from tests.cli.conftest import SMALL, Discdiff, Workshop, write_fasta


def test_run_folder(workshop: Workshop) -> None:
    names = {path.name for path in workshop.dna.iterdir()}
    expected = {"config.yaml", "tokenizer.json", "config.json", "model.safetensors", "metrics.csv"}
    assert expected | {"environment.json", "checkpoints"} <= names
    resolved = yaml.safe_load((workshop.dna / "config.yaml").read_text())
    assert resolved["training"]["max_steps"] == 3
    assert resolved["network"]["init_args"]["dim"] == 16
    assert resolved["network"]["init_args"]["depth"] == 1
    saved = json.loads((workshop.dna / "config.json").read_text())
    assert saved["sampling"]["steps"] == 4
    assert saved["max_length"] == 14


def test_labels_flow_from_the_data(workshop: Workshop) -> None:
    saved = json.loads((workshop.labelled / "config.json").read_text())
    assert saved["label_names"] == ["no", "yes"]
    assert saved["model"]["init_args"]["network"]["init_args"]["num_labels"] == 2


def test_config_names_the_run(
    workshop: Workshop, discdiff: Discdiff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "mine.yaml"
    config.write_text(f"domain: dna\ndata: {{train: {workshop.fasta.name}}}\nsampling: {{sampler: FirstHitting}}\n")
    small = [word for word in SMALL if "sampling" not in word]
    ran = discdiff("train", "--config", config, "--data-root", workshop.folder, *small)
    assert ran.code == 0, ran.err
    assert ran.out == "runs/mine\n"
    assert "next: discdiff sample runs/mine" in ran.err
    assert (tmp_path / "runs" / "mine" / "config.json").is_file()

    # the folder is in use now
    again = discdiff("train", "--config", config, "--data-root", workshop.folder, *small)
    assert again.code == 2
    assert again.err.startswith("discdiff: runs/mine: the folder is not empty. Go on with --resume, replace it with")

    # and goes on from where it is, by its own configuration
    more = discdiff("train", "--output", "runs/mine", "--resume", "--training.max_steps", "5")
    assert more.code == 0, more.err
    assert "5 steps" in more.err

    fresh = discdiff("train", "--output", "runs/mine", "--overwrite", "--config", config, *small,
                     "--data-root", workshop.folder, "--training.max_steps", "2")  # fmt: skip
    assert fresh.code == 0, fresh.err
    assert "2 steps" in fresh.err


def test_sections_are_those_of_an_experiment() -> None:
    assert set(SECTIONS) == {name for name, field in Experiment.__dataclass_fields__.items() if field.init}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a file to learn from, or a configuration: --config FILE"),
        (["nope.fasta", "--domain", "dna"], "nope.fasta: no such file"),
        (["promoters.fasta"], "name the domain: --domain dna or protein"),
        (["promoters.fasta", "--domain", "dnna"], "no domain 'dnna'"),
        (["empty.fasta", "--domain", "dna"], "empty.fasta: the file is empty"),
        (["binary.fasta", "--domain", "dna"], "binary.fasta, line 1"),
        (["star.fasta", "--domain", "dna"], "star.fasta, record one"),
        (["bad.smi", "--domain", "smiles"], "bad.smi, record broken, line 2: 'C(C'"),
        (["--config", "nope.yaml"], "nope.yaml: no such configuration file. Did you mean"),
        (["--config", "empty.yaml"], "empty.yaml: the file is empty"),
        (["--config", "typo.yaml"], "unknown key 'training.max_stpes'. Did you mean 'training.max_steps'?"),
        (["--config", "twice.yaml"], "twice.yaml, line 3: the key 'domain' stands twice (first on line 1)"),
        (["good.yaml"], "a configuration? Give it as --config good.yaml"),
        (["--config", "good.yaml"], "--data-root FOLDER says where the data are"),
        (
            ["--config", "good.yaml", "--network.dmi", "3"],
            "'network.init_args.dmi'. Did you mean 'network.init_args.dim'?",
        ),
        (["--config", "good.yaml", "--network.dim", "33"], "transformer size"),
        (["--config", "good.yaml", "--process", "Uniform"], "Conditional (time-free)"),
        (["--config", "good.yaml", "--confg", "x"], "unknown option --confg; did you mean --config?"),
        (["--config", "good.yaml", "--training.max_steps"], "--training.max_steps: a value is missing"),
        (["--output", "nowhere", "--resume"], "nowhere: no checkpoint to resume from"),
        (["--config", "good.yaml", "--resume", "--overwrite"], "exclude one another"),
    ],
)
def test_refusals(
    discdiff: Discdiff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_fasta(tmp_path / "promoters.fasta", 10)
    (tmp_path / "empty.fasta").touch()
    (tmp_path / "binary.fasta").write_bytes(bytes(range(256)))
    (tmp_path / "star.fasta").write_text(">one\nACGT*\n>two\nacgt\n")
    (tmp_path / "bad.smi").write_text("CCO ethanol\nC(C broken\n")
    (tmp_path / "good.yaml").write_text("domain: dna\ndata: {train: absent.fasta}\n")
    (tmp_path / "typo.yaml").write_text("domain: dna\ndata: {train: x.fasta}\ntraining: {max_stpes: 3}\n")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    (tmp_path / "twice.yaml").write_text("domain: dna\nseed: 1\ndomain: text\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    ran = discdiff("train", *words)
    assert ran.code == 2
    assert ran.out == ""
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before, "something was left behind"


def test_lower_case_fasta_is_read(discdiff: Discdiff, tmp_path: Path) -> None:
    (tmp_path / "lower.fasta").write_text("".join(f">s{i}\nacgt{'acgt'[i % 4]}{'ttga'[i % 3]}\n" for i in range(30)))
    run = tmp_path / "run"
    ran = discdiff("train", tmp_path / "lower.fasta", "--domain", "dna", "--output", run, "--quiet", *SMALL)
    assert (ran.code, ran.err) == (0, "")
    assert (run / "config.json").is_file()


def test_a_file_in_place_of_the_configurations(discdiff: Discdiff, tmp_path: Path) -> None:
    config = tmp_path / "theirs.yaml"
    config.write_text("domain: dna\ndata: {train: a.fasta, valid: b.fasta, root: elsewhere, length: 20}\n")
    mine, run = write_fasta(tmp_path / "mine.fasta", 30), tmp_path / "run"
    ran = discdiff("train", mine, "--config", config, "--output", run, "--quiet", *SMALL)
    assert (ran.code, ran.err) == (0, "")
    data = yaml.safe_load((run / "config.yaml").read_text())["data"]
    assert (data["train"], data["valid"], data["root"], data["length"]) == (str(mine), None, None, 20)


def test_the_documented_command_of_labels(
    workshop: Workshop, discdiff: Discdiff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line of the guide, as it stands, but for the files and the size; the run goes on and takes guidance."""
    guide = (Path(__file__).parents[2] / "docs" / "guidance.md").read_text()
    line = next(line for line in guide.splitlines() if line.startswith("discdiff train "))
    assert "--loss LabelDropout" in line
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tables").mkdir()
    table = workshop.table.read_text().replace("is_promoter", "bin")
    (tmp_path / "tables" / "yeast.train.tsv").write_text(table)
    ran = discdiff(*line.split()[1:], "--quiet", *SMALL)
    assert (ran.code, ran.err) == (0, "")
    run = ran.out.strip()
    assert discdiff("sample", run, "-n", "2", "--label", "yes", "--guidance", "2", "--quiet").code == 0
    resumed = discdiff("train", "--output", run, "--resume", "--quiet", "--training.max_steps", "4")
    assert (resumed.code, resumed.err) == (0, ""), "the stored configuration is read again"


def test_given_has_a_loss_of_its_own(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    parts = ["--process", "Uniform", "--parameterization", "Denoiser", "--loss", "Given"]
    ran = discdiff("train", workshop.fasta, "--domain=dna", "--output", tmp_path / "run", "--quiet", *SMALL, *parts)
    assert (ran.code, ran.err) == (0, "")
