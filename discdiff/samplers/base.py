"""What every sampler is: one step over an interval. The loop is in `discdiff.sampling`, once."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.networks.base import Context
from discdiff.networks.cache import Cache
from discdiff.networks.evaluation import Evaluation
from discdiff.prediction import Positions, Prediction, positions_of
from discdiff.processes.absorbing import Absorbing
from discdiff.randomness import Randomness, categorical, check_draws, index_rows, uniform
from discdiff.samplers.grid import Grid, check_grid, grid_times
from discdiff.schedules import Schedule

DEFAULT_STEPS = 128


@dataclass(frozen=True)
class State:
    """All that a sampler carries from step to step; every tensor has a row axis.

    Attributes:
        tokens: int64 `[B, L]`; may hold the mask.
        frozen: bool `[B, L]`: given positions.
        padding: bool `[B, L]`.
        labels: int64 `[B]` or None.
        calls: int64 `[B]`: network evaluations so far.
        log_weights: float `[B]`: log importance weights, 0 for plain samplers.
        generator: the randomness of the current step.
        extras: what one sampler needs beside (an order, a mask fraction); what is `[B, L]` is one number a position.
        block: bool `[B, L]`: the positions that are sampled now, of a sampler that goes by blocks; None is all.
        cache: what a block-causal network keeps of finished blocks.
        evaluation: how the network is run.
    """

    tokens: Tensor
    frozen: Tensor
    padding: Tensor
    labels: Tensor | None
    calls: Tensor
    log_weights: Tensor
    generator: Randomness
    extras: dict[str, Tensor] = field(default_factory=dict)
    block: Tensor | None = None
    cache: Cache | None = None
    evaluation: Evaluation | None = None

    @property
    def movable(self) -> Tensor:
        """bool `[B, L]`: positions that are sampled."""
        free = ~(self.frozen | self.padding)
        return free if self.block is None else free & self.block

    def context(self) -> Context:
        """What the network is shown; masks that mark nothing are left out."""
        return Context(
            frozen=self.frozen if bool(self.frozen.any()) else None,
            padding=self.padding if bool(self.padding.any()) else None,
            labels=self.labels,
            cache=None if self.block is None else self.cache,
            evaluation=self.evaluation,
        )

    def index(self, rows: Tensor) -> State:
        """The state of some rows, in any order, repeated or not."""
        return State(
            self.tokens[rows],
            self.frozen[rows],
            self.padding[rows],
            None if self.labels is None else self.labels[rows],
            self.calls[rows],
            self.log_weights[rows],
            index_rows(self.generator, rows),
            {name: value[rows] for name, value in self.extras.items()},
            None if self.block is None else self.block[rows],
            None if self.cache is None else self.cache[rows],
            None if self.evaluation is None else self.evaluation.index(rows),
        )

    def uniform(self, purpose: str, *, per_row: bool = False) -> Tensor:
        """Uniform numbers, float64 `[B, L]`, or `[B]` if `per_row`."""
        shape = tuple(self.tokens.shape[:1]) if per_row else tuple(self.tokens.shape)
        return uniform(shape, generator=self.generator, purpose=purpose, dtype=torch.float64, device=self.tokens.device)

    def moved(
        self, where: Positions, tokens: Tensor, prediction: Prediction, *, x0: Tensor | None = None, **extras: Tensor
    ) -> State:
        """The state after `tokens` were put at `where`, the prediction's evaluations counted.

        Args:
            where: N positions.
            tokens: int64 `[N]`.
            prediction: what they were drawn from.
            x0: int64 `[N]`, the clean tokens that were drawn on the way. A failed draw of one looks like the mask,
                which may well be a state but is no clean token.
            extras: what changes beside.

        Raises:
            DiscdiffError: a draw failed, so that its token is no state, or its x0 no token.
        """
        process = prediction.process
        check_draws((tokens, process.num_states), *([] if x0 is None else [(x0, process.vocab_size)]))
        return replace(
            self,
            tokens=self.tokens.index_put(where, tokens),
            calls=self.calls + prediction.calls,
            extras={**self.extras, **extras},
        )


@dataclass(frozen=True)
class Level:
    """One interval of diffusion time, from t down to s, with total noise at both ends and its rate at t."""

    t: float
    s: float
    sigma: float
    sigma_next: float
    noise_rate: float

    @property
    def last(self) -> bool:
        """Whether the interval ends at the clean sequence."""
        return self.sigma_next == 0.0

    def noise(self, state: State, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(σ(t), σ(s)) as `[B, 1]` tensors."""
        shape = (len(state.tokens), 1)
        return (
            torch.full(shape, self.sigma, dtype=dtype, device=state.tokens.device),
            torch.full(shape, self.sigma_next, dtype=dtype, device=state.tokens.device),
        )


def noise_levels(schedule: Schedule, steps: int, grid: Grid = "time") -> list[Level]:
    """`steps` intervals from t = 1, on a grid; the last one ends at σ = 0, so steps are network evaluations.

    No interval begins below t_min: with more steps than fit above it they are uniform down to it.

    Args:
        grid: uniform in "time", "noise" (σ) or "mask_fraction", or the times at which intervals begin.
    """
    t = torch.cat([grid_times(schedule, steps, grid), torch.zeros(1, dtype=torch.float64)])
    sigma, rate, times = schedule.total_noise(t).tolist(), schedule.noise_rate(t).tolist(), t.tolist()
    sigma[-1] = 0.0
    return [Level(times[k], times[k + 1], sigma[k], sigma[k + 1], rate[k]) for k in range(steps)]


class Sampler(ABC):
    """A way back from noise to data.

    Attributes:
        law: one line: exact, first order in the step, or greedy.
        takes_steps: whether the number of network calls may be chosen.
        revisits: whether it may look at a state of a row twice; else nothing is remembered.
        by_blocks: whether it shows a network finished blocks clean, as a block-causal one needs.
    """

    law: ClassVar[str]
    takes_steps: bool = False
    revisits: ClassVar[bool] = True
    by_blocks: ClassVar[bool] = False

    def check(self, model: Model, constraint: Constraint) -> None:
        """Refuse, before anything runs, a model or constraint that the sampler cannot honour.

        Raises:
            IncompatibleError: got, expected, remedy.
        """
        return

    def unweighable(self, model: Model) -> str | None:
        """Why particles cannot weigh its runs, to be read after "got"; None if they can.

        They can if each step tells `constraint.account` of choices that the constraint has changed, and each draw of x0
        that is kept is followed by `constraint.settle`. See `constraints.weighed`.
        """
        return f"{type(self).__name__}, whose steps have no known weights"

    @abstractmethod
    def plan(self, model: Model, state: State, steps: int | None) -> tuple[State, Sequence[Level]]:
        """The state ready for the first step, and the intervals to go through."""

    @abstractmethod
    def step(self, model: Model, constraint: Constraint, state: State, level: Level) -> State:
        """The state after one interval."""


def check_sampler(sampler: Sampler, model: Model, constraint: Constraint) -> None:
    """Refuse, before anything runs, a model or constraint that the sampler cannot honour, or blocks unknown to it.

    Raises:
        IncompatibleError: got, expected, remedy.
    """
    if model.block_size is not None and not sampler.by_blocks:
        raise IncompatibleError(
            f"{type(sampler).__name__} sampler",
            got="a block-causal network (network.block_size)",
            expected="one that sees the whole row",
            remedy="Leave the sampler out (sampling.sampler, sampler=), or sample with samplers.Blockwise.",
        )
    sampler.check(model, constraint)


class Gridded(Sampler):
    """A sampler that goes through a fixed grid of noise levels.

    Args:
        grid: where the steps are: uniform in "time", "noise" or "mask_fraction", or the times themselves, from 1 down.

    Raises:
        IncompatibleError: no such grid, or times that do not fall from 1.
    """

    takes_steps = True
    grid: Grid = "time"

    def __init__(self, grid: Grid = "time") -> None:
        self.grid = check_grid(grid)

    def plan(self, model: Model, state: State, steps: int | None) -> tuple[State, Sequence[Level]]:
        if steps is None and not isinstance(self.grid, str):
            steps = next(calls for calls in itertools.count(1) if self.intervals(calls) == len(self.grid))
        return state, self.levels(model.schedule, check_steps(steps))

    def intervals(self, steps: int) -> int:
        """How many intervals of the grid `steps` network calls are enough for, at least 1."""
        return steps

    def levels(self, schedule: Schedule, steps: int) -> list[Level]:
        """The intervals to go through in `steps` network calls."""
        return noise_levels(schedule, self.intervals(steps), self.grid)


class GridSampler(Gridded):
    """A sampler over a grid of which each step is two draws.

    x0 is drawn from the prediction under the constraint, then positions move given that x0. A score-form prediction
    off the absorbing process steps from `kernel` directly.
    """

    def check(self, model: Model, constraint: Constraint) -> None:
        if constraint.restricts_draws and not has_denoiser(model):
            raise IncompatibleError(
                "Constraint on, or truncation of, the draw of x0",
                got="a score network off the absorbing process",
                expected="a model with a denoiser",
                remedy="Clamp positions only (a rule, or a template that says what a gap may hold, does more), without "
                "top-k and top-p, or train with Denoiser.",
            )

    def step(self, model: Model, constraint: Constraint, state: State, level: Level) -> State:
        sigma, sigma_next = level.noise(state, model.dtype)
        prediction = model.predict(state.tokens, sigma, state.context())
        if prediction.has_denoiser:
            return self.two_draws(prediction, constraint, state, level, sigma, sigma_next)
        where = positions_of(state.movable)
        weights = self.kernel(prediction, level, sigma_next, where)
        return state.moved(where, categorical(weights, state.uniform("move")[where]), prediction)

    @abstractmethod
    def kernel(self, prediction: Prediction, level: Level, sigma_next: Tensor, where: Positions | None) -> Tensor:
        """The law of one position's next state given xt, `[N, S]` at `where` (or `[B, L, S]`), without constraint."""

    @abstractmethod
    def two_draws(
        self,
        prediction: Prediction,
        constraint: Constraint,
        state: State,
        level: Level,
        sigma: Tensor,
        sigma_next: Tensor,
    ) -> State:
        """One step: x0 under the constraint, then the move given x0.

        Marginally `kernel`, where nothing constrains. An unnormalised score (absorbing) is normalised first, so that
        no mass is ever left on the mask: the law is `kernel` of `log_denoiser`.
        """


def check_steps(steps: int | None) -> int:
    """A number of steps, the default where none is given, or an error."""
    count = DEFAULT_STEPS if steps is None else steps
    if count < 1:
        raise IncompatibleError("steps", got=count, expected="at least 1", remedy="Ask for one network call or more.")
    return count


def any_prediction(model: Model) -> Prediction:
    """A prediction of the kind that a model makes, of one token without a label; no network runs."""
    tokens = torch.zeros(1, 1, dtype=torch.int64, device=model.device)
    unlabelled = Context(labels=torch.full((1,), -1, dtype=torch.int64, device=model.device))
    return model.predict(tokens, torch.ones(1, 1, dtype=model.dtype, device=model.device), unlabelled)


def has_denoiser(model: Model) -> bool:
    """Whether a model's predictions can be read as a denoiser at any noise."""
    return any_prediction(model).has_denoiser


class EventSampler(Sampler):
    """A sampler of the absorbing process that chooses which positions are revealed, and when.

    Attributes:
        pace: how many positions a call reveals, where that is not for the user to choose.
    """

    pace: ClassVar[str] = "it reveals one position a call"
    revisits = False

    def check(self, model: Model, constraint: Constraint) -> None:
        if not isinstance(model.process, Absorbing):
            raise IncompatibleError(
                f"{type(self).__name__} sampler",
                got=type(model.process).__name__,
                expected="the absorbing process",
                remedy="Use Ancestral or Euler with this process.",
            )

    def plan(self, model: Model, state: State, steps: int | None) -> tuple[State, Sequence[Level]]:
        if steps is not None and not self.takes_steps:
            raise IncompatibleError(
                f"{type(self).__name__} sampler",
                got=f"steps={steps}",
                expected=f"no steps: {self.pace}",
                remedy="Leave steps out, or use Ancestral to choose the number of calls.",
            )
        whole = Level(t=1.0, s=0.0, sigma=model.schedule.ends()[1], sigma_next=0.0, noise_rate=0.0)
        most = int(hidden_in(model, state).sum(-1).max())
        return state, [whole] * (most if steps is None else min(most, check_steps(steps)))

    def look(self, model: Model, state: State, fraction: Tensor) -> Prediction:
        """What the network says, shown `fraction` `[B]`: masks over all positions of the row, given ones among them."""
        low, high = model.schedule.ends()
        sigma = (-torch.log1p(-fraction)).clamp(low, high).to(model.dtype)[:, None]
        return model.predict(state.tokens, sigma, state.context())

    def reveal(
        self,
        model: Model,
        constraint: Constraint,
        state: State,
        chosen: Tensor,
        fraction: Tensor,
        **extras: Tensor,
    ) -> State:
        """Draw x0 at the `chosen` positions (bool `[B, L]`), the network shown mask fraction `fraction` `[B]`."""
        prediction, where = self.look(model, state, fraction), positions_of(chosen)
        tokens = constraint.draw(prediction, where, state.uniform("token"))
        moved = state.moved(where, tokens, prediction, x0=tokens, **extras)
        constraint.settle(prediction, moved.tokens)
        return moved


def hidden_in(model: Model, state: State) -> Tensor:
    """bool `[B, L]`: positions that are still to be revealed."""
    return state.movable & model.process.active(state.tokens)


def fraction_hidden(state: State, hidden: Tensor) -> Tensor:
    """float64 `[B]`: the share of each row's positions, or of its block's, that are hidden."""
    counted = ~state.padding if state.block is None else ~state.padding & state.block
    return hidden.sum(-1) / counted.sum(-1).clamp(min=1).double()


def rank_among(hidden: Tensor, keys: Tensor) -> Tensor:
    """int64 `[B, L]`: places 0, 1, ... of the hidden positions by ascending `keys`, ties from the left."""
    largest = torch.finfo(torch.float64).max  # whatever its key, a hidden position comes before all others
    keys = torch.nan_to_num(keys.double(), nan=largest, posinf=largest)
    return keys.masked_fill(~hidden, torch.inf).argsort(dim=-1, stable=True).argsort(-1)
