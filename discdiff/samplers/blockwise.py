"""Block-wise sampling: blocks from left to right, each by any other sampler, given those before it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.errors import DiscdiffWarning, IncompatibleError
from discdiff.guidance.base import Guided
from discdiff.model import Model
from discdiff.networks.base import Context
from discdiff.networks.block_pass import check_size
from discdiff.networks.cache import Cache
from discdiff.prediction import DenoiserPrediction, Positions, Prediction
from discdiff.processes.absorbing import Absorbing
from discdiff.randomness import at_step, fork
from discdiff.samplers.ancestral import Ancestral
from discdiff.samplers.any_order import AnyOrder
from discdiff.samplers.base import EventSampler, Gridded, Level, Sampler, State, hidden_in
from discdiff.samplers.predictor_corrector import PredictorCorrector

BLOCK_SIZE = 64
"""Positions of a block, where neither the sampler nor the network says."""


def default_sampler(model: Model) -> Sampler:
    """`Ancestral()`; of a block-causal model `Blockwise()`, as it has no law of the whole row."""
    return Ancestral() if model.block_size is None else Blockwise()


@dataclass(frozen=True)
class InBlock(Level):
    """A step of the inner sampler in one block.

    Attributes:
        inner: its interval.
        block: which block, from 0.
        number: which of the block's steps, from 1.
    """

    inner: Level
    block: int
    number: int


class Blockwise(Sampler):
    """x^b ~ the inner sampler's law given x^(<b), b = 1, 2, …: semi-autoregressive.

    Blocks of `block_size` positions are sampled from left to right; what comes after a block is masked meanwhile. By
    the chain rule the law is exact if the inner sampler's is. `steps` are those of each block.

    A block-causal network sees no later block. Keys and values of finished ones are kept, so that a call evaluates the
    current block alone, and the finished one before it once; with the cache and without the samples are the same.
    Given tokens of later blocks hold, but do not tell earlier ones anything: this is warned of. An automaton takes all
    tokens of later blocks for equally likely.

    A network that was trained without blocks sees later blocks as masks, and each call takes the whole row: its states
    of finished blocks change with every token, so that keeping them (Wu et al. 2025, Fast-dLLM) would be an
    approximation, which is not offered.

    Arriola et al. 2025, "Block diffusion".

    Args:
        sampler: of each block's positions, by events or on a time grid; `AnyOrder()` by default.
        block_size: positions of a block, the last one taking what is left; by default the network's, else 64.
        cache: keep keys and values of finished blocks, of a block-causal network.

    Raises:
        IncompatibleError: no positions in a block, or an inner sampler whose number of steps is random, or that goes by
            blocks itself.
    """

    law = "the inner sampler's, block by block: exact if that is"
    by_blocks = True

    def __init__(self, sampler: Sampler | None = None, block_size: int | None = None, cache: bool = True) -> None:
        given: object = AnyOrder() if sampler is None else sampler
        if not isinstance(given, Sampler):
            raise IncompatibleError(
                "Blockwise sampler",
                got=repr(given),
                expected="a sampler",
                remedy="Such as samplers.Blockwise(samplers.Ancestral()).",
            )
        self.sampler, self.cache = given, cache
        self.block_size, self.takes_steps = block_size, self.sampler.takes_steps
        plain = self.sampler.predictor if isinstance(self.sampler, PredictorCorrector) else self.sampler
        if not isinstance(plain, EventSampler | Gridded):
            raise IncompatibleError(
                "Blockwise sampler",
                got=type(plain).__name__,
                expected="an inner sampler by events or on a time grid",
                remedy="Use AnyOrder or FirstHitting, which are exact, or Ancestral.",
            )
        check_size("Blockwise sampler: block_size", block_size)

    def check(self, model: Model, constraint: Constraint) -> None:
        if not isinstance(model.process, Absorbing):
            raise IncompatibleError(
                "Blockwise sampler",
                got=type(model.process).__name__,
                expected="the absorbing process, whose masks say nothing of what comes later",
                remedy="Use Ancestral or Euler with this process.",
            )
        if model.block_size is not None and self.block_size not in (None, model.block_size):
            raise IncompatibleError(
                "Blockwise sampler: block_size",
                got=self.block_size,
                expected=f"{model.block_size}, that of the block-causal network",
                remedy="Leave block_size out.",
            )
        self.sampler.check(model, constraint)

    def unweighable(self, model: Model) -> str | None:
        return self.sampler.unweighable(model)

    def plan(self, model: Model, state: State, steps: int | None) -> tuple[State, Sequence[Level]]:
        levels: list[InBlock] = []
        size = self._size(model)
        if model.block_size is not None:
            _warn_of_later(state, size)
            state = replace(state, cache=empty(state, size))
        for block in range(-(-state.tokens.shape[1] // size)):
            inner = self._enter(state, size, block, 0)
            if not bool(hidden_in(model, inner).any()):
                continue  # all of it is given
            planned, own = self.sampler.plan(model, inner, steps)
            state = self._leave(state, planned, block)
            levels += [
                InBlock(each.t, each.s, each.sigma, each.sigma_next, each.noise_rate, each, block, number)
                for number, each in enumerate(own, 1)
            ]
        return state, levels

    def step(self, model: Model, constraint: Constraint, state: State, level: Level) -> State:
        assert isinstance(level, InBlock), "a level of its own plan"
        inner = self._enter(state, self._size(model), level.block, level.number)
        assert inner.block is not None
        whole = model.block_size is None and model.time_conditioned
        shown = Rest(model, inner.block[0]) if whole else model
        return self._leave(state, self.sampler.step(shown, constraint, inner, level.inner), level.block)

    def _size(self, model: Model) -> int:
        return self.block_size or model.block_size or BLOCK_SIZE

    def _enter(self, state: State, size: int, block: int, number: int) -> State:
        """The state in which only a block's positions move, with the inner sampler's extras and randomness for it."""
        width = state.tokens.shape[1]
        start, stop = block * size, min((block + 1) * size, width)
        place = torch.arange(width, device=state.tokens.device)
        open_now = ((place >= start) & (place < stop)).expand(state.tokens.shape)
        prefix = f"{block}/"
        mine = {name.removeprefix(prefix): value for name, value in state.extras.items() if name.startswith(prefix)}
        every = {name: value for name, value in state.extras.items() if "/" not in name}
        # Counted from the block's own start: how many steps came before may depend on other rows.
        generator = at_step(fork(state.generator, f"block {block}"), number)
        kept = state.cache
        if kept is not None:
            kept = (kept if self.cache else empty(state, size)).window(start, stop)
        return replace(state, block=open_now, extras={**every, **mine}, generator=generator, cache=kept)

    @staticmethod
    def _leave(state: State, inner: State, block: int) -> State:
        """The whole state after `inner`; extras of one number a position are kept together for all blocks."""
        assert inner.block is not None
        extras = dict(state.extras)
        for name, value in inner.extras.items():
            if value.shape == inner.tokens.shape:
                extras[name] = torch.where(inner.block, value, extras.get(name, value))
            else:
                extras[f"{block}/{name}"] = value
        return replace(inner, block=state.block, extras=extras, generator=state.generator, cache=state.cache)


def empty(state: State, size: int) -> Cache:
    """A cache for the rows of a state, in which nothing is kept yet."""
    batch, length = state.tokens.shape
    return Cache(batch, length, size)


def _warn_of_later(state: State, size: int) -> None:
    """Given tokens say nothing to the blocks before them."""
    block = torch.arange(state.tokens.shape[1], device=state.tokens.device) // size
    first = block.expand_as(state.tokens).masked_fill(~state.movable, len(block)).amin(-1, keepdim=True)
    if bool((state.frozen & (block > first)).any()):
        warnings.warn(
            "given positions in later blocks: a block-causal network does not see them when it samples earlier ones, "
            "so that these do not follow from them (give what comes first, or use a network without blocks)",
            DiscdiffWarning,
            stacklevel=4,  # `sample`, and what wraps it
        )


class Rest(Guided):
    """A time-conditioned model that is shown how much of the whole row is masked, where samplers speak of a block.

    Args:
        model: of whole rows.
        block: bool `[L]`, the positions of the block.
    """

    def __init__(self, model: Model, block: Tensor) -> None:
        super().__init__(model)
        self.block = block

    def predict(self, tokens: Tensor, sigma: Tensor, context: Context | None = None) -> Prediction:
        base = self.model.predict(tokens, self._row_noise(tokens, sigma, context or Context()), context)

        def log_p(where: Positions | None) -> Tensor:
            return self._unnormalised(base, where)

        place = (base.process, tokens, sigma, base.frozen)
        return DenoiserPrediction(*place, log_p=log_p, calls=lambda: base.calls, weighed=base.guided)

    def _row_noise(self, tokens: Tensor, sigma: Tensor, context: Context) -> Tensor:
        """σ of the row's share of masks: the block's, as its σ says, and all that come later."""
        real = torch.ones_like(self.block).expand(tokens.shape) if context.padding is None else ~context.padding
        later = self.process.active(tokens) & real & ~self.block
        within = -torch.expm1(-sigma.double()) * (real & self.block).sum(-1, keepdim=True)
        share = (within + later.sum(-1, keepdim=True)) / real.sum(-1, keepdim=True).clamp(min=1)
        return (-torch.log1p(-share.clamp(max=1))).clamp(*self.schedule.ends()).to(sigma.dtype)
