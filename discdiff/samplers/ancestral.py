"""Ancestral sampling: independent draws from each position's posterior."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint, Tilt
from discdiff.model import Model
from discdiff.prediction import Positions, Prediction, positions_of
from discdiff.samplers.base import GridSampler, Level, State


class Ancestral(GridSampler):
    """x_s,i ~ Σ_x0 p(x0_i | xt) q(· | xt_i, x0_i), independently. Also called Tweedie or analytic sampling.

    Exact for each position; drawing all of them independently is the only approximation. On the absorbing process a
    masked position is revealed with probability (α_s − α_t) / (1 − α_t), and the network runs only for rows where some
    position is.

    Austin et al. 2021, equation 4; Lou et al. 2024, section 4.2; Sahoo et al. 2024, equation 6.
    """

    law = "first order in the step"
    revisits = False  # where a network is time-free, a row that it is shown reveals something

    def unweighable(self, model: Model) -> None:
        return None

    def kernel(self, prediction: Prediction, level: Level, sigma_next: Tensor, where: Positions | None) -> Tensor:
        return prediction.posterior(sigma_next, where)

    def two_draws(
        self,
        prediction: Prediction,
        constraint: Constraint,
        state: State,
        level: Level,
        sigma: Tensor,
        sigma_next: Tensor,
    ) -> State:
        return posterior_step(prediction, constraint, state, sigma, sigma_next)


def posterior_step(
    prediction: Prediction, constraint: Constraint, state: State, sigma: Tensor, sigma_next: Tensor
) -> State:
    """x0 under the constraint, then the bridge q(x_s | x_t, x0); at σ_next = 0 every position takes its x0."""
    process = prediction.process
    moving = process.may_move(state.tokens, sigma, sigma_next, state.uniform("who")) & state.movable
    where = positions_of(moving)
    x0 = constraint.draw(prediction, where, state.uniform("token"))
    shape = state.tokens.shape
    noise, next_noise = sigma.expand(shape)[where], sigma_next.expand(shape)[where]
    tokens = process.move(state.tokens[where], x0, noise, next_noise, state.uniform("move")[where])
    moved = state.moved(where, tokens, prediction, x0=x0)

    def evidence() -> Tilt:
        # q(x_s | x_t, x0) ∝ P_s[x_s, x0] / P_t[x_t, x0] over x0, whether or not a position was one that may move
        there = positions_of(state.movable & process.active(state.tokens) & moving.any(-1, keepdim=True))
        now, later = (
            process.content(process.likelihood(at.tokens[there], level.expand(shape)[there].double())).log()
            for at, level in ((state, sigma), (moved, sigma_next))
        )
        return Tilt(there, torch.where(torch.isneginf(now), now, later - now))  # what x_t rules out stays ruled out

    constraint.settle(prediction, moved.tokens, evidence)
    return moved
