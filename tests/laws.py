"""Laws of samplers by enumeration: every state, every outcome, no Monte Carlo."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from discdiff.model import Model
from discdiff.networks.base import Context
from discdiff.prediction import Prediction, positions_of
from discdiff.samplers import GridSampler, Level, RungeKutta2, Trapezoidal
from discdiff.samplers.trapezoidal import TwoLeaps
from tests.second_leaps import runge_kutta_kernel, trapezoidal_kernel
from tests.toys import Array, Integers, Toy, every_sequence

Given = Mapping[int, int]
"""Clamped positions and their tokens."""


def step_matrix(model: Model, sampler: GridSampler, level: Level, length: int, given: Given | None = None) -> Array:
    """p(next state | state) of one step, `[S^L, S^L]`, from the sampler's per-position kernels."""
    if isinstance(level, TwoLeaps):
        return two_leap_matrix(model, sampler, level, length, given)
    states = torch.from_numpy(every_sequence(model.process.num_states, length))
    sigma, sigma_next = (torch.full((len(states), 1), v, dtype=model.dtype) for v in (level.sigma, level.sigma_next))
    prediction = model.predict(states, sigma, context(given, states))
    return product(sampler.kernel(prediction, level, sigma_next, None), states, given)


def product(kernel: Tensor, states: Tensor, given: Given | None) -> Array:
    """The joint law of positions that move independently by `kernel` `[N, L, S]`: `[N, S^L]`."""
    factors = kernel.double().numpy()
    joint = np.ones((len(states), 1))
    for i in range(states.shape[1]):
        rows = np.eye(factors.shape[-1])[states[:, i]] if given and i in given else factors[:, i]
        joint = (joint[:, :, None] * rows[:, None, :]).reshape(len(states), -1)
    return joint


def two_leap_matrix(
    model: Model, sampler: GridSampler, level: TwoLeaps, length: int, given: Given | None = None
) -> Array:
    """The same for a step of two evaluations: a sum over every state in the middle that the first leap can reach."""
    first = step_matrix(model, sampler, level.first, length, given)
    count = len(first)
    start, middle = np.nonzero(first)
    states = torch.from_numpy(every_sequence(model.process.num_states, length))
    x, y = states[start], states[middle]
    one, two = (
        model.predict(tokens, torch.full((len(tokens), 1), at.sigma, dtype=model.dtype), context(given, tokens))
        for tokens, at in ((x, level.first), (y, level.second))
    )
    joint = product(second_kernel(sampler, one, two, level), y if isinstance(sampler, Trapezoidal) else x, given)
    matrix = np.zeros((count, joint.shape[1]))
    np.add.at(matrix, start, first[start, middle][:, None] * joint)
    return matrix


def second_kernel(sampler: GridSampler, first: Prediction, second: Prediction, level: TwoLeaps) -> Tensor:
    """The second leap's law of each position, `[N, L, S]`, written down in `tests.second_leaps`."""
    if isinstance(sampler, Trapezoidal):
        return torch.from_numpy(trapezoidal_kernel(sampler, first, second, level))
    assert isinstance(sampler, RungeKutta2)
    return torch.from_numpy(runge_kutta_kernel(sampler, first, second, level))


def context(given: Given | None, states: Tensor) -> Context:
    """What the network is told of clamped positions."""
    if not given:
        return Context()
    frozen = torch.zeros_like(states, dtype=torch.bool)
    frozen[:, list(given)] = True
    return Context(frozen=frozen)


def prior_law(model: Model, length: int, given: Given | None = None) -> Array:
    """The law that sampling starts from: π at free positions, `[S^L]`."""
    pi = model.process.stationary(dtype=torch.float64).numpy()
    law = np.ones(1)
    for i in range(length):
        here = np.eye(len(pi))[given[i]] if given and i in given else pi
        law = np.multiply.outer(law, here).reshape(-1)
    return law


def grid_law(
    model: Model,
    sampler: GridSampler,
    steps: int,
    length: int,
    *,
    given: Given | None = None,
    start: Array | None = None,
) -> Array:
    """The law of what a grid sampler returns, over all S^L states."""
    law = prior_law(model, length, given) if start is None else start
    for level in sampler.levels(model.schedule, steps):
        law = law @ step_matrix(model, sampler, level, length, given)
    return law


def clean_part(law: Array, toy: Toy, num_states: int) -> Array:
    """The law of content sequences in the order of `toy.sequences`; whatever is left on masks is lost."""
    index = np.ravel_multi_index(tuple(toy.sequences.T), (num_states,) * toy.length)
    return np.asarray(law[index])


def revealed_law(model: Model, toy: Toy, orders: Iterable[tuple[int, ...]], given: Given | None = None) -> Array:
    """Π p(x_o(k) | x_o(<k)) by the model's own predictions, averaged over `orders`: `[V^L]`; absorbing."""
    mask, sequences = toy.vocab_size, torch.from_numpy(toy.sequences)
    start = torch.tensor([(given or {}).get(i, mask) for i in range(toy.length)])
    orders = [tuple(i for i in order if i not in (given or {})) for order in orders]
    total = np.zeros(len(sequences))
    for order in orders:
        law = np.all([toy.sequences[:, i] == token for i, token in (given or {}).items()], axis=0).astype(float)
        law = law * np.ones(len(sequences))
        state = start.repeat(len(sequences), 1)
        for k, position in enumerate(order):
            fraction = (len(order) - k) / toy.length
            sigma = torch.full((len(state), 1), -np.log1p(-min(fraction, 0.999)), dtype=torch.float64)
            prediction = model.predict(state, sigma, context(given, state))
            where = torch.zeros_like(state, dtype=torch.bool)
            where[:, position] = True
            log_p = prediction.log_denoiser(positions_of(where))
            law = law * log_p.gather(-1, sequences[:, position, None])[:, 0].exp().numpy()
            state = torch.where(where, sequences, state)
        total += law
    return total / len(orders)


def all_orders(length: int) -> list[tuple[int, ...]]:
    """Every permutation of the positions."""
    return list(itertools.permutations(range(length)))


def slope(steps: Integers | list[int], errors: Array | list[float]) -> float:
    """The order of convergence: −d log(error) / d log(steps), by least squares."""
    return float(-np.polyfit(np.log(steps), np.log(errors), 1)[0])


def divergence(p: Array, q: Array) -> float:
    """KL(p ‖ q)."""
    keep = p > 0
    return float((p[keep] * np.log(p[keep] / q[keep])).sum())
