"""What the README shows runs as it is printed: its blocks of Python and its commands.

Only the costly parts are made small: the network's size and the number of training steps.
"""

from __future__ import annotations

import random
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import discdiff as dd
from discdiff.cli import main
from tests.cli.conftest import SMALL
from tests.test_docs import PAGES, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = {
    str(page.relative_to(ROOT)): re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    for page in PAGES
}
COMMANDS = [line.split("#")[0].strip() for line in README.splitlines() if re.match(r"discdiff \w", line)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader stands, with sequences as long as what the README asks for."""
    path, draw = tmp_path_factory.mktemp("reader"), random.Random(0)
    for name, count in (("promoters.fasta", 40), ("held_out.fasta", 8)):
        bases = ["".join(draw.choices("ACGT", k=draw.choice((60, 80)))) for _ in range(count)]
        (path / name).write_text("".join(f">{i}\n{sequence}\n" for i, sequence in enumerate(bases)))
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Stand in the folder, with a small network and a short training whatever sizes are asked for."""
    network, fit = dd.Transformer, dd.fit

    def transformer(num_states: int, *, dim: int, depth: int, heads: int) -> dd.Transformer:
        assert dim % heads == 0
        assert depth >= 1
        return network(num_states, dim=32, depth=1, heads=2)

    def short(*given: Any, max_steps: int, **options: Any) -> Any:
        assert max_steps >= 1
        return fit(*given, max_steps=3, device="cpu", **options)

    monkeypatch.setattr(dd, "Transformer", transformer)
    monkeypatch.setattr(dd, "fit", short)
    monkeypatch.chdir(folder)


def run(block: str, names: dict[str, Any]) -> None:
    exec(compile(block, "a page's block", "exec"), names)


@pytest.mark.usefixtures("small")
def test_readme(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = SHOWN["README.md"]
    names: dict[str, Any] = {}
    run(first, names)
    assert names["fresh"].tokens.shape == (16, 80)
    assert all(re.fullmatch("[ACGT]{20}TATA[AT]A[AT][ACGT]{30}ATG", filled) for filled in names["strings"])
    assert len(names["strings"]) == 16
    bound = names["bound"]
    for part in (bound.total, bound.diffusion, bound.prior, bound.reconstruction):
        assert part.shape == (16,)
        assert part.isfinite().all()
    assert 0 < bound.standard_error < 1

    assert [command.split()[1] for command in COMMANDS] == [
        *("train", "sample", "infill", "score", "evaluate", "evaluate"),
        *("profile", "sample", "show", "export", "domains"),
    ]
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        assert main([*words, *SMALL] if words[0] == "train" else words) == 0, command
    assert (folder / "samples.fasta").read_text().count(">") == 100
    capsys.readouterr()

    run(second, names)
    infills = names["pipe"].infill("N{20}TATAWAW N{30} ATG", 2)
    assert all(len(filled) == 60 and "TATA" in filled for filled in infills)


@pytest.mark.usefixtures("small")
def test_text_constraints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's block, on a run of byte-level tokens."""
    (block,) = SHOWN["docs/text-constraints.md"]
    words = ["the", "navy", "a", "private", "company", "launched", "on", "by", "year", "{", "}", ":", "1900", "\n"]
    text = " ".join(random.Random(0).choices(words, k=3000))
    (folder / "corpus.txt").write_text(text)
    train = ["train", "corpus.txt", "--domain", "text", "--output", "runs/wikitext2", *SMALL, "--data.length", "48"]
    assert main(train) == 0
    run(block, {})
    capsys.readouterr()


@pytest.mark.usefixtures("small")
def test_splits() -> None:
    """The page's block: every promoter in one part, and the parts told."""
    (block,) = SHOWN["docs/splits.md"]
    names: dict[str, Any] = {}
    run(block, names)
    parts = names["parts"]
    assert len(parts.train) + len(parts.valid) + len(parts.test) == 40
    assert "split by Hash" in parts.notes[0]


@pytest.mark.usefixtures("small")
def test_constraints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's block, on a run with labels."""
    (block,) = SHOWN["docs/constraints.md"]
    draw = random.Random(0)
    rows = ["".join(draw.choices("ACGT", k=20)) + f"\t{i % 2}" for i in range(60)]
    (folder / "core.tsv").write_text("\n".join(["sequence\tlabel", *rows]) + "\n")
    options = ["--domain", "dna", "--output", "runs/core", "--data.label_column", "label", *SMALL]
    assert main(["train", "core.tsv", *options]) == 0
    names: dict[str, Any] = {}
    run(block, names)
    assert len(names["guided"]) == 16
    capsys.readouterr()


def test_no_other_page_has_blocks() -> None:
    """One that gets some has them run here too."""
    assert [page for page, blocks in SHOWN.items() if blocks] == [
        "README.md",
        "docs/constraints.md",
        "docs/generation.md",  # in tests/generation/test_page.py
        "docs/splits.md",
        "docs/text-constraints.md",
    ]


@pytest.mark.usefixtures("small")
def test_a_wrong_block_is_seen() -> None:
    with pytest.raises(AttributeError):
        run(SHOWN["README.md"][0].replace("samplers.Ancestral", "samplers.Tweedie"), {})
    with pytest.raises(TypeError):
        run(SHOWN["README.md"][0].replace("max_steps=10_000", "max_steps=10_000, epochs=3"), {})
