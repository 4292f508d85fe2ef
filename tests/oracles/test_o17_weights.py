"""O17: weights where runs can die, where acceptance is rare, where guidance is nested; sweeps over clean sequences."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import discdiff as dd
from discdiff.constraints import Automaton, Checked, Constraint, Truncated, Unconstrained
from discdiff.guidance import Labels, Temperature
from discdiff.languages import Language, avoids, count
from discdiff.model import Diffusion
from discdiff.networks.exact import Exact
from discdiff.samplers import Ancestral, FirstHitting, Ordered, PredictorCorrector, RungeKutta2
from discdiff.sequences import Sequences
from tests.oracles.test_o17_particles import chi_square
from tests.oracles.test_o18_guidance import MIXED, SECOND, drawn, normalized, two_classes


def exact(joint: np.ndarray) -> Diffusion:
    size = joint.shape[0]
    network = Exact(torch.from_numpy(joint), size + 1)
    return Diffusion(network, dd.Absorbing(size), dd.LogLinear(), dd.Conditional())


@pytest.mark.parametrize("sampler", [FirstHitting(), Ordered()])
def test_runs_that_die_weigh_nothing(sampler: dd.samplers.Sampler) -> None:
    """AAA, BBB or CCC; ABB, ACC, BBB, CCC are accepted: a run that has shown A first cannot go on."""
    joint = np.zeros((3, 3, 3))
    for token in range(3):
        joint[token, token, token] = 1 / 3
    wanted = [(0, 1, 1), (0, 2, 2), (1, 1, 1), (2, 2, 2)]
    table: dict[tuple[int, ...], int] = {}
    language = Language.explore(
        (), lambda seen, token: (*seen, token) if any(w[: len(seen) + 1] == (*seen, token) for w in wanted) else None,
        lambda seen: len(seen) == 3, [0, 1, 2], what="four words",
    )  # fmt: skip
    out = dd.sample(
        exact(joint), 2000, length=3, sampler=sampler, constraint=Automaton(language), particles=32,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert out.log_weights is not None
    assert bool(torch.isfinite(out.log_weights).all())
    for row in out.tokens.tolist():
        table[tuple(row)] = table.get(tuple(row), 0) + 1
    assert set(table) == {(1, 1, 1), (2, 2, 2)}
    assert abs(table[1, 1, 1] - 1000) < 90  # 4 standard deviations
    assert float(out.log_weights.exp().mean()) == pytest.approx(2 / 3, abs=0.02)


def test_what_lies_ahead_counts_when_particles_are_chosen() -> None:
    """At least six of eight are ones, which are rare: the estimate of the probability stays steady."""
    joint = np.ones((2,) * 8)
    for s in itertools.product(range(2), repeat=8):
        joint[s] = np.prod([0.35 if x else 0.65 for x in s])
        joint[s] *= np.prod([1.3 if a == b else 0.7 for a, b in itertools.pairwise(s)])
    joint /= joint.sum()
    accepted = sum(joint[s] for s in itertools.product(range(2), repeat=8) if sum(s) >= 6)
    out = dd.sample(
        exact(joint), 2000, length=8, sampler=FirstHitting(), constraint=Automaton(count([1], 6, None, 2)), particles=4,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    assert out.log_weights is not None
    assert out.effective is not None
    weights = out.log_weights.exp() / accepted
    assert float(weights.mean()) == pytest.approx(1, abs=0.02)
    assert float(weights.std()) < 0.3
    assert float(out.effective.mean()) > 2.5


def test_guidance_within_guidance() -> None:
    """Both are meant of the whole sequence: (p(x | y)² / p(x))^(1/τ), whatever the order of revealing."""
    target = normalized((SECOND**2.0 / MIXED) ** 2.0)
    few = 5_000
    model = Temperature(Labels(two_classes(), 2.0), 0.5)
    labels = torch.ones(few, dtype=torch.int64)
    assert chi_square(drawn(model, count=few, labels=labels, particles=48), target) < 3.7


EVEN = Language.of([[0, 1], [1, 0]], [True, False], [0, 1]) & avoids([[{1}] * 4], 2)


@pytest.mark.parametrize("checked", [False, True], ids=["automaton", "checked"])
def test_sweeps_over_clean_sequences_keep_what_is_asked(checked: bool) -> None:
    """Off the absorbing process, from a last noise that is no trifle: each token fits the others as they stand."""
    joint = np.random.default_rng(0).dirichlet(np.ones(16)).reshape((2,) * 4)
    model = Diffusion(Exact(torch.from_numpy(joint), 2), dd.Uniform(2), dd.LogLinear(t_min=0.1), dd.LeaveOneOut())

    def accepted(sequences: Sequences) -> torch.Tensor:
        return torch.tensor([EVEN.accepts(row) for row in sequences.lists()])

    out = dd.sample(
        model, 4000, length=4, steps=8, sampler=PredictorCorrector(Ancestral(), sweeps=0, final_sweeps=3),
        constraint=Checked(accepted) if checked else Automaton(EVEN), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert all(EVEN.accepts(row) for row in out.tokens.tolist())
    assert len({tuple(row) for row in out.tokens.tolist()}) == 7  # of eight even ones, all but 1111


def test_states_that_are_left_for_good_weigh_as_they_should() -> None:
    """A chain in which 0 leads to 1 and 2, 1 to 2 and 3, and only 2 and 3 to one another: x_t rules out some x0."""
    rates = np.zeros((4, 4))
    for source, target in ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (3, 2)):
        rates[target, source] += 1.0
        rates[source, source] -= 1.0
    joint = np.random.default_rng(2).dirichlet(np.ones(16)).reshape(4, 4)
    process = dd.RateMatrix(4, rates.tolist())
    model = Diffusion(Exact(torch.from_numpy(joint), 4), process, dd.LogLinear(), dd.Denoiser())
    out = dd.sample(
        model, 4000, length=2, steps=24, particles=4, constraint=Automaton(count([1], 1, None, 4)),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert out.log_weights is not None
    accepted = joint[1].sum() + joint[[0, 2, 3], 1].sum()
    assert float(out.log_weights.exp().mean()) == pytest.approx(accepted, rel=0.06)  # first order in the step
    assert bool((out.tokens == 1).any(1).all())


def test_second_leaps_under_truncation_draw_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """theta-RK2 on the absorbing process: every x0 drawn under top-k is a token, not the mask that a failure leaves."""
    drawn: list[torch.Tensor] = []
    for kind in (Unconstrained, Truncated):
        plain = kind.draw

        def noted(self: Constraint, *args: Any, plain: Any = plain, **kwargs: Any) -> torch.Tensor:
            drawn.append(plain(self, *args, **kwargs))
            return drawn[-1]

        monkeypatch.setattr(kind, "draw", noted)
    joint = np.random.default_rng(3).dirichlet(np.ones(27)).reshape(3, 3, 3)
    dd.sample(
        exact(joint),
        2000,
        length=3,
        steps=9,
        sampler=RungeKutta2(),
        top_k=1,
        generator=torch.Generator().manual_seed(0),
    )
    assert sum(map(len, drawn)) > 4000
    assert max(int(tokens.max()) for tokens in drawn if len(tokens)) < 3
