"""O9: the theta-trapezoidal scheme is of second order while nothing is cut, and falls to the first where it is."""

from __future__ import annotations

import numpy as np
import pytest

from discdiff.samplers import GridSampler, RungeKutta2, Trapezoidal
from tests.cases import PROCESSES, SCHEDULES, build
from tests.laws import clean_part, divergence, grid_law, slope
from tests.toys import TOYS, Array, total_variation

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
