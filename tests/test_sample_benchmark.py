"""What the benchmark of sampling prints can be put beside the floor."""

from __future__ import annotations

from benchmarks.sample import records


def test_a_line_for_each_loop() -> None:
    found = {
        "command": "python -m benchmarks.sample",
        "config": "S2",
        "steps": 64,
        "turns": 5,
        "hardware": {"threads": 1},
        "precision": "bfloat16",
        "dtype": "torch.float32",
        "compiled": True,
        "seconds_a_sample": {"median": 0.5},
        "textbook_seconds_a_sample": {"median": 2.0},
        "textbook_race": "float32",
    }
    ours, theirs = records(found)
    assert (ours["contender"], ours["dtype"], ours["seconds_per_sample"]) == ("discdiff", "bfloat16", {"median": 0.5})
    assert ours["compiled"] is True
    assert (theirs["contender"], theirs["dtype"], theirs["race"]) == ("textbook", "float32", "float32")
    assert theirs["seconds_per_sample"] == {"median": 2.0}
    assert "compiled" not in theirs
