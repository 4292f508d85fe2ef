"""The bound's noised sequences: their weighted law is the forward process's, and noise is never rare."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.likelihood.noised import noised
from discdiff.randomness import Keys
from tests.cases import PROCESSES
from tests.toys import Z_LIMIT, Array, every_sequence, index_of

VOCAB, DRAWS = 3, 200_000
CLEAN = torch.tensor([2, 0, 1])


def drawn(process: str, sigma: float, where: list[bool]) -> tuple[Array, Array, Array]:
    """Which sequence each draw is, its weight, and q(xt | x0) of all of them."""
    made = PROCESSES[process].make(VOCAB)
    rows = torch.arange(DRAWS)
    level = torch.full((DRAWS, 1), sigma, dtype=torch.float64)
    scored, coin = torch.tensor(where).expand(DRAWS, -1), (rows.double() + 0.5) / DRAWS
    xt, weight = noised(made, CLEAN.expand(DRAWS, -1), scored, level, coin, generator=Keys(1, rows))
    every, columns = every_sequence(made.num_states, len(CLEAN)), PROCESSES[process].transition(VOCAB, sigma)
    columns = np.stack([columns[:, x] if w else np.eye(made.num_states)[x] for x, w in zip(CLEAN, where, strict=True)])
    law = columns[np.arange(len(CLEAN)), every].prod(-1)
    return index_of(xt, made.num_states).numpy(), weight.numpy(), law


@pytest.mark.parametrize("where", [[True] * 3, [False, True, True]], ids=["all", "span"])
@pytest.mark.parametrize("sigma", [1e-4, 0.05, 0.3, 2.0])
@pytest.mark.parametrize("process", PROCESSES)
def test_weighted_law(process: str, sigma: float, where: list[bool]) -> None:
    """Each sequence has the weight that is its probability, relative to the spread of its own draws; none is missing.

    200,000 draws: 5% of the probability of any one noisy token, however small the noise, is caught.
    """
    which, weight, law = drawn(process, sigma, where)
    assert weight.max() <= 2
    size = len(law)
    mean = np.bincount(which, weight, size) / DRAWS
    squares = np.bincount(which, weight**2, size) / DRAWS
    assert mean[law == 0].sum() == 0
    often = np.bincount(which, minlength=size) > 100  # enough for a normal law of their mean
    error = np.sqrt(np.maximum(squares - mean**2, 1e-30) / DRAWS)
    assert (np.abs(mean - law)[often] < (Z_LIMIT + 1) * error[often] + 1e-5 * law[often]).all()
    same = int(index_of(CLEAN, PROCESSES[process].make(VOCAB).num_states))
    rest, most = law[~often].sum(), weight[which != same].max()
    assert mean[~often].sum() == pytest.approx(rest, abs=6 * np.sqrt(rest * most / DRAWS))
    # the coin is a lattice: x0 itself has its probability to the lattice's width
    assert mean[same] == pytest.approx(law[same], abs=2 / DRAWS)
    noise = 1 - np.bincount(which, minlength=size)[same] / DRAWS
    assert noise >= 0.5 - 1 / DRAWS
