"""The theta-RK2 scheme."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.prediction import DenoiserPrediction, Positions, Prediction, positions_of
from discdiff.randomness import categorical, fork
from discdiff.samplers.base import Level, State
from discdiff.samplers.grid import Grid
from discdiff.samplers.rates import DEFENCE, RateSampler, jump_evidence, jump_law
from discdiff.samplers.trapezoidal import TwoLeaps, check_theta, refuse_masses, two_leaps
from discdiff.schedules import Schedule

Logs = tuple[Tensor, Tensor]
"""log p(x0 | xt) by the predictions at t and in the middle, `[N, V]` each."""


class RungeKutta2(RateSampler):
    """A leap to the middle ρ, then from t to s at the rates ((1 − 1/(2θ)) R_t + 1/(2θ) R_ρ)₊, a destination at a time.

    Within a leap the rates stand still and the first jump counts: a position moves with probability 1 − e^(−n), n its
    expected number of jumps. As published: on masks a position revealed at ρ has no rate there, and the order is one.

    `steps` bounds the network calls: two an interval, one for the last, to σ = 0, which is a draw of x0.

    Ren et al. 2025, "Fast solvers for discrete diffusion models", algorithm 1.

    Args:
        theta: where the middle lies, as a fraction of the interval from t; 1/2 is the midpoint rule.
        grid: where the intervals are, as for any `Gridded` sampler.

    Raises:
        IncompatibleError: θ is not between 0 and 1.
    """

    law = "first order in the step"

    def __init__(self, theta: float = 0.5, grid: Grid = "time") -> None:
        super().__init__(grid)
        self.theta = check_theta(type(self).__name__, theta)

    def check(self, model: Model, constraint: Constraint) -> None:
        super().check(model, constraint)
        # Each position leaps by itself: two that are left for good may together be what is not accepted.
        if constraint.restricts_draws and not (model.process.reveals_noise or model.process.irreducible):
            raise IncompatibleError(
                "RungeKutta2 sampler under a constraint",
                got=f"{type(model.process).__name__} with states that cannot be entered again",
                expected="a process whose tokens could have come from any other",
                remedy="Use Trapezoidal or Ancestral with this process.",
            )

    def intervals(self, steps: int) -> int:
        return (steps + 1) // 2

    def levels(self, schedule: Schedule, steps: int) -> list[Level]:
        return two_leaps(super().levels(schedule, steps), schedule, self.theta)

    def chance(self, expected: Tensor) -> Tensor:
        return -torch.expm1(-expected)

    def step(self, model: Model, constraint: Constraint, state: State, level: Level) -> State:
        if not isinstance(level, TwoLeaps):  # the last one
            return super().step(model, constraint, state, level)
        process, context = model.process, state.context()
        first = model.predict(state.tokens, level.first.noise(state, model.dtype)[0], context)
        refuse_masses(self, constraint, first)
        middle = self._leap(first, constraint.aside, state, level.first)  # shown to the network, then forgotten
        second = model.predict(middle.tokens, level.second.noise(state, model.dtype)[0], context)
        again = replace(state, generator=fork(state.generator, "second leap"))
        where = positions_of(state.movable & process.active(state.tokens))
        if process.reveals_noise:
            done = self._second_draws(first, second, constraint, again, level, where)
        else:
            done = self._second_jumps(first, second, constraint, again, level, where)
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
    ) -> State:
        """The second leap of masks: who jumps, and x0 under the constraint."""
        law = constraint.aside
        logs = law.log_marginals(first, where), law.log_marginals(second, where)
        expected = first.process.content(self._expected(first, second, level, where, logs))
        jumping = ~(state.uniform("who")[where] >= self.chance(expected.sum(-1)))
        there = (where[0][jumping], where[1][jumping])
        # The expected jumps are truncated already: the draw is of the whole law, so that none is divided by nothing.
        whole, wanted = constraint.untruncated, expected[jumping].log()
        known = whole.aside.log_marginals(first, there)
        # What the middle calls possible and the start does not has no mass to be tilted: it is given its own.
        new = torch.isneginf(known) & ~torch.isneginf(wanted)
        said = first
        if bool(new.any()):
            said = replaced(first, there, torch.where(new, wanted, first.log_denoiser(there)))
            known = torch.where(new, wanted, known)
        tilt = torch.where(torch.isneginf(wanted), wanted, wanted - known)
        drawn = whole.draw(said, there, state.uniform("token"), tilt=tilt)
        done = state.moved(there, drawn, first, x0=drawn)
        constraint.settle(said, done.tokens)
        return done

    def _second_jumps(
        self,
        first: Prediction,
        second: Prediction,
        constraint: Constraint,
        state: State,
        level: TwoLeaps,
        where: Positions,
    ) -> State:
        """The second leap where any token may move: each position by its own marginal law."""
        logs = None
        if first.has_denoiser:
            logs = constraint.log_marginals(first, where), constraint.log_marginals(second, where)
        kernel = self.second_kernel(first, second, level, where, logs)
        plain = kernel
        if constraint.weighs:
            plain = self.second_kernel(first, second, level, where)
            kernel = kernel + DEFENCE * (plain - kernel)
        x = state.tokens[where]
        tokens = categorical(kernel, state.uniform("move")[where])
        done = state.moved(where, tokens, first)
        if constraint.weighs:
            chances = (law.gather(-1, tokens[:, None])[:, 0].double() for law in (plain, kernel))
            constraint.account(where[0], torch.sub(*(chance.log() for chance in chances)))
            jumped = tokens != x
            there, noise = (where[0][jumped], where[1][jumped]), first.sigma[where][jumped]
            evidence = partial(jump_evidence, first.process, there, x[jumped], tokens[jumped], noise)
            if first.has_denoiser:  # else nothing is restricted
                constraint.foresee(first, done.tokens, there[0].unique(), evidence)
        return done

    def second_kernel(
        self, first: Prediction, second: Prediction, level: TwoLeaps, where: Positions, logs: Logs | None = None
    ) -> Tensor:
        """The law of the next state given both predictions: `[N, S]` at `where`.

        Args:
            logs: log p(x0 | xt) under a constraint by both predictions, `[N, V]` each; their own by default.
        """
        if logs is None and first.has_denoiser:
            logs = first.log_denoiser(where), second.log_denoiser(where)
        return jump_law(self._expected(first, second, level, where, logs), first.tokens[where], self.chance)

    def _expected(
        self, first: Prediction, second: Prediction, level: TwoLeaps, where: Positions, logs: Logs | None
    ) -> Tensor:
        """Expected numbers of jumps to each state, `[N, S]`: both rates combined, then cut, a destination at a time.

        Cutting what each x0 asks for by itself would cut more: at θ < 1/2 the weight of R_t is negative.
        """

        def rates(prediction: Prediction, log_p: Tensor | None) -> Tensor:
            process, x, sigma = prediction.process, prediction.tokens[where], prediction.sigma[where]
            if log_p is None:
                log_s = prediction.log_score(where)
            else:
                log_s = process.score_from_denoiser(log_p, x, sigma.to(log_p.dtype))
            return process.reverse_rate(log_s, x).clamp(min=0)

        ahead, time = 0.5 / self.theta, level.t - level.s
        now, then = (1 - ahead) * level.first.noise_rate * time, ahead * level.second.noise_rate * time
        p, q = (None, None) if logs is None else logs
        jumps = (now * rates(first, p) + then * rates(second, q)).clamp(min=0)
        # A jump of the middle's token back to x is no jump from x.
        return jumps.scatter(-1, first.tokens[where][:, None], 0.0)


def replaced(prediction: Prediction, where: Positions, log_p: Tensor) -> Prediction:
    """A prediction that says `log_p` `[N, V]`, not normalised, at N positions, and what it said at others."""
    slot = torch.full(prediction.tokens.shape, -1, dtype=torch.int64, device=log_p.device)
    slot[where] = torch.arange(len(log_p), device=log_p.device)

    def said(at: Positions | None) -> Tensor:
        found, mine = prediction.log_denoiser(at), slot if at is None else slot[at]
        return found.masked_scatter((mine >= 0)[..., None], log_p[mine[mine >= 0]].to(found.dtype))

    place = (prediction.process, prediction.tokens, prediction.sigma, prediction.frozen)
    return DenoiserPrediction(*place, log_p=said, calls=lambda: prediction.calls)
