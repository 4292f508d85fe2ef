"""One sampler step of SEDD and RADD: the law that each position's next state is drawn from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from discdiff.prediction import DenoiserPrediction, Prediction, ScorePrediction
from discdiff.processes.absorbing import Absorbing
from discdiff.processes.base import Process
from discdiff.processes.uniform import Uniform
from discdiff.samplers import Ancestral, Euler, GridSampler, Level
from discdiff.schedules import Geometric, LogLinear, Schedule
from tests.conftest import GoldenCase
from tests.golden.replay import Golden, close, denoised, level, normalized, scored

SEDD: dict[str, tuple[Process, Schedule]] = {
    "sedd_step_absorb_loglinear": (Absorbing(6), LogLinear(1e-3)),
    "sedd_step_uniform_geometric": (Uniform(6), Geometric(1e-4, 20.0)),
}
SAMPLERS = {"analytic": Ancestral(), "euler": Euler()}


def step_law(sampler: GridSampler, prediction: Prediction, interval: Level) -> Tensor:
    sigma_next = torch.tensor([[interval.sigma_next]], dtype=torch.float64)
    return sampler.kernel(prediction, interval, sigma_next, None)


def rows(case: GoldenCase, name: str, kind: str) -> list[tuple[float, ScorePrediction]]:
    """(t, prediction) of each row of a SEDD case."""
    process, schedule = SEDD[name]
    x, t, score = case.tensor("x"), case.tensor("t"), case.tensor(f"score_{kind}")
    sigma = schedule.total_noise(t)
    return [
        (float(t[i]), scored(process, x[i : i + 1], sigma[i : i + 1], score[i : i + 1].log())) for i in range(len(x))
    ]


@pytest.mark.parametrize("name", SEDD)
@pytest.mark.parametrize("kind", ["random", "exact"])
@pytest.mark.parametrize("predictor", SAMPLERS)
@pytest.mark.parametrize("number", [0, 1])
def test_sedd_predictor(golden: Golden, name: str, kind: str, predictor: str, number: int) -> None:
    """The reference's weights are neither normalised nor positive; its draw ignores what is negative, and the scale."""
    case, schedule = golden(name), SEDD[name][1]
    dt = case.case["meta"]["dts"][number]
    ours = torch.cat([step_law(SAMPLERS[predictor], p, level(schedule, t, t - dt)) for t, p in rows(case, name, kind)])
    theirs = case.tensor(f"{predictor}_{kind}_dt{number}")
    close(ours, normalized(theirs), rtol=1e-9, atol=1e-12)
    if float(theirs.min()) >= 0:  # a law as it stands, then
        close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SEDD)
@pytest.mark.parametrize("kind", ["random", "exact"])
def test_sedd_denoiser(golden: Golden, name: str, kind: str) -> None:
    """The last step, to σ = 0. The published code drops the mask's column and draws from the rest.

    The inverse of exp(σQ) magnifies float64's rounding by e^σ, in both codes.
    """
    case, (process, schedule) = golden(name), SEDD[name]
    zero = torch.zeros(1, 1, dtype=torch.float64)
    ours = torch.cat([process.content(prediction.posterior(zero)) for _, prediction in rows(case, name, kind)])
    rounding = 2.0**-52 * math.exp(schedule.ends()[1])
    close(normalized(ours), normalized(case.tensor(f"denoise_{kind}")), rtol=1e-9, atol=max(rounding, 1e-12))


@pytest.mark.parametrize("name", SEDD)
def test_sedd_noise_at_the_steps(golden: Golden, name: str) -> None:
    case, schedule = golden(name), SEDD[name][1]
    close(schedule.total_noise(case.tensor("t")), case.tensor("sigma"), rtol=1e-13)
    close(schedule.noise_rate(case.tensor("t")), case.tensor("rate"), rtol=1e-12)


@pytest.mark.parametrize("name", SEDD)
def test_sedd_exact_score(golden: Golden, name: str) -> None:
    """The posterior of known clean marginals p0 says the same scores and steps as the reference's exact score."""
    case, (process, schedule) = golden(name), SEDD[name]
    x, sigma = case.tensor("x"), schedule.total_noise(case.tensor("t"))
    joint = case.tensor("p0") * process.content(process.likelihood(x, sigma.expand(x.shape)))
    prediction = denoised(process, x, sigma, joint.log())
    active = process.active(x)
    close(process.content(prediction.log_score())[active].exp(), process.content(case.tensor("score_exact"))[active])
    for row, (t, s) in enumerate((float(t), float(t) - 1 / 64) for t in case.tensor("t")):
        one = denoised(process, x[row : row + 1], sigma[row : row + 1], joint[row : row + 1].log())
        theirs = case.tensor("analytic_exact_dt0")[row : row + 1]
        close(step_law(Ancestral(), one, level(schedule, t, s)), theirs, rtol=1e-9, atol=1e-12)


def one_mask(sigma: float) -> DenoiserPrediction:
    process = Absorbing(2)
    sigmas = torch.tensor([[sigma]], dtype=torch.float64)
    return denoised(process, torch.tensor([[process.mask_id]]), sigmas, torch.zeros(1, 1, 2, dtype=torch.float64))


@pytest.mark.parametrize("number", [0, 1])
def test_radd_update_rate(golden: Golden, number: int) -> None:
    """The probability that a mask is revealed in a step; to 1e-11, the reference's error at small σ."""
    case = golden("radd_update_rate")
    kind, steps = case.case["meta"]["grids"][number]
    schedule: Schedule = LogLinear(1e-3) if kind == "loglinear" else Geometric()
    dt = (1 - case.case["meta"]["eps"]) / steps
    for theirs, sampler in (("tweedie", Ancestral()), ("euler", Euler())):
        intervals = [level(schedule, t, t - dt) for t in case.data[f"t_{number}"].tolist()]
        laws = torch.cat([step_law(sampler, one_mask(interval.sigma), interval) for interval in intervals])
        close(laws[:, 0, :2].sum(-1), case.tensor(f"{theirs}_{number}"), rtol=1e-11)
