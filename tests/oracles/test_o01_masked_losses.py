"""O1: with exact conditionals, λ-DCE(x0) = k-DCE(x0) = −log p0(x0) for every x0 that can occur."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.losses import Loss
from discdiff.schedules import LogLinear
from tests.cases import LOSSES, PARAMETERIZATIONS, PROCESSES, build
from tests.expectations import expected_losses
from tests.toys import TOYS, Toy

WHOLE_RANGE = LogLinear(eps=1e-12, t_min=1e-12)
"""Noise from σ = 1e-12 to 28: a score's factor e^σ − 1 is then never clipped at a node."""


def error_of(loss: Loss, name: str, toy: Toy, parameterization: str) -> float:
    """The largest |E loss(x0) + log p0(x0)| over all x0 that can occur."""
    model = build("absorbing", parameterization, toy=toy, schedule=WHOLE_RANGE)
    expected = expected_losses(
        loss, LOSSES[name], PROCESSES["absorbing"], model, torch.from_numpy(toy.support), points=8
    )
    return float(np.abs(expected + np.log(toy.probabilities[toy.probabilities > 0])).max())


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize(
    "toy", [toy for toy in TOYS.values() if not toy.name.endswith("3x2")], ids=lambda toy: toy.name
)
@pytest.mark.parametrize("name", ["lambda_dce", "k_dce"])
def test_equals_the_likelihood(name: str, toy: Toy, parameterization: str) -> None:
    """1e-12: the integrands are polynomials in λ of degree below L, which 8 points integrate exactly."""
    assert error_of(LOSSES[name].make(), name, toy, parameterization) < 1e-12
