"""`benchmarks/blocks.py` runs, checks itself, and says what is measured and what is summed."""

from __future__ import annotations

import json

import pytest

from benchmarks.blocks import main


def test_it_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    small = "--dim 16 --depth 1 --heads 2 --vocab 11 --turns 1 --steps 2 --lengths 256 512 --whole 256"
    monkeypatch.setattr("sys.argv", ["blocks", *small.split()])
    main()
    short, long = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert short["same_tokens"] is True
    assert (short["calls"], long["calls"]) == (8, 16)
    assert long["same_tokens"] is None
    assert long["seconds_without"] is None
    assert long["seconds_without_from_calls"]["median"] > short["seconds_without_from_calls"]["median"] > 0
    assert set(long["call"]) == {"256", "512"}
    assert max(each["largest_difference"] for each in long["call"].values()) < 1e-5
