"""O3, O4, O5: what a wrong score costs, to the digit; and that the true one leads back from p_1 to p_0."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch

from discdiff.losses import ScoreEntropy
from discdiff.model import Diffusion
from discdiff.schedules import LogLinear
from tests.cases import LOSSES, MODELS, PROCESSES, build
from tests.expectations import expected_losses
from tests.oracles.test_o02_score_entropy import T_MIN, cubic
from tests.toy_networks import Wrong
from tests.toys import TOYS, Array, Integers, every_sequence, total_variation

TOY = TOYS["dense3x2"]


def log_scores(model: Diffusion, sigma: float) -> Array:
    """log s in every state, `[S^L, L, S]`."""
    states = torch.from_numpy(every_sequence(model.process.num_states, TOY.length))
    return model.predict(states, torch.full((len(states), 1), sigma, dtype=torch.float64)).log_score().numpy()


def joint_generator(rates: Array, x: Integers) -> Array:
    """The generator over all sequences `x`, `[S^L, S^L]`, from rates out of each position of each, `[S^L, L, S]`."""
    size, length = rates.shape[-1], x.shape[1]
    generator = np.zeros((len(x), len(x)))
    for i, y in itertools.product(range(length), range(size)):
        moved = x.copy()
        moved[:, i] = y
        target = np.ravel_multi_index(tuple(moved.T), (size,) * length)
        generator[target, np.arange(len(x))] += rates[:, i, y]
    return generator


def reverse_generator(model: Diffusion, sigma: float) -> Array:
    """The library's reverse rates as one generator, per unit of σ."""
    x = every_sequence(model.process.num_states, TOY.length)
    log_s = torch.from_numpy(log_scores(model, sigma))
    return joint_generator(model.process.reverse_rate(log_s, torch.from_numpy(x)).numpy(), x)


def stationarity_error(model: Diffusion, process: str, sigma: float) -> float:
    """The largest |(Q_t + Q̄_t) p_t|, Q̄ the library's reverse generator: 0 for a corrector that leaves p_t alone."""
    case, x = PROCESSES[process], every_sequence(model.process.num_states, TOY.length)
    forward = joint_generator(case.rates(TOY.vocab_size).T[x], x)
    p = TOY.noised(case.transition(TOY.vocab_size, sigma))
    return float(np.abs((forward + reverse_generator(model, sigma)) @ p).max())


@pytest.mark.parametrize("sigma", [1e-3, 0.1, 1.0, 6.0])
@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_forward_and_backward_leave_the_law_alone(process: str, parameterization: str, sigma: float) -> None:
    """O5's identity, (Q + Q̄) p_t = 0, to 1e-12; and Q̄'s columns sum to 0."""
    model = build(process, parameterization, toy=TOY)
    assert stationarity_error(model, process, sigma) < 1e-12
    columns = reverse_generator(model, sigma).sum(0)
    np.testing.assert_allclose(columns / (1 + 1 / sigma), 0, atol=1e-12)


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_gap(process: str, parameterization: str) -> None:
    """E[DSE] + E KL(p_1|0 ‖ p_1) = H(p0) + ∫ E_pt Σ_y Q (ŝ − ρ + ρ log(ρ/ŝ)) dt, ρ the marginal ratio; 1e-8."""
    case, schedule = PROCESSES[process], LogLinear(t_min=T_MIN)
    model = build(process, parameterization, toy=TOY, schedule=schedule, network=lambda t, s: Wrong(t, s, 0.4))
    x0, p0 = torch.from_numpy(TOY.sequences), TOY.probabilities
    loss = expected_losses(ScoreEntropy(), LOSSES["dse"], case, model, x0, points=200, grid=cubic) @ p0
    last = case.transition(TOY.vocab_size, schedule.ends()[1])
    conditional, p1 = TOY.likelihoods(last), TOY.noised(last)
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.where(conditional > 0, conditional * np.log(conditional / p1[:, None]), 0).sum(0) @ p0

    rates = case.rates(TOY.vocab_size)
    x = every_sequence(len(rates), TOY.length)
    into = rates[x] * (np.arange(len(rates)) != x[..., None])  # Q[x_i, y], y ≠ x_i
    nodes, weights = cubic(200)
    gap = 0.0
    for t, weight in zip(nodes, weights, strict=True):
        time = torch.tensor(t, dtype=torch.float64)
        sigma, rate = float(schedule.total_noise(time)), float(schedule.noise_rate(time))
        transition = case.transition(TOY.vocab_size, sigma)
        log_s = log_scores(model, sigma)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = TOY.score(transition)
            terms = np.where(into > 0, into * (np.exp(log_s) - ratio + ratio * (np.log(ratio) - log_s)), 0)
        gap += weight * rate * (TOY.noised(transition) * terms.sum((-1, -2))).sum()
    entropy = -(p0 * np.log(p0)).sum()
    assert loss + kl == pytest.approx(entropy + gap, abs=1e-8)
    assert gap > 0.01


@pytest.mark.parametrize(
    ("process", "parameterization"),
    [("absorbing", "conditional"), *((name, "score") for name, case in PROCESSES.items() if not case.masked)],
)
def test_reverse_generator(process: str, parameterization: str) -> None:
    """300 matrix exponentials of the library's reverse rates carry p_1 back to p_0, to TV 1e-4."""
    case, schedule = PROCESSES[process], LogLinear(eps=1e-3, t_min=1e-6)
    model = build(process, parameterization, toy=TOY, schedule=schedule)
    _size, _length = model.process.num_states, TOY.length
    sigmas = np.geomspace(schedule.ends()[1], 1e-5, 301)
    law = TOY.noised(case.transition(TOY.vocab_size, sigmas[0]))
    for high, low in itertools.pairwise(sigmas):
        generator = reverse_generator(model, float(high + low) / 2)
        law = scipy.linalg.expm((high - low) * generator) @ law
    want = TOY.noised(case.transition(TOY.vocab_size, 1e-5))
    assert total_variation(law, want) < 1e-4
