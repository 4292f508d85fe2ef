"""`discdiff data prepare` writes what `discdiff train` with the same options then finds."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from discdiff.cli import prepare
from discdiff.errors import ConfigError, DataError
from discdiff.experiment import Experiment
from tests.cli.conftest import Discdiff

FASTA = ">a\nACGTACGT\n>b\nACGTNACG\n>c\nACGT\n"


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "reads.fasta"
    path.write_text(FASTA)
    return path


def run(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    prepare.add_arguments(parser)
    return prepare.run(parser.parse_args([str(word) for word in words]))


def entries(folder: Path) -> list[Path]:
    return list((folder / "tokens").iterdir())


def test_training_finds_what_was_prepared(
    fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "cache"
    assert run(fasta, "--domain", "dna", "--domain-option", "on_unknown=skip", "--cache", kept, "--quiet") == 0
    out, err = capsys.readouterr()
    assert "1 of 3 records left out" in err
    assert out.startswith(f"{fasta}: 2 records, 12 tokens, 0.0 MB in {entries(kept)[0]} (")
    monkeypatch.setenv("DISCDIFF_CACHE", str(kept))
    values = {"domain": "dna", "data": {"train": str(fasta), "cache": True, "valid_fraction": 0.4}}
    parts = Experiment.load(values=values, overrides=["--domain.on_unknown", "skip"]).read()
    train, valid = parts.train, parts.valid
    assert "1 of 3 records left out" in train.notes[0]
    assert "encoded before" in train.notes[-1]
    assert valid is not None
    assert len(train) + len(valid) == 2


def test_options_of_tables_are_those_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, kept = tmp_path / "table.csv", tmp_path / "cache"
    path.write_text("seq,class,split\nACGT,1,train\nAC,2,test\nACG,1,train\n")
    monkeypatch.setenv("DISCDIFF_CACHE", str(kept))
    run(path, "--domain", "dna", "--where", "class=1", "--label-column", "class", "--length", "4", "--on-long", "skip")
    words = ["--data.where.class", "1", "--data.label_column", "class", "--data.length", "4", "--data.on_long", "skip"]
    values = {"domain": "dna", "data": {"train": str(path), "cache": True, "valid_fraction": 0.0}}
    train = Experiment.load(values=values, overrides=words).read().train
    assert len(train) == 2
    assert len(entries(kept)) == 1


def test_a_learned_vocabulary_is_learned_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kept = tmp_path / "corpus.txt", tmp_path / "cache"
    path.write_text("to be or not to be " * 100)
    run(path, "--domain", "text", "--domain-option", "tokenizer=characters", "--cache", kept)
    assert "7 records, 1,792 tokens" in capsys.readouterr().out
    monkeypatch.setattr("domains.text.tokenizers.Characters.learn", None)
    run(path, "--domain", "text", "--domain-option", "tokenizer=characters", "--cache", kept)
    monkeypatch.undo()
    # damaged: learned again
    (learned,) = (kept / "vocabularies").iterdir()
    (learned / "tokenizer.json").write_text("{")
    run(path, "--domain", "text", "--domain-option", "tokenizer=characters", "--cache", kept)
    assert len(entries(kept)) == 1
    # and so it is where the options are others
    run(
        path,
        "--domain",
        "text",
        "--domain-option",
        "tokenizer=bpe",
        "--domain-option",
        "vocab_size=260",
        "--cache",
        kept,
    )
    assert len(list((kept / "vocabularies").iterdir())) == 2


def test_a_configurations_files_are_prepared(fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, kept = tmp_path / "my.yaml", tmp_path / "cache"
    (tmp_path / "held_out.fasta").write_text(">d\nAC\n")
    config.write_text(
        "domain: {class_path: dna, init_args: {on_unknown: split}}\n"
        f"data: {{train: reads.fasta, valid: held_out.fasta, test: held_out.fasta, cache: {kept}}}\n"
    )
    run("--config", config, "--data-root", tmp_path)
    out, err = capsys.readouterr()
    assert "1 records cut for characters outside ACGT" in err
    lines = out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"{tmp_path}/reads.fasta: 4 records", *[f"{tmp_path}/held_out.fasta: 1 records"] * 2
    ]  # fmt: skip
    assert len(entries(kept)) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a file to encode, or a configuration"),
        (["reads.fasta"], "name the domain: --domain dna"),
        (["reads.fasta", "--domain", "dna", "--domain-option", "on_unknown"], "expected NAME=VALUE"),
        (["reads.fasta", "--domain", "dna", "--domain-option", "on_unknow=skip"], "Did you mean"),
    ],
)
def test_mistakes_are_told(fasta: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fasta.parent)
    with pytest.raises(ConfigError, match=said):
        run(*words)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing.fasta: no such file"):
        run(tmp_path / "nothing.fasta", "--domain", "dna")


def test_windows_need_no_preparation(fasta: Path, tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    config.write_text(f"domain: dna\ndata: {{train: {fasta}, length: 4, windows: {{kind: random}}}}\n")
    with pytest.raises(ConfigError, match="there is nothing to prepare"):
        run("--config", config)


@pytest.mark.parametrize(
    ("name", "text", "words", "values"),
    [
        ("a.txt", "ACGT\nAC\n", ["--format", "lines"], {"format": "lines"}),
        ("a.csv", "seq;n\nACGT;1\nAC;2\n", ["--separator", ";"], {"separator": ";"}),
        ("a.csv", "seq,é\nACGT,1\nAC,2\n", ["--encoding", "latin-1"], {"encoding": "latin-1"}),
    ],
)
def test_how_a_file_is_read_is_part_of_the_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, words: list[str], values: dict[str, str]
) -> None:
    path, kept = tmp_path / name, tmp_path / "cache"
    path.write_text(text, encoding=values.get("encoding", "utf-8"))
    monkeypatch.setenv("DISCDIFF_CACHE", str(kept))
    run(path, "--domain", "dna", *words, "--quiet")
    stated = {"train": str(path), "cache": True, "valid_fraction": 0.0, "options": values}
    train = Experiment.load(values={"domain": "dna", "data": stated}).read().train
    assert len(train) == 2
    assert "encoded before" in train.notes[-1]
    assert len(entries(kept)) == 1


def test_lines_of_text_have_the_length_of_training(tmp_path: Path, discdiff: Discdiff) -> None:
    path, kept = tmp_path / "names.txt", tmp_path / "cache"
    path.write_text("anna\nbo\n" * 20)
    choice = ["--domain", "text", "--domain-option", "lines=true", "--domain-option", "tokenizer=characters"]
    assert run(path, *choice, "--cache", kept, "--quiet") == 0
    ran = discdiff(
        "train", path, "--domain", "text", "--domain.lines", "true", "--domain.tokenizer", "characters",
        "--data.cache", kept, "--training.max_steps", "1", "--network.dim", "16", "--output", tmp_path / "run",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert len(entries(kept)) == 1


@pytest.mark.parametrize(
    "words", [["--format", "lines"], ["--length", "4"], ["--domain", "dna"], ["--on-long", "crop"]]
)
def test_a_configuration_says_how_files_are_read(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(ConfigError, match=f"{words[0]}: with --config, the configuration says it"):
        run("--config", tmp_path / "c.yaml", *words)
