"""O16: remasking converges to p0, and its one-time marginals are those of the forward process."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from discdiff.constraints import Unconstrained
from discdiff.samplers import Ancestral, Remasking, State, noise_levels
from discdiff.sampling import sample
from tests.cases import build
from tests.laws import clean_part, grid_law, slope, step_matrix
from tests.toy_networks import Tabulated, Wrong
from tests.toys import (
    DENSE,
    P_VALUE,
    TOYS,
    Z_LIMIT,
    Array,
    chi_square,
    counts_of,
    every_sequence,
    total_variation,
    z_score,
)

PLANS = [Remasking("cap", 0.2), Remasking("rescale", 0.3), Remasking("rescale", 1.0), Remasking("cap", 0.3, loop=0.4)]
NAMES = ["cap", "rescale", "most", "loop"]


def masks(law: Array, size: int, length: int) -> Array:
    """The law of which positions are masked, `[2^L]`."""
    pattern = (every_sequence(size, length) == size - 1) @ (2 ** np.arange(length))
    return np.bincount(pattern, weights=law, minlength=2**length).astype(np.float64)


def marginal_error(sampler: Remasking) -> float:
    """The largest difference of the law of masks from independent ones of probability 1 − α, at every step."""
    model = build("absorbing", "conditional")
    worst, high = 0.0, model.schedule.ends()[1]
    law = DENSE.noised(np.vstack([np.exp(-high) * np.eye(3), np.full((1, 3), -np.expm1(-high))]))
    for level in sampler.levels(model.schedule, 8):
        law = law @ step_matrix(model, sampler, level, 3)
        lost = -np.expm1(-level.sigma_next)
        hidden = every_sequence(2, 3)[:, ::-1].sum(-1)
        want = lost**hidden * (1 - lost) ** (3 - hidden)
        worst = max(worst, float(np.abs(masks(law, 4, 3) - want).max()))
    return worst


@pytest.mark.parametrize("sampler", PLANS, ids=NAMES)
def test_marginals_in_time(sampler: Remasking) -> None:
    """1e-12 at every step, by enumeration: masks are independent, each with probability 1 − α(s)."""
    assert marginal_error(sampler) < 1e-12


def errors(sampler: Remasking, steps: list[int]) -> list[float]:
    model, toy = build("absorbing", "conditional", toy=TOYS["dense3x2"]), TOYS["dense3x2"]
    return [total_variation(clean_part(grid_law(model, sampler, n, 2), toy, 4), toy.probabilities) for n in steps]


@pytest.mark.parametrize(("sampler"), [Remasking("cap", 1.0), Remasking("rescale", 1.0)], ids=["cap", "rescale"])
def test_converges_slowly(sampler: Remasking) -> None:
    """At most remasking TV falls, with slope 0.2 to 0.65, and slower than ancestral steps do."""
    steps = [16, 32, 64, 128]
    tv = errors(sampler, steps)
    assert all(later < earlier for earlier, later in itertools.pairwise(tv))
    assert 0.2 < slope(steps, tv) < 0.65
    assert tv[-1] > errors(Remasking("cap", 0.0), [128])[0]


@pytest.mark.parametrize("sampler", PLANS, ids=NAMES)
def test_sample_follows_the_enumerated_law(sampler: Remasking) -> None:
    """200,000 draws in five steps of a wrong network; chi-square catches 1% in total variation."""
    model = build("absorbing", "conditional", network=lambda toy, states: Tabulated(Wrong(toy, states), toy.length))
    law = clean_part(grid_law(model, sampler, 5, 3), DENSE, 4)
    assert law.sum() == pytest.approx(1, abs=1e-12)
    drawn = sample(model, 200_000, length=3, sampler=sampler, steps=5, generator=torch.Generator().manual_seed(3))
    assert chi_square(counts_of(drawn.tokens, 3), law) > P_VALUE


def test_no_remasking_is_ancestral() -> None:
    """η = 0: the same step matrices as ancestral sampling's, 1e-12."""
    model = build("absorbing", "conditional")
    for level in noise_levels(model.schedule, 6):
        one, two = (step_matrix(model, sampler, level, 3) for sampler in (Remasking("cap", 0.0), Ancestral()))
        np.testing.assert_allclose(one, two, atol=1e-12)


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
    share = np.exp([-0.9, -0.2]) / np.exp([-0.9, -0.2]).sum()
    again = np.minimum(0.5 * most * 2 * share, most)
    reveal = (later - (1 - again.mean()) * alpha) / (1 - alpha)
    for position, chance in ((0, again[0]), (1, again[1]), (2, 1 - reveal)):
        masked = (after.tokens[:, position] == 3).double().numpy()
        assert abs(z_score(masked, chance)) < Z_LIMIT
    shown = after.tokens[:, 2] < 3
    p = model.predict(tokens[:1], torch.ones(1, 1)).log_denoiser()[0, 2].exp()
    assert torch.equal(after.extras["confidence"][shown, 2], p[after.tokens[shown, 2]])
