"""What is wrong with a benchmark's arguments is said by argparse, before anything is measured."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

OWN = "--depth 2 --length 16 --batch 2 --vocab 9"
MISTAKES = {
    f"roofline {OWN} --dim 128 --heads 3": "--heads 3: expected a number whose double divides --dim 128",
    f"roofline {OWN} --dim 0 --heads 2": "--dim: got '0', expected a positive integer",
    "roofline S1 --device H200 --checkpoint 2": "--checkpoint: got '2', expected a number from 0 to 1",
    "roofline S1 --device H200 --masked half": "--masked: got 'half', expected a number from 0 to 1",
    "roofline S1 --device H200 --steps 0": "--steps: got '0', expected a positive integer",
    "sample --turns 0": "--turns: got '0'",
    "sample --draws 0": "--draws: got '0'",
    "sample --steps 0": "--steps: got '0'",
    "sample --textbook-steps 0": "--textbook-steps: got '0'",
    "sample --steps 4 --textbook-steps 5": "--textbook-steps 5: expected no more than --steps 4",
    "latency /nosuch": "/nosuch: no run folder",
    "latency RUN --turns 0": "--turns: got '0'",
    "loader --data nosuch.csv": "nosuch.csv: no such file",
    "loader --config S2 --data FILE": "molecules are for --config S3, not S2",
    "loader --turns 0": "--turns: got '0'",
    "train --data nosuch.csv": "nosuch.csv: no such file",
    "train --config S1 --data FILE": "molecules are for --config S3, not S1",
    "train --steps 0": "--steps: got '0'",
    "blocks --lengths 64 512": "--lengths 64: expected 256 or more, the shortest prefix that is timed",
    "blocks --dim 32 --heads 3": "--heads 3: expected a number whose double divides --dim 32",
    "blocks --turns 0": "--turns: got '0'",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_mistakes(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / "file.csv").touch()
    places = {"RUN": str(tmp_path), "FILE": str(tmp_path / "file.csv")}
    words = [places.get(word, word) for word in command.split()]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"benchmarks.{words[0]}").main()
    assert stopped.value.code == 2
    assert MISTAKES[command] in capsys.readouterr().err
