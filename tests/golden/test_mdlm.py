"""MDLM's network through our predictions: loss, score, and the laws of its samplers' steps."""

from __future__ import annotations

import pytest
import torch

from discdiff.losses import D3PM, TimeCrossEntropy
from discdiff.model import Diffusion
from discdiff.networks.base import Context
from discdiff.parameterizations import Denoiser, Score
from discdiff.prediction import positions_of
from discdiff.processes.absorbing import Absorbing
from discdiff.schedules import LogLinear, Schedule
from discdiff.sequences import Sequences
from tests.conftest import GoldenCase
from tests.golden.replay import Golden, Untimed, close, masks_at, normalized, points_of
from tests.golden.test_networks import network

SCHEDULE = LogLinear(1e-3)


def subs(case: GoldenCase) -> tuple[Diffusion, Absorbing]:
    """Without time conditioning: the network is shown σ = 0 always."""
    process = Absorbing(case.case["meta"]["tokens"])
    net = Untimed(network(case, process, Denoiser(), torch.float64))
    return Diffusion(net, process, SCHEDULE, Denoiser()), process


@torch.no_grad()
def test_loss(golden: Golden) -> None:
    """Nats per sequence; theirs are per token, without the factor 1 − t_min."""
    case = golden("mdlm_transformer_subs")
    model, process = subs(case)
    draws = masks_at(case.tensor("xt"), process, time=points_of(case.tensor("t"), SCHEDULE))
    values = TimeCrossEntropy()(model, Sequences.full(case.tensor("x0")), generator=draws)
    close(values / (1 - SCHEDULE.t_min), case.tensor("nll_f64").sum(-1), rtol=1e-12)


@torch.no_grad()
def test_denoiser(golden: Golden) -> None:
    """Clean tokens stay, and the mask has no probability: theirs has e^(−1e6) there."""
    case = golden("mdlm_transformer_subs")
    model, process = subs(case)
    xt = case.tensor("xt")
    law = process.states(model.predict(xt, case.tensor("sigma", torch.float64)[:, None]).log_denoiser(), -torch.inf)
    for name in ("subs", "T16_subs_model", "T1000_subs_model"):
        close(law.exp().float(), case.tensor(name).exp(), rtol=1e-4, atol=1e-7)


@torch.no_grad()
def test_score_read_from_the_denoiser(golden: Golden) -> None:
    """Theirs in float32; at masks, since elsewhere the absorbing score is no function of the denoiser."""
    case = golden("mdlm_transformer_subs")
    model, process = subs(case)
    xt = case.tensor("xt")
    score = model.predict(xt, case.tensor("sigma", torch.float64)[:, None]).log_score().exp()
    masked = process.active(xt)
    close(score[masked].float(), case.tensor("subs_score")[masked], rtol=1e-5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("predictor", ["ddpm", "ddpm_cache", "analytic"])
@pytest.mark.parametrize("number", [0, 1])
def test_sampler_step(golden: Golden, predictor: str, number: int) -> None:
    """At the masks, normalised: two of theirs lack the factor 1/(1 − α_t), and all restore clean tokens afterwards."""
    case = golden("mdlm_transformer_subs")
    model, process = subs(case)
    xt, t = case.tensor("xt"), case.tensor("t_step", torch.float64)
    sigma, sigma_next = (SCHEDULE.total_noise(time) for time in (t, t - (1 / 64, 0.1)[number]))
    law, masked = model.predict(xt, sigma).posterior(sigma_next), process.active(xt)
    theirs = normalized(case.tensor(f"probs_{predictor}_dt{number}"))
    close(law[masked].float(), theirs[masked], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_last_step(golden: Golden) -> None:
    case = golden("mdlm_transformer_subs")
    model, process = subs(case)
    xt, t = case.tensor("xt"), case.tensor("t_step", torch.float64)
    law = model.predict(xt, SCHEDULE.total_noise(t)).posterior(torch.zeros_like(t))
    masked, theirs = process.active(xt), process.content(case.tensor("probs_denoiser"))
    close(process.content(law)[masked].float(), normalized(theirs)[masked], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_score_parameterization(golden: Golden) -> None:
    """The same weights as a score network, with time: SEDD's output scale, and the score entropy per token."""
    case = golden("mdlm_transformer_subs")
    process, xt = Absorbing(case.case["meta"]["tokens"]), case.tensor("xt")
    net = network(case, process, Score(), torch.float64)
    sigma = SCHEDULE.total_noise(case.tensor("t", torch.float64))[:, None]
    prediction = Diffusion(net, process, SCHEDULE, Score()).predict(xt, sigma)
    masked = process.active(xt)
    log_score = prediction.log_score()[masked].float()
    close(log_score, case.tensor("sedd_log_score")[masked], rtol=1e-5, atol=1e-5)
    entropy = torch.zeros(xt.shape, dtype=torch.float64)
    entropy[masked] = prediction.score_entropy(case.tensor("x0"), positions_of(masked))
    rate = SCHEDULE.noise_rate(case.tensor("t", torch.float64))[:, None]
    close((rate * entropy).float(), case.tensor("sedd_loss"), rtol=1e-5)


class LinearInTime(D3PM):
    """D3PM on α = 1 − t, which their discrete loss has whatever its schedule."""

    def levels(self, schedule: Schedule) -> torch.Tensor:
        return -torch.log1p(-torch.linspace(0, 1, self.steps + 1, dtype=torch.float64))


@torch.no_grad()
@pytest.mark.parametrize("steps", [16, 1000])
def test_discrete_loss(golden: Golden, steps: int) -> None:
    """T steps through our loss, which the SUBS and the masked D3PM form of theirs are. None is at t = 1."""
    case = golden("mdlm_transformer_subs")
    model, process = subs(case)
    draws = masks_at(case.tensor("xt"), process, time=case.tensor(f"t_T{steps}") - 0.5 / steps)
    values = LinearInTime(steps)(model, Sequences.full(case.tensor("x0")), generator=draws)
    for name in ("subs_loss", "subs_full", "d3pm_masked_loss"):
        close(values.float(), case.tensor(f"T{steps}_{name}").sum(-1), rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("steps", [16, 1000])
def test_d3pm_form(golden: Golden, steps: int) -> None:
    """A softmax at every position. Without SUBS it gives probability to the mask, which our denoiser never has: ours is
    theirs given that it is no mask. Reconstruction is read from the clean sequence, where our bound has no term."""
    case = golden("mdlm_transformer_subs")
    model, process = subs(case)

    def said(tokens: torch.Tensor) -> torch.Tensor:
        shown = torch.zeros(len(tokens), 1, dtype=torch.float64)
        return model.network.head(model.network.hidden(tokens, shown, Context())).log_softmax(-1)

    law = said(case.tensor("xt")).float()
    for name in ("d3pm_model", "d3pm_masked_model"):
        close(law, process.content(case.tensor(f"T{steps}_{name}")).log_softmax(-1), rtol=0, atol=3e-5)
    assert float(case.tensor(f"T{steps}_d3pm_model")[..., -1].exp().min()) > 1e-3
    reconstruction = -said(case.tensor("x0")).gather(-1, case.tensor("x0")[..., None])[..., 0]
    theirs = case.tensor(f"T{steps}_d3pm_masked_full") - case.tensor(f"T{steps}_d3pm_masked_loss")
    close(reconstruction.float(), theirs, rtol=1e-5, atol=1e-5)
