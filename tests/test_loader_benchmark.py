"""`benchmarks/loader.py` runs, on rows of one length and on molecules."""

from __future__ import annotations

import json

import pytest

from benchmarks import loader
from benchmarks.shapes import Shape

SMALL = {
    "S3": Shape("S3", dim=16, depth=1, heads=2, length=72, batch=512, vocab=11, mean_length=38.3),
    "S2": Shape("S2", dim=16, depth=1, heads=2, length=16, batch=8, vocab=11),
}


@pytest.mark.parametrize(("config", "sequences"), [("S3", 20_000), ("S2", 50)])
def test_it_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, config: str, sequences: int
) -> None:
    monkeypatch.setattr(loader, "SHAPES", SMALL)
    command = f"loader --config {config} --turns 3 --steps 1 --sequences 50 --threads 1 --device cpu"
    monkeypatch.setattr("sys.argv", command.split())
    loader.main()
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    assert record["sequences"] == sequences
    assert record["batches_an_epoch"] == -(-sequences // SMALL[config].batch)
    loaded, learned, ratio = (record[name] for name in ("loader_tokens_per_second", "step_tokens_per_second", "ratio"))
    assert loaded["least"] / learned["greatest"] <= ratio["median"] <= loaded["greatest"] / learned["least"]
    assert record["enough"] == (ratio["median"] >= 5)
    assert record["threads"] == 1
