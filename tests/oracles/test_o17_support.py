"""O17: what the plain sampler may do the weighed one may do too, however unlikely, on every kind of model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import discdiff as dd
from discdiff.constraints import Automaton
from discdiff.languages import compile_expression, regex
from discdiff.model import Diffusion
from discdiff.samplers import GridSampler, Trapezoidal
from tests.cases import build
from tests.laws import clean_part, grid_law
from tests.toys import Array, Integers, Toy, counts_of

WORDS = {4: (16, 14, 18, 3, 5, 25, 2), 5: (22, 15, 12, 10, 8, 14, 25)}
"""Of the 27 sequences of three tokens, by the seed of a table."""


def uneven(seed: int) -> Toy:
    """Three tokens that depend on one another strongly: most sequences are rare."""
    joint = np.random.default_rng(seed).gamma(0.3, size=(3, 3, 3)) + 1e-3
    return Toy(f"uneven{seed}", joint / joint.sum())


def one_of(words: Integers) -> Automaton:
    """Words of three tokens each, int `[N, 3]`."""
    written = "|".join("".join("abc"[token] for token in word) for word in words)
    return Automaton(compile_expression(regex(written, "abc"), 3))


def mean_weight(model: Diffusion, sampler: GridSampler, steps: int, toy: Toy, seed: int) -> tuple[Array, float]:
    """Weights of samples, and the probability that the plain sampler gives one of the words."""
    law = clean_part(grid_law(model, sampler, steps, 3), toy, model.process.num_states)
    words = one_of(toy.sequences[list(WORDS[seed])])
    drawn = dd.sample(
        model, 10_000, length=3, sampler=sampler, steps=steps, constraint=words, particles=8,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    assert drawn.log_weights is not None
    counts = counts_of(drawn.tokens, 3)
    assert counts[list(WORDS[seed])].sum() == counts.sum()
    return drawn.log_weights.exp().numpy(), float(law[list(WORDS[seed])].sum())


@pytest.mark.parametrize("seed", WORDS)
def test_what_a_second_leap_cuts_may_come_later(seed: int) -> None:
    """Where only tokens are accepted that (a p_ρ − b p_t)₊ cuts, a later step may draw them."""
    weights, probability = mean_weight(
        build("absorbing", "conditional", toy=uneven(seed)), Trapezoidal(0.3), 5, uneven(seed), seed
    )
    error = weights.std() / len(weights) ** 0.5
    assert error < 0.004 * probability
    assert abs(weights.mean() - probability) < 4 * error
