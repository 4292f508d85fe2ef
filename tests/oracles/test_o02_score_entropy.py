"""O2: the integrated score entropy(x0) + KL(p_{1|0}(·|x0) ‖ p_1) = −log p0(x0), with the exact score."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.losses import Loss, ScoreEntropy
from discdiff.schedules import Cosine, LogLinear, Schedule
from tests.cases import LOSSES, MODELS, PROCESSES, build
from tests.expectations import expected_losses
from tests.toys import TOYS, Array, Toy, index_of, legendre

T_MIN = 1e-18
"""The integral starts at t = 0, up to less than the last digit of its first node."""


def cubic(points: int) -> tuple[Array, Array]:
    """Gauss-Legendre in u, t = u³: the integrand has a logarithm at t = 0."""
    u, w = legendre(points)
    return u**3, 3 * u**2 * w


def error_of(loss: Loss, process: str, parameterization: str, toy: Toy, schedule: Schedule) -> float:
    """The largest |integral + KL + log p0(x0)| over all x0 that can occur."""
    model = build(process, parameterization, toy=toy, schedule=schedule)
    case, x0 = PROCESSES[process], torch.from_numpy(toy.support)
    integral = expected_losses(loss, LOSSES["dse"], case, model, x0, points=400, grid=cubic)
    transition = case.transition(toy.vocab_size, schedule.ends()[1])
    p1 = toy.noised(transition)
    conditional = toy.likelihoods(transition)[:, index_of(x0, toy.vocab_size).numpy()]
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.where(conditional > 0, conditional * np.log(conditional / p1[:, None]), 0).sum(0)
    return float(np.abs(integral + kl + np.log(toy.probabilities[toy.probabilities > 0])).max())


@pytest.mark.parametrize("toy", [TOYS["dense3x2"], TOYS["dense2x4"], TOYS["parity2x4"]], ids=lambda toy: toy.name)
@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_equals_the_likelihood(process: str, parameterization: str, toy: Toy) -> None:
    """1e-9, at every x0; 400 points."""
    assert error_of(ScoreEntropy(), process, parameterization, toy, LogLinear(t_min=T_MIN)) < 1e-9


@pytest.mark.parametrize("process", PROCESSES)
def test_equals_the_likelihood_along_another_schedule(process: str) -> None:
    """The same along the cosine schedule."""
    assert error_of(ScoreEntropy(), process, "denoiser", TOYS["dense3x2"], Cosine(t_min=1e-9)) < 1e-9
