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

    r_max = min(1, (1 − α_s)/α_t) is the most that leaves room for q(x_s | x0). Rules for r:

    - "cap": min(η, r_max);
    - "rescale": η r_max;
    - "confidence": r_i = min(r_max, c w_i), where w is the softmax of −p_i over the n tokens that a row shows, p_i the
      probability that token i was revealed with, and c such that their average is η r_max (c = η r_max n, where nothing
      is cut). Masks are revealed as at r = η r_max, in rows that show no token too.

    By the first two rules masks are those of the forward process at every time: independent, of probability 1 − α. By
    confidence their expected number is; they are not independent, since what is likely stays longer.

    `loop=t`: remasking only at time t, where half of the steps are spent at one noise level, as much masked again as
    revealed; plain ancestral steps before and after.

    With the exact network the law tends to the data's, slower than `Ancestral`'s; by confidence it does not, but stays
    off however many steps (total variation 0.03 on a toy). Its use is to correct a network's errors. The network runs
    only for rows where some mask is revealed.

    Wang et al. 2025, "Remasking discrete diffusion models with inference-time scaling" (ReMDM), sections 3 and 4.

    Args:
        rule: how r follows from η.
        eta: η, between 0 (`Ancestral`) and 1.
        loop: the time of the loop, or None: remasking at every step.
        grid: where the steps are, as for any `Gridded` sampler; half as many of them with a loop.

    Raises:
        IncompatibleError: an unknown rule; η or the time out of range.
    """

    law = "converges with steps, slower than ancestral, but by confidence; mask fractions are the forward process's"

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

    def unweighable(self, model: Model) -> str:
        return "Remasking, which may leave what can be accepted and come back"

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
        if self.rule == "confidence":
            raise IncompatibleError(
                "Remasking kernel",
                got="rule='confidence', by which a token's rate depends on its past",
                expected="a rule that looks at nothing but time",
                remedy="Read a step's law off `step`, the confidences being part of the state.",
            )
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
        process, confidence = prediction.process, state.extras["confidence"]
        assert process.mask_id is not None
        masked = state.movable & process.active(state.tokens)
        shown = state.movable & ~masked
        most = self.most(level)
        rate = torch.full_like(confidence, RULES[self.rule](self.eta, most))
        chance = most * spread(-confidence, shown, self.eta) if self.rule == "confidence" else rate
        who = state.uniform("who")
        again = shown & (who < chance)
        where = positions_of(masked & (who < revealed(rate, level)))
        tokens = constraint.draw(prediction, where, state.uniform("token"))
        if self.rule == "confidence":
            drawn = constraint.log_marginals(prediction, where).gather(-1, tokens[:, None])[:, 0].exp()
            confidence = confidence.index_put(where, drawn.double())
        started = replace(state, tokens=state.tokens.masked_fill(again, process.mask_id))
        return started.moved(where, tokens, prediction, x0=tokens, confidence=confidence)


def spread(log_weights: Tensor, shown: Tensor, mean: float) -> Tensor:
    """min(1, c w_i) at the shown positions, c such that they average `mean` in each row: float64 `[B, L]`, 0 elsewhere.

    Args:
        log_weights: log w, float64 `[B, L]`.
        shown: bool `[B, L]`.
        mean: 0 to 1.
    """
    weights = log_weights.masked_fill(~shown, -torch.inf).softmax(-1).nan_to_num()
    ordered, order = weights.sort(dim=-1, descending=True)
    # If the k largest are cut, the others share what is left: the first k at which none of those exceeds 1.
    k = torch.arange(weights.shape[-1], device=weights.device)
    left = (mean * shown.double().sum(-1, keepdim=True) - k).clamp(min=0)
    rest = ordered.flip(-1).cumsum(-1).flip(-1)
    scale = torch.where(rest > 0, left / rest, torch.inf)
    fits = (scale * ordered <= 1 + 1e-12) & (rest > 0)
    first = torch.where(fits.any(-1, keepdim=True), fits.int().argmax(-1, keepdim=True), weights.shape[-1] - 1)
    shares = torch.where(k < first, 1.0, (scale.gather(-1, first) * ordered).clamp(max=1))
    return torch.zeros_like(shares).scatter(-1, order, shares).masked_fill(~shown, 0.0)


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
