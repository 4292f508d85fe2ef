"""Allowed: a set of tokens for each position."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.constraints.base import PositionWise, empty_at
from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.prediction import Positions


class Allowed(PositionWise):
    """x0_i in A_i for every position i. A position with a single allowed token is given, as if clamped.

    Each draw of x0 is exact for the factorised denoiser, so the constraint always holds; a run as a whole is a proposal
    for p0(· | allowed), not a draw from it, with samplers too that are exact otherwise.

    Args:
        allowed: bool `[L, V]`, or `[B, L, V]` with a table per row.

    Raises:
        DiscdiffError: shape or type is off.
        EmptyLanguageError: a position allows nothing; names it.
    """

    def __init__(self, allowed: Tensor) -> None:
        if allowed.dtype != torch.bool or allowed.ndim not in (2, 3):
            raise DiscdiffError(
                f"Allowed: got {allowed.dtype} {list(allowed.shape)}, expected bool [L, V] or [B, L, V]"
            )
        self.table = allowed if allowed.ndim == 3 else allowed[None]
        self.rows, self.length = self.table.shape[:2]
        counts = self.table.sum(-1)
        if (empty := (counts == 0).any(0).nonzero()).numel():
            raise empty_at(int(empty[0]), "no token is allowed")
        self.restricts_draws = bool(((counts > 1) & (counts < self.table.shape[2])).any())

    def check(self, *, vocab_size: int, length: int) -> None:
        super().check(vocab_size=vocab_size, length=length)
        if self.table.shape[2] != vocab_size:
            raise IncompatibleError(
                "Allowed",
                got=f"{self.table.shape[2]} tokens",
                expected=vocab_size,
                remedy="Build the table with the model's own vocabulary.",
            )

    def given(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        frozen = (self.table.sum(-1) == 1).expand(batch, -1)
        return self.table.int().argmax(-1).expand(batch, -1).masked_fill(~frozen, 0), frozen

    def allowed_at(self, where: Positions) -> Tensor:
        rows, positions = where
        table = self.table.to(rows.device)
        return table[rows if self.rows > 1 else torch.zeros_like(rows), positions]

    def index(self, rows: Tensor) -> Allowed:
        return self if self.rows == 1 else Allowed(self.table[rows])
