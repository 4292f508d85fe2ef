"""Ordered sampling: positions revealed one at a time in a given or random order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.samplers.base import EventSampler, Level, State


class Ordered(EventSampler):
    """x_{o(k)} ~ p(· | x_{o(<k)}), k = 1 .. L: any-order autoregressive sampling. Exact for every order.

    Uria, Murray and Larochelle 2014; Hoogeboom et al. 2022 (ARDM), algorithm 1.

    Args:
        order: "random" (a new order for each row), "left_to_right", or int64 `[L]` or `[B, L]` permutations. Given
            positions are passed over.
    """

    law = "exact"

    def __init__(self, order: Literal["random", "left_to_right"] | Tensor = "random") -> None:
        if not isinstance(order, Tensor) and order not in ("random", "left_to_right"):
            raise IncompatibleError(
                "Ordered sampler",
                got=repr(order),
                expected='"random", "left_to_right" or a tensor of permutations',
                remedy="Give one of these.",
            )
        self.order = order

    def plan(self, model: Model, state: State, steps: int | None) -> tuple[State, Sequence[Level]]:
        state, levels = super().plan(model, state, steps)
        length = state.tokens.shape[1]
        ranks = torch.arange(length, device=state.tokens.device).expand(state.tokens.shape)
        if isinstance(self.order, Tensor):
            order = torch.atleast_2d(self.order).to(state.tokens.device)
            if order.shape[1] != length or not torch.equal(order.sort(-1).values, ranks[:1].expand_as(order)):
                raise IncompatibleError(
                    "Ordered sampler",
                    got=f"order of shape {list(self.order.shape)}",
                    expected=f"permutations of 0..{length - 1}",
                    remedy="List every position once.",
                )
            if len(order) not in (1, len(state.tokens)):
                raise IncompatibleError(
                    "Ordered sampler",
                    got=f"orders for {len(order)} rows",
                    expected=f"1 or {len(state.tokens)}",
                    remedy="Give one order for all samples, or one for each.",
                )
            ranks = order.expand(state.tokens.shape).argsort(-1)
        elif self.order == "random":
            ranks = state.uniform("order").argsort(dim=-1, stable=True).argsort(-1)
        return replace(state, extras={"rank": ranks}), levels

    def step(self, model: Model, constraint: Constraint, state: State, level: Level) -> State:
        hidden = state.movable & model.process.active(state.tokens)
        rank = state.extras["rank"].masked_fill(~hidden, state.tokens.shape[1])
        chosen = hidden & (rank == rank.amin(-1, keepdim=True))
        tokens = (~state.padding).sum(-1).clamp(min=1)
        return self.reveal(model, constraint, state, chosen, hidden.sum(-1) / tokens.double())
