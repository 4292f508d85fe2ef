"""Deterministic sampling: the likeliest token, at the surest positions first."""

from __future__ import annotations

import torch

from discdiff.constraints.base import Constraint
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.prediction import positions_of
from discdiff.samplers.base import Gridded, Level, State

SHARP = 1e6
"""A power of the marginals that leaves nothing but the likeliest."""


class Argmax(Gridded):
    """Each step leaves ⌊n λ(s)⌋ of a row's n tokens masked, λ the mask fraction; the surest positions are revealed.

    A position's token is the likeliest under the constraint, and positions whose token is likeliest go first; ties go
    to the first token and position. Nothing is random: every row of one length is the same. For the absorbing process:
    a likeliest next state is defined for any, but where tokens do not show whether they are noise it is, in a short
    step, mostly the state that a position has. What comes out is then the start, or the state likeliest under π.

    Chang et al. 2022 (MaskGIT), section 3.3, at temperature 0.
    """

    law = "greedy: a mode, always the same"

    def check(self, model: Model, constraint: Constraint) -> None:
        if not model.process.reveals_noise:
            raise IncompatibleError(
                "Argmax sampler",
                got=f"{type(model.process).__name__}, where "
                "the likeliest next state is mostly the one that a position has",
                expected="the absorbing process, which shows what is still to be chosen",
                remedy="Use Ancestral with this process, with a low temperature.",
            )

    def step(self, model: Model, constraint: Constraint, state: State, level: Level) -> State:
        sigma, sigma_next = level.noise(state, torch.float64)
        hidden = state.movable & model.process.active(state.tokens)
        left = (state.movable.sum(-1, keepdim=True) * -torch.expm1(-sigma_next)).floor()
        count = (hidden.sum(-1, keepdim=True) - left).clamp(min=0)
        prediction = model.predict(state.tokens, sigma.to(model.dtype), state.context())
        where = positions_of(hidden & (count > 0))
        best = constraint.log_marginals(prediction, where).max(-1).values
        surest = torch.full(hidden.shape, -torch.inf, dtype=best.dtype, device=best.device).index_put(where, best)
        rank = surest.argsort(dim=-1, descending=True, stable=True).argsort(-1)
        where = positions_of(hidden & (rank < count))
        log_p = constraint.log_marginals(prediction, where)
        tilt = SHARP * (log_p - log_p.max(-1, keepdim=True).values)
        still = torch.zeros(state.tokens.shape, dtype=torch.float64, device=best.device)
        x0 = constraint.draw(prediction, where, still, tilt=tilt)
        return state.moved(where, x0, prediction, x0=x0)
