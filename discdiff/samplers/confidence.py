"""Confidence sampling: the positions that the model is surest of come first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.prediction import Positions, positions_of
from discdiff.samplers.base import EventSampler, Level, State, fraction_hidden, hidden_in, rank_among
from discdiff.samplers.block_schedule import block_ends, check_blocks
from discdiff.samplers.certainty import entropy, log_margin, read_marginals

Measure = Literal["max_probability", "margin", "entropy", "sampled"]


class Confidence(EventSampler):
    """Each call draws x0_i ~ p(· | xt) at every hidden position and keeps the n_{t+1} − n_t draws of largest c_i.

    c_i = max_v p_i(v) (max_probability), the difference of the two largest p_i(v) (margin), exp(−H(p_i)) (entropy), or
    p_i(x0_i), that of the token drawn (sampled). The first three choose positions without regard to what was drawn
    there: at one position a call the law stays exact. The last does not: it keeps likely tokens, whose likelihood looks
    better than the data's while the samples drift away from them.

    Chang et al. 2022 (MaskGIT), section 3.2 ("sampled"); Kim et al. 2025, "Train for the worst, plan for the best",
    section 4 (margin); Zheng et al. 2023 (the other orders).

    Args:
        by: what certainty means.
        blocks: how many positions each call keeps, as in `AnyOrder`.
        noise: scale of Gumbel noise added to log c; 0 takes the surest, a large one any position.

    Raises:
        IncompatibleError: `by` or `blocks` is unknown, or the noise negative.
    """

    law = "greedy; exact at one position a call, unless by='sampled'"
    takes_steps = True

    def __init__(
        self,
        by: Measure = "max_probability",
        blocks: Literal["uniform", "cosine"] | list[int] = "uniform",
        noise: float = 0.0,
    ) -> None:
        check_blocks(blocks)
        if by not in get_args(Measure):
            raise IncompatibleError(
                "Confidence sampler", got=repr(by), expected=", ".join(get_args(Measure)), remedy="Name one of these."
            )
        if not 0 <= noise < torch.inf:
            raise IncompatibleError(
                "Confidence sampler", got=f"noise={noise}", expected="0 or more", remedy="0 takes the surest positions."
            )
        self.by, self.blocks, self.noise = by, blocks, noise

    def unweighable(self, model: Model) -> str | None:
        return "Confidence('sampled'), which chooses positions by what it drew there" if self.by == "sampled" else None

    def plan(self, model: Model, state: State, steps: int | None) -> tuple[State, Sequence[Level]]:
        state, levels = super().plan(model, state, steps)
        counts = hidden_in(model, state).sum(-1)
        left = counts[:, None] - block_ends(counts, self.blocks, steps)
        return replace(state, extras={"left": left}), levels[: left.shape[1]]

    def step(self, model: Model, constraint: Constraint, state: State, level: Level) -> State:
        hidden = hidden_in(model, state)
        prediction, where = self.look(model, state, fraction_hidden(state, hidden)), positions_of(hidden)
        u, drawn = state.uniform("token"), state.tokens.clone()

        def sampled(log_p: Tensor, part: Positions) -> Tensor:
            drawn[part] = constraint.draw(prediction, part, u)
            return log_p.gather(-1, drawn[part][:, None])[:, 0]

        measures: dict[str, Callable[[Tensor, Positions], Tensor]] = {
            "max_probability": lambda log_p, part: log_p.amax(-1),
            "margin": lambda log_p, part: log_margin(log_p),
            "entropy": lambda log_p, part: -entropy(log_p),
            "sampled": sampled,
        }
        certainty = read_marginals(constraint, prediction, where, measures[self.by]).double()
        if self.noise:
            certainty = certainty - self.noise * torch.log(-torch.log(state.uniform("who")[where]))
        keys = torch.zeros(hidden.shape, dtype=torch.float64, device=hidden.device).index_put(where, -certainty)
        now = hidden.sum(-1, keepdim=True)
        # The next of the numbers of positions that the plan leaves hidden.
        stop = state.extras["left"].masked_fill(state.extras["left"] >= now, 0).amax(-1, keepdim=True)
        chosen = hidden & (rank_among(hidden, keys) < now - stop)
        where = positions_of(chosen)
        tokens = drawn[where] if self.by == "sampled" else constraint.draw(prediction, where, u)
        moved = state.moved(where, tokens, prediction, x0=tokens)
        constraint.settle(prediction, moved.tokens)
        return moved
