"""Clamp: some positions are given."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.constraints.base import PositionWise
from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.prediction import Positions


class Clamp(PositionWise):
    """x0_i = tokens_i wherever `given_i`.

    The sampler freezes these positions: they carry no noise and are shown to the network as clean. On the absorbing
    process the law is exactly p0(· | x_C). Off it that holds in the limit of many steps, and only for a network that
    was trained with frozen positions; `discdiff.sample` warns where one was not.

    Args:
        tokens: int64 `[L]`, or `[B, L]` with a row per sample; values where nothing is given are ignored.
        given: bool, same shape.

    Raises:
        DiscdiffError: shapes or types are off.
    """

    def __init__(self, tokens: Tensor, given: Tensor) -> None:
        if tokens.shape != given.shape or tokens.ndim not in (1, 2):
            raise DiscdiffError(
                f"Clamp: got tokens {list(tokens.shape)} and given {list(given.shape)}, expected [L] or [B, L] for both"
            )
        self.tokens = torch.atleast_2d(tokens).to(torch.int64)
        self.mask = torch.atleast_2d(given).to(torch.bool)
        self.rows, self.length = self.tokens.shape

    def check(self, *, vocab_size: int, length: int) -> None:
        super().check(vocab_size=vocab_size, length=length)
        values = self.tokens[self.mask]
        stray = values[(values < 0) | (values >= vocab_size)]
        if stray.numel():
            raise IncompatibleError(
                "Clamp",
                got=f"token {int(stray[0])}",
                expected=f"content tokens 0..{vocab_size - 1}",
                remedy="Encode the given part with the model's own domain.",
            )

    def given(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        frozen = self.mask.expand(batch, -1)
        return self.tokens.expand(batch, -1).masked_fill(~frozen, 0), frozen

    def allowed_at(self, where: Positions) -> None:
        return None

    def index(self, rows: Tensor) -> Clamp:
        return self if self.rows == 1 else Clamp(self.tokens[rows], self.mask[rows])
