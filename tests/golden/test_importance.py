"""Times as MDLM and RADD draw them: in strata, and by importance.

Convention map: theirs jitter each stratum by its own number, ours shift all strata by one, so a row of theirs is that
row of ours under its own shift. MDLM's importance sampling is uniform in log(1 − e^(−σ)) from σ_min on: a
`PiecewiseTimes` of many pieces with that mass. Its loss then has the constant weight −log(1 − e^(−σ_min)), and leaves
out the other end, log(1 − e^(−σ_max)): 1.4e-4 of the weight at ε = 1e-3.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from discdiff.losses import TimeCrossEntropy
from discdiff.losses.times import PiecewiseTimes, UniformTimes
from discdiff.model import Diffusion
from discdiff.parameterizations import Denoiser
from discdiff.randomness import time_points
from discdiff.schedules import Linear, LogLinear, Schedule
from discdiff.sequences import Sequences
from tests.golden.replay import Golden, close, given, masks_at
from tests.golden.test_mdlm import subs

LOWEST = 1e-3
"""MDLM's σ_min, of both schedules."""
SCHEDULES: dict[str, Schedule] = {
    "loglinear": LogLinear(1e-3, t_min=float(LogLinear(1e-3).time(torch.tensor(LOWEST, dtype=torch.float64)))),
    "linear": Linear(LOWEST, 7.0, t_min=1e-12),
}


def log_masked(schedule: Schedule, t: Tensor) -> Tensor:
    """log(1 − e^(−σ))."""
    return torch.log(-torch.expm1(-schedule.total_noise(t)))


def by_importance(schedule: Schedule, pieces: int = 1 << 18) -> PiecewiseTimes:
    ends = schedule.t_min + (1 - schedule.t_min) * torch.linspace(0, 1, pieces + 1, dtype=torch.float64)
    return PiecewiseTimes(log_masked(schedule, ends).diff().tolist())


@pytest.mark.parametrize("kind", SCHEDULES)
def test_importance(golden: Golden, kind: str) -> None:
    case, schedule = golden("mdlm_noise"), SCHEDULES[kind]
    t = by_importance(schedule).place(case.tensor("t"), schedule)[0]
    close(t, case.tensor(f"{kind}_importance_t"), rtol=1e-4, atol=1e-6)


def in_strata(u: Tensor) -> Tensor:
    """Each row of a batch under its own shift, `[B]`."""
    batch = len(u)
    slots = torch.arange(batch, dtype=torch.float64) / batch
    rows = [time_points(batch, generator=replace(given(shared_time=shift / batch), strata=slots)) for shift in u]
    return torch.stack(rows).diagonal()


@pytest.mark.parametrize("batch", [4, 7])
@pytest.mark.parametrize("strata", [0, 1])
def test_mdlm_times(golden: Golden, batch: int, strata: int) -> None:
    case, u = golden("mdlm_time_samplers"), golden("mdlm_time_samplers").tensor(f"u_B{batch}")
    points = in_strata(u) if strata else time_points(batch, generator=given(time=u))
    t = UniformTimes().place(points, LogLinear(t_min=1e-3))[0]
    close(t, case.tensor(f"t_B{batch}_anti{strata}_imp0").double(), rtol=1e-6)
    important = by_importance(SCHEDULES["loglinear"]).place(t, SCHEDULES["loglinear"])[0]
    close(important, case.tensor(f"t_B{batch}_anti{strata}_imp1").double(), rtol=1e-4)


@pytest.mark.parametrize("batch", [4, 7])
def test_radd_points(golden: Golden, batch: int) -> None:
    case, u = golden("radd_time_samplers"), golden("radd_time_samplers").tensor(f"u_B{batch}")
    naive = time_points(batch, generator=given(time=u))
    close(naive, case.tensor(f"naive_B{batch}").double(), rtol=1e-6)
    close(in_strata(u), case.tensor(f"decoupled_B{batch}").double(), rtol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(("theirs", "rtol"), [("nll_importance", 5e-5), ("nll_cov", 2e-3)])
def test_loss_by_importance(golden: Golden, theirs: str, rtol: float) -> None:
    """Ours under importance sampling, and theirs too large by the end that it leaves out.

    Importance takes t for a drawn time, the change of variables for the number that it is drawn by: its times are near
    0, where a piece is wide against them.
    """
    case, schedule = golden("mdlm_transformer_subs"), SCHEDULES["loglinear"]
    model, process = subs(case)
    model = Diffusion(model.network, process, schedule, Denoiser())
    low, high = log_masked(schedule, torch.tensor([schedule.t_min, 1.0], dtype=torch.float64)).tolist()
    times, points = by_importance(schedule), case.tensor("t", torch.float64)
    if theirs == "nll_cov":
        placed = times.place(points, schedule)[0]
        close(log_masked(schedule, placed).exp()[:, None], case.tensor("cov_move_chance").double(), rtol=1e-5)
    else:
        points = (log_masked(schedule, points) - low) / (high - low)
    draws = masks_at(case.tensor("xt"), process, time=points)
    values = TimeCrossEntropy(times)(model, Sequences.full(case.tensor("x0")), generator=draws)
    excess = low / (low - high)
    assert excess > 1 + 1e-4  # more than the first tolerance
    close(values * excess, case.tensor(theirs).double().sum(-1), rtol=rtol)
