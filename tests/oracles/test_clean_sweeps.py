"""Gibbs sweeps at σ = 0 off the absorbing process; and why the likeliest state at each step is no sampler there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.constraints import Clamp
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.randomness import Keys
from discdiff.samplers import Ancestral, Argmax, Gibbs, PredictorCorrector
from discdiff.sampling import sample
from tests.cases import NO_DENOISER, PROCESSES, build
from tests.laws import clean_part, grid_law
from tests.toys import DENSE, P_VALUE, Array, Toy, caught_error, chi_square, counts_of, dense, every_sequence
from tests.toys import total_variation as tv

DRAWS = 200_000
MODELS = [*sorted(NO_DENOISER), *((name, "leave_one_out") for name, _ in sorted(NO_DENOISER))]


def clean_moves(process: str, toy: Toy, sigma: float) -> Array:
    """One position, each as likely as another, drawn from p(x0_i | x_σ without i), the clean x taken for x_σ."""
    transition, size, length = PROCESSES[process].transition(toy.vocab_size, sigma), toy.vocab_size, toy.length
    known = transition[:size, :size]  # p(x_j | x0_j) of content tokens
    matrix = np.zeros((size**length, size**length))
    for row, x in enumerate(toy.sequences):
        for i in range(length):
            others = [j for j in range(length) if j != i]
            weights = toy.probabilities * np.prod([known[x[j], toy.sequences[:, j]] for j in others], axis=0)
            law = np.bincount(toy.sequences[:, i], weights=weights, minlength=size)
            for token in range(size):
                moved = x.copy()
                moved[i] = token
                target = int(np.ravel_multi_index(tuple(moved), (size,) * length))
                matrix[row, target] += law[token] / law.sum() / length
    return matrix


def lowest(model: Model) -> float:
    return model.schedule.ends()[0]


@pytest.mark.parametrize("process", [name for name, case in PROCESSES.items() if not case.masked])
def test_the_data_stay_up_to_the_lowest_noise(process: str) -> None:
    """p0 moves by at most 2 (L − 1) times a position's chance to have changed at t_min, and by less as that falls."""
    changes = []
    for sigma in (1e-2, lowest(build(process, "denoiser")), 1e-5):
        changed = 1 - PROCESSES[process].transition(3, sigma).diagonal().min()
        change = tv(DENSE.probabilities @ clean_moves(process, DENSE, sigma), DENSE.probabilities)
        assert change <= 2 * 2 * changed
        changes.append(change)
    assert changes[0] > changes[1] > changes[2]
    assert changes[1] < 1e-3


def swept_p_value(corrector: Gibbs, process: str, parameterization: str) -> float:
    """Three ancestral steps and a final sweep, 200,000 draws, against the enumerated law."""
    model, steps = build(process, parameterization), 3
    law = clean_part(grid_law(model, Ancestral(), steps, 3), DENSE, model.process.num_states)
    law = law @ np.linalg.matrix_power(clean_moves(process, DENSE, lowest(model)), 3)
    assert law.sum() == pytest.approx(1, abs=1e-9)
    sampler = PredictorCorrector(Ancestral(), corrector)
    generator = torch.Generator().manual_seed(6)
    drawn = sample(model, DRAWS, length=3, sampler=sampler, steps=steps, generator=generator)
    assert (torch.as_tensor(drawn.calls) == steps + 3).all()
    return chi_square(counts_of(drawn.tokens, 3), law)


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_final_sweeps_follow_the_enumerated_law(process: str, parameterization: str) -> None:
    """p > 1e-4 catches 1% in total variation."""
    assert caught_error(DRAWS, 27) < 0.01
    assert swept_p_value(Gibbs(), process, parameterization) > P_VALUE


def test_given_positions_stay() -> None:
    """Clamped positions are not redrawn, and no row of the hybrid process ends with a mask."""
    clamp = Clamp(torch.tensor([0, 2, 0]), torch.tensor([False, True, False]))
    for parameterization in ("score", "leave_one_out"):
        sampler = PredictorCorrector(Ancestral(), final_sweeps=2)
        model, generator = build("hybrid", parameterization), torch.Generator().manual_seed(0)
        drawn = sample(model, 2_000, sampler=sampler, steps=16, constraint=clamp, generator=generator)
        assert (drawn.tokens[:, 1] == 2).all()
        assert int(drawn.tokens.max()) < 3


@pytest.mark.parametrize("parameterization", ["score", "leave_one_out"])
def test_rows_by_key(parameterization: str) -> None:
    """Each row's draws are its own, whatever the batch."""
    model, sampler = build("uniform", parameterization), PredictorCorrector(Ancestral(), final_sweeps=2)
    whole, part = (
        sample(model, len(rows), length=3, sampler=sampler, steps=4, generator=Keys(1, rows)).tokens
        for rows in (torch.arange(50), torch.tensor([41, 7, 30]))
    )
    assert torch.equal(whole[[41, 7, 30]], part)


@pytest.mark.parametrize("process", [name for name, case in PROCESSES.items() if not case.masked])
def test_a_posterior_is_refused(process: str) -> None:
    sampler, draws = PredictorCorrector(Ancestral()), torch.Generator()
    with pytest.raises(IncompatibleError, match="says nothing but the token that is there, expected the absorbing"):
        sample(build(process, "denoiser"), 2, length=3, sampler=sampler, steps=2, generator=draws)


# ---- argmax ---------------------------------------------------------------------------------------------------------
def likeliest(process: str, toy: Toy, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every start of two positions, and what the posterior's likeliest state at each step makes of it, `[S^2, 2]`."""
    model = build(process, "denoiser", toy=toy)
    x = start = torch.from_numpy(every_sequence(model.process.num_states, 2))
    for level in Ancestral().levels(model.schedule, steps):
        sigma = torch.full((len(x), 1), level.sigma, dtype=torch.float64)
        x = model.predict(x, sigma).posterior(torch.tensor(level.sigma_next, dtype=torch.float64)).argmax(-1)
    return start, x


@pytest.mark.parametrize("seed", [0, 5, 9])
@pytest.mark.parametrize("process", ["uniform", "marginal", "reversible", "circular"])
def test_the_likeliest_state_says_nothing_of_the_data(process: str, seed: int) -> None:
    """Why `Argmax` is refused: 128 steps of it return the start, or the state that noise likes best, from any data."""
    start, end = likeliest(process, dense(3, 2, seed), 128)
    pi = PROCESSES[process].limit(3)
    assert torch.equal(end, start if process == "uniform" else torch.full_like(start, int(pi.argmax())))


def test_argmax_is_refused() -> None:
    for process in ("uniform", "hybrid", "circular"):
        model, draws = build(process, "denoiser"), torch.Generator()
        with pytest.raises(IncompatibleError, match="the likeliest next state is mostly the one that a position has"):
            sample(model, 2, length=3, sampler=Argmax(), steps=4, generator=draws)
