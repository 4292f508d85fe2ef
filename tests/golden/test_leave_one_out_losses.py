"""Duo, EvoDiff and flow matching through the losses themselves, on their draws and their networks' logits.

Convention map: UDLM, Duo and D3PM put softmax(logits) in the place of x0 in q(x_s | xt, x0), which is our
`LeaveOneOut`; flow matching's p_{1|t} and D3PM's cross-entropy are posteriors, our `Denoiser`. Flow matching runs from
noise at 0 to data at 1: its κ(t) is our α, its t our 1 − t.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discdiff.losses import ContinuousELBO, CrossEntropy, GeneralizedKL
from discdiff.model import Diffusion
from discdiff.parameterizations import Denoiser, LeaveOneOut
from discdiff.processes.uniform import Uniform
from discdiff.schedules import LogLinear, Schedule
from discdiff.sequences import Sequences
from tests.golden.replay import Golden, Said, close, given, points_of


@pytest.mark.parametrize("size", [6, 33])
def test_duo_loss(golden: Golden, size: int) -> None:
    """Their logits as they are: the border that `LeaveOneOut` keeps is the whole map."""
    case, schedule, process = golden(f"duo_uniform_V{size}"), LogLinear(1e-3), Uniform(size)
    t, xt = case.tensor("t"), case.tensor("xt")
    model = Diffusion(Said(xt, case.tensor("logits", torch.float64), process), process, schedule, LeaveOneOut())
    draws = given(time=points_of(t, schedule), corrupt=torch.zeros_like(xt), corrupt_token=(xt + 0.5) / size)
    values = ContinuousELBO()(model, Sequences.full(case.tensor("x0")), generator=draws)
    close(values / (1 - schedule.t_min), case.tensor("nll_loglinear").sum(-1), rtol=1e-10)


class Powers(Schedule):
    """α(t) = (1 − t)^n: their polynomial convex scheduler, read backwards."""

    def __init__(self, power: float) -> None:
        self.power, self.t_min = power, 1e-3

    def total_noise(self, t: Tensor) -> Tensor:
        return -self.power * torch.log1p(-t)

    def noise_rate(self, t: Tensor) -> Tensor:
        return self.power / (1 - t)

    def time(self, sigma: Tensor) -> Tensor:
        return -torch.expm1(-sigma / self.power)


@pytest.mark.parametrize("power", ["1", "2.0", "3.0"])
def test_flow_matching_generalized_kl(golden: Golden, power: str) -> None:
    """Sum over positions of each row, from their uniform numbers on: xt is drawn by the loss."""
    case = golden("flow_matching_discrete_V6")
    schedule, size = Powers(float(power)), case.case["meta"]["V"]
    process, xt = Uniform(size), case.tensor(f"n{power}_x_t")
    model = Diffusion(Said(xt, case.tensor("logits", torch.float64), process), process, schedule, Denoiser())
    draws = given(
        time=points_of(1 - case.tensor("t", torch.float64), schedule),
        corrupt=case.tensor("u_path"),
        corrupt_token=(case.tensor("x_0") + 0.5) / size,
    )
    values = GeneralizedKL()(model, Sequences.full(case.tensor("x_1")), generator=draws)
    close(values / (1 - schedule.t_min), case.tensor(f"n{power}_loss_none").sum(-1), rtol=1e-9)
    close(values.sum() / (1 - schedule.t_min), case.tensor(f"n{power}_loss_sum"), rtol=1e-9)
    close(values.sum() / (1 - schedule.t_min) / xt.numel(), case.tensor(f"n{power}_loss_mean"), rtol=1e-9)


def test_evodiff_cross_entropy(golden: Golden) -> None:
    """Mean over tokens, padding left out; their alphabet's first K columns."""
    case = golden("evodiff_d3pm_lvb")
    size, lengths = case.case["meta"]["K"], torch.tensor(case.case["meta"]["lens"])
    process, schedule = Uniform(size), LogLinear()
    xt = torch.where(case.tensor("input_mask") > 0, case.tensor("uniform_src"), 0)
    x0 = torch.where(case.tensor("input_mask") > 0, case.tensor("tgt"), 0)
    said = case.tensor("pred", torch.float64)[..., :size]
    model = Diffusion(Said(xt, said, process), process, schedule, Denoiser())
    draws = given(time=torch.full((3,), 0.5), corrupt=torch.zeros_like(xt), corrupt_token=(xt + 0.5) / size)
    values = CrossEntropy()(model, Sequences(x0, lengths), generator=draws)
    close((values.sum() / lengths.sum()).float(), case.tensor("d3pm_ce"), rtol=1e-6)
