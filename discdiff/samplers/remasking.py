"""Remasking: ancestral steps that also mask tokens again, so that early choices can be taken back."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.prediction import Positions, Prediction, positions_of
from discdiff.samplers.base import GridSampler, Level, State
from discdiff.samplers.grid import Grid
from discdiff.schedules import Schedule

Rule = Literal["cap", "rescale", "confidence"]


class Remasking(GridSampler):
    """A token is masked again with probability r, a mask revealed with (α_s − (1 − r) α_t)/(1 − α_t), r ≤ r_max.

    r_max = min(1, (1 − α_s)/α_t) is the most that leaves room for q(x_s | x0): mask fractions are those of the forward
    process at every time, whatever r. Rules for r:

    - "cap": min(η, r_max);
    - "rescale": η r_max;
    - "confidence": η r_max n w_i for the n tokens of a row, cut at r_max; w is the softmax of −p_i, p_i the probability
      that token i was revealed with. Masks are revealed with the tokens' average r: fractions hold on average.

    `loop=t`: remasking only at time t, where half of the steps are spent at one noise level, as much masked again as
    revealed; plain ancestral steps before and after.

    With the exact network the law tends to the data's, slower than `Ancestral`'s; its use is to correct a network's
    errors. The network runs only for rows where some mask is revealed.

    Wang et al. 2025, "Remasking discrete diffusion models with inference-time scaling" (ReMDM), sections 3 and 4.

    Args:
        rule: how r follows from η.
        eta: η, between 0 (`Ancestral`) and 1.
        loop: the time of the loop, or None: remasking at every step.
        grid: where the steps are, as for any `Gridded` sampler; half as many of them with a loop.

    Raises:
        IncompatibleError: an unknown rule; η or the time out of range.
    """

    law = "converges with steps, slower than ancestral; marginals in time are the forward process's"

    def __init__(self, rule: Rule = "cap", eta: float = 0.05, loop: float | None = None, grid: Grid = "time") -> None:
        super().__init__(grid)
        if rule not in RULES:
            raise IncompatibleError(
                "Remasking rule", got=repr(rule), expected=" or ".join(RULES), remedy="Give one of these."
            )
        if not 0 <= eta <= 1:
            raise IncompatibleError("Remasking eta", got=eta, expected="0 to 1", remedy="Try 0.05.")
        if loop is not None and not 0 < loop < 1:
            raise IncompatibleError("Remasking loop", got=loop, expected="a time between 0 and 1", remedy="Try 0.3.")
        self.rule, self.eta, self.loop = rule, eta, loop

    def check(self, model: Model, constraint: Constraint) -> None:
        super().check(model, constraint)
        if not model.process.reveals_noise:
            raise IncompatibleError(
                "Remasking sampler",
                got=type(model.process).__name__,
                expected="the absorbing process",
                remedy="Use Ancestral: on this process every token may change at every step.",
            )

    def intervals(self, steps: int) -> int:
        return steps if self.loop is None else steps - steps // 2

    def levels(self, schedule: Schedule, steps: int) -> list[Level]:
        levels = super().levels(schedule, steps)
        if self.loop is None:
            return levels
        place = next((k for k, level in enumerate(levels) if level.t <= self.loop), len(levels) - 1)
        here = levels[place]
        still = Level(here.t, here.t, here.sigma, here.sigma, here.noise_rate)
        return [*levels[:place], *([still] * (steps // 2)), *levels[place:]]

    def plan(self, model: Model, state: State, steps: int | None) -> tuple[State, Sequence[Level]]:
        state, levels = super().plan(model, state, steps)
        sure = torch.ones(state.tokens.shape, dtype=torch.float64, device=state.tokens.device)
        return replace(state, extras={"confidence": sure}), levels

    def most(self, level: Level) -> float:
        """r_max of an interval; 0 outside of the loop."""
        if self.loop is not None and level.t > level.s:
            return 0.0
        return min(1.0, -math.expm1(-level.sigma_next) / math.exp(-level.sigma))

    def kernel(self, prediction: Prediction, level: Level, sigma_next: Tensor, where: Positions | None) -> Tensor:
        process = prediction.process
        rate = torch.tensor(RULES[self.rule](self.eta, self.most(level)), dtype=prediction.sigma.dtype)
        x = prediction.tokens if where is None else prediction.tokens[where]
        reveal = revealed(rate, level)
        masked = process.active(x)[..., None]
        stay = torch.where(masked, 1 - reveal, rate).expand(*x.shape, 1)
        content = torch.where(masked, reveal, 1 - rate) * prediction.log_denoiser(where).exp()
        return torch.cat([content, stay], -1)

    def two_draws(
        self,
        prediction: Prediction,
        constraint: Constraint,
        state: State,
        level: Level,
        sigma: Tensor,
        sigma_next: Tensor,
    ) -> State:
        process, most, confidence = prediction.process, self.most(level), state.extras["confidence"]
        assert process.mask_id is not None
        masked = state.movable & process.active(state.tokens)
        shown = state.movable & ~masked
        rate = torch.full_like(confidence, RULES[self.rule](self.eta, most))
        if self.rule == "confidence":
            share = (-confidence).masked_fill(~shown, -torch.inf).softmax(-1).nan_to_num() * shown.sum(-1, keepdim=True)
            rate = (rate * share).clamp(max=most)
        average = (rate * shown).sum(-1, keepdim=True) / shown.sum(-1, keepdim=True).clamp(min=1)
        who = state.uniform("who")
        again = shown & (who < rate)
        where = positions_of(masked & (who < revealed(average if self.rule == "confidence" else rate, level)))
        tokens = constraint.draw(prediction, where, state.uniform("token"))
        if self.rule == "confidence":
            chance = constraint.log_marginals(prediction, where).gather(-1, tokens[:, None])[:, 0].exp()
            confidence = confidence.index_put(where, chance.double())
        started = replace(state, tokens=state.tokens.masked_fill(again, process.mask_id))
        return started.moved(where, tokens, prediction, confidence=confidence)


def revealed(rate: Tensor, level: Level) -> Tensor:
    """The probability that a mask is revealed where tokens are masked again at `rate`, same shape."""
    before = math.exp(-level.sigma)
    return (math.exp(-level.sigma_next) - (1 - rate) * before) / -math.expm1(-level.sigma)


RULES: dict[str, Callable[[float, float], float]] = {
    "cap": min,
    "rescale": operator.mul,
    "confidence": operator.mul,
}
"""r, on average, from η and r_max."""
