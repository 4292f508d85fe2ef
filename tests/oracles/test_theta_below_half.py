"""theta-RK2 at θ < 1/2, where the weight of the first rates is negative: what is cut is cut a destination at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff import constraints
from discdiff.prediction import positions_of
from discdiff.samplers import Level, RungeKutta2
from discdiff.samplers.trapezoidal import TwoLeaps
from discdiff.sampling import sample
from discdiff.schedules import Geometric
from tests.cases import PROCESSES, build
from tests.laws import grid_law
from tests.toys import P_VALUE, TOYS, Array, caught_error, chi_square, counts_of, every_sequence, total_variation

TOY = TOYS["dense3x2"]
OPEN = [name for name, case in PROCESSES.items() if not case.masked]


def published_kernel(process: str, level: TwoLeaps, x: Array, middle: Array, theta: float) -> Array:
    """Ren et al. 2025, algorithm 1, for one token each: `[N, L, S]`, by enumeration in NumPy."""
    case = PROCESSES[process]
    rates, ahead = case.rates(3), 0.5 / theta
    size = len(rates)
    powers = size ** np.arange(x.shape[1] - 1, -1, -1)

    def reverse(tokens: Array, at: Level) -> Array:
        score = TOY.score(case.transition(3, at.sigma))[(tokens * powers).sum(-1)]
        jumps = at.noise_rate * rates[tokens] * score
        return np.where(np.arange(size) == tokens[..., None], 0, jumps)

    time = level.t - level.s
    both = (1 - ahead) * reverse(x, level.first) + ahead * reverse(middle, level.second)
    jumps = np.clip(np.where(np.arange(size) == x[..., None], 0, both), 0, None) * time
    total = jumps.sum(-1, keepdims=True)
    law = -np.expm1(-total) * jumps / np.where(total > 0, total, 1)
    return law + np.exp(-total) * (np.arange(size) == x[..., None])


@pytest.mark.parametrize("theta", [0.2, 0.35, 0.5, 0.8])
@pytest.mark.parametrize("parameterization", ["denoiser", "score"])
@pytest.mark.parametrize("process", OPEN)
def test_second_leap(process: str, parameterization: str, theta: float) -> None:
    """Every pair of states, two levels of noise: 1e-10 from the published rule."""
    model, sampler = build(process, parameterization, toy=TOY, schedule=Geometric(0.01, 3.0)), RungeKutta2(theta)
    every = torch.from_numpy(every_sequence(model.process.num_states, 2))
    x = every.repeat_interleave(len(every), 0)
    middle = every.repeat(len(every), 1)
    where = positions_of(torch.ones_like(x, dtype=torch.bool))
    for level in sampler.levels(model.schedule, 9)[1:3]:
        assert isinstance(level, TwoLeaps)
        first, second = (
            model.predict(tokens, torch.full((len(x), 1), at.sigma, dtype=torch.float64))
            for tokens, at in ((x, level.first), (middle, level.second))
        )
        got = sampler.second_kernel(first, second, level, where).reshape(*x.shape, -1)
        want = published_kernel(process, level, x.numpy(), middle.numpy(), theta)
        np.testing.assert_allclose(got, want, atol=1e-10)


@pytest.mark.parametrize("process", ["uniform", "hybrid", "circular"])
def test_draws(process: str) -> None:
    """`sample` at θ = 0.3 follows the enumerated law, and so under a set that allows all: 1.3% is caught."""
    model, rows = build(process, "denoiser", toy=TOY, schedule=Geometric(0.01, 3.0)), 90_000
    assert caught_error(rows, 9) < 0.013
    law = grid_law(model, RungeKutta2(0.3), 7, 2)
    law = law.reshape(model.process.num_states, -1)[:3, :3].reshape(-1)
    assert total_variation(law, TOY.probabilities) > 0.005
    free = constraints.Allowed(torch.ones(2, 3, dtype=torch.bool))
    for constraint in (None, free):
        out = sample(
            model, rows, length=2, sampler=RungeKutta2(0.3), steps=7, constraint=constraint,
            generator=torch.Generator().manual_seed(5),
        )  # fmt: skip
        assert chi_square(counts_of(out.tokens, 3), law) > P_VALUE


@pytest.mark.parametrize("theta", [0.3])
def test_the_law_converges(theta: float) -> None:
    """First order: twice the steps, half the distance, within a quarter."""
    model = build("uniform", "denoiser", toy=TOY, schedule=Geometric(0.001, 6.0))
    start = TOY.noised(PROCESSES["uniform"].transition(3, 6.0))
    far, near = (
        total_variation(grid_law(model, RungeKutta2(theta), n, 2, start=start), TOY.probabilities) for n in (129, 257)
    )
    assert near < 0.02
    assert 1.5 < far / near < 2.5
