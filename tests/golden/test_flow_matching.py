"""Flow matching's schedules, velocities and solver steps, by our schedules, denoiser and transition laws.

Convention map: their time runs from noise (0) to data (1), κ(t) = t^n is our α, the mixture path κ δ_x1 + (1 − κ) p_0
our rank-one process with π = p_0. Their chain has the path's rates κ'/(1−κ) (p(x1 | xt) − δ_xt), the ones that
`GeneralizedKL` trains: not the time reversal that our samplers simulate, though one-time laws agree.
"""

from __future__ import annotations

import pytest
import torch

from discdiff.processes.marginal import Marginal
from discdiff.processes.uniform import Uniform
from discdiff.schedules import Polynomial
from tests.golden.replay import Golden, close, denoised
from tests.golden.test_leave_one_out_losses import Powers

POWERS = ["1", "2.0", "3.0"]
STEPS = {"t0.3": 0.05, "t0.85": 0.1}


@pytest.mark.parametrize("power", POWERS)
def test_schedule(golden: Golden, power: str) -> None:
    """1 − t^n is our `Polynomial` (ε = 1e-15) in their time: what is masked here is what has arrived there."""
    case, schedule = golden("flow_matching_discrete_V6"), Polynomial(float(power), eps=1e-15)
    t = case.tensor("t_grid")
    left = torch.exp(-schedule.total_noise(t))
    close(left, case.tensor(f"n{power}_sigma"), rtol=1e-13, atol=2e-15)
    close(1 - left, case.tensor(f"n{power}_alpha"), rtol=1e-13, atol=2e-15)
    close(left * schedule.noise_rate(t), case.tensor(f"n{power}_d_alpha"), rtol=1e-13)
    close(-left * schedule.noise_rate(t), case.tensor(f"n{power}_d_sigma"), rtol=1e-13)
    close(schedule.time(-torch.log1p(-t)), case.tensor(f"n{power}_kappa_inverse"), rtol=1e-13)


@pytest.mark.parametrize("power", POWERS)
def test_velocity(golden: Golden, power: str) -> None:
    """σ'/(e^σ − 1) (p(x0_i | xt) − δ_xt): the rates of `GeneralizedKL`, by our schedule and denoiser."""
    case, schedule = golden("flow_matching_discrete_V6"), Powers(float(power))
    process, xt = Uniform(case.case["meta"]["V"]), case.tensor(f"n{power}_x_t")
    t = 1 - case.tensor("t")[:, None]
    sigma = schedule.total_noise(t)
    p = denoised(process, xt, sigma, case.tensor("logits").log_softmax(-1)).log_denoiser().exp()
    rate = (schedule.noise_rate(t) / torch.expm1(sigma))[..., None]
    stay = torch.nn.functional.one_hot(xt, process.num_states)
    close(rate * (p - stay), case.tensor(f"n{power}_velocity"), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("time", STEPS)
@pytest.mark.parametrize("extra", ["div0.0", "div1.5"])
def test_solver_step(golden: Golden, power: str, time: str, extra: str) -> None:
    """Jump rates given x1: κ'/(1−κ) δ_x1, and for a free divergence d more, d κ'/(κ(1−κ)) P_σ[·, x1]."""
    case, schedule = golden("flow_matching_discrete_V6"), Powers(float(power))
    xt, x1 = case.tensor(f"n{power}_x_t"), case.tensor("logits").argmax(-1)
    process = Marginal(case.case["meta"]["V"], probabilities=case.tensor("p_0"))
    t = torch.tensor(1 - float(time.removeprefix("t")), dtype=torch.float64).expand(xt.shape)
    sigma = schedule.total_noise(t)
    arrival = (schedule.noise_rate(t) / torch.expm1(sigma))[..., None]
    there = torch.nn.functional.one_hot(x1, process.num_states).double()
    free = float(extra.removeprefix("div")) * torch.exp(sigma)[..., None] * process.transition(x1, sigma)
    rates = (arrival * (there + free)).scatter(-1, xt[..., None], 0.0)
    total, name = rates.sum(-1), f"n{power}_{extra}_{time}"
    close(-STEPS[time] * total, case.tensor(f"{name}_minus_h_lambda"), rtol=1e-12)
    assert torch.equal(total > 0, case.tensor(f"{name}_jump_mask"))
    close(rates[total > 0], case.tensor(f"{name}_rates_jumping"), rtol=1e-12)
