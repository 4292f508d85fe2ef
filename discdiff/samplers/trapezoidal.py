"""The theta-trapezoidal scheme: two leaps an interval, the second by what both places say."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.prediction import DenoiserPrediction, Positions, Prediction, ScorePrediction, positions_of
from discdiff.randomness import categorical, fork
from discdiff.samplers.ancestral import Ancestral
from discdiff.samplers.base import Level, Sampler, State
from discdiff.samplers.grid import Grid
from discdiff.samplers.rates import DEFENCE
from discdiff.schedules import Schedule


@dataclass(frozen=True)
class TwoLeaps(Level):
    """An interval with a time in its middle: `first` leads from t to the middle, `second` from there to s."""

    first: Level
    second: Level


class Trapezoidal(Ancestral):
    """A leap from t to the middle ρ; from there to s by (a p_ρ − b p_t)₊, a = 1/(2θ(1−θ)), b = a − 1.

    Each leap is the exact posterior for a prediction that stands still (`Ancestral`), so that on masks no error comes
    from the rates' change in time. Positive parts are normalised to a pseudo-denoiser, which constraints act on; off
    the absorbing process p_t is first carried to ρ and the token there: posterior ∝ leave-one-out · P_σ[x_i, x0].

    `steps` bounds the network calls: two an interval, one for the last, to σ = 0, which is a draw of x0.

    Ren et al. 2025, "Fast solvers for discrete diffusion models", algorithm 2.

    Args:
        theta: where the middle lies, as a fraction of the interval from t.
        grid: where the intervals are, as for any `Gridded` sampler.

    Raises:
        IncompatibleError: θ is not between 0 and 1.
    """

    law = "second order in the step while nothing is cut, else first"

    def __init__(self, theta: float = 0.5, grid: Grid = "time") -> None:
        super().__init__(grid)
        self.theta = check_theta(type(self).__name__, theta)

    def intervals(self, steps: int) -> int:
        return (steps + 1) // 2

    def levels(self, schedule: Schedule, steps: int) -> list[Level]:
        return two_leaps(super().levels(schedule, steps), schedule, self.theta)

    def step(self, model: Model, constraint: Constraint, state: State, level: Level) -> State:
        if not isinstance(level, TwoLeaps):  # the last one
            return super().step(model, constraint, state, level)
        first = model.predict(state.tokens, level.first.noise(state, model.dtype)[0], state.context())
        refuse_masses(self, constraint, first)
        middle = self._leap(first, constraint, state, level.first)
        second = model.predict(middle.tokens, level.second.noise(state, model.dtype)[0], state.context())
        # The combined prediction counts the calls of both.
        start = replace(middle, calls=state.calls, generator=fork(state.generator, "second leap"))
        plain = self.combine(first, second)
        if not (constraint.weighs and plain.has_denoiser):
            return replace(self._leap(plain, constraint, start, level.second), generator=state.generator)
        # What the second leap cuts a later step may draw: the plain sampler goes where nothing else is accepted, too.
        defended = mixture(plain, second, DEFENCE)
        done = self._leap(defended, constraint, start, level.second)
        moved = start.movable & plain.process.active(start.tokens)
        if plain.process.reveals_noise:  # who is revealed does not depend on what is said
            moved &= done.tokens != start.tokens
        where, sigma_next = positions_of(moved), level.second.noise(start, plain.sigma.dtype)[1]
        laws = (said.posterior(sigma_next, where).double() for said in (plain, defended))
        chances = (law.gather(-1, done.tokens[where][:, None])[:, 0].log() for law in laws)
        constraint.account(where[0], torch.sub(*chances))
        return replace(done, generator=state.generator)

    def combine(self, first: Prediction, second: Prediction) -> Prediction:
        """The pseudo-prediction of the second leap, at the tokens and noise of `second`."""
        process, ahead = second.process, 0.5 / (self.theta * (1 - self.theta))

        def mixed(later: Tensor, earlier: Tensor) -> Tensor:
            return (ahead * later.exp() - (ahead - 1) * earlier.exp()).clamp(min=0).log()

        def log_p(where: Positions | None) -> Tensor:
            earlier = first.log_denoiser(where)
            if not process.reveals_noise:
                past, here = _own(first, where), _own(second, where)
                # What the first token rules out cannot have become the second one either, from which it came.
                earlier = torch.where(past.isneginf(), -torch.inf, earlier + here - past).log_softmax(-1)
            return mixed(second.log_denoiser(where), earlier)

        def log_s(where: Positions | None) -> Tensor:
            x, shorter = (first.sigma - second.sigma), second.tokens
            step, token = (x, shorter) if where is None else (x[where], shorter[where])
            back = process.propagate(first.log_score(where).double().exp(), -step.double()).clamp(min=0)
            back = back / back.gather(-1, token[..., None])
            return mixed(second.log_score(where), back.log().to(second.sigma.dtype))

        def calls() -> Tensor:
            return first.calls + second.calls

        place = (process, second.tokens, second.sigma, second.frozen)
        if second.has_denoiser:
            return DenoiserPrediction(*place, log_p=log_p, calls=calls)
        return ScorePrediction(*place, log_s=log_s, calls=calls)

    def _leap(self, prediction: Prediction, constraint: Constraint, state: State, level: Level) -> State:
        sigma, sigma_next = level.noise(state, prediction.sigma.dtype)
        if prediction.has_denoiser:
            return self.two_draws(prediction, constraint, state, level, sigma, sigma_next)
        where = positions_of(state.movable)
        weights = self.kernel(prediction, level, sigma_next, where)
        return state.moved(where, categorical(weights, state.uniform("move")[where]), prediction)


def mixture(one: Prediction, other: Prediction, share: float) -> Prediction:
    """(1 − share) p + share p′ of two predictions at the same tokens; the calls are those of `one`."""

    def log_p(where: Positions | None) -> Tensor:
        first, second = one.log_denoiser(where), other.log_denoiser(where)
        return torch.logaddexp(first + math.log1p(-share), second + math.log(share))

    place = (one.process, one.tokens, one.sigma, one.frozen)
    return DenoiserPrediction(*place, log_p=log_p, calls=lambda: one.calls)


def refuse_masses(sampler: Sampler, constraint: Constraint, prediction: Prediction) -> None:
    """A law that two predictions make together has no mass that particles could be weighed by.

    Raises:
        IncompatibleError: a guided model, with particles.
    """
    if constraint.weighs and prediction.guided:
        raise IncompatibleError(
            "Particles",
            got=f"a guided model with {type(sampler).__name__}, which mixes what two predictions say",
            expected="draws from one guided law at a time",
            remedy="Use FirstHitting or Ancestral, or leave guidance out.",
        )


def check_theta(name: str, theta: float) -> float:
    """A usable θ, or an error."""
    if not 0 < theta < 1:
        raise IncompatibleError(f"{name} theta", got=theta, expected="a number between 0 and 1", remedy="Try 0.5.")
    return theta


def two_leaps(levels: list[Level], schedule: Schedule, theta: float) -> list[Level]:
    """The intervals with a middle each, for two calls; the last, to σ = 0, as it is."""
    *levels, last = levels
    halved: list[Level] = []
    for level in levels:
        middle = torch.tensor(level.t - theta * (level.t - level.s), dtype=torch.float64)
        t, sigma, rate = float(middle), float(schedule.total_noise(middle)), float(schedule.noise_rate(middle))
        first = Level(level.t, t, level.sigma, sigma, level.noise_rate)
        halved.append(TwoLeaps(**vars(level), first=first, second=Level(t, level.s, sigma, level.sigma_next, rate)))
    return [*halved, last]


def _own(prediction: Prediction, where: Positions | None) -> Tensor:
    """log P_σ[xt_i, x0] of each x0."""
    x, sigma = prediction.tokens, prediction.sigma
    if where is not None:
        x, sigma = x[where], sigma[where]
    return prediction.process.content(prediction.process.log_likelihood(x, sigma))
