"""O17: every draw of every sampler on every process follows ∏ p_i · 1[accepted], and what comes out is accepted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.constraints import Automaton, Constraint
from discdiff.errors import IncompatibleError
from discdiff.prediction import Positions, Prediction
from discdiff.randomness import Keys
from discdiff.samplers import FirstHitting, Ordered
from discdiff.sampling import sample
from tests.cases import NO_DENOISER, PROCESSES, SAMPLERS, automaton, build, runs
from tests.toy_networks import Tabulated, Wrong
from tests.toys import DENSE, Z_LIMIT, Array, every_sequence, total_variation

ROWS = 1_500
SEQUENCES = every_sequence(3, 3)
ACCEPTED = np.array([automaton(3, 3).language.accepts(row) for row in SEQUENCES.tolist()])


class Audited(Automaton):
    """An automaton whose draws are counted against the enumerated law of each row: Σ (1[x] − P(x)), and its variance.

    A sequence of martingale differences: steps and rows add up.
    """

    excess: Array
    variance: Array

    def bound(self, lengths: Tensor) -> Audited:
        made = super().bound(lengths)
        made.__class__ = Audited
        assert isinstance(made, Audited)
        made.excess, made.variance = self.excess, self.variance
        return made

    def draw(self, prediction: Prediction, where: Positions, u: Tensor, *, tilt: Tensor | None = None) -> Tensor:
        drawn = super().draw(prediction, where, u, tilt=tilt)
        if len(drawn):
            self._count(prediction, where, drawn, tilt)
        return drawn

    def _count(self, prediction: Prediction, where: Positions, drawn: Tensor, tilt: Tensor | None) -> None:
        p = prediction.log_denoiser().double().exp().numpy().copy()
        rows, positions = where[0].numpy(), where[1].numpy()
        if tilt is not None and tilt.shape[-1] > 1:
            factor = tilt.double() - tilt.double().amax(-1, keepdim=True)
            p[rows, positions] *= factor.exp().numpy()
        law = np.prod([p[:, i, SEQUENCES[:, i]] for i in range(3)], axis=0) * ACCEPTED
        total = law.sum(-1, keepdims=True)
        usable = total[:, 0] > 0
        assert usable.mean() > 0.9
        law = law / np.where(total > 0, total, 1)
        # only what was asked for is seen: sequences that agree there are one
        asked, token = np.zeros((len(p), 3), dtype=bool), np.zeros((len(p), 3), dtype=np.int64)
        asked[rows, positions], token[rows, positions] = True, drawn.numpy()
        for places in itertools.product([False, True], repeat=3):
            here = usable & (asked == places).all(-1)
            if not here.any() or not any(places):
                continue
            kept = SEQUENCES * np.array(places)
            index = kept @ np.array([9, 3, 1])
            joint = np.zeros((here.sum(), 27))
            np.add.at(joint.T, index, law[here].T)
            seen = np.eye(27)[(token[here] * np.array(places)) @ np.array([9, 3, 1])]
            assert (joint[seen > 0] > 0).all()
            self.excess += (seen - joint).sum(0)
            self.variance += (joint * (1 - joint)).sum(0)


CASES = [
    (process, name)
    for process in PROCESSES
    for name, case in SAMPLERS.items()
    if runs(case, process, "denoiser") and case.random
]


def audit(process: str, name: str) -> tuple[Array, Array, Array]:
    """Σ (1[x] − P(x)) of each outcome in a run with a wrong network, its variance, and what came out."""
    model = build(process, "denoiser", network=lambda toy, states: Tabulated(Wrong(toy, states), toy.length))
    made, plain = SAMPLERS[name].make(), automaton(3, 3)
    constraint = Audited(plain.parts)
    constraint.excess, constraint.variance = np.zeros(27), np.zeros(27)
    tokens = sample(
        model,
        ROWS,
        length=3,
        sampler=made,
        steps=4 if made.takes_steps else None,
        constraint=constraint,
        generator=torch.Generator().manual_seed(5),
    ).tokens
    return constraint.excess, constraint.variance, tokens.numpy()


@pytest.mark.parametrize(("process", "name"), CASES)
def test_draws_follow_the_law(process: str, name: str) -> None:
    """Each outcome's count within 4.9 standard errors of enumeration (27 of them, p > 1e-4 together or nearly)."""
    excess, variance, tokens = audit(process, name)
    assert ACCEPTED[tokens @ np.array([9, 3, 1])].all()
    busy = variance > 5
    assert busy.sum() >= 3
    assert (np.abs(excess[busy]) / np.sqrt(variance[busy])).max() < Z_LIMIT + 1
    assert np.abs(excess[~busy]).max(initial=0) < 25


def run_law(order: tuple[int, ...]) -> Array:
    """The law of one run at K = 1: each token from its constrained marginal given those before it, by enumeration."""
    p0 = DENSE.probabilities
    law = ACCEPTED.astype(float)
    for k, place in enumerate(order):
        known = order[:k]
        chance = np.zeros(27)
        for x in range(27):
            same = (SEQUENCES[:, list(known)] == SEQUENCES[x, list(known)]).all(-1)
            weights = p0 * same
            p = np.array([[weights[SEQUENCES[:, i] == t].sum() for t in range(3)] for i in range(3)]) / weights.sum()
            joint = np.prod([p[i, SEQUENCES[:, i]] for i in range(3)], axis=0) * ACCEPTED
            chance[x] = joint[SEQUENCES[:, place] == SEQUENCES[x, place]].sum() / max(joint.sum(), 1e-300)
        law = law * chance
    return law


@pytest.mark.parametrize("sampler", [FirstHitting(), Ordered()])
def test_bias_of_one_particle(sampler: FirstHitting | Ordered) -> None:
    """K = 1 is a proposal: its enumerated law is followed, and lies off p0(· | accepted)."""
    law = np.mean([run_law(order) for order in itertools.permutations(range(3))], axis=0)
    assert law.sum() == pytest.approx(1, abs=1e-12)
    target = np.where(ACCEPTED, DENSE.probabilities, 0)
    bias = total_variation(law, target / target.sum())
    assert 0.005 < bias < 0.2, bias
    draws = 100_000
    drawn = sample(
        build("absorbing", "conditional"), draws, length=3, sampler=sampler, constraint=automaton(3, 3),
        generator=torch.Generator().manual_seed(2),
    ).tokens.numpy()  # fmt: skip
    counts = np.bincount(drawn @ np.array([9, 3, 1]), minlength=27)
    assert counts[~ACCEPTED].sum() == 0
    z = (counts - draws * law)[ACCEPTED] / np.sqrt(draws * law * (1 - law))[ACCEPTED]
    assert np.abs(z).max() < Z_LIMIT


@pytest.mark.parametrize("name", SAMPLERS)
def test_rows_stand_alone(name: str) -> None:
    """O20: with keys a row under an automaton is the same in any batch, beside any lengths."""
    made = SAMPLERS[name].make()
    model = build("absorbing", "conditional", network=Wrong)
    lengths = torch.full((6,), 3)

    def run(rows: Tensor) -> Tensor:
        constraint: Constraint = automaton(3, 3)
        return sample(
            model, len(rows), lengths=lengths[rows], sampler=made, steps=3 if made.takes_steps else None,
            constraint=constraint, generator=Keys(1, rows),
        ).tokens  # fmt: skip

    whole = run(torch.arange(6))
    assert torch.equal(run(torch.arange(6).flip(0)), whole.flip(0))
    for i in range(6):
        assert torch.equal(run(torch.tensor([i])), whole[i : i + 1])


def test_scores_off_the_absorbing_process_are_refused() -> None:
    for process, said in NO_DENOISER:
        with pytest.raises(IncompatibleError, match="got a score network off the absorbing process, expected a model"):
            sample(build(process, said), 2, length=3, constraint=automaton(3, 3), generator=torch.Generator())
