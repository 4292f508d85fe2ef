"""The enumerated network against the truth by NumPy: all other oracles stand on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.networks import Context
from discdiff.networks.exact import Exact
from discdiff.schedules import LogLinear
from tests.cases import MODELS, PROCESSES, build, exact_asked_anew
from tests.toys import TOYS, every_sequence

SIGMAS = [1e-4, 0.1, 1.0, 5.0]


@pytest.mark.parametrize("toy", ["dense3x3", "repeat3x3", "parity2x4", "dense4x2"])
@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_readings(process: str, parameterization: str, toy: str) -> None:
    """Denoiser to 1e-12 (absolute), score to 1e-10 (relative), in every state that can occur."""
    table = TOYS[toy]
    model = build(process, parameterization, toy=table, network=exact_asked_anew, schedule=LogLinear(1e-9, t_min=1e-9))
    states = torch.from_numpy(every_sequence(model.process.num_states, table.length))
    for sigma in SIGMAS:
        transition = PROCESSES[process].transition(table.vocab_size, sigma)
        prediction = model.predict(states, torch.full((len(states), 1), sigma, dtype=torch.float64))
        denoiser, score = table.denoiser(transition), table.score(transition)
        possible = np.asarray(~np.isnan(denoiser).any((-1, -2)))
        if prediction.has_denoiser or sigma < 3:
            got = prediction.log_denoiser().exp().numpy()
            error = 1e-12 if prediction.has_denoiser else 1e-16 / transition.min()
            np.testing.assert_allclose(got[possible], denoiser[possible], atol=max(error, 1e-12))
        movable = model.process.active(states).numpy()
        got = prediction.log_score().exp().numpy()
        where = np.logical_and(possible[:, None], movable)
        content = got[..., : table.vocab_size], score[..., : table.vocab_size]
        np.testing.assert_allclose(content[0][where], content[1][where], rtol=1e-10, atol=1e-14)


def test_frozen_positions_are_conditioned_on() -> None:
    """With a clean position given, the denoiser of the others is p(x0_i | xt, x0_j) of the clamped joint."""
    table = TOYS["dense3x3"]
    model = build("uniform", "denoiser", toy=table, network=exact_asked_anew)
    transition = PROCESSES["uniform"].transition(3, 0.8)
    states = torch.from_numpy(table.sequences)
    frozen = torch.tensor([False, True, False]).expand(len(states), -1)
    noise = torch.full((len(states), 1), 0.8, dtype=torch.float64)
    got = model.predict(states, noise, Context(frozen=frozen)).log_denoiser().exp().numpy()
    for token in range(3):
        clamped = type(table)("clamped", table.given({1: token}).reshape(table.joint.shape))
        rows = table.sequences[:, 1] == token
        np.testing.assert_allclose(got[rows][:, [0, 2]], clamped.denoiser(transition)[rows][:, [0, 2]], atol=1e-12)
        np.testing.assert_array_equal(got[rows][:, 1], np.eye(3)[[token] * rows.sum()])


@pytest.mark.parametrize(
    "joint",
    [torch.ones(2, 3) / 6, torch.ones(2, 2), torch.tensor([1.5, -0.5]), torch.tensor(1.0)],
    ids=["not square", "sums to 4", "negative", "no axis"],
)
def test_tables_that_are_no_distribution(joint: torch.Tensor) -> None:
    with pytest.raises(DiscdiffError, match=r"expected \[V\] \* L that sums to 1"):
        Exact(joint, 3)


def test_rows_that_the_table_does_not_describe() -> None:
    """A padded position is no observation of token 0, and no table has rows of another length."""
    model = build("absorbing", "denoiser", toy=TOYS["dense3x2"], network=exact_asked_anew)
    sigma = torch.ones(2, 1, dtype=torch.float64)
    padding = torch.tensor([[False, False], [False, True]])
    with pytest.raises(IncompatibleError, match="got padding, expected 2 positions"):
        model.predict(torch.tensor([[3, 1], [3, 0]]), sigma, Context(padding=padding)).log_denoiser()
    with pytest.raises(IncompatibleError, match="sequences of 3 positions"):
        model.predict(torch.full((2, 3), 3), sigma).log_denoiser()
