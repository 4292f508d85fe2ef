"""Particles: populations of runs that are weighed, resampled, and give one sample each."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from discdiff.constraints import Automaton, Constraint, PositionWise
from discdiff.constraints.weighed import Ahead, Weighed
from discdiff.errors import DiscdiffError, DiscdiffWarning, IncompatibleError
from discdiff.languages import anything
from discdiff.model import Model
from discdiff.randomness import Keys, Randomness, categorical, uniform
from discdiff.samplers.base import Sampler, State
from discdiff.sequences import Sequences

RESAMPLE_BELOW = 0.5
"""A population is resampled when its effective size falls below this share of its particles."""


@dataclass(frozen=True)
class Reward:
    """A function of clean sequences that samples are steered by: the target is ∝ p0(x) e^(strength · r(x)).

    During a run it is taken of clean sequences that are drawn from what the network says; at the end, of the samples.
    What it says on the way changes how good a population is, not its law.

    Attributes:
        function: of `Sequences`; gives finite numbers, float `[rows]`.
        strength: λ; negative values avoid.
        every: steps between two rewards.
    """

    function: Callable[[Sequences], Tensor]
    strength: float = 1.0
    every: int = 1

    def potential(self, sequences: Sequences) -> Tensor:
        """λ r of each row, float64 `[rows]` on the CPU.

        Raises:
            DiscdiffError: a number is missing or not finite.
        """
        found = torch.as_tensor(self.function(sequences), dtype=torch.float64).cpu()
        if found.shape != (len(sequences),) or not bool(found.isfinite().all()):
            raise DiscdiffError(
                f"reward: got {list(found.shape)} numbers, {int((~found.isfinite()).sum())} of them not finite; "
                f"expected {len(sequences)} finite ones (0, say, for what is not valid)"
            )
        return self.strength * found


@dataclass
class Population:
    """`size` particles for each of B samples: rows i·size … (i+1)·size − 1 belong to sample i.

    Sequential Monte Carlo: Del Moral, Doucet and Jasra 2006; systematic resampling: Carpenter, Clifford and Fearnhead
    1999; effective size (Σw)²/Σw²: Kong 1992; rewards of predicted clean sequences: Singhal et al. 2025 (Feynman-Kac
    steering).
    """

    size: int
    weighed: Weighed
    reward: Reward | None = None

    def __post_init__(self) -> None:
        rows = len(self.weighed.log_weights)
        count = rows // self.size
        # log of the mean weight of what has been resampled away, and the smallest effective size so far
        self.log_mean = torch.zeros(count, dtype=torch.float64)
        self.effective = torch.full((count,), float(self.size), dtype=torch.float64)
        self.potential = torch.zeros(rows, dtype=torch.float64)

    def after_step(self, state: State, going: Tensor, *, step: int, last: bool) -> State:
        """Weigh where a step has led, and resample populations in which few particles hold the weight.

        Those in which no particle is `going`, bool `[rows]`, are done: they are not resampled, whatever others do.
        """
        ahead = self.weighed.take_ahead()
        if self.reward is not None and (last or (ahead is not None and step % self.reward.every == 0)):
            self._reward(self.reward, state, ahead, last=last)
        # What lies ahead counts, though Z[p(·|x_s)] is known with the next call only: Z[p̃] stands for it till then.
        log_ahead = torch.zeros_like(self.potential) if last else self.weighed.log_ahead
        log_w = (self.weighed.log_weights + log_ahead).view(-1, self.size)
        size, alive = effective_size(log_w), going.view(-1, self.size).any(-1).cpu()
        # What is done counts once, at the end: how long others go on must not matter to it.
        self.effective = torch.where(alive | last, torch.minimum(self.effective, size), self.effective)
        poor = (size > 0) & (size < RESAMPLE_BELOW * self.size) & alive
        if last or not bool(poor.any()):
            return state
        u = uniform((len(state.tokens),), generator=state.generator, purpose="resample", dtype=torch.float64).cpu()
        chosen = systematic(log_w, u[:: self.size])
        stay = torch.arange(self.size).expand_as(chosen)
        rows = torch.where(poor[:, None], chosen, stay) + torch.arange(len(chosen))[:, None] * self.size
        self.log_mean = self.log_mean + torch.where(poor, log_mean_exp(log_w), 0.0)
        ahead_of = log_ahead[rows.reshape(-1)].view(-1, self.size)
        kept = self.weighed.log_weights.view(-1, self.size)
        self.weighed.log_weights = torch.where(poor[:, None], -ahead_of, kept).reshape(-1)
        self.weighed.log_ahead = ahead_of.reshape(-1)
        self.potential = self.potential[rows.reshape(-1)]
        moved = state.index(rows.reshape(-1).to(state.tokens.device))
        return replace(moved, generator=state.generator, calls=state.calls)  # these stay with the place

    def _reward(self, reward: Reward, state: State, ahead: Ahead | None, *, last: bool) -> None:
        """Replace the last potential by that of a clean sequence drawn ahead; at the end, of the sample itself."""
        tokens = state.tokens
        if not last:
            assert ahead is not None
            u = uniform(tuple(tokens.shape), generator=state.generator, purpose="guess", dtype=torch.float64)
            tokens = ahead.guess(tokens, u.to(tokens.device))
        where = torch.arange(len(tokens)) if last or ahead is None else ahead.rows.cpu()
        lengths = (~state.padding).sum(-1)
        shown = Sequences(tokens, lengths, state.labels)[where.to(tokens.device)]
        after = self.potential.clone()
        after[where] = reward.potential(shown)
        self.weighed.log_weights = self.weighed.log_weights + after - self.potential
        self.potential = after

    def select(self, state: State, generator: Randomness) -> tuple[State, Tensor, Tensor]:
        """One particle of each population in proportion to its weight; log of the mean weight; effective size.

        Any particle of a population without weight; the constraint holds there too, and the log weight is −∞.
        """
        log_w = self.weighed.log_weights.view(-1, self.size)
        dead = torch.isneginf(log_w).all(-1, keepdim=True)
        if bool(dead.any()):
            which = dead.nonzero()[:, 0].tolist()
            rows = ", ".join(map(str, which[:5])) + ", …" * (len(which) > 5)
            warnings.warn(
                f"{len(which)} of {len(dead)} samples (rows {rows}): no particle has any weight: they are draws "
                "as with one particle; their log weights are -inf, their effective size 0. More particles may help",
                DiscdiffWarning,
                stacklevel=4,  # `sample`, and what wraps it
            )
        u = uniform((len(state.tokens),), generator=generator, purpose="select", dtype=torch.float64)
        weights = torch.where(dead, 0.0, log_w).softmax(-1)
        one = categorical(weights, u.cpu()[:: self.size]) + torch.arange(len(log_w)) * self.size
        calls = state.calls.view(-1, self.size).sum(-1)  # all of a population's network evaluations were spent on it
        chosen = replace(state.index(one.to(state.tokens.device)), calls=calls)
        return chosen, self.log_mean + log_mean_exp(log_w), self.effective


def weigh(constraint: Constraint, sampler: Sampler, model: Model, *, truncated: bool) -> Automaton:
    """The constraint in the form whose weights are known.

    Raises:
        IncompatibleError: a sampler whose weights are not known, or truncation.
    """
    if (reason := sampler.unweighable(model)) is not None:
        raise IncompatibleError(
            "Particles",
            got=reason,
            expected="a sampler whose choices have known probabilities, with the constraint and without",
            remedy="Use FirstHitting on the absorbing process, Ancestral on others.",
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
    if not isinstance(constraint, PositionWise):
        raise IncompatibleError(
            "Particles",
            got=f"{type(constraint).__name__}, under which the probability of acceptance is not known",
            expected="clamps, sets of tokens and automata",
            remedy="Leave the check out, or particles; or weigh the samples by a reward instead.",
        )
    return Automaton({"sets of tokens": anything(model.process.vocab_size)}, constraint)


def many(generator: Randomness, size: int) -> Randomness:
    """Streams of their own for each particle; the first of each population has an id that follows from its row's."""
    if not isinstance(generator, Keys):
        return generator
    particle = torch.arange(size, device=generator.rows.device)
    return replace(generator, rows=(generator.rows[:, None] * size + particle).reshape(-1))


def effective_size(log_w: Tensor) -> Tensor:
    """(Σw)² / Σw² of `[B, K]` log weights: `[B]`, between 1 and K; 0 where there is no weight."""
    w = (log_w - log_w.amax(-1, keepdim=True).nan_to_num(neginf=0.0)).exp()
    return w.sum(-1).square() / w.square().sum(-1).clamp(min=torch.finfo(w.dtype).tiny)


def log_mean_exp(log_w: Tensor) -> Tensor:
    """log of the mean of `[B, K]` weights: `[B]`."""
    return log_w.logsumexp(-1) - torch.tensor(float(log_w.shape[-1]), dtype=log_w.dtype).log()


def systematic(log_w: Tensor, u: Tensor) -> Tensor:
    """K places drawn in proportion to `[B, K]` weights, one in each of K equal strata: int64 `[B, K]`."""
    size = log_w.shape[-1]
    cumulative = log_w.softmax(-1).cumsum(-1)
    points = (torch.arange(size) + u[:, None]) / size
    return torch.searchsorted(cumulative, points * cumulative[:, -1:], right=True).clamp(max=size - 1)


__all__ = ["Population", "Reward", "many", "weigh"]
