"""The law of remasking by confidence, enumerated: a state is the tokens and, for each shown, what it was drawn with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch

from discdiff.model import Model
from discdiff.samplers import Level
from tests.toys import Array, every_sequence

State = tuple[tuple[int, float], ...]
"""(token, confidence) of each position; a mask has none, 0."""
Known = dict[tuple[int, ...], list[list[float]]]
"""p(x0_i | xt) of every xt."""


@cache
def remasking_shares(confidence: tuple[float, ...], eta: float) -> tuple[float, ...]:
    """r_i / r_max = min(1, c e^(−p_i)), c by bisection such that they average η."""
    weights = [math.exp(-p) for p in confidence]
    low, high = 0.0, max(1 / weight for weight in weights)
    for _ in range(60):
        middle = (low + high) / 2
        enough = sum(min(middle * weight, 1.0) for weight in weights) >= eta * len(weights)
        low, high = (low, middle) if enough else (middle, high)
    return tuple(min(high * weight, 1.0) for weight in weights)


def step(
    law: dict[State, float], known: Known, mask: int, eta: float, most: float, alpha: float, later: float
) -> dict[State, float]:
    """One step from noise level α to `later`."""
    after: dict[State, float] = {}
    reveal = (later - (1 - eta * most) * alpha) / (1 - alpha)
    for state, chance in law.items():
        tokens = tuple(token for token, _ in state)
        p = known[tokens]
        shown = [i for i, token in enumerate(tokens) if token != mask]
        shares = remasking_shares(tuple(state[i][1] for i in shown), eta) if shown else ()
        rates = {i: most * share for i, share in zip(shown, shares, strict=True)}
        outcomes: list[list[tuple[tuple[int, float], float]]] = []
        for i, (token, sure) in enumerate(state):
            if token == mask:
                drawn = [((v, p[i][v]), reveal * p[i][v]) for v in range(mask)]
                outcomes.append([*drawn, ((mask, 0.0), 1 - reveal)])
            else:
                outcomes.append([((token, sure), 1 - rates[i]), ((mask, 0.0), rates[i])])
        for combination in itertools.product(*outcomes):
            p_all = chance * math.prod(each for _, each in combination)
            if p_all > 0:
                moved = tuple(place for place, _ in combination)
                after[moved] = after.get(moved, 0.0) + p_all
    return after


def laws(model: Model, levels: Sequence[Level], eta: float, length: int, start: Array) -> Iterator[Array]:
    """The law of the tokens after each level, `[S^L]`, from tokens of law `start` that are as sure as can be."""
    states = every_sequence(model.process.num_states, length)
    mask = model.process.num_states - 1
    ones = torch.ones(len(states), 1, dtype=torch.float64)
    said = model.predict(torch.from_numpy(states), ones).log_denoiser().exp().tolist()
    known = {tuple(row): p for row, p in zip(states.tolist(), said, strict=True)}
    law = {
        tuple((int(token), float(token != mask)) for token in row): float(p)
        for row, p in zip(states, start, strict=True)
        if p > 0
    }
    for level in levels:
        alpha, later = np.exp(-level.sigma), np.exp(-level.sigma_next)
        law = step(law, known, mask, eta, min(1.0, (1 - later) / alpha), alpha, later)
        out = np.zeros(len(states))
        for state, chance in law.items():
            out[np.ravel_multi_index(tuple(token for token, _ in state), (mask + 1,) * length)] += chance
        yield out
