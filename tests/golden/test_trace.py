"""Training's losses are those that were written down, on every machine."""

from __future__ import annotations

import json

import pytest

from tests.golden.trace import CASES, FOLDER, STEPS, trace


def kept(name: str) -> list[float]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["losses"]


@pytest.mark.parametrize("name", CASES)
def test_losses(name: str) -> None:
    """See `tests/golden/trace.py` for what to do after a change that is meant to move them."""
    assert trace(CASES[name]) == pytest.approx(kept(name), rel=CASES[name].tolerance, abs=0)


def test_a_small_change_shows() -> None:
    """A millionth of the learning rate does, from the second step on; and all traces are of all steps."""
    changed, expected = trace(CASES["any_order"], learning_rate=1.000001e-3), kept("any_order")
    assert changed[0] == pytest.approx(expected[0], rel=1e-12, abs=0)
    assert changed[5:] != pytest.approx(expected[5:], rel=CASES["any_order"].tolerance, abs=0)
    assert {len(kept(name)) for name in CASES} == {STEPS}
