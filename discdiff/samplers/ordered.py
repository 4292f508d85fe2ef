"""Ordered sampling: positions revealed one at a time in a given or random order."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.samplers.base import State, rank_among
from discdiff.samplers.planned import PlannedSampler


class Ordered(PlannedSampler):
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

    def turns(self, state: State, hidden: Tensor, steps: int | None) -> Tensor:
        length = state.tokens.shape[1]
        keys = torch.arange(length, device=state.tokens.device).expand(state.tokens.shape)
        if isinstance(self.order, Tensor):
            order = torch.atleast_2d(self.order).to(state.tokens.device)
            if order.shape[1] != length or not torch.equal(order.sort(-1).values, keys[:1].expand_as(order)):
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
            keys = order.expand(state.tokens.shape).argsort(-1)
        elif self.order == "random":
            keys = state.uniform("order")
        return rank_among(hidden, keys)
