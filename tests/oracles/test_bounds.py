"""Losses that bound the likelihood, beside the score entropy: what each misses of −log p0(x0), to the digit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from discdiff.losses import D3PM, ContinuousELBO, GeneralizedKL, Loss
from discdiff.samplers import Ancestral
from discdiff.schedules import LogLinear
from tests.cases import LOSSES, MODELS, PROCESSES, build, serves
from tests.expectations import expected_losses
from tests.laws import clean_part, grid_law, slope
from tests.oracles.test_o02_score_entropy import T_MIN, cubic
from tests.oracles.test_o02_score_entropy import error_of as integral_error
from tests.toys import TOYS, Array, Toy, dense, every_sequence

TOY, LETTER = TOYS["dense3x2"], dense(3, 1)
SCHEDULE = LogLinear(t_min=T_MIN)
DENOISERS = [model for model in MODELS if serves(LOSSES["d3pm"], *model)]
MIXTURES = [model for model in MODELS if serves(LOSSES["generalized_kl"], *model)]


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_continuous_elbo_equals_the_likelihood(process: str, parameterization: str) -> None:
    """With the exact network and the prior term: 1e-9 at every x0."""
    assert integral_error(ContinuousELBO(), process, parameterization, TOY, SCHEDULE) < 1e-9


def prior(process: str, toy: Toy, law: Array) -> Array:
    """KL(q(x_1 | x0) ‖ law) for each x0, `[V^L]`."""
    conditional = toy.likelihoods(PROCESSES[process].transition(toy.vocab_size, SCHEDULE.ends()[1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(conditional > 0, conditional * np.log(conditional / law[:, None]), 0).sum(0))


def noise(process: str, toy: Toy) -> Array:
    """p_1, `[S^L]`."""
    return toy.noised(PROCESSES[process].transition(toy.vocab_size, SCHEDULE.ends()[1]))


def discrete(loss: Loss, process: str, parameterization: str, toy: Toy) -> Array:
    """E loss for every x0, `[V^L]`."""
    model = build(process, parameterization, toy=toy, schedule=SCHEDULE)
    return expected_losses(loss, LOSSES["d3pm"], PROCESSES[process], model, torch.from_numpy(toy.sequences))


def enumerated(process: str, toy: Toy, steps: int, auxiliary: float) -> Array:
    """Σ_k E KL(q(x_s | xt, x0) ‖ Σ p(x0|xt) q) + a mean_k E −log p(x0 | xt) in NumPy, for every x0."""
    sigmas = [0.0, *(-np.log1p(-(1 - 1e-3) * k / steps) for k in range(1, steps + 1))]
    total = np.zeros(len(toy.sequences))
    for sigma_next, sigma in itertools.pairwise(sigmas):
        case, size = PROCESSES[process], toy.vocab_size
        now, later, step = (case.transition(size, s) for s in (sigma, sigma_next, sigma - sigma_next))
        x = every_sequence(len(now), toy.length)
        with np.errstate(divide="ignore", invalid="ignore"):
            bridge = step[:, :, None] * later[None, :, :size] / now[:, None, :size]  # [x, y, x0]
            denoiser = np.nan_to_num(toy.denoiser(now))
            mixed = (denoiser[:, :, None, :] * np.nan_to_num(bridge)[x]).sum(-1)
            for k, x0 in enumerate(toy.sequences):
                chance = toy.likelihoods(now)[:, k]
                for i, token in enumerate(x0):
                    q = bridge[x[:, i], :, token]
                    kl = np.where(q > 0, q * np.log(q / mixed[:, i]), 0).sum(-1)
                    nll = -np.log(denoiser[:, i, token])
                    each = np.where(chance > 0, kl + auxiliary / steps * nll, 0)
                    total[k] += (chance * each).sum()
    return total


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("process", "parameterization"), DENOISERS)
def test_d3pm_is_its_definition(process: str, parameterization: str, steps: int) -> None:
    """At every x0, auxiliary term included: 1e-11."""
    found = discrete(D3PM(steps, auxiliary=0.3), process, parameterization, TOY)
    np.testing.assert_allclose(found, enumerated(process, TOY, steps, 0.3), atol=1e-11)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize(("process", "parameterization"), DENOISERS)
def test_d3pm_of_one_position_is_the_likelihood(process: str, parameterization: str, steps: int) -> None:
    """Nothing is drawn in parallel then: with p_1 as prior the bound of any number of steps is an equality, 1e-11."""
    bound = discrete(D3PM(steps), process, parameterization, LETTER) + prior(process, LETTER, noise(process, LETTER))
    np.testing.assert_allclose(bound, -np.log(LETTER.probabilities), atol=1e-11)


@pytest.mark.parametrize("process", PROCESSES)
def test_d3pm_bounds_the_sampler(process: str) -> None:
    """−log of the enumerated law of ancestral sampling on the same levels is below it, at every x0."""
    model, p1 = build(process, "denoiser", toy=TOY, schedule=SCHEDULE), noise(process, TOY)
    bound = discrete(D3PM(4), process, "denoiser", TOY) + prior(process, TOY, p1)
    law = clean_part(grid_law(model, Ancestral(), 4, TOY.length, start=p1), TOY, model.process.num_states)
    assert (bound > -np.log(law)).all()
    assert bound @ TOY.probabilities > -(TOY.probabilities * np.log(TOY.probabilities)).sum() + 0.01


@pytest.mark.parametrize("process", PROCESSES)
def test_d3pm_tends_to_the_continuous_bound(process: str) -> None:
    """Slope 1 ± 0.1 in the number of steps."""
    model, x0 = build(process, "denoiser", toy=TOY, schedule=SCHEDULE), torch.from_numpy(TOY.sequences)
    limit = expected_losses(ContinuousELBO(), LOSSES["elbo"], PROCESSES[process], model, x0, points=400, grid=cubic)
    steps = [16, 32, 64, 128]
    gaps = [float((discrete(D3PM(n), process, "denoiser", TOY) - limit) @ TOY.probabilities) for n in steps]
    assert min(gaps) > 0
    assert slope(steps, gaps) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("process", "parameterization"), MIXTURES)
def test_generalized_kl_bounds_the_likelihood(process: str, parameterization: str) -> None:
    """From above in the mean; an equality where noise is revealed (1e-9), and only there: above 0.005 nats elsewhere.

    Its chain visits the same marginals on other paths than the time reversal.
    """
    model, x0 = build(process, parameterization, toy=TOY, schedule=SCHEDULE), torch.from_numpy(TOY.sequences)
    case = PROCESSES[process]
    integral = expected_losses(GeneralizedKL(), LOSSES["generalized_kl"], case, model, x0, points=400, grid=cubic)
    gap = integral + prior(process, TOY, noise(process, TOY)) + np.log(TOY.probabilities)
    if model.process.reveals_noise:
        assert np.abs(gap).max() < 1e-9
    else:
        assert (gap > 0).all()
        assert gap @ TOY.probabilities > 0.005
