"""O15: draws in float32. Two-stage draws are right; one Gumbel race over all states is not, and by how much."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from discdiff.constraints import Unconstrained
from discdiff.networks import Network
from discdiff.processes import Absorbing
from discdiff.randomness import Keys
from discdiff.samplers import Ancestral, Level, State
from tests.cases import build
from tests.toy_networks import Single, Tabulated, Wrong
from tests.toys import P_VALUE, Toy, caught_error, chi_square, dense

STATES = 2.0**-24
"""The spacing of float32 uniform numbers."""


@cache
def race() -> np.ndarray:
    """−log u for u = k 2^-24, k = 1 .. 2^24 − 1, in float32 as a sampler has it: the smallest is about 2^-24, not 0.

    k = 0 gives infinity, which never wins.
    """
    return -np.log((np.arange(1, 1 << 24, dtype=np.int64) * STATES).astype(np.float32))


def gumbel_law(probability: float) -> float:
    """P(the unlikely state wins) where two states race with float32 exponentials.

    The state of weight q wins if E₁ < E₀ q/(1 − q). E₁ is summed over all its 2^24 values; E₀, of order one, is taken
    as continuous: its own grid changes the result by less than 2^-24.
    """
    threshold = race().astype(np.float64) * (1 - probability) / probability
    return float(np.exp(-threshold).sum() * STATES)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_float32_gumbel_is_off_by_a_known_factor(ratio: float) -> None:
    """r/(e^r − 1) for r = 2^-24 · steps / p: the race's law over its 2^24 uniform numbers, to 1e-4.

    At a probability p/steps of 2^-24, that is a token of 6% with 1,000,000 steps or one of 6e-5 with 1,000, 42% of its
    draws are lost to likelier states: a lower temperature.
    """
    probability = STATES / ratio
    assert gumbel_law(probability) / probability == pytest.approx(ratio / np.expm1(ratio), rel=1e-4)


def test_float32_gumbel_is_right_for_common_states() -> None:
    """The law above is no artefact of its computation: at 1% it is exact to 1e-5."""
    assert gumbel_law(0.01) / 0.01 == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("spacings", [1, 2, 8])
def test_reveals_are_exact_in_float32(spacings: int) -> None:
    """Who moves, between float32 noise levels a few last digits apart: a chance of about 2^-24, right to 1e-6 of it.

    Where the race above has lost up to 42%. The threshold on the float64 uniform number is found by bisection.
    """
    process = Absorbing(3)
    sigma = torch.tensor(np.log(2.0), dtype=torch.float32)
    sigma_next = sigma - spacings * 2.0**-24
    kept, kept_next = (float(torch.exp(-value.double())) for value in (sigma, sigma_next))
    chance = kept_next * -np.expm1(float(sigma_next.double() - sigma.double())) / (1 - kept)
    assert chance == pytest.approx(spacings * STATES, rel=0.01)
    low, high = 0.0, 1e-3
    for _ in range(60):
        middle = (low + high) / 2
        u = torch.tensor(middle, dtype=torch.float64)
        moves = bool(process.may_move(torch.tensor(process.mask_id), sigma, sigma_next, u))
        low, high = (middle, high) if moves else (low, middle)
    assert low == pytest.approx(chance, rel=1e-6)


DRAWN = Toy("skewed", np.multiply.outer(np.array([0.6, 0.3, 0.09, 0.01]), np.array([0.6, 0.3, 0.09, 0.01])))


def single(toy: Toy, num_states: int) -> Network:
    return Single(Tabulated(Wrong(toy, num_states, strength=0.0), toy.length))


@pytest.mark.parametrize("steps", [64, 1024])
def test_tokens_given_their_reveal(steps: int) -> None:
    """One float32 step out of many: among the revealed, tokens follow the denoiser; chi-square p > 1e-4.

    Steps of 1/64: about 60,000 reveals, which catch 1.2%; of 1/1024: 4,000, which catch 5%. The number of reveals
    itself is binomial.
    """
    model = build("absorbing", "conditional", toy=DRAWN, network=single)
    assert model.dtype == torch.float32
    rows, tally, revealed = 200_000, np.zeros(4), 0
    t, s = 0.5, 0.5 - 1 / steps
    alpha = 1 - (1 - 1e-3) * np.array([t, s])
    sigma, sigma_next = (-np.log(alpha)).tolist()
    level = Level(t, s, sigma, sigma_next, noise_rate=(1 - 1e-3) / float(alpha[0]))
    batches = 10
    for batch in range(batches):
        masks = torch.full((rows, 2), 4)
        nothing = torch.zeros_like(masks, dtype=torch.bool)
        zero = torch.zeros(rows)
        keys = Keys(0, torch.arange(rows) + batch * rows)
        state = State(masks, nothing, nothing, None, zero.long(), zero, keys)
        moved = Ancestral().step(model, Unconstrained(), state, level).tokens
        tally += np.bincount(moved[moved < 4].numpy(), minlength=4)
        revealed += int((moved < 4).sum())
    chance = (alpha[1] - alpha[0]) / (1 - alpha[0])
    draws = rows * 2 * batches
    assert abs(revealed - draws * chance) < 4 * np.sqrt(draws * chance)
    assert chi_square(tally, np.array([0.6, 0.3, 0.09, 0.01])) > P_VALUE
    assert caught_error(revealed, 4) < (0.012 if steps == 64 else 0.05)


def test_toys_are_what_they_are_said_to_be() -> None:
    """The toy above has independent positions, so that a reveal's law is its marginal."""
    assert np.linalg.matrix_rank(DRAWN.joint) == 1
    assert np.linalg.matrix_rank(dense(3, 2).joint) == 3
