"""O10: uniformization is exact for every process; its candidate events are Poisson."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from discdiff.randomness import Keys
from discdiff.samplers import State, Uniformization
from discdiff.samplers.uniformization import blocks
from discdiff.sampling import sample
from discdiff.schedules import LogLinear
from tests.cases import PROCESSES, build
from tests.toys import P_VALUE, TOYS, Z_LIMIT, caught_error, chi_square, counts_of, z_score

DRAWS = 100_000
TOY = TOYS["dense3x2"]


@pytest.mark.parametrize("process", PROCESSES)
def test_exact(process: str) -> None:
    """100,000 draws of two tokens against p0: chi-square p > 1e-4, which catches 1.2% in total variation."""
    assert caught_error(DRAWS, 9) < 0.012
    model = build(process, "denoiser", toy=TOY, schedule=LogLinear(eps=1e-4, t_min=0.01))
    drawn = sample(model, DRAWS, length=2, sampler=Uniformization(), generator=torch.Generator().manual_seed(1))
    assert chi_square(counts_of(drawn.tokens, 3), TOY.probabilities) > P_VALUE
    calls = torch.as_tensor(drawn.calls)
    if process == "absorbing":  # each position is revealed once, by an event or at the end, when two may go together
        assert (calls <= 2).all()
        assert (calls == 2).double().mean() > 0.99


@pytest.mark.parametrize("process", PROCESSES)
def test_candidates_are_poisson(process: str) -> None:
    """Their number has mean and variance n ∫ B dσ (the integral by 2,000 points a block), whatever the state."""
    model, rows = build(process, "denoiser", toy=TOY, schedule=LogLinear(t_min=0.05)), 40_000
    tokens = torch.zeros(rows, 2, dtype=torch.int64)
    free = torch.zeros_like(tokens, dtype=torch.bool)
    zero = torch.zeros(rows)
    state = State(tokens, free, free, None, zero.long(), zero, Keys(0, torch.arange(rows)))
    planned, levels = Uniformization().plan(model, state, None)
    counts = (planned.extras["sigma"] > 0).sum(-1)
    assert len(levels) == int(counts.max()) + 1
    low, high = model.schedule.ends()
    edges, bounds = blocks(model.process, low, high)
    mean = float(2 * ((edges[:-1] - edges[1:]) * bounds).sum())
    assert abs(z_score(counts.double().numpy(), mean)) < Z_LIMIT
    values = np.arange(int(counts.max()) + 1)
    law = scipy.stats.poisson.pmf(values, mean)
    law[-1] = scipy.stats.poisson.sf(values[-1] - 1, mean)
    assert chi_square(np.bincount(counts.numpy(), minlength=len(values)), law) > P_VALUE


@pytest.mark.parametrize("process", PROCESSES)
def test_bound(process: str) -> None:
    """No x, x0 and σ within a block has a larger total rate, by SciPy's exp(σQ), and one has just this."""
    case = PROCESSES[process]
    model = build(process, "denoiser", toy=TOY)
    edges, bounds = blocks(model.process, *model.schedule.ends())
    rates = case.rates(3)
    away = np.where(np.eye(len(rates)) > 0, 0.0, rates)
    for index in range(0, len(bounds), 7):
        largest = 0.0
        for sigma in np.linspace(float(edges[index + 1]), float(edges[index]), 5):
            p = case.transition(3, sigma)[:, :3]
            with np.errstate(divide="ignore", invalid="ignore"):
                total = (away @ p) / p
            largest = max(largest, float(total[p > 0].max()))
        assert largest == pytest.approx(float(bounds[index]), rel=1e-9)
