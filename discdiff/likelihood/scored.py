"""`Scored`: the positions whose likelihood is asked for, the others being given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from discdiff.errors import DiscdiffError, IncompatibleError, check_type
from discdiff.losses.base import context_of
from discdiff.model import Model
from discdiff.networks.base import Context
from discdiff.sequences import Sequences


@dataclass(frozen=True)
class Scored:
    """Sequences, and which of their positions are scored; the other tokens are given.

    Attributes:
        sequences: clean.
        where: bool `[B, L]`, never padding.
    """

    sequences: Sequences
    where: Tensor

    @classmethod
    def of(cls, model: Model, sequences: Sequences, span: Tensor | None, asked: str) -> Scored:
        """All positions, or those of a span.

        Raises:
            DiscdiffError: no sequences, or a row in which nothing is scored.
            IncompatibleError: a span of another shape, or one that the model cannot be conditioned around.
        """
        check_type(f"{asked}: sequences", sequences, Sequences, "Sequences.full(tokens) makes them of a tensor [B, L].")
        real = ~sequences.padding
        if span is not None and (span.dtype != torch.bool or span.shape != real.shape):
            raise IncompatibleError(
                f"{asked}: span",
                got=f"{span.dtype} {list(span.shape)}",
                expected=f"bool {list(real.shape)}, True where tokens are scored",
                remedy="Give one mark for each token of the batch.",
            )
        where = real if span is None else real & span.to(real.device)
        if len(sequences) == 0 or not bool(where.any(-1).all()):
            raise DiscdiffError(
                f"{asked}: got an empty set or an empty sequence, expected at least one token to score in each row"
            )
        if bool((real & ~where).any()) and not model.exact_clamps:
            raise IncompatibleError(
                f"{asked} of a span given the rest",
                got=f"{type(model.process).__name__} with a network that is not told which positions are given",
                expected="a process whose noise shows (Absorbing), or a network trained with frozen positions",
                remedy="Use an absorbing model, or train with the loss Given.",
            )
        if model.block_size is not None:
            _check_blocks(model.block_size, real & ~where, where, asked)
        return cls(sequences, where)

    @property
    def tokens(self) -> Tensor:
        """int64 `[B]`: how many positions are scored."""
        return self.where.sum(-1)

    @property
    def given(self) -> Tensor:
        """bool `[B, L]`: tokens that are not scored."""
        return ~self.where & ~self.sequences.padding

    def __getitem__(self, rows: Tensor) -> Scored:
        """Some rows, no wider than the longest."""
        part = self.sequences[rows]
        width = int(part.lengths.max())
        return Scored(replace(part, tokens=part.tokens[:, :width]), self.where[rows][:, :width])

    def to(self, device: torch.device) -> Scored:
        """The same on another device."""
        return Scored(self.sequences.to(device), self.where.to(device))

    def context(self) -> Context:
        """What the network is shown; masks that mark nothing are left out."""
        given = self.given
        return replace(context_of(self.sequences), frozen=given if bool(given.any()) else None)


def _check_blocks(size: int, given: Tensor, where: Tensor, asked: str) -> None:
    """Refuse to score a block given tokens of later ones, which a block-causal network does not see."""
    block = torch.arange(where.shape[1], device=where.device) // size
    first = block.expand_as(where).masked_fill(~where, where.shape[1]).amin(-1, keepdim=True)
    if bool((given & (block > first)).any()):
        raise IncompatibleError(
            f"{asked} of a span given the rest",
            got="tokens that are given in later blocks, which a block-causal network does not see",
            expected="a span that ends its sequence, but for its own block",
            remedy="Score the rest of the sequence too, or use a network without blocks.",
        )


def in_batches(
    scored: Scored, model: Model, batch_size: int, on_batch: Callable[[int, int], None] | None
) -> list[tuple[Tensor, Scored, Callable[[], None]]]:
    """Rows sorted by length, in batches on the model's device, each with what to call when it is done."""
    order = scored.sequences.lengths.argsort(stable=True)
    batches = []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        done = min(start + batch_size, len(order))
        report = partial(on_batch, done, len(order)) if on_batch is not None else _silent
        batches.append((rows, scored[rows], report))
    return batches


def _silent() -> None:
    return
