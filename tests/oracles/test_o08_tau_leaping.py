"""O8: the kernel of tau-leaping, from NumPy's scores and the Poisson law."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from discdiff.samplers import GridSampler, TauLeaping, noise_levels
from tests.cases import PROCESSES, build
from tests.toys import DENSE, every_sequence


def kernel_error(sampler: GridSampler, process: str) -> float:
    """The largest difference from: one jump of a position, Poisson(1; n), to y ∝ Q[x, y] s_y; else it stays."""
    case, model = PROCESSES[process], build(process, "denoiser")
    size = model.process.num_states
    states, rates = every_sequence(size, 3), case.rates(3)
    worst = 0.0
    for level in noise_levels(model.schedule, 10)[2:9:3]:
        sigma = torch.full((len(states), 1), level.sigma, dtype=torch.float64)
        kernel = sampler.kernel(model.predict(torch.from_numpy(states), sigma), level, sigma, None).numpy()
        score = DENSE.score(case.transition(3, level.sigma))
        for i, x in np.ndindex(3, len(states)):
            here = states[x, i]
            into = np.where(np.arange(size) == here, 0.0, rates[here])
            jumps = level.noise_rate * (level.t - level.s) * np.where(into > 0, into * score[x, i], 0.0)
            total = jumps.sum()
            want = scipy.stats.poisson.pmf(1, total) * jumps / max(total, 1e-300)
            want[here] = 1 - want.sum()
            worst = max(worst, float(np.abs(kernel[x, i] - want).max()))
    return worst


@pytest.mark.parametrize("process", PROCESSES)
def test_kernel(process: str) -> None:
    assert kernel_error(TauLeaping(), process) < 1e-12
