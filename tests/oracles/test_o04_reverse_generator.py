"""O4, O5: the true score leads back from p_1 to p_0; forward and backward together leave p_t as it is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch

from discdiff.model import Diffusion
from discdiff.schedules import LogLinear
from tests.cases import MODELS, PROCESSES, build
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
