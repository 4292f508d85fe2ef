"""What likelihoods refuse."""

from __future__ import annotations

import pytest
import torch

from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.likelihood import any_order_likelihood, conditional_likelihood, nelbo, ordered_likelihood
from tests.cases import build
from tests.likelihood.truths import CLEAN, TOY, X0, keys, wrong


def test_refusals() -> None:
    ones = torch.ones_like(X0, dtype=torch.bool)
    with pytest.raises(IncompatibleError, match="absorbing process"):
        ordered_likelihood(build("uniform", "denoiser", toy=TOY), CLEAN)
    with pytest.raises(IncompatibleError, match="absorbing process"):
        any_order_likelihood(build("uniform", "denoiser", toy=TOY), CLEAN, generator=keys())
    with pytest.raises(IncompatibleError, match="permutations"):
        ordered_likelihood(wrong(), CLEAN, order=torch.tensor([0, 0, 1]))
    with pytest.raises(IncompatibleError, match="left_to_right"):
        ordered_likelihood(wrong(), CLEAN, order="backwards")  # type: ignore[arg-type]
    with pytest.raises(IncompatibleError, match="span"):
        conditional_likelihood(wrong(), CLEAN, ones[:, :2], generator=keys())
    with pytest.raises(DiscdiffError, match="at least one token"):
        conditional_likelihood(wrong(), CLEAN, ~ones, generator=keys())
    with pytest.raises(DiscdiffError, match="generator"):
        ordered_likelihood(wrong(), CLEAN, order="random")
    with pytest.raises(DiscdiffError, match="orders=1"):
        any_order_likelihood(wrong(), CLEAN, generator=keys(), orders=1)
    with pytest.raises(DiscdiffError, match="tolerance"):
        nelbo(wrong(), CLEAN, generator=keys(), tolerance=0.0)
    with pytest.raises(DiscdiffError, match="max_samples"):
        nelbo(wrong(), CLEAN, generator=keys(), tolerance=0.1, max_samples=4)
