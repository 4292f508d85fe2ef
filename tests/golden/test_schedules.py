"""Schedules of SEDD and MDLM; times and corruption by the uniform numbers of MDLM, RADD and flow matching."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from discdiff.losses.any_order import mask_exactly
from discdiff.model import Diffusion
from discdiff.parameterizations import Conditional
from discdiff.processes.absorbing import Absorbing
from discdiff.processes.uniform import Uniform
from discdiff.randomness import time_points
from discdiff.schedules import Cosine, CosineSquared, Geometric, Linear, LogLinear, Schedule
from discdiff.sequences import Sequences
from tests.golden.replay import Golden, Said, close, given

MDLM: dict[str, Schedule] = {
    "loglinear": LogLinear(1e-3),
    "cosine": Cosine(1e-3),
    "cosinesqr": CosineSquared(1e-3),
    "linear": Linear(1e-3, 7.0),
    "geometric": Geometric(1e-3, 1.0),
}


def test_sedd_noise(golden: Golden) -> None:
    case = golden("sedd_noise")
    for number, (kind, *arguments) in enumerate(case.case["meta"]["params"]):
        schedule: Schedule = LogLinear(arguments[0]) if kind == "loglinear" else Geometric(*arguments)
        t = case.tensor(f"t_{number}")
        close(schedule.total_noise(t), case.tensor(f"total_{number}"), rtol=1e-14)
        close(schedule.noise_rate(t), case.tensor(f"rate_{number}"), rtol=1e-13)


@pytest.mark.parametrize("kind", MDLM)
def test_mdlm_noise(golden: Golden, kind: str) -> None:
    """The reference loses digits of its cosines at small t (1 − cos) and at t = 1: the tolerance is its error."""
    case, schedule = golden("mdlm_noise"), MDLM[kind]
    t = case.tensor("t")
    lossy = kind.startswith("cosine")
    close(schedule.total_noise(t), case.tensor(f"{kind}_total"), rtol=5e-7 if lossy else 1e-14, atol=1e-16)
    close(schedule.noise_rate(t), case.tensor(f"{kind}_rate"), rtol=1e-12 if lossy else 1e-13, atol=1e-12 * lossy)
    accuracy = 1e-9 if kind == "cosinesqr" else 1e-12  # flat at t = 1: σ' = 0
    for dtype, atol in ((torch.float64, accuracy), (torch.float32, 1e6 * accuracy)):
        close(schedule.time(schedule.total_noise(t.to(dtype))), t.to(dtype), rtol=0, atol=atol)


@pytest.mark.parametrize("batch", [4, 7])
def test_radd_times(golden: Golden, batch: int) -> None:
    """ "vdm" is one shift for the whole batch and a point in each stratum: a global batch's slots here."""
    case = golden("radd_time_samplers")
    generator = given(shared_time=case.tensor(f"u_B{batch}")[0])
    slots = torch.arange(batch, dtype=torch.float64) / batch
    ours = time_points(batch, generator=replace(generator, strata=slots))
    close(ours, case.tensor(f"vdm_B{batch}").double(), rtol=0, atol=1e-7)


def test_radd_masks(golden: Golden) -> None:
    case = golden("radd_time_samplers")
    x, u, process = case.tensor("x"), case.tensor("u"), Absorbing(9)
    generator = given(corrupt=u, corrupt_token=u)
    for sigma, target in (
        (case.tensor("sigma", torch.float64), "add_noise_t"),
        (-torch.log1p(-case.tensor("lam", torch.float64))[:, None], "add_noise_lambda"),
    ):
        assert torch.equal(process.corrupt(x, sigma, generator=generator), case.tensor(target))
    model = Diffusion(Said(x, torch.zeros(*x.shape, 9), process), process, LogLinear(), Conditional())
    k, order = case.tensor("k"), given(mask=case.tensor("perm") / 13)
    masks, xt, _ = mask_exactly(model, Sequences.full(x), (k - 0.5) / 13, generator=order)
    assert torch.equal(masks, k)
    assert torch.equal(xt, case.tensor("add_noise_k"))


def test_mdlm_corruption(golden: Golden) -> None:
    case = golden("mdlm_time_samplers")
    sigma, u = -torch.log1p(-case.tensor("move_chance").double()), case.tensor("u")
    ours = Absorbing(9).corrupt(case.tensor("x"), sigma, generator=given(corrupt=u, corrupt_token=u))
    assert torch.equal(ours, case.tensor("xt"))


@pytest.mark.parametrize("power", ["1", "2.0", "3.0"])
def test_flow_matching_path(golden: Golden, power: str) -> None:
    """The mixture path from uniform noise x_0 to data x_1 is the uniform process with α = κ(t), time reversed."""
    case = golden("flow_matching_discrete_V6")
    noise, data, size = case.tensor("x_0"), case.tensor("x_1"), case.case["meta"]["V"]
    sigma = -float(power) * case.tensor("t").log()[:, None]
    close(-torch.expm1(-sigma).expand(data.shape), case.tensor(f"n{power}_p_source"), rtol=1e-14)
    numbers = given(corrupt=case.tensor("u_path"), corrupt_token=(noise + 0.5) / size)
    assert torch.equal(Uniform(size).corrupt(data, sigma, generator=numbers), case.tensor(f"n{power}_x_t"))
