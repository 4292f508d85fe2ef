"""Euler steps of the reverse rates."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.prediction import Positions, Prediction, positions_of
from discdiff.samplers.ancestral import posterior_step
from discdiff.samplers.base import GridSampler, Level, State


class Euler(GridSampler):
    """One categorical jump per position: x → y with probability σ'(t) (t − s) R(x → y), evaluated at t.

    Where the total exceeds 1 it is cut to 1 and the destinations keep their proportions. The last interval, to σ = 0,
    is a draw of x0 (the rate there is unbounded). On log-linear absorbing noise this is `Ancestral`.

    Lou et al. 2024, equation 17.
    """

    law = "first order in the step"

    def kernel(self, prediction: Prediction, level: Level, sigma_next: Tensor, where: Positions | None) -> Tensor:
        if level.last:
            return prediction.posterior(sigma_next, where)
        x = prediction.tokens if where is None else prediction.tokens[where]
        rates = prediction.process.reverse_rate(prediction.log_score(where), x)
        jumps = rates.scatter(-1, x[..., None], 0.0) * (level.noise_rate * (level.t - level.s))
        total = jumps.sum(-1, keepdim=True)
        jumps = jumps / total.clamp(min=1.0)
        return jumps.scatter(-1, x[..., None], 1 - total.clamp(max=1.0))

    def two_draws(
        self,
        prediction: Prediction,
        constraint: Constraint,
        state: State,
        level: Level,
        sigma: Tensor,
        sigma_next: Tensor,
    ) -> State:
        if level.last:
            return posterior_step(prediction, constraint, state, sigma, sigma_next)
        process = prediction.process
        where = positions_of(state.movable & process.active(state.tokens))
        x, noise = state.tokens[where], sigma.expand(state.tokens.shape)[where]
        # Who jumps is decided by the marginal rate; given a jump, x0 is drawn in proportion to its own rate.
        log_rate = process.log_jump_rate(x, noise)
        if log_rate.shape[-1] == 1:
            log_total = log_rate[:, 0]
        else:
            log_total = (constraint.log_marginals(prediction, where) + log_rate).logsumexp(-1)
        chance = log_total.exp() * (level.noise_rate * (level.t - level.s))
        jumping = state.uniform("who")[where] < chance
        where = (where[0][jumping], where[1][jumping])
        x0 = constraint.draw(prediction, where, state.uniform("token"), tilt=log_rate[jumping])
        tokens = process.jump(x[jumping], x0, noise[jumping], state.uniform("move")[where])
        return state.moved(where, tokens.to(torch.int64), prediction)
