"""Every shipped configuration trains, at a tiny size, on files of the same shape as its own."""

from __future__ import annotations

import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import discdiff as dd
from discdiff.cli import main
from discdiff.experiment import Experiment

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.yaml"))
TINY = [
    "--network.dim", "16", "--network.depth", "1", "--network.heads", "2", "--training.max_steps", "2",
    "--training.batch_size", "4", "--training.device", "cpu", "--training.validate_sequences", "8",
    "--training.samples", "0", "--training.loggers", "[csv]", "--sampling.steps", "4", "--quiet",
]  # fmt: skip
SHIPPED = {
    "dna", "ecoli_promoters", "human_core_promoters", "qm9", "text8", "tinyshakespeare", "uniprot", "wikitext2",
    "zinc250k",
}  # fmt: skip
MOLECULES = ["CCO", "c1ccccc1", "CC(=O)O", "C[C@H](N)C(=O)O", "CCN(CC)CC", "O=C(Cl)Br", "C1CC1", "[NH4+]"]


def _letters(alphabet: str, length: int, count: int) -> list[str]:
    draw = random.Random(length)
    return ["".join(draw.choices(alphabet, k=length)) for _ in range(count)]


def _fasta(sequences: list[str]) -> str:
    return "".join(f">s{i} len={len(s)}\n{s}\n" for i, s in enumerate(sequences))


def _table(header: str, rows: list[str], separator: str = "\t") -> str:
    return "\n".join([header.replace(" ", separator), *rows]) + "\n"


def _molecules() -> str:
    rows = [f"{i},{MOLECULES[i % 8]},0.1,0.5,2.0,3,1,{('train', 'valid', 'test')[i % 3]}" for i in range(48)]
    return _table("idx smiles logp qed sas n_heavy n_rings split", rows, ",")


# what the file of a configuration looks like
FILES: dict[str, Callable[[], str]] = {
    "dna": lambda: _fasta(_letters("ACGT", 20, 40)),
    "ecoli_promoters": lambda: _table(
        "id sequence expression", [f"{i}\t{s}\t1" for i, s in enumerate(_letters("ACGT", 50, 20))]
    ),
    "human_core_promoters": lambda: _table(
        "sequence is_promoter is_tata", [f"{s}\t{i % 2}\t0" for i, s in enumerate(_letters("ACGT", 70, 20))]
    ),
    "qm9": _molecules,
    "zinc250k": _molecules,
    "uniprot": lambda: _fasta([*_letters("ACDEFGHIKLMNPQRSTVWY", 30, 12), *_letters("ACDEFGHIKLMNPQRSTVWY", 300, 3)]),
    "text8": lambda: " ".join(_letters("abcde", 7, 200)),
    "tinyshakespeare": lambda: "ROMEO:\nTo be, or not to be!\n\n" * 100,
    "wikitext2": lambda: " ".join(_letters("abcdefgh", 5, 2000)),
}


def test_all_are_here() -> None:
    assert {path.stem for path in CONFIGS} == SHIPPED == set(FILES)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_trains(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Experiment.load(config).data
    for name in {data.train, data.valid, data.test} - {None}:
        path = tmp_path / "data" / str(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".xz":
            path.write_bytes(lzma.compress(FILES[config.stem]().encode()))
        else:
            path.write_text(FILES[config.stem]())
    small = ["--domain.vocab_size", "300"] if config.stem == "wikitext2" else []
    run = tmp_path / "run"
    code = main(
        ["train", "--config", str(config), "--data-root", str(tmp_path / "data"), "--output", str(run), *TINY, *small]
    )
    assert code == 0, capsys.readouterr().err
    pipe = dd.Pipeline.load(run, device="cpu")
    samples = pipe.sample(2)
    assert len(samples) == 2
    assert pipe.label_names == (["0", "1"] if config.stem == "human_core_promoters" else None)
    assert data.length in (None, pipe.max_length)


@pytest.mark.parametrize("config", [path for path in CONFIGS if path.stem != "dna"], ids=lambda path: path.stem)
def test_paths_exist(config: Path, shared_dir: Path) -> None:
    data = Experiment.load(config, values={"data": {"root": str(shared_dir / "data")}}).data
    for split in ("train", "valid", "test"):
        path = data.path(split)
        assert path is None or path.is_file(), path


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_says_what_it_is(config: Path) -> None:
    text = config.read_text()
    assert text.startswith("# ")
    assert f"--config configs/{config.name}" in text
    assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_sizes_for_a_gpu_fit(config: Path) -> None:
    hints = [line[1:].split() for line in config.read_text().splitlines() if line.startswith("#   --")]
    for overrides in hints:
        Experiment.load(config, overrides=overrides).build(30)
    assert hints or config.stem in {"dna", "ecoli_promoters", "human_core_promoters"}
