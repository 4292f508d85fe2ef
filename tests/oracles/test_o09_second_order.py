"""O9: the theta-trapezoidal scheme is of second order while nothing is cut, and falls to the first where it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.prediction import positions_of
from discdiff.samplers import GridSampler, RungeKutta2, Trapezoidal
from discdiff.samplers.trapezoidal import TwoLeaps
from tests.cases import PROCESSES, SAMPLED, SCHEDULES, build
from tests.laws import clean_part, divergence, grid_law, slope
from tests.second_leaps import runge_kutta_kernel, trapezoidal_kernel
from tests.toy_networks import Wrong
from tests.toys import TOYS, Array, every_sequence, total_variation

INTERVALS = [8, 16, 32, 64]


def errors(sampler: GridSampler, process: str, toy: str, intervals: list[int]) -> tuple[Array, Array]:
    """(TV, KL(p0 ‖ law)) by the number of intervals, log-linear noise, from p_1."""
    table, schedule = TOYS[toy], SCHEDULES["log_linear"]()
    model = build(process, "denoiser", toy=table, schedule=schedule)
    start = table.noised(PROCESSES[process].transition(table.vocab_size, schedule.ends()[1]))
    laws = [
        clean_part(grid_law(model, sampler, 2 * n - 1, table.length, start=start), table, model.process.num_states)
        for n in intervals
    ]
    tv = [total_variation(law, table.probabilities) for law in laws]
    return np.array(tv), np.array([divergence(table.probabilities, law) for law in laws])


@pytest.mark.parametrize(("process", "theta"), [("absorbing", 0.5), ("absorbing", 0.35), ("uniform", 0.5)])
def test_second_order(process: str, theta: float) -> None:
    """Near-independent: TV slope 2 ± 0.1, KL slope 4 ± 0.2; on masks θ = 1/2 gives 2.000 and 4.000."""
    tv, kl = errors(Trapezoidal(theta), process, "near-independent3x2", INTERVALS)
    assert slope(INTERVALS, tv) == pytest.approx(2, abs=0.1)
    assert slope(INTERVALS, kl) == pytest.approx(4, abs=0.2)
    assert tv[-1] < 1e-4


def test_second_order_of_three_positions() -> None:
    """The same with three positions, where jumps within a leap meet: 1.96."""
    tv, _ = errors(Trapezoidal(), "absorbing", "near-independent3x3", [8, 16, 32])
    assert slope([8, 16, 32], tv) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(("toy", "intervals"), [("dense3x2", INTERVALS), ("repeat3x3", [8, 16, 32])])
def test_falls_where_cut(toy: str, intervals: list[int]) -> None:
    """Conditionals that change by more than the scheme can take back: the order falls to one."""
    tv, _ = errors(Trapezoidal(), "absorbing", toy, intervals)
    assert 0.9 < np.log2(tv[-2] / tv[-1]) < 1.2


@pytest.mark.parametrize("process", ["absorbing", "uniform"])
def test_runge_kutta_is_first_order(process: str) -> None:
    """As published: TV slope 1 ± 0.15 (the table says so for masks; uniform noise is no better)."""
    tv, _ = errors(RungeKutta2(), process, "near-independent3x2", INTERVALS)
    assert slope(INTERVALS, tv) == pytest.approx(1, abs=0.15)


# ---- the second leap, as it is written in NumPy ----------------------------------------------------------------------
def leap_error(sampler: Trapezoidal | RungeKutta2, process: str, parameterization: str) -> float:
    """The largest difference of a probability of the second leap, from every x and every middle it can lead to.

    A wrong network, the third of five intervals.
    """
    model = build(process, parameterization, toy=TOYS["dense3x2"], network=Wrong)
    level = sampler.levels(model.schedule, 9)[2]
    assert isinstance(level, TwoLeaps)
    every = torch.from_numpy(every_sequence(model.process.num_states, 2))
    x, z = (
        part.reshape(-1, 2) for part in (every[:, None].expand(-1, len(every), -1), every.expand(len(every), -1, -1))
    )
    if PROCESSES[process].masked:  # what is revealed stays
        kept = ((x == 3) | (x == z)).all(-1)
        x, z = x[kept], z[kept]
    first, second = (
        model.predict(tokens, torch.full((len(tokens), 1), at.sigma, dtype=torch.float64))
        for tokens, at in ((x, level.first), (z, level.second))
    )
    if isinstance(sampler, Trapezoidal):
        end = torch.tensor(level.sigma_next, dtype=torch.float64)
        found, want = sampler.combine(first, second).posterior(end), trapezoidal_kernel(sampler, first, second, level)
    else:
        where = positions_of(torch.ones_like(x, dtype=torch.bool))
        found = sampler.second_kernel(first, second, level, where).reshape(*x.shape, -1)
        want = runge_kutta_kernel(sampler, first, second, level)
    np.testing.assert_allclose(want.sum(-1), 1, atol=1e-12)
    return float(np.abs(found.numpy() - want).max())


@pytest.mark.parametrize("theta", [0.5, 0.35])
@pytest.mark.parametrize(("process", "parameterization"), SAMPLED)
@pytest.mark.parametrize("scheme", [Trapezoidal, RungeKutta2])
def test_second_leap(
    scheme: type[Trapezoidal] | type[RungeKutta2], process: str, parameterization: str, theta: float
) -> None:
    """1e-12, on every process, from every reading, where parts are cut too."""
    assert leap_error(scheme(theta), process, parameterization) < 1e-12
