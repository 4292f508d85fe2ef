"""What samplers of the reverse rates share: rates frozen at the start of the step, at most one jump a position."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint, Tilt
from discdiff.model import Model
from discdiff.prediction import Positions, Prediction, positions_of
from discdiff.processes.base import Process
from discdiff.samplers.ancestral import posterior_step
from discdiff.samplers.base import GridSampler, Level, State


class RateSampler(GridSampler):
    """x → y with a probability that depends on the expected number of jumps, σ'(t) (t − s) Σ_y R(x → y); y ∝ R.

    The last interval, to σ = 0, is a draw of x0: the rate there is unbounded.
    """

    def unweighable(self, model: Model) -> str | None:
        return None

    @abstractmethod
    def chance(self, expected: Tensor) -> Tensor:
        """The probability that a position jumps, given its expected number of jumps; same shape."""

    def kernel(self, prediction: Prediction, level: Level, sigma_next: Tensor, where: Positions | None) -> Tensor:
        if level.last:
            return prediction.posterior(sigma_next, where)
        x = prediction.tokens if where is None else prediction.tokens[where]
        rates = prediction.process.reverse_rate(prediction.log_score(where), x)
        return jump_law(rates.scatter(-1, x[..., None], 0.0) * expected_time(level), x, self.chance)

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
        log_rate, time = process.log_jump_rate(x, noise), expected_time(level)
        jumping = who_jumps(
            constraint, prediction, where, log_rate, state.uniform("who")[where], lambda rate: self.chance(rate * time)
        )
        return jump(prediction, constraint, state, where, log_rate, jumping)


DEFENCE = 0.1
"""The plain sampler's share in steered choices where runs are weighed, so that nothing that it may do is impossible.

A defensive mixture (Hesterberg 1995)."""


def who_jumps(
    constraint: Constraint,
    prediction: Prediction,
    where: Positions,
    log_rate: Tensor,
    u: Tensor,
    chance: Callable[[Tensor], Tensor],
) -> Tensor:
    """Which positions jump: bool `[N]`.

    Args:
        constraint: by whose marginals rates are averaged.
        prediction: what the network says.
        where: N positions.
        log_rate: of each x0 `[N, V]`, or `[N, 1]` if it is the same for all.
        u: float64 `[N]` uniform numbers.
        chance: from total rates `[N]` to probabilities.
    """
    # What is no number counts as jumping: its draw then fails, as it should.
    if log_rate.shape[-1] == 1:
        return ~(u >= chance(log_rate[:, 0].exp()))
    steered = chance((constraint.log_marginals(prediction, where) + log_rate).logsumexp(-1).exp()).double()
    if not constraint.weighs:
        return ~(u >= steered)
    plain = chance((prediction.log_denoiser(where) + log_rate).logsumexp(-1).exp()).double()
    steered = torch.where(steered > 0, steered + DEFENCE * (plain - steered), 0.0)
    jumping = ~(u >= steered)
    constraint.account(where[0], torch.where(jumping, plain / steered, (1 - plain) / (1 - steered)).log())
    return jumping


def jump(
    prediction: Prediction,
    constraint: Constraint,
    state: State,
    where: Positions,
    log_rate: Tensor,
    jumping: Tensor,
    **extras: Tensor,
) -> State:
    """Those positions of `where` jump: x0 under the constraint in proportion to its rate, then where it leads."""
    process, where, log_rate = prediction.process, (where[0][jumping], where[1][jumping]), log_rate[jumping]
    x, noise = state.tokens[where], prediction.sigma[where]
    x0 = constraint.draw(prediction, where, state.uniform("token"), tilt=log_rate)
    tokens = process.jump(x, x0, noise, state.uniform("move")[where]).to(torch.int64)
    moved = state.moved(where, tokens, prediction, x0=x0, **extras)
    constraint.settle(prediction, moved.tokens, lambda: jump_evidence(process, where, x, tokens, noise))
    return moved


def jump_evidence(process: Process, where: Positions, x: Tensor, y: Tensor, sigma: Tensor) -> Tilt:
    """What jumps x → y say of x0: log P_σ[y, x0] / P_σ[x, x0]."""
    now, after = (process.content(process.likelihood(at, sigma.double())).log() for at in (x, y))
    return Tilt(where, torch.where(torch.isneginf(now), now, after - now))


def expected_time(level: Level) -> float:
    """σ'(t) (t − s): what a reverse rate per unit of σ is multiplied by."""
    return level.noise_rate * (level.t - level.s)


def jump_law(jumps: Tensor, x: Tensor, chance: Callable[[Tensor], Tensor]) -> Tensor:
    """The law of the next state, `[..., S]`, from expected numbers of jumps to each state (0 at x itself)."""
    total = jumps.sum(-1, keepdim=True)
    moving = chance(total)
    share = torch.where(total > 0, moving / torch.where(total > 0, total, 1.0), 0.0)
    return (jumps * share).scatter(-1, x[..., None], 1 - moving)
