"""O3: what a wrong network costs, to the digit, by every loss that is a bound, on every process that it is for.

Each expected loss is the entropy of the data, plus a divergence between what the exact and the wrong network say.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from discdiff.losses import D3PM, GeneralizedKL, Loss
from discdiff.model import Diffusion
from discdiff.networks import Network
from discdiff.schedules import LogLinear
from tests.cases import LOSSES, MODELS, PARAMETERIZATIONS, PROCESSES, build, serves
from tests.expectations import expected_losses
from tests.laws import slope
from tests.oracles.test_o01_masked_losses import WHOLE_RANGE
from tests.oracles.test_o02_score_entropy import T_MIN, cubic
from tests.toy_networks import Wrong
from tests.toys import TOYS, Toy, every_sequence, legendre

TOY = TOYS["dense3x2"]
ENTROPY = float(-(TOY.probabilities * np.log(TOY.probabilities)).sum())
SCHEDULE = LogLinear(t_min=T_MIN)
INTEGRALS = ["dse", "elbo", "t_dce"]
"""Integrals over time of the score entropy, in different forms."""


def wrong(toy: Toy, num_states: int) -> Network:
    return Wrong(toy, num_states, 0.4)


def model_of(process: str, parameterization: str, *, right: bool = False) -> Diffusion:
    return build(process, parameterization, toy=TOY, schedule=SCHEDULE, network=None if right else wrong)


def mean_loss(loss: Loss, name: str, process: str, model: Diffusion, **options: object) -> float:
    """E loss over x0 ~ p0 too."""
    x0 = torch.from_numpy(TOY.sequences)
    values = expected_losses(loss, LOSSES[name], PROCESSES[process], model, x0, **options)  # type: ignore[arg-type]
    return float(values @ TOY.probabilities)


def prior_term(process: str) -> float:
    """E KL(p_{1|0} ‖ p_1)."""
    last = PROCESSES[process].transition(TOY.vocab_size, SCHEDULE.ends()[1])
    conditional, p1 = TOY.likelihoods(last), TOY.noised(last)
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.where(conditional > 0, conditional * np.log(conditional / p1[:, None]), 0)
    return float(kl.sum(0) @ TOY.probabilities)


def readings(model: Diffusion, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Every state `[S^L, L]` and its noise `[S^L, 1]`."""
    states = torch.from_numpy(every_sequence(model.process.num_states, TOY.length))
    return states, torch.full((len(states), 1), sigma, dtype=torch.float64)


def score_gap(process: str, model: Diffusion) -> float:
    """∫ E_pt Σ_y Q_t[x, y] (ŝ − ρ + ρ log(ρ/ŝ)) dt, ρ the marginal ratio."""
    case, gap = PROCESSES[process], 0.0
    rates = case.rates(TOY.vocab_size)
    x = every_sequence(len(rates), TOY.length)
    into = rates[x] * (np.arange(len(rates)) != x[..., None])  # Q[x_i, y], y ≠ x_i
    for t, weight in zip(*cubic(200), strict=True):
        time = torch.tensor(t, dtype=torch.float64)
        sigma, rate = float(SCHEDULE.total_noise(time)), float(SCHEDULE.noise_rate(time))
        transition = case.transition(TOY.vocab_size, sigma)
        log_s = model.predict(*readings(model, sigma)).log_score().numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = TOY.score(transition)
            terms = np.where(into > 0, into * (np.exp(log_s) - ratio + ratio * (np.log(ratio) - log_s)), 0)
        gap += weight * rate * (TOY.noised(transition) * terms.sum((-1, -2))).sum()
    return gap


@pytest.mark.parametrize(
    ("process", "parameterization", "name"),
    [(*model, name) for model in MODELS for name in INTEGRALS if serves(LOSSES[name], *model)],
)
def test_integrals_over_time(process: str, parameterization: str, name: str) -> None:
    """E loss + E KL(p_1|0 ‖ p_1) = H(p0) + ∫ E_pt Σ_y Q (ŝ − ρ + ρ log(ρ/ŝ)) dt; 1e-8."""
    model = model_of(process, parameterization)
    loss = mean_loss(LOSSES[name].make(), name, process, model, points=200, grid=cubic)
    gap = score_gap(process, model)
    assert loss + prior_term(process) == pytest.approx(ENTROPY + gap, abs=1e-8)
    assert gap > 0.01


def masked_gap(model: Diffusion) -> float:
    """∫ dλ/λ E_xλ Σ_masked Σ_v (p̃ − p + p log(p/p̃)), p̃ = s (e^σ − 1): over the whole of (0, 1]."""
    gap, size = 0.0, TOY.vocab_size
    for u, weight in zip(*legendre(24), strict=True):
        sigma, fraction = -np.log(u), 1 - u
        transition = PROCESSES["absorbing"].transition(size, sigma)
        states, noise = readings(model, sigma)
        said = model.predict(states, noise).log_score()[..., :size].exp().numpy() * np.expm1(sigma)
        p, masked = TOY.denoiser(transition), (states == size).numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(masked[..., None], said - p + p * np.log(p / said), 0)
        gap += weight / fraction * float((TOY.noised(transition) * terms.sum((-1, -2))).sum())
    return gap


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("name", ["lambda_dce", "k_dce"])
def test_masked_cross_entropies(name: str, parameterization: str) -> None:
    """E loss = H(p0) + the same divergence over all mask fractions, with no prior term; 1e-8."""
    model = build("absorbing", parameterization, toy=TOY, schedule=WHOLE_RANGE, network=wrong)
    loss = mean_loss(LOSSES[name].make(), name, "absorbing", model, points=24)
    gap = masked_gap(model)
    assert loss == pytest.approx(ENTROPY + gap, abs=1e-8)
    assert gap > 0.01


# ---- bounds that are no equality at the exact network ---------------------------------------------------------------
def step_gap(process: str, model: Diffusion, steps: int) -> float:
    """Σ_k E_xt Σ_i KL(p(x_{k−1},i | x_k) ‖ p̂(x_{k−1},i | x_k)), both Σ_x0 p(x0_i | x_k) q(· | x_k, x0)."""
    case, size, gap = PROCESSES[process], TOY.vocab_size, 0.0
    for sigma_next, sigma in itertools.pairwise(D3PM(steps).levels(SCHEDULE).tolist()):
        now, later, step = (case.transition(size, s) for s in (sigma, sigma_next, sigma - sigma_next))
        states, noise = readings(model, sigma)
        x = states.numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            bridge = np.nan_to_num(step[:, :, None] * later[None, :, :size] / now[:, None, :size])[x]  # [x, i, y, x0]
            exact = (bridge * np.nan_to_num(TOY.denoiser(now))[:, :, None]).sum(-1)
            said = (bridge * model.predict(states, noise).log_denoiser().exp().numpy()[:, :, None]).sum(-1)
            terms = np.where(exact > 0, exact * np.log(exact / said), 0)
        gap += float((TOY.noised(now) * terms.sum((-1, -2))).sum())
    return gap


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("process", "parameterization"), [model for model in MODELS if serves(LOSSES["d3pm"], *model)])
def test_steps(process: str, parameterization: str, steps: int) -> None:
    """D3PM: E loss is the exact network's plus the divergence of every step's law at every position; 1e-10."""
    model, right = model_of(process, parameterization), model_of(process, parameterization, right=True)
    loss, least = (mean_loss(D3PM(steps), "d3pm", process, each) for each in (model, right))
    gap = step_gap(process, model, steps)
    assert loss - least == pytest.approx(gap, abs=1e-10)
    assert least + prior_term(process) >= ENTROPY - 1e-10
    assert gap > 0.01


@pytest.mark.parametrize("process", PROCESSES)
def test_steps_tend_to_the_integral(process: str) -> None:
    """What a wrong denoiser costs in T steps nears what it costs in continuous time, as 1/T: slope 1 ± 0.15."""
    model, steps = model_of(process, "denoiser"), [16, 32, 64, 128]
    limit = score_gap(process, model)
    errors = [abs(step_gap(process, model, n) - limit) for n in steps]
    assert slope(steps, errors) == pytest.approx(1, abs=0.15)
    assert errors[-1] < 0.05 * limit


def mixture_gap(process: str, model: Diffusion) -> float:
    """∫ dt σ'/(e^σ − 1) E_pt Σ_i Σ_{y≠x} (p̂_y − p_y + p_y log(p_y/p̂_y)), p = p(x0_i = y | xt)."""
    case, size, gap = PROCESSES[process], TOY.vocab_size, 0.0
    for t, weight in zip(*cubic(200), strict=True):
        time = torch.tensor(t, dtype=torch.float64)
        sigma, rate = float(SCHEDULE.total_noise(time)), float(SCHEDULE.noise_rate(time))
        transition = case.transition(size, sigma)
        states, noise = readings(model, sigma)
        p, said = TOY.denoiser(transition), model.predict(states, noise).log_denoiser().exp().numpy()
        other = np.arange(size) != states.numpy()[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(other & (p > 0), said - p + p * np.log(p / said), np.where(other & (said > 0), said, 0))
        gap += weight * rate / np.expm1(sigma) * float((TOY.noised(transition) * terms.sum((-1, -2))).sum())
    return gap


@pytest.mark.parametrize(
    ("process", "parameterization"), [model for model in MODELS if serves(LOSSES["generalized_kl"], *model)]
)
def test_mixture_path(process: str, parameterization: str) -> None:
    """The generalised KL: E loss is the exact network's plus that of the exact rates from the wrong ones; 1e-8."""
    model, right = model_of(process, parameterization), model_of(process, parameterization, right=True)
    loss, least = (
        mean_loss(GeneralizedKL(), "generalized_kl", process, each, points=200, grid=cubic) for each in (model, right)
    )
    gap = mixture_gap(process, model)
    assert loss - least == pytest.approx(gap, abs=1e-8)
    assert gap > 0.01


def test_gaps_tell_losses_apart() -> None:
    """Two bounds of one wrong denoiser differ off the absorbing process: by over 0.001 nats on the uniform one."""
    model = model_of("uniform", "denoiser")
    assert abs(mixture_gap("uniform", model) - score_gap("uniform", model)) > 0.001
