"""UDLM, Duo and EvoDiff's uniform D3PM: losses and posteriors of uniform noise, read from a denoiser.

Their networks hold the leave-one-out law p(x0_i | xt without i), put in the place of x0 in a posterior formula. Our
denoisers are the posterior p(x0_i | xt) ∝ leave-one-out · P_σ[xt_i, x0]: the conversion is made at the border, once.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discdiff.losses import D3PM, ScoreEntropy
from discdiff.model import Diffusion
from discdiff.parameterizations import Denoiser, LeaveOneOut
from discdiff.prediction import DenoiserPrediction, positions_of
from discdiff.processes.uniform import Uniform
from discdiff.schedules import LogLinear, Schedule
from discdiff.sequences import Sequences
from tests.conftest import GoldenCase
from tests.golden.replay import Golden, Said, close, denoised, given, points_of, posterior_of
from tests.golden.test_networks import logits, network, same_gradients

SIZES = [6, 33]


def predicted(case: GoldenCase, sigma: Tensor, dtype: torch.dtype = torch.float64) -> DenoiserPrediction:
    process, xt = Uniform(case.case["meta"]["V"]), case.tensor("xt")
    log_p = posterior_of(case.tensor("logits", dtype), process, xt, sigma.to(dtype))
    return denoised(process, xt, sigma.to(dtype), log_p)


def score_entropy(prediction: DenoiserPrediction, x0: Tensor) -> Tensor:
    return prediction.score_entropy(x0, positions_of(torch.ones_like(x0).bool())).view(x0.shape)


def linear_noise(t: Tensor) -> tuple[Tensor, Tensor]:
    """σ and σ' of α = 1 − t, which UDLM's loss has whatever its schedule."""
    return -torch.log1p(-t)[:, None], 1 / (1 - t)[:, None]


@pytest.mark.parametrize("size", SIZES)
def test_udlm_continuous_loss(golden: Golden, size: int) -> None:
    """Their bound's integrand is σ' times our score entropy, in float64 and in float32."""
    case = golden(f"udlm_uniform_V{size}")
    sigma, rate = linear_noise(case.tensor("t"))
    exact = case.tensor("diffusion_loss_exact")
    ours = rate * score_entropy(predicted(case, sigma), case.tensor("x0"))
    close(ours, exact, rtol=1e-12, atol=1e-13)
    close(ours, case.tensor("diffusion_loss"), rtol=1e-10)
    half = rate.float() * score_entropy(predicted(case, sigma, torch.float32), case.tensor("x0"))
    close(half.double(), exact, rtol=2e-6, atol=1e-6)
    close(half, case.tensor("diffusion_loss_f32"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_udlm_reconstruction(golden: Golden, size: int) -> None:
    """−log p(x0): leave-one-out and posterior are one where nothing is noise. Their total is the sum."""
    case, process = golden(f"udlm_uniform_V{size}"), Uniform(size)
    x0, zero = case.tensor("x0"), torch.zeros(len(case.data["x0"]), 1, dtype=torch.float64)
    model = Diffusion(Said(case.tensor("xt"), case.tensor("logits"), process), process, LogLinear(1e-3), Denoiser())
    every = positions_of(torch.ones_like(x0).bool())
    reconstruction = model.predict(case.tensor("xt"), zero).nll(x0, every).view(x0.shape)
    close(reconstruction, case.tensor("recon_loss"), rtol=1e-12)
    sigma, rate = linear_noise(case.tensor("t"))
    total = rate * score_entropy(predicted(case, sigma), x0) + reconstruction
    close(total, case.tensor("loss"), rtol=1e-10)


class LinearInTime(D3PM):
    """D3PM on α = 1 − t, its steps moved by `earlier`."""

    def __init__(self, steps: int, earlier: float) -> None:
        super().__init__(steps)
        self.earlier = earlier

    def levels(self, schedule: Schedule) -> Tensor:
        t = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64) - self.earlier
        return linear_noise(t.clamp(min=0))[0][:, 0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("steps", [10, 1000])
def test_udlm_discrete_loss(golden: Golden, size: int, steps: int) -> None:
    """T KL(q(x_s | xt, x0) ‖ p(x_s | xt)) through the loss itself; their KL cancels, the more the larger T.

    Their step from t = 1 begins and ends 1e-4 earlier, ours at σ = ∞.
    """
    case, process = golden(f"udlm_uniform_V{size}"), Uniform(size)
    xt, t = case.tensor("xt"), case.tensor(f"t_T{steps}")
    model = Diffusion(Said(xt, case.tensor("logits"), process), process, LogLinear(), LeaveOneOut())
    draws = given(time=t - 0.5 / steps, corrupt=torch.zeros_like(xt), corrupt_token=(xt + 0.5) / size)
    x0 = Sequences.full(case.tensor("x0"))
    values, last = (LinearInTime(steps, earlier)(model, x0, generator=draws) for earlier in (0.0, 1e-4))
    ours = torch.where(t > 1 - 1e-4, last, values)
    close(ours, case.tensor(f"d3pm_loss_T{steps}").sum(-1), rtol=1e-10 * steps)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("steps", [10, 1000])
def test_udlm_posteriors(golden: Golden, size: int, steps: int) -> None:
    """Of x0 itself (the bridge) and of the denoiser. They stop at t = 1 − 1e-4; their float error grows with T."""
    case = golden(f"udlm_uniform_V{size}")
    t, xt = case.tensor(f"t_T{steps}").clamp(max=1 - 1e-4), case.tensor("xt")
    sigma, sigma_next = (linear_noise(time)[0].expand(xt.shape) for time in (t, t - 1 / steps))
    bridge = Uniform(size).bridge(xt, case.tensor("x0"), sigma, sigma_next)
    close(bridge, case.tensor(f"posterior_x0_T{steps}"), rtol=1e-12 * steps, atol=1e-15 * steps)
    law = predicted(case, sigma).posterior(sigma_next)
    close(law, case.tensor(f"posterior_theta_T{steps}"), rtol=1e-12 * steps, atol=1e-15 * steps)


@pytest.mark.parametrize("size", SIZES)
def test_udlm_sampler_step(golden: Golden, size: int) -> None:
    case = golden(f"udlm_uniform_V{size}")
    sigma, sigma_next = (-torch.log1p(-case.tensor(f"move_chance_{end}")[..., 0]) for end in "ts")
    close(predicted(case, sigma).posterior(sigma_next), case.tensor("q_xs"), rtol=1e-11)


def test_udlm_network(golden: Golden) -> None:
    """With the network: both losses, and the gradient norms of their sum. It is shown σ(t) of its own schedule."""
    case = golden("udlm_transformer")
    process, t = Uniform(case.case["meta"]["V"]), case.tensor("t", torch.float64)
    x0, xt = case.tensor("x0"), case.tensor("xt")
    net = network(case, process, Denoiser(), torch.float64)
    sigma, rate = linear_noise(t)
    log_p = posterior_of(logits(net, xt, LogLinear(1e-3).total_noise(t)), process, xt, sigma)
    diffusion = rate * score_entropy(denoised(process, xt, sigma, log_p), x0)
    close(diffusion.float(), case.tensor("diffusion_loss"), rtol=3e-6, atol=1e-5)
    clean = logits(net, x0, torch.zeros(len(x0), dtype=torch.float64)).log_softmax(-1)
    reconstruction = -clean.gather(-1, x0[..., None])[..., 0]
    close(reconstruction.float(), case.tensor("recon_loss"), rtol=1e-5)
    close((diffusion + reconstruction).float(), case.tensor("loss"), rtol=3e-6, atol=1e-5)
    same_gradients(net, (diffusion + reconstruction).mean(), case, "", {})


@pytest.mark.parametrize("size", SIZES)
def test_duo_integrand(golden: Golden, size: int) -> None:
    """The Rao-Blackwellised form is the same number.

    Their cosine, α = 1 − sin(π (1 − ε) t / 2), is none of ours; it enters by its α and dα/dt. Of the latter they leave
    out the inner derivative 1 − ε, so that their integrand is too large.
    """
    case = golden(f"duo_uniform_V{size}")
    t, x0 = case.tensor("t"), case.tensor("x0")
    sigma, rate = linear_noise(t)
    close(rate * score_entropy(predicted(case, sigma), x0), case.tensor("nll_udlm_schedule"), rtol=1e-10)
    schedule = LogLinear(1e-3)
    close(torch.exp(-schedule.total_noise(t)), case.tensor("alpha_loglinear"), rtol=1e-13)
    close(schedule.noise_rate(t), -case.tensor("dalpha_loglinear") / case.tensor("alpha_loglinear"), rtol=1e-13)
    for name, factor in (("loglinear", 1.0), ("cosine", 1 - 1e-3)):
        alpha, slope = case.tensor(f"alpha_{name}")[:, None], case.tensor(f"dalpha_{name}")[:, None] * factor
        ours = -slope / alpha * score_entropy(predicted(case, -alpha.log()), x0)
        close(ours, case.tensor(f"nll_{name}") * factor, rtol=1e-10)


@pytest.mark.parametrize("size", SIZES)
def test_duo_loss(golden: Golden, size: int) -> None:
    """The same through the loss itself, on their times and noise."""
    case, schedule, process = golden(f"duo_uniform_V{size}"), LogLinear(1e-3), Uniform(size)
    t, xt = case.tensor("t"), case.tensor("xt")
    log_p = posterior_of(case.tensor("logits"), process, xt, schedule.total_noise(t)[:, None])
    model = Diffusion(Said(xt, log_p, process), process, schedule, Denoiser())
    draws = given(time=points_of(t, schedule), corrupt=torch.zeros_like(xt), corrupt_token=(xt + 0.5) / size)
    values = ScoreEntropy()(model, Sequences.full(case.tensor("x0")), generator=draws)
    close(values / (1 - schedule.t_min), case.tensor("nll_loglinear").sum(-1), rtol=1e-10)


@pytest.mark.parametrize("size", SIZES)
def test_duo_posterior(golden: Golden, size: int) -> None:
    case = golden(f"duo_uniform_V{size}")
    sigma, sigma_next = (linear_noise(t)[0] for t in (case.tensor("t"), 0.9 * case.tensor("t")))
    close(predicted(case, sigma).posterior(sigma_next), case.tensor("posterior"), rtol=1e-11)


def test_evodiff_uniform_bound(golden: Golden) -> None:
    """Σ KL(q(x_s | xt, x0) ‖ p(x_s | xt)) of one D3PM step, mean over positions.

    The published loss multiplies the prediction twice; `exact` does not, and the step from t = 1 is a cross-entropy.
    """
    case = golden("evodiff_d3pm_lvb")
    size, steps = case.case["meta"]["K"], case.tensor("timestep").tolist()
    process = Uniform(size)
    kept = case.tensor("uniform_Qbar")[:, 0, 0] - case.tensor("uniform_Qbar")[:, 0, 1]
    levels = dict(zip(sorted(t for step in steps for t in (step - 1, step)), -kept.log(), strict=True))
    for row, length in enumerate(case.case["meta"]["lens"]):
        x0, xt = (case.tensor(name)[row : row + 1, :length] for name in ("tgt", "uniform_src"))
        said = case.tensor("pred", torch.float64)[row : row + 1, :length, :size]
        if steps[row] == 1:
            value = -said.log_softmax(-1).gather(-1, x0[..., None]).mean()
        else:
            before, after = (levels[t].expand(x0.shape) for t in (steps[row] - 1, steps[row]))
            true = process.bridge(xt, x0, after, before)
            law = denoised(process, xt, after, posterior_of(said, process, xt, after)).posterior(before)
            value = (torch.xlogy(true, true) - true * law.log()).sum(-1).mean()
        close(value, case.tensor("uniform_lvb_correct_per_seq")[row], rtol=1e-6)
