"""Forward-backward moves: p_t stays where the way back is exact, and errs by the square of the rise elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.constraints import Unconstrained
from discdiff.model import Model
from discdiff.samplers import Ancestral, ForwardBackward, Level, State
from tests.cases import MODELS, PROCESSES, build
from tests.laws import slope, step_matrix
from tests.toy_networks import Wrong
from tests.toys import (
    P_VALUE,
    TOYS,
    Array,
    Toy,
    caught_error,
    chi_square,
    counts_of,
    dense,
    every_sequence,
    near_independent,
    total_variation,
)

DRAWS = 200_000
INDEPENDENT, LETTER, TOY = near_independent(3, 2, strength=0.0), dense(3, 1), TOYS["dense3x2"]
RISES = [0.005, 0.01, 0.02]


def level_of(model: Model) -> Level:
    """The noise level of time 0.4."""
    t = torch.tensor(0.4, dtype=torch.float64)
    sigma, rate = float(model.schedule.total_noise(t)), float(model.schedule.noise_rate(t))
    return Level(0.4, 0.4, sigma, sigma, rate)


def move_matrix(model: Model, corrector: ForwardBackward, process: str, toy: Toy) -> Array:
    """p(next state | state) of one move, `[S^L, S^L]`: SciPy's exp(ΔσQ) at each position, and an ancestral step."""
    back = corrector.interval(model, level_of(model))
    up = PROCESSES[process].transition(toy.vocab_size, back.sigma - back.sigma_next).T
    every = np.ones((1, 1))
    for _ in range(toy.length):
        every = np.asarray(np.kron(every, up), dtype=np.float64)
    return np.asarray(every @ step_matrix(model, Ancestral(), back, toy.length))


def change(corrector: ForwardBackward, process: str, parameterization: str, toy: Toy) -> float:
    """How far one move carries p_t in total variation, the exact network given."""
    model = build(process, parameterization, toy=toy)
    law = toy.noised(PROCESSES[process].transition(toy.vocab_size, level_of(model).sigma))
    return total_variation(law @ move_matrix(model, corrector, process, toy), law)


@pytest.mark.parametrize("toy", [INDEPENDENT, LETTER], ids=["independent", "one position"])
@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_leaves_the_law_where_positions_are_independent(process: str, parameterization: str, toy: Toy) -> None:
    """1e-12, from rises that are small and large: then nothing is lost in drawing positions one by one."""
    for rise in (0.05, 0.4):
        assert change(ForwardBackward(rise), process, parameterization, toy) < 1e-12


@pytest.mark.parametrize("process", PROCESSES)
def test_errs_by_the_square_of_the_rise(process: str) -> None:
    """Where positions depend on one another: TV slope 2 ± 0.1 in the rise, and what it is at 0.4 is no rounding."""
    errors = [change(ForwardBackward(rise), process, "denoiser", TOY) for rise in RISES]
    assert -slope(RISES, errors) == pytest.approx(2, abs=0.1)  # type: ignore[arg-type]
    assert change(ForwardBackward(0.4), process, "denoiser", TOY) > 1e-3


def move_p_value(corrector: ForwardBackward, process: str) -> float:
    """Real moves from two states, 100,000 each, a wrong network, against the enumerated move.

    From p_t, which a move hardly changes, a wrong rise would not show.
    """
    model = build(process, "denoiser", toy=TOY, network=Wrong)
    size = model.process.num_states
    law = np.zeros(size**2)
    law[[0, size - 1]] = 0.5  # tokens 0 and 0; 0 and the last state
    chosen = np.random.default_rng(4).choice(len(law), DRAWS, p=law)
    tokens = torch.from_numpy(every_sequence(size, 2)[chosen])
    free, zero = torch.zeros_like(tokens, dtype=torch.bool), torch.zeros(DRAWS)
    state = State(tokens, free, free, None, zero.long(), zero, torch.Generator().manual_seed(5))
    rows = torch.ones(DRAWS, dtype=torch.bool)
    moved = corrector.move(model, Unconstrained(), state, Ancestral(), level_of(model), rows)
    expected = law @ move_matrix(model, ForwardBackward(corrector.rise), process, TOY)
    assert total_variation(expected, law) > 0.02
    return chi_square(counts_of(moved.tokens, size), expected)


@pytest.mark.parametrize("process", PROCESSES)
def test_moves_follow_the_enumerated_law(process: str) -> None:
    """p > 1e-4 catches 1% in total variation."""
    assert caught_error(DRAWS, 16) < 0.01
    assert move_p_value(ForwardBackward(0.4), process) > P_VALUE
