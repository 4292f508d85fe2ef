"""O17, the long form: 100,000 samples of every sampler on every process, and not one that breaks its constraint.

What is accepted is judged by Python's `re`. No violation in 100,000 bounds their share below 1e-4 with probability
1 − 5e-5. Run with `pytest -m slow`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch

from discdiff.constraints import Allowed, Automaton, Checked, Clamp, Constraint
from discdiff.languages import avoids, contains
from discdiff.sampling import sample
from discdiff.sequences import Sequences
from tests.cases import PROCESSES, SAMPLERS, build, runs
from tests.toy_networks import ByLength, Tabulated, Wrong
from tests.toys import dense

ROWS, PARTS = 25_000, 4
TOYS = {length: dense(3, length, seed=length) for length in (1, 2, 3)}
LANGUAGE = contains([[{2}]], 3) & avoids([[{1}, {1}]], 3)


def accepted(text: str) -> bool:
    return re.search("2", text) is not None and re.search("11", text) is None


def even(sequences: Sequences) -> torch.Tensor:
    inside = torch.arange(sequences.tokens.shape[1]) < sequences.lengths[:, None]
    return (sequences.tokens * inside).sum(1) % 2 == 0


SETS = Allowed(torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1]]).bool())
KINDS: dict[str, tuple[Constraint, Callable[[str], bool], bool]] = {
    "automaton": (Automaton(LANGUAGE), accepted, True),
    "token given": (
        Automaton(LANGUAGE, Clamp(torch.tensor([0, 1, 0]), torch.tensor([False, True, False]))),
        lambda text: accepted(text) and text[1] == "1",
        False,
    ),
    "sets": (SETS, lambda text: re.fullmatch("[01][12][02]", text) is not None, False),
    "checked": (
        Checked(even, Automaton(LANGUAGE), tries=4),
        lambda text: accepted(text) and sum(map(int, text)) % 2 == 0,
        True,
    ),
}
PAIRS = [(process, name) for process in PROCESSES for name, case in SAMPLERS.items() if runs(case, process, "denoiser")]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("process", "name"), PAIRS)
def test_no_violation(process: str, name: str, kind: str) -> None:
    constraint, judge, mixed = KINDS[kind]
    model = build(
        process,
        "denoiser",
        toy=TOYS[3],
        network=lambda toy, states: ByLength({n: Tabulated(Wrong(t, states), n) for n, t in TOYS.items()}),
    )
    seen: dict[str, int] = {}
    for part in range(PARTS if kind != "checked" else 1):
        sampler = SAMPLERS[name].make()
        lengths = torch.arange(ROWS) % 3 + 1
        out = sample(
            model,
            ROWS,
            lengths=lengths if mixed else None,
            sampler=sampler,
            steps=4 if sampler.takes_steps else None,
            constraint=constraint,
            generator=torch.Generator().manual_seed(part),
        )
        for row in out.lists():
            text = "".join(map(str, row))
            seen[text] = seen.get(text, 0) + 1
    assert sum(seen.values()) == ROWS * (PARTS if kind != "checked" else 1)
    assert {text: count for text, count in seen.items() if not judge(text)} == {}
    assert len(seen) >= (3 if SAMPLERS[name].random else 1)
