"""Particles: populations of runs that are weighed, resampled, and give one sample each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from discdiff.constraints import Automaton, Constraint, PositionWise
from discdiff.constraints.weighed import Weighed
from discdiff.errors import IncompatibleError
from discdiff.languages import anything
from discdiff.randomness import Keys, Randomness, categorical, uniform
from discdiff.samplers.base import Sampler, State

RESAMPLE_BELOW = 0.5
"""A population is resampled when its effective size falls below this share of its particles."""


@dataclass
class Population:
    """`size` particles for each of B samples: rows i·size … (i+1)·size − 1 belong to sample i.

    Sequential Monte Carlo: Del Moral, Doucet and Jasra 2006; systematic resampling: Carpenter, Clifford and Fearnhead
    1999; effective size (Σw)²/Σw²: Kong 1992.
    """

    size: int
    weighed: Weighed

    def __post_init__(self) -> None:
        count = len(self.weighed.log_weights) // self.size
        # log of the mean weight of what has been resampled away, and the smallest effective size so far
        self.log_mean = torch.zeros(count, dtype=torch.float64)
        self.effective = torch.full((count,), float(self.size), dtype=torch.float64)

    def after_step(self, state: State, sigma_next: float, *, last: bool) -> State:
        """Weigh where a step has led, and resample populations in which few particles hold the weight."""
        self.weighed.settle(state.tokens, sigma_next)
        log_w = self.weighed.log_weights.view(-1, self.size)
        if bool(torch.isneginf(log_w).all(-1).any()):
            raise IncompatibleError(
                "Particles",
                got="a population in which the model gives no particle any weight",
                expected="a model that gives what is asked some mass",
                remedy="Take more particles, or one (particles=1), which only the constraint steers.",
            )
        size = effective_size(log_w)
        self.effective = torch.minimum(self.effective, size)
        poor = size < RESAMPLE_BELOW * self.size
        if last or not bool(poor.any()):
            return state
        u = uniform((len(state.tokens),), generator=state.generator, purpose="resample", dtype=torch.float64).cpu()[
            :: self.size
        ]
        chosen = systematic(log_w, u)
        stay = torch.arange(self.size).expand_as(chosen)
        rows = torch.where(poor[:, None], chosen, stay) + torch.arange(len(chosen))[:, None] * self.size
        self.log_mean = self.log_mean + torch.where(poor, log_mean_exp(log_w), 0.0)
        self.weighed.log_weights = torch.where(poor[:, None], 0.0, log_w).reshape(-1)
        moved = state.index(rows.reshape(-1).to(state.tokens.device))
        return replace(moved, generator=state.generator)  # randomness stays with the place

    def select(self, state: State, generator: Randomness) -> tuple[State, Tensor, Tensor]:
        """One particle of each population in proportion to its weight; log of the mean weight; effective size."""
        log_w = self.weighed.log_weights.view(-1, self.size)
        u = uniform((len(state.tokens),), generator=generator, purpose="select", dtype=torch.float64)
        one = categorical(log_w.softmax(-1), u.cpu()[:: self.size]) + torch.arange(len(log_w)) * self.size
        calls = state.calls.view(-1, self.size).sum(-1)  # all of a population's network evaluations were spent on it
        chosen = replace(state.index(one.to(state.tokens.device)), calls=calls)
        return chosen, self.log_mean + log_mean_exp(log_w), self.effective


def weigh(constraint: Constraint, sampler: Sampler, *, vocab_size: int, truncated: bool) -> Automaton:
    """The constraint in the form whose weights are known.

    Raises:
        IncompatibleError: a sampler whose weights are not known, or truncation.
    """
    if not sampler.weighs:
        raise IncompatibleError(
            "Particles",
            got=f"{type(sampler).__name__}, whose steps have no known weights",
            expected="a sampler that draws each x0 from the denoiser, at positions chosen without regard to it",
            remedy="Use FirstHitting, Ordered, AnyOrder, Bisection or Ancestral.",
        )
    if truncated:
        raise IncompatibleError(
            "Particles",
            got="top-k or top-p",
            expected="draws from the whole law",
            remedy="Leave top-k and top-p out, or particles.",
        )
    if isinstance(constraint, Automaton):
        return constraint
    assert isinstance(constraint, PositionWise)
    return Automaton({"sets of tokens": anything(vocab_size)}, constraint)


def many(generator: Randomness, size: int) -> Randomness:
    """Streams of their own for each particle; the first of each population has an id that follows from its row's."""
    if not isinstance(generator, Keys):
        return generator
    particle = torch.arange(size, device=generator.rows.device)
    return replace(generator, rows=(generator.rows[:, None] * size + particle).reshape(-1))


def effective_size(log_w: Tensor) -> Tensor:
    """(Σw)² / Σw² of `[B, K]` log weights: `[B]`, between 1 and K."""
    w = (log_w - log_w.amax(-1, keepdim=True)).exp()
    return w.sum(-1).square() / w.square().sum(-1)


def log_mean_exp(log_w: Tensor) -> Tensor:
    """log of the mean of `[B, K]` weights: `[B]`."""
    return log_w.logsumexp(-1) - torch.tensor(float(log_w.shape[-1]), dtype=log_w.dtype).log()


def systematic(log_w: Tensor, u: Tensor) -> Tensor:
    """K places drawn in proportion to `[B, K]` weights, one in each of K equal strata: int64 `[B, K]`."""
    size = log_w.shape[-1]
    cumulative = log_w.softmax(-1).cumsum(-1)
    points = (torch.arange(size) + u[:, None]) / size
    return torch.searchsorted(cumulative, points * cumulative[:, -1:], right=True).clamp(max=size - 1)


__all__ = ["Population", "many", "weigh"]
