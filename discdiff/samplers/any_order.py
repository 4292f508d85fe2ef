"""Any-order sampling in blocks: a random order, several positions a call."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from discdiff.samplers.base import State, rank_among
from discdiff.samplers.block_schedule import block_ends, check_blocks
from discdiff.samplers.planned import PlannedSampler
from discdiff.samplers.profile import Profile


class AnyOrder(PlannedSampler):
    """x_π(j) ~ p(· | x_π(≤ n_t)) for n_t < j ≤ n_{t+1}, t = 0 .. T − 1: a random order π, in T blocks.

    With T at least the number of positions it is exact (and `Ordered("random")`). Else a block loses the total
    correlation of its positions; `optimal_blocks` finds the sizes that lose least, and a `Profile` knows them for rows
    of every length. Every call reveals something, so the number of calls is known: `steps`, by default one a position.

    Uria, Murray and Larochelle 2014; Hoogeboom et al. 2022 (ARDM), on parallelised ARDMs; Chen, Cong and Li 2025,
    "Optimal inference schedules for masked diffusion models".

    Args:
        blocks: "uniform", "cosine" (small blocks first), or the sizes; they must then add up to the positions to
            reveal in each row. Where rows differ, lists of sizes, one for each number of positions; or the profile of
            the model, by which each row takes the best sizes.
        error: with a profile, nats that a row may lose; it chooses the number of calls of each row. See
            `Profile.blocks`, which also says what they lose.

    Raises:
        IncompatibleError: `blocks` is no schedule, or an error without a profile.
    """

    law = "exact at one position a call, else off by the total correlations of its blocks"
    pace = "its error chooses the number of calls"

    def __init__(
        self,
        blocks: Literal["uniform", "cosine"] | list[int] | list[list[int]] | Profile = "uniform",
        error: float | None = None,
    ) -> None:
        check_blocks(blocks, error)
        self.blocks, self.error = blocks, error
        self.takes_steps = error is None

    def turns(self, state: State, hidden: Tensor, steps: int | None) -> Tensor:
        lengths = (~state.padding).sum(-1)
        ends = block_ends(hidden.sum(-1), self.blocks, steps, lengths=lengths, error=self.error)
        ranks = rank_among(hidden, state.uniform("order"))
        return torch.searchsorted(ends.contiguous(), ranks, right=True)
