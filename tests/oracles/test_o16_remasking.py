"""O16: remasking converges to p0, and its one-time marginals are those of the forward process."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from discdiff.constraints import Unconstrained
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.samplers import Ancestral, Remasking, State, noise_levels
from discdiff.samplers.remasking import spread
from discdiff.sampling import sample
from tests.cases import build
from tests.laws import clean_part, prior_law, slope, step_matrix
from tests.remasked import laws as laws_by_confidence
from tests.remasked import remasking_shares
from tests.toy_networks import Tabulated, Wrong
from tests.toys import (
    DENSE,
    P_VALUE,
    TOYS,
    Z_LIMIT,
    Array,
    Toy,
    caught_error,
    chi_square,
    counts_of,
    dense,
    every_sequence,
    total_variation,
    z_score,
)

BLIND = [Remasking("cap", 0.2), Remasking("rescale", 0.3), Remasking("rescale", 1.0), Remasking("cap", 0.3, loop=0.4)]
"""Plans by which nothing but time says how often a token is masked again."""
CONFIDENT = [Remasking("confidence", eta) for eta in (0.3, 0.8, 1.0)]
"""At η = 0.3 nothing is cut, at 0.8 some rates are at r_max, at 1 all are."""
PLANS = [*BLIND, *CONFIDENT]
DRAWS = 200_000
NAMES = ["cap", "rescale", "most", "loop", "confidence", "confidence, cut", "confidence, most"]
BITS = dense(2, 3)


def laws(sampler: Remasking, model: Model, steps: int, length: int, start: Array) -> list[Array]:
    """The law of the tokens after each step, `[S^L]`."""
    levels = sampler.levels(model.schedule, steps)
    if sampler.rule == "confidence":
        return list(laws_by_confidence(model, levels, sampler.eta, length, start))
    matrices = (step_matrix(model, sampler, level, length) for level in levels)
    return list(itertools.accumulate(matrices, np.matmul, initial=start))[1:]


def noise(model: Model, toy: Toy) -> Array:
    """p_1, `[S^L]`."""
    alpha, size = np.exp(-model.schedule.ends()[1]), toy.vocab_size
    return toy.noised(np.vstack([alpha * np.eye(size), np.full((1, size), 1 - alpha)]))


def masks(law: Array, size: int, length: int) -> Array:
    """The law of which positions are masked, `[2^L]`."""
    pattern = (every_sequence(size, length) == size - 1) @ (2 ** np.arange(length))
    return np.bincount(pattern, weights=law, minlength=2**length).astype(np.float64)


def marginal_errors(sampler: Remasking, toy: Toy = BITS) -> tuple[float, float]:
    """How far masks are from independent ones of probability 1 − α at any step: their law, and their expected number.

    The largest differences, of a probability and of a fraction.
    """
    model, length = build("absorbing", "conditional", toy=toy), toy.length
    worst, fraction, hidden = 0.0, 0.0, every_sequence(2, length)[:, ::-1].sum(-1)
    levels = sampler.levels(model.schedule, 8)
    for level, law in zip(levels, laws(sampler, model, 8, length, noise(model, toy)), strict=True):
        lost, found = -np.expm1(-level.sigma_next), masks(law, toy.vocab_size + 1, length)
        want = lost**hidden * (1 - lost) ** (length - hidden)
        worst = max(worst, float(np.abs(found - want).max()))
        fraction = max(fraction, abs(float(found @ hidden) / length - float(lost)))
    return worst, fraction


@pytest.mark.parametrize("sampler", BLIND, ids=NAMES[: len(BLIND)])
def test_marginals_in_time(sampler: Remasking) -> None:
    """1e-12 at every step, by enumeration: masks are independent, each with probability 1 − α(s)."""
    assert marginal_errors(sampler, DENSE)[0] < 1e-12


@pytest.mark.parametrize("sampler", CONFIDENT, ids=NAMES[len(BLIND) :])
def test_fractions_in_time_by_confidence(sampler: Remasking) -> None:
    """1e-12 at every step; of one position the whole law, of three that of masks to 0.01: they are not independent."""
    assert marginal_errors(sampler, dense(3, 1))[0] < 1e-12
    off, fraction = marginal_errors(sampler)
    assert fraction < 1e-12
    assert off < (1e-12 if sampler.eta == 1 else 0.01)
    assert off > 1e-4 or sampler.eta == 1


def errors(sampler: Remasking, steps: list[int]) -> list[float]:
    model, toy = build("absorbing", "conditional", toy=TOYS["dense3x2"]), TOYS["dense3x2"]
    ends = [laws(sampler, model, n, 2, prior_law(model, 2))[-1] for n in steps]
    return [total_variation(clean_part(law, toy, 4), toy.probabilities) for law in ends]


@pytest.mark.parametrize("sampler", [Remasking("cap", 1.0), Remasking("rescale", 1.0)], ids=["cap", "rescale"])
def test_converges_slowly(sampler: Remasking) -> None:
    """At most remasking TV falls, with slope 0.2 to 0.65, and slower than ancestral steps do."""
    steps = [16, 32, 64, 128]
    tv = errors(sampler, steps)
    assert all(later < earlier for earlier, later in itertools.pairwise(tv))
    assert 0.2 < slope(steps, tv) < 0.65
    assert tv[-1] > errors(Remasking("cap", 0.0), [128])[0]


@pytest.mark.parametrize("eta", [0.3, 0.9])
def test_by_confidence_it_does_not_converge(eta: float) -> None:
    """Tokens that were unlikely when drawn go more often: TV stays above 0.02 from 32 to 512 steps."""
    tv = errors(Remasking("confidence", eta), [32, 128, 512])
    assert min(tv) > 0.02
    assert tv[-1] > 0.8 * tv[0]
    assert errors(Remasking("rescale", eta), [512])[0] < 0.005


@pytest.mark.parametrize("sampler", PLANS, ids=NAMES)
def test_sample_follows_the_enumerated_law(sampler: Remasking) -> None:
    """200,000 draws of a wrong network, the tokens after three steps of five and the last; chi-square catches 1%."""
    toy = BITS if sampler.rule == "confidence" else DENSE
    model = build(
        "absorbing", "conditional", toy=toy, network=lambda toy, states: Tabulated(Wrong(toy, states), toy.length)
    )
    expected = laws(sampler, model, 5, 3, prior_law(model, 3))
    size, seen = model.process.num_states, {}
    assert clean_part(expected[-1], toy, size).sum() == pytest.approx(1, abs=1e-12)
    assert caught_error(DRAWS, size**3) < 0.012

    def keep(step: int, total: int, state: State) -> None:
        seen[step] = state.tokens

    sample(model, DRAWS, length=3, sampler=sampler, steps=5, generator=torch.Generator().manual_seed(3), on_step=keep)
    for step in (3, 5):
        assert (
            chi_square(counts_of(seen[step], size), np.where(expected[step - 1] > 1e-15, expected[step - 1], 0))
            > P_VALUE
        )


def test_no_remasking_is_ancestral() -> None:
    """η = 0: the same step matrices as ancestral sampling's, 1e-12."""
    model = build("absorbing", "conditional")
    for level in noise_levels(model.schedule, 6):
        one, two = (step_matrix(model, sampler, level, 3) for sampler in (Remasking("cap", 0.0), Ancestral()))
        np.testing.assert_allclose(one, two, atol=1e-12)


def test_rates_by_confidence() -> None:
    """Against bisection for random confidences, rows of none to six tokens: 1e-9, and their mean to 1e-12."""
    draw = np.random.default_rng(1)
    for eta in (0.0, 0.2, 0.7, 0.95, 1.0):
        sure, shown = draw.random((20, 6)) * 5, draw.random((20, 6)) < np.linspace(0, 1, 20)[:, None]
        found = spread(torch.from_numpy(-sure), torch.from_numpy(shown), eta).numpy()
        assert (found[~shown] == 0).all()
        for row in range(20):
            if shown[row].any():
                here = found[row][shown[row]]
                np.testing.assert_allclose(here, remasking_shares(tuple(sure[row][shown[row]]), eta), atol=1e-9)
                assert here.mean() == pytest.approx(eta, abs=1e-12)


def test_no_kernel_by_confidence() -> None:
    model = build("absorbing", "conditional")
    with pytest.raises(IncompatibleError, match="a token's rate depends on its past"):
        step_matrix(model, Remasking("confidence", 0.5), noise_levels(model.schedule, 4)[1], 3)


def test_confidence_rule() -> None:
    """One step of 100,000 rows: tokens of confidence 0.9 and 0.2 are masked again as the softmax says, each to 1%."""
    model, sampler = build("absorbing", "conditional"), Remasking("confidence", 0.5)
    level, rows = noise_levels(model.schedule, 8)[4], 100_000
    tokens = torch.tensor([[0, 1, 3]]).repeat(rows, 1)
    free, zero = torch.zeros_like(tokens, dtype=torch.bool), torch.zeros(rows)
    sure = torch.tensor([[0.9, 0.2, 1.0]], dtype=torch.float64).repeat(rows, 1)
    generator = torch.Generator().manual_seed(5)
    state = State(tokens, free, free, None, zero.long(), zero, generator, {"confidence": sure})
    after = sampler.step(model, Unconstrained(), state, level)
    alpha, later = np.exp(-level.sigma), np.exp(-level.sigma_next)
    most = min(1.0, (1 - later) / alpha)
    again = most * np.array(remasking_shares((0.9, 0.2), 0.5))
    assert again.max() < most
    reveal = (later - (1 - again.mean()) * alpha) / (1 - alpha)
    for position, chance in ((0, again[0]), (1, again[1]), (2, 1 - reveal)):
        masked = (after.tokens[:, position] == 3).double().numpy()
        assert abs(z_score(masked, chance)) < Z_LIMIT
    shown = after.tokens[:, 2] < 3
    p = model.predict(tokens[:1], torch.ones(1, 1)).log_denoiser()[0, 2].exp()
    assert torch.equal(after.extras["confidence"][shown, 2], p[after.tokens[shown, 2]])
