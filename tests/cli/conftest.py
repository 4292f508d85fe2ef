"""Small runs that the commands are tried on, and a way to run a command."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from discdiff.cli import main

# a model that trains in a second
SMALL = [
    "--network.dim=16", "--network.depth=1", "--network.heads=2", "--training.max_steps=3", "--training.batch_size=8",
    "--training.samples=0", "--training.device=cpu", "--training.loggers=[csv]", "--sampling.steps=4",
]  # fmt: skip


@dataclass
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


Discdiff = Callable[..., Ran]


@pytest.fixture
def discdiff(capsys: pytest.CaptureFixture[str]) -> Discdiff:
    """Run a command in this process."""

    def run(*words: str | Path) -> Ran:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@dataclass
class Workshop:
    """Files and runs, made once."""

    folder: Path
    dna: Path  # a run folder
    fasta: Path
    table: Path
    labelled: Path  # a run folder


def write_fasta(path: Path, count: int, seed: int = 0) -> Path:
    """Random promoters with a TATA box."""
    draw = random.Random(seed)
    bases = ["".join(draw.choices("ACGT", k=draw.choice((6, 8)))) + "TATAAT" for _ in range(count)]
    path.write_text("".join(f">p{i}\n{sequence}\n" for i, sequence in enumerate(bases)))
    return path


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Two DNA runs, one of them with labels, and the files that they were trained on."""
    folder = tmp_path_factory.mktemp("workshop")
    fasta = write_fasta(folder / "promoters.fasta", 40)
    table = folder / "promoters.tsv"
    rows = [f"{'ACGT' * 2}{'ACGT'[i % 4]}\t{('no', 'yes')[i % 2]}\t{('train', 'test')[i > 25]}" for i in range(30)]
    table.write_text("\n".join(["sequence\tis_promoter\tsplit", *rows]) + "\n")
    work = Workshop(folder, folder / "runs" / "dna", fasta, table, folder / "runs" / "labelled")
    common = ["--domain", "dna", "--quiet", *SMALL]
    assert main(["train", str(fasta), "--output", str(work.dna), *common]) == 0
    labels = ["--data.label_column", "is_promoter", "--data.where.split", "train"]
    assert main(["train", str(table), "--output", str(work.labelled), *common, *labels]) == 0
    return work
