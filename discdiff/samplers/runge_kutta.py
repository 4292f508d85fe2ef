"""The theta-RK2 scheme."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.model import Model
from discdiff.prediction import Positions, Prediction, positions_of
from discdiff.randomness import categorical, fork
from discdiff.samplers.base import Level, State
from discdiff.samplers.rates import RateSampler, jump_law
from discdiff.samplers.trapezoidal import TwoLeaps, check_theta, two_leaps
from discdiff.schedules import Schedule


class RungeKutta2(RateSampler):
    """A leap to the middle ρ, then from t to s at the rates ((1 − 1/(2θ)) R_t + 1/(2θ) R_ρ)₊, a destination at a time.

    Within a leap the rates stand still and the first jump counts: a position moves with probability 1 − e^(−n), n its
    expected number of jumps. As published: on masks a position revealed at ρ has no rate there, and the order is one.

    `steps` bounds the network calls: two an interval, one for the last, to σ = 0, which is a draw of x0.

    Ren et al. 2025, "Fast solvers for discrete diffusion models", algorithm 1.

    Args:
        theta: where the middle lies, as a fraction of the interval from t; 1/2 is the midpoint rule.

    Raises:
        IncompatibleError: θ is not between 0 and 1.
    """

    law = "first order in the step"

    def __init__(self, theta: float = 0.5) -> None:
        self.theta = check_theta(type(self).__name__, theta)

    def levels(self, schedule: Schedule, steps: int) -> list[Level]:
        return two_leaps(schedule, steps, self.theta)

    def chance(self, expected: Tensor) -> Tensor:
        return -torch.expm1(-expected)

    def step(self, model: Model, constraint: Constraint, state: State, level: Level) -> State:
        if not isinstance(level, TwoLeaps):  # the last one
            return super().step(model, constraint, state, level)
        process, context = model.process, state.context()
        first = model.predict(state.tokens, level.first.noise(state, model.dtype)[0], context)
        middle = self._leap(first, constraint, state, level.first)
        second = model.predict(middle.tokens, level.second.noise(state, model.dtype)[0], context)
        again = replace(state, generator=fork(state.generator, "second leap"))
        where = positions_of(state.movable & process.active(state.tokens))
        if first.has_denoiser:
            tokens = self._second_draws(first, second, constraint, again, level, where)
        else:
            tokens = categorical(self.second_kernel(first, second, level, where), again.uniform("move")[where])
        done = again.moved(where, tokens, first)
        return replace(done, generator=state.generator, calls=done.calls + second.calls)

    def _leap(self, prediction: Prediction, constraint: Constraint, state: State, level: Level) -> State:
        sigma, sigma_next = level.noise(state, prediction.sigma.dtype)
        if prediction.has_denoiser:
            return self.two_draws(prediction, constraint, state, level, sigma, sigma_next)
        where = positions_of(state.movable)
        kernel = self.kernel(prediction, level, sigma_next, where)
        return state.moved(where, categorical(kernel, state.uniform("move")[where]), prediction)

    def _second_draws(
        self,
        first: Prediction,
        second: Prediction,
        constraint: Constraint,
        state: State,
        level: TwoLeaps,
        where: Positions,
    ) -> Tensor:
        """Tokens after the second leap, int64 `[N]`: who jumps, x0 under the constraint, where to."""
        logs = constraint.log_marginals(first, where), constraint.log_marginals(second, where)
        expected = self._expected(first, second, level, where, *logs)
        jumping = state.uniform("who")[where] < self.chance(expected.sum(-1))
        at = (where[0][jumping], where[1][jumping])
        logs = logs[0][jumping], logs[1][jumping]
        chosen = expected[jumping]
        tilt = torch.where(chosen > 0, chosen.log() - logs[0], -torch.inf)
        drawn = constraint.draw(first, at, state.uniform("token"), tilt=tilt)
        if not first.process.reveals_noise:
            drawn = categorical(self._jumps(first, second, level, at, *logs, drawn), state.uniform("move")[at])
        return state.tokens[where].masked_scatter(jumping, drawn)

    def second_kernel(self, first: Prediction, second: Prediction, level: TwoLeaps, where: Positions) -> Tensor:
        """The law of the next state given both predictions, without constraint: `[N, S]` at `where`."""
        x, process = first.tokens[where], first.process
        if not first.has_denoiser:
            now, then = self._weights(level)
            rates, later = (
                process.reverse_rate(each.log_score(where), each.tokens[where]).clamp(min=0) for each in (first, second)
            )
            jumps = (now * rates + then * later).clamp(min=0)
            return jump_law(jumps.scatter(-1, x[:, None], 0.0), x, self.chance)
        logs = first.log_denoiser(where), second.log_denoiser(where)
        expected = self._expected(first, second, level, where, *logs)
        jumps = torch.zeros(len(x), process.num_states, dtype=expected.dtype, device=x.device)
        for token in range(process.vocab_size):
            share = self._jumps(first, second, level, where, *logs, torch.full_like(x, token))
            total = share.sum(-1, keepdim=True)
            jumps = jumps + expected[:, token, None] * torch.where(total > 0, share / total, 0.0)
        return jump_law(jumps, x, self.chance)

    def _weights(self, level: TwoLeaps) -> tuple[float, float]:
        """What multiplies the rates per unit of σ at t and in the middle."""
        ahead, time = 0.5 / self.theta, level.t - level.s
        return (1 - ahead) * level.first.noise_rate * time, ahead * level.second.noise_rate * time

    def _expected(
        self, first: Prediction, second: Prediction, level: TwoLeaps, where: Positions, p: Tensor, q: Tensor
    ) -> Tensor:
        """Expected numbers of jumps out of x that each x0 asks for, `[N, V]`; `p`, `q` are log p(x0) at both times."""
        now, then = self._weights(level)
        process, x, middle = first.process, first.tokens[where], second.tokens[where]
        sigma = second.sigma[where]
        later = process.log_jump_rate(middle, sigma).exp()
        # A jump of the middle's token back to x is no jump from x.
        back = process.rates_into(middle, dtype=sigma.dtype).gather(-1, x[:, None])
        returns = (x != middle)[:, None] & (back > 0)
        ratio = process.content(process.likelihood(x, sigma) / process.likelihood(middle, sigma))
        later = torch.where(returns, (later - back * ratio).clamp(min=0), later)
        both = now * p.exp() * process.log_jump_rate(x, first.sigma[where]).exp() + then * q.exp() * later
        return torch.where(p > -torch.inf, both.clamp(min=0), 0.0)

    def _jumps(
        self,
        first: Prediction,
        second: Prediction,
        level: TwoLeaps,
        where: Positions,
        p: Tensor,
        q: Tensor,
        x0: Tensor,
    ) -> Tensor:
        """Expected numbers of jumps to each state for one x0 (int64 `[N]`), `[N, S]`."""

        def rates(prediction: Prediction, log_p: Tensor) -> Tensor:
            process, x, sigma = prediction.process, prediction.tokens[where], prediction.sigma[where]
            into = process.rates_into(x, dtype=sigma.dtype).scatter(-1, x[:, None], 0.0)
            jumps = torch.where(into > 0, into * process.conditional_ratio(x, x0, sigma), 0.0)
            return jumps * log_p.gather(-1, x0[:, None]).exp()

        now, then = self._weights(level)
        jumps = (now * rates(first, p) + then * rates(second, q)).clamp(min=0)
        return jumps.scatter(-1, first.tokens[where][:, None], 0.0)
