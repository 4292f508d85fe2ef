"""Exact laws of samplers whose choice of positions depends on nothing but what is revealed: teacher forcing.

`sample` runs as it stands, a row for each sequence. Its draws are answered with that sequence, and the chance of each
answer is kept: Π p(x_i | what was revealed before), whatever positions the sampler chose, in whatever calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from discdiff.constraints import Unconstrained
from discdiff.model import Model
from discdiff.prediction import Positions, Prediction
from discdiff.randomness import Keys
from discdiff.samplers import Sampler
from discdiff.sampling import sample
from tests.laws import all_orders, divergence
from tests.scripted import scripted
from tests.toys import Array, Toy


class Forced(Unconstrained):
    """Answers every draw with given tokens `[B, L]`, and adds up the log of their chances: `log_p` `[B]`.

    `known` bool `[B, L]`: positions that are given beforehand.
    """

    def __init__(self, tokens: Tensor, known: Tensor | None = None) -> None:
        self.tokens, self.rows = tokens, len(tokens)
        self.known = torch.zeros_like(tokens, dtype=torch.bool) if known is None else known
        self.log_p = torch.zeros(len(tokens), dtype=torch.float64)

    def given(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        return self.tokens.masked_fill(~self.known, 0), self.known

    def draw(self, prediction: Prediction, where: Positions, u: Tensor, *, tilt: Tensor | None = None) -> Tensor:
        tokens = self.tokens[where]
        log_p = self.log_marginals(prediction, where).gather(-1, tokens[:, None])[:, 0]
        self.log_p.index_add_(0, where[0], log_p.double())
        return tokens


@dataclass(frozen=True)
class Course:
    """What a forced run was: log p of each row, its network calls, and the tokens after each call, `[calls][B, L]`."""

    log_p: Array
    calls: Array
    tokens: list[Tensor]


def forced(
    model: Model,
    sampler: Sampler,
    tokens: Tensor,
    *,
    steps: int | None = None,
    known: Tensor | None = None,
    lengths: Tensor | None = None,
    generator: Keys | None = None,
) -> Course:
    """Let a sampler draw just `tokens` `[B, L]`."""
    constraint, course = Forced(tokens, known), []
    drawn = sample(
        model,
        len(tokens),
        length=None if lengths is not None else tokens.shape[1],
        lengths=lengths,
        sampler=sampler,
        steps=steps,
        constraint=constraint,
        generator=generator or Keys(0, torch.arange(len(tokens))),
        on_step=lambda step, total, state: course.append(state.tokens),
    )
    assert torch.equal(drawn.tokens, tokens)
    assert drawn.calls is not None
    return Course(constraint.log_p.numpy(), drawn.calls.double().numpy(), course)


def every(toy: Toy) -> Tensor:
    """All sequences of a toy, `[V^L, L]`."""
    return torch.from_numpy(toy.sequences)


def law(model: Model, sampler: Sampler, toy: Toy, *, steps: int | None = None) -> Array:
    """The law of a sampler that draws nothing but tokens: `[V^L]`."""
    return np.asarray(np.exp(forced(model, sampler, every(toy), steps=steps).log_p))


def laws_by_order(model: Model, sampler: Sampler, toy: Toy, *, steps: int | None = None) -> Array:
    """The law given each order that the sampler may draw, all of them equally likely: `[L!, V^L]`."""
    out = []
    for order in all_orders(toy.length):
        keys = torch.tensor(order).argsort().double() / toy.length
        script = scripted(len(toy.sequences), order=keys.expand(len(toy.sequences), -1), prior=keys, token=keys)
        out.append(np.exp(forced(model, sampler, every(toy), steps=steps, generator=script).log_p))
    return np.array(out)


def mean_divergence(p: Array, laws: Array) -> float:
    """The average KL(p ‖ law) over `laws` `[N, V^L]`."""
    return float(np.mean([divergence(p, each) for each in laws]))
