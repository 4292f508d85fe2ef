"""docs/generation.md: its commands and its Python run as they stand, with fewer samples."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import discdiff as dd
from discdiff.cli import main
from discdiff.data import LengthModel
from discdiff.pipeline import Pipeline, read_parts
from tests.generation.conftest import trained

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "generation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
COMMANDS = [line.split("#")[0].strip() for line in PAGE.splitlines() if re.match(r"discdiff (sample|infill) ", line)]


def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    smiles = dd.domain("smiles")
    Pipeline(trained(smiles), smiles, LengthModel.of([20, 24, 30]), 30).save("runs/zinc")
    commands = [command.replace("-n 1000000", "-n 6") for command in COMMANDS]
    assert len(commands) == 3
    for command in commands:
        if "--devices" not in command:  # one more process takes seconds to start; another test has it
            assert main([*shlex.split(command)[1:], "--device", "cpu"]) == 0, command
    assert [row["index"] for row in read_parts("million")] == list(range(6))
    assert all(row["sequence"].startswith("c1ccccc1") for row in read_parts("acids"))
    names: dict[str, Any] = {"dd": dd}
    for block in BLOCKS:
        small = block.replace("1_000_000", "6").replace('"million"', '"python"').replace('"acids"', '"python-acids"')
        exec(compile(small.replace("devices=2", "devices=1"), "a page's block", "exec"), names)
    assert list(names["table"]["index"]) == list(range(6))
    capsys.readouterr()
