"""MD4: its masking schedules through our losses and posteriors. (V network outputs, mask V, as here.)"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from discdiff.losses import D3PM, ScoreEntropy, TimeCrossEntropy
from discdiff.model import Diffusion
from discdiff.parameterizations import Denoiser
from discdiff.processes.absorbing import Absorbing
from discdiff.samplers import noise_levels
from discdiff.schedules import Schedule
from discdiff.sequences import Sequences
from tests.golden.replay import Golden, Said, close, denoised, masks_at, points_of

KINDS = ["linear", "cosine", "poly2"]


class Masking(Schedule):
    """α(t) = ε + (1 − 2ε) f(t): ε = 1e-4 short of 1 and of 0."""

    t_min = 1e-4

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def alpha(self, t: Tensor) -> Tensor:
        f = {"linear": 1 - t, "cosine": 1 - torch.cos(math.pi / 2 * (1 - t)), "poly2": 1 - t.square()}
        return 1e-4 + (1 - 2e-4) * f[self.kind]

    def total_noise(self, t: Tensor) -> Tensor:
        return -self.alpha(t).log()

    def noise_rate(self, t: Tensor) -> Tensor:
        slope = {"linear": torch.ones_like(t), "cosine": math.pi / 2 * torch.cos(math.pi / 2 * t), "poly2": 2 * t}
        return (1 - 2e-4) * slope[self.kind] / self.alpha(t)

    def time(self, sigma: Tensor) -> Tensor:
        raise NotImplementedError


@pytest.mark.parametrize("kind", KINDS)
def test_schedule_is_theirs(golden: Golden, kind: str) -> None:
    case, schedule = golden("md4_V7"), Masking(kind)
    t = case.tensor("t_grid")
    close(torch.exp(-schedule.total_noise(t)), case.tensor(f"{kind}_alpha"), rtol=1e-11)
    odds = -torch.log(torch.expm1(schedule.total_noise(t)))
    close(odds, case.tensor(f"{kind}_logsnr"), rtol=1e-9, atol=1e-10)
    slope = -torch.exp(-schedule.total_noise(t)) * schedule.noise_rate(t)
    close(slope, case.tensor(f"{kind}_dalpha"), rtol=1e-10, atol=1e-12)
    weight = schedule.noise_rate(t) / torch.expm1(schedule.total_noise(t))
    close(weight, -case.tensor(f"{kind}_weight"), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", [TimeCrossEntropy(), ScoreEntropy()])
def test_continuous_loss(golden: Golden, kind: str, loss: TimeCrossEntropy | ScoreEntropy) -> None:
    """Their loss at their t: an estimator over [t_min, 1] multiplies by 1 − t_min, which theirs leaves out.

    Sample by sample, the score entropy of the denoiser is the same number.
    """
    case, schedule, process = golden("md4_V7"), Masking(kind), Absorbing(7)
    zt = case.tensor("zt")
    model = Diffusion(Said(zt, case.tensor("logits"), process), process, schedule, Denoiser())
    draws = masks_at(zt, process, time=points_of(case.tensor("t"), schedule))
    values = loss(model, Sequences.full(case.tensor("x")), generator=draws)
    close(values / (1 - schedule.t_min), case.tensor(f"{kind}_loss_cont"), rtol=1e-10)


class FromTheirNoise(D3PM):
    """D3PM whose clean end is their t = 0, where a token is still masked with probability ε."""

    def levels(self, schedule: Schedule) -> Tensor:
        return schedule.total_noise(torch.linspace(0, 1, self.steps + 1, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_discrete_loss(golden: Golden, kind: str) -> None:
    """T = 8 steps; t is rounded up to the grid."""
    case, process = golden("md4_V7"), Absorbing(7)
    zt = case.tensor("zt")
    model = Diffusion(Said(zt, case.tensor("logits"), process), process, Masking(kind), Denoiser())
    values = FromTheirNoise(8)(
        model, Sequences.full(case.tensor("x")), generator=masks_at(zt, process, time=case.tensor("t"))
    )
    close(values, case.tensor(f"{kind}_loss_T8"), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_reconstruction_bound(golden: Golden, kind: str) -> None:
    """The constant that they add: what is masked at t = 0, by a uniform guess. Our bounds go to λ = 0 and have none."""
    case, masked = golden("md4_V7"), -torch.expm1(-Masking(kind).total_noise(torch.zeros(1, dtype=torch.float64)))
    length, size = case.data["x"].shape[1], case.case["meta"]["V"]
    close((masked * length * math.log(size))[0], case.tensor(f"{kind}_recon"), rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", ["uniform", "cosine"])
@pytest.mark.parametrize("step", [1, 4])
def test_ancestral_posterior(golden: Golden, kind: str, grid: str, step: int) -> None:
    """At the masks; elsewhere the reference gives weights too, and restores the token after the draw."""
    case, schedule, process = golden("md4_V7"), Masking(kind), Absorbing(7)
    zt = case.tensor("zt")
    s, t = schedule.total_noise(case.tensor(f"grid_{grid}_T8"))[step].expand(len(zt), 2)[..., None].unbind(1)
    law = denoised(process, zt, t, case.tensor("logits")).posterior(s)
    masked = zt == process.mask_id
    close(law[masked], case.tensor(f"{kind}_{grid}_T8_i{step}_probs")[masked], rtol=1e-10)
    close(law[~masked].max(-1).values, torch.ones(int((~masked).sum()), dtype=torch.float64))


def test_uniform_sampling_grid(golden: Golden) -> None:
    levels = noise_levels(Masking("linear"), 8)
    ours = torch.tensor([[level.s, level.t] for level in levels], dtype=torch.float64)
    close(ours, golden("md4_V7").tensor("grid_uniform_T8"), rtol=0, atol=1e-15)
