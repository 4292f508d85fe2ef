"""What samplers of the reverse rates share: rates frozen at the start of the step, at most one jump a position."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.prediction import Positions, Prediction, positions_of
from discdiff.samplers.ancestral import posterior_step
from discdiff.samplers.base import GridSampler, Level, State


class RateSampler(GridSampler):
    """x → y with a probability that depends on the expected number of jumps, σ'(t) (t − s) Σ_y R(x → y); y ∝ R.

    The last interval, to σ = 0, is a draw of x0: the rate there is unbounded.
    """

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
        log_rate = process.log_jump_rate(x, noise)
        if log_rate.shape[-1] == 1:
            log_total = log_rate[:, 0]
        else:
            log_total = (constraint.log_marginals(prediction, where) + log_rate).logsumexp(-1)
        # What is no number counts as jumping: its draw then fails, as it should.
        jumping = ~(state.uniform("who")[where] >= self.chance(log_total.exp() * expected_time(level)))
        where = (where[0][jumping], where[1][jumping])
        x0 = constraint.draw(prediction, where, state.uniform("token"), tilt=log_rate[jumping])
        tokens = process.jump(x[jumping], x0, noise[jumping], state.uniform("move")[where])
        return state.moved(where, tokens.to(torch.int64), prediction, x0=x0)


def expected_time(level: Level) -> float:
    """σ'(t) (t − s): what a reverse rate per unit of σ is multiplied by."""
    return level.noise_rate * (level.t - level.s)


def jump_law(jumps: Tensor, x: Tensor, chance: Callable[[Tensor], Tensor]) -> Tensor:
    """The law of the next state, `[..., S]`, from expected numbers of jumps to each state (0 at x itself)."""
    total = jumps.sum(-1, keepdim=True)
    moving = chance(total)
    share = torch.where(total > 0, moving / torch.where(total > 0, total, 1.0), 0.0)
    return (jumps * share).scatter(-1, x[..., None], 1 - moving)
