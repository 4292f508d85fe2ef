"""Whole trajectories of SEDD, RADD and MDLM: their weights and uniform numbers, our steps, the same tokens throughout.

They draw by one exponential race over each position's probabilities, we by two inverse-distribution draws: the laws of
our steps (`kernel`, `posterior`) take part here, under their draw.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from discdiff.model import Diffusion
from discdiff.parameterizations import Conditional, Denoiser, Score
from discdiff.processes.absorbing import Absorbing
from discdiff.processes.uniform import Uniform
from discdiff.samplers import Ancestral, Euler, GridSampler, Level
from discdiff.schedules import Geometric, LogLinear
from tests.conftest import GoldenCase
from tests.golden.replay import Golden, Untimed, level, winners
from tests.golden.test_networks import network


def levels(model: Diffusion, case: GoldenCase) -> list[Level]:
    """Their grid: equal steps from t = 1 to eps."""
    meta = case.case["meta"]
    times = torch.linspace(1, meta["eps"], meta["steps"] + 1, dtype=torch.float64).tolist()
    return [level(model.schedule, t, s) for t, s in pairwise(times)]


@torch.no_grad()
def law(model: Diffusion, sampler: GridSampler, tokens: Tensor, interval: Level) -> Tensor:
    """Of each position's state after one step, `[B, L, S]`."""
    shape = (len(tokens), 1)
    sigma, sigma_next = (torch.full(shape, value).double() for value in (interval.sigma, interval.sigma_next))
    return sampler.kernel(model.predict(tokens, sigma), interval, sigma_next, None)


@pytest.mark.parametrize("kind", ["absorb", "uniform"])
@pytest.mark.parametrize(("name", "sampler"), [("analytic", Ancestral()), ("euler", Euler())])
def test_sedd(golden: Golden, kind: str, name: str, sampler: GridSampler) -> None:
    """All steps and the denoising one after them, at t = eps: the network must be shown noise down to there."""
    case = golden(f"sedd_sampler_{kind}")
    size, eps = case.case["meta"]["tokens"], case.case["meta"]["eps"]
    process = Absorbing(size) if kind == "absorb" else Uniform(size)
    schedule = LogLinear(1e-3, t_min=eps) if kind == "absorb" else Geometric(1e-4, 20.0, t_min=eps)
    model = Diffusion(network(case, process, Score(), torch.float64), process, schedule, Score())
    tokens, trajectory = case.tensor("x_init"), case.tensor(f"x_{name}")
    for step, interval in enumerate(levels(model, case)):
        tokens = winners(law(model, sampler, tokens, interval), case.tensor(f"u_{name}")[step])
        assert torch.equal(tokens, trajectory[step])
    last = process.content(law(model, Ancestral(), tokens, level(schedule, eps)))
    assert torch.equal(winners(last, case.tensor(f"u_denoise_{name}")), case.tensor(f"x_final_{name}"))


@pytest.mark.parametrize(("name", "sampler"), [("tweedie", Ancestral()), ("euler", Euler())])
def test_radd(golden: Golden, name: str, sampler: GridSampler) -> None:
    """The reference reveals all that is left in the last step, whatever its length: ours ends at σ = 0."""
    case = golden("radd_sampler")
    process = Absorbing(case.case["meta"]["tokens"])
    model = Diffusion(
        network(case, process, Conditional(), torch.float64), process, LogLinear(1e-3, t_min=1e-5), Conditional()
    )
    trajectory = case.tensor(f"x_{name}")
    tokens = torch.full_like(trajectory[0], process.mask_id)
    *steps, last = levels(model, case)
    for step, interval in enumerate([*steps, level(model.schedule, last.t)]):
        tokens = winners(law(model, sampler, tokens, interval), case.tensor(f"u_{name}")[step])
        assert torch.equal(tokens, trajectory[step])


@pytest.mark.parametrize("name", ["ddpm", "ddpm_cache", "analytic"])
def test_mdlm(golden: Golden, name: str) -> None:
    """All three are one ancestral step: the cached one's move chance t in place of (1 − ε) t cancels in the ratio.

    In the end the first two take each mask's most likely token; "analytic" draws it.
    """
    case = golden("mdlm_sampler")
    process = Absorbing(case.case["meta"]["tokens"])
    net = Untimed(network(case, process, Denoiser(), torch.float64))
    model = Diffusion(net, process, LogLinear(1e-3, t_min=1e-5), Denoiser())
    trajectory, u = case.tensor(f"x_{name}"), case.tensor(f"u_{name}")
    tokens = torch.full_like(trajectory[0], process.mask_id)
    grid = levels(model, case)
    for step, interval in enumerate(grid):
        tokens = winners(law(model, Ancestral(), tokens, interval), u[step])
        assert torch.equal(tokens, trajectory[step])
    last = law(model, Ancestral(), tokens, level(model.schedule, grid[-1].s))
    final = winners(last, u[len(grid)]) if name == "analytic" else last.argmax(-1)
    assert torch.equal(final, case.tensor(f"x_final_{name}"))
