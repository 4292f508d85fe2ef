"""One forward pass of a block-causal network: what it runs on, and what its layers do otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.networks.base import Context
from discdiff.networks.blocks import Blocks, Piece, attend
from discdiff.networks.cache import Cache, Entry, LayerMemory


@dataclass(frozen=True)
class BlockPass:
    """Beside the clean sequence, in training, or after a cache, in sampling.

    Attributes:
        tokens: int64 `[B, M]`, what the network is to be run on.
        sigma: `[B, 1]` or `[B, M]`, or None for a time-free network; 0 where clean.
        context: position ids `[M]` and labels.
        wanted: which of the M positions were asked for, from here on.
        blocks: who sees whom.
        padding: bool `[B, M]`, what is not to be seen, or None.
        pieces: of the attention, shared by all layers.
        cache, entry: where a cache is written.
    """

    tokens: Tensor
    sigma: Tensor | None
    context: Context
    wanted: int
    blocks: Blocks
    padding: Tensor | None
    pieces: list[Piece]
    cache: Cache | None = None
    entry: Entry | None = None

    @classmethod
    def of(cls, size: int | None, tokens: Tensor, sigma: Tensor | None, context: Context) -> BlockPass | None:
        """What a network in blocks of `size` is asked for, the context being checked; None for one without blocks."""
        if context.cache is not None:
            return cls._after(context.cache, tokens, sigma, context)
        if size is not None and context.clean is not None:
            return cls._beside(size, context.clean, tokens, sigma, context)
        return None

    @classmethod
    def _beside(cls, size: int, clean: Tensor, tokens: Tensor, sigma: Tensor | None, context: Context) -> BlockPass:
        length, padding = tokens.shape[1], context.padding
        if sigma is not None:
            level = sigma.expand(tokens.shape)
            sigma = torch.cat((torch.zeros_like(level), level), 1)
        place = torch.arange(length, device=tokens.device).repeat(2)
        blocks = Blocks(size, length, noised=True)
        pieces = blocks.pieces(padding, tokens.device)
        both, twice = torch.cat((clean, tokens), 1), None if padding is None else padding.repeat(1, 2)
        return cls(both, sigma, _shown(context, place), length, blocks, twice, pieces)

    @classmethod
    def _after(cls, cache: Cache, tokens: Tensor, sigma: Tensor | None, context: Context) -> BlockPass:
        start, stop = cache.start, cache.stop
        entry = cache.entry(context.labels)
        first = cache.ready(entry)
        if sigma is not None:
            sigma = sigma if sigma.shape[1] == 1 else sigma[:, start:stop]
            if first < start:
                level = sigma.expand(-1, stop - start)
                sigma = torch.cat((level.new_zeros(len(level), start - first), level), 1)
        padding = None if context.padding is None else context.padding[:, :stop]
        blocks = Blocks(cache.size, stop, first)
        pieces = blocks.pieces(padding, tokens.device)
        place = torch.arange(first, stop, device=tokens.device)
        mine = None if padding is None else padding[:, first:]
        return cls(
            tokens[:, first:stop], sigma, _shown(context, place), start - first, blocks, mine, pieces, cache, entry
        )

    def layer(self, number: int) -> InBlocks:
        """What a layer, counted from 0, does otherwise."""
        if self.cache is None or self.entry is None:
            return InBlocks(self, None)
        return InBlocks(self, LayerMemory(self.cache, self.entry.layer(number), self.blocks.start))

    def finish(self, states: Tensor) -> Tensor:
        """The states that were asked for; to be called when all layers have run: what is finished is kept from now."""
        if self.cache is not None and self.entry is not None:
            self.cache.keep(self.entry)
        return states[:, self.wanted :]


@dataclass(frozen=True)
class InBlocks:
    """One layer of a block-causal network.

    Attributes:
        whole: the pass.
        memory: what the layer keeps of earlier blocks, if anything.
    """

    whole: BlockPass
    memory: LayerMemory | None

    def mixed(self, x: Tensor, weight: Tensor, place: int) -> Tensor:
        """x plus its local mixing, `[B, M, D]`, at one of the layer's places."""
        padding = self.whole.padding
        seen = x if padding is None else x.masked_fill(padding[..., None], 0)
        left = None if self.memory is None else self.memory.before(place, weight.shape[-1] // 2)
        return x + self.whole.blocks.mixed(seen, weight, left)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of this pass's queries `[B, H, M, D]`, to keys and values of its own and of earlier blocks."""
        if self.memory is not None:
            k, v = self.memory.with_earlier(k, v)
        return attend(q, k, v, self.whole.pieces)


def _shown(context: Context, place: Tensor) -> Context:
    return replace(context, frozen=None, padding=None, clean=None, cache=None, positions=place)


def check_size(what: str, size: object) -> None:
    """Refuse what is no number of positions of a block; None is one, for what has no blocks.

    Raises:
        IncompatibleError: no integer, or less than 1.
    """
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise IncompatibleError(
            what, got=repr(size), expected="an integer of at least 1", remedy="32 to 256 are usual."
        )


def check_blocks(size: int | None, context: Context) -> None:
    """Refuse what a network in blocks of `size`, or one without, cannot be shown.

    Raises:
        IncompatibleError: a noised sequence alone, packed sequences, or blocks for a network without.
    """
    if size is None and (context.clean is not None or context.cache is not None):
        raise IncompatibleError(
            "Transformer without blocks",
            got="clean blocks apart from noised ones",
            expected="the noised sequence alone",
            remedy="Build it with block_size=...",
        )
    if size is not None and context.clean is None and context.cache is None:
        raise IncompatibleError(
            "Block-causal Transformer",
            got="a noised sequence alone",
            expected="the clean tokens of earlier blocks beside it (Context.clean or Context.cache)",
            remedy="Train with losses.Blockwise, sample with samplers.Blockwise, judge by nelbo",
        )
    if size is not None and (context.segments is not None or context.positions is not None):
        raise IncompatibleError(
            "Block-causal Transformer",
            got="packed sequences" if context.segments is not None else "position ids",
            expected="one sequence a row, whose blocks are counted from its start",
            remedy="Leave them out",
        )
