"""The intersection of two position-wise constraints."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.constraints.base import PositionWise, empty_at
from discdiff.errors import IncompatibleError
from discdiff.prediction import Positions


class Both(PositionWise):
    """x0 satisfies `first` and `second`. A position that the two leave a single token is given, as if clamped.

    Raises:
        IncompatibleError: they fix different lengths, or hold tables of different numbers of rows.
    """

    def __init__(self, first: PositionWise, second: PositionWise) -> None:
        lengths = {part.length for part in (first, second)} - {None}
        if len(lengths) > 1:
            raise IncompatibleError(
                "Constraints",
                got=f"lengths {first.length} and {second.length}",
                expected="one length",
                remedy="Write both for the same length.",
            )
        if 1 not in (first.rows, second.rows) and first.rows != second.rows:
            raise IncompatibleError(
                "Constraints",
                got=f"tables of {first.rows} and {second.rows} rows",
                expected="one number of rows",
                remedy="Write both for the same batch, or one of them for all rows.",
            )
        self.first, self.second = first, second
        self.length = lengths.pop() if lengths else None
        self.rows = max(first.rows, second.rows)
        if self.length is not None and (table := self._table(self.length)) is not None:
            free = ~self.given(self.rows, self.length)[1]
            self.restricts_draws = bool((~table.all(-1) & free).any())

    def _table(self, length: int) -> Tensor | None:
        """bool `[rows, L, V]`: the tokens that both allow, or None where all are."""
        where = torch.ones(self.rows, length, dtype=torch.bool).nonzero(as_tuple=True)
        joint = self.allowed_at((where[0], where[1]))
        return None if joint is None else joint.reshape(self.rows, length, -1)

    def check(self, *, vocab_size: int, length: int) -> None:
        self.first.check(vocab_size=vocab_size, length=length)
        self.second.check(vocab_size=vocab_size, length=length)
        tokens, frozen = self.first.given(self.rows, length)
        other_tokens, other_frozen = self.second.given(self.rows, length)
        clash = (frozen & other_frozen & (tokens != other_tokens)).any(0).nonzero()
        if clash.numel():
            raise empty_at(int(clash[0]), "the two constraints give different tokens")
        for part, known, fixed in ((self.second, tokens, frozen), (self.first, other_tokens, other_frozen)):
            where = fixed.nonzero(as_tuple=True)
            allowed = part.allowed_at((where[0], where[1]))
            if allowed is not None and not (ok := allowed.gather(-1, known[where][:, None])[:, 0]).all():
                raise empty_at(int(where[1][~ok][0]), "one constraint gives a token that the other forbids")
        joint = self._table(length)
        if joint is not None and (empty := (~joint.any(-1)).any(0).nonzero()).numel():
            raise empty_at(int(empty[0]), "the two sets of allowed tokens have nothing in common")

    def given(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        tokens, frozen = self.first.given(self.rows, length)
        more, also = self.second.given(self.rows, length)
        tokens, frozen = torch.where(frozen, tokens, more), frozen | also
        if (table := self._table(length)) is not None:
            single = (table.sum(-1) == 1) & ~frozen
            tokens, frozen = torch.where(single, table.int().argmax(-1), tokens), frozen | single
        return tokens.expand(batch, -1), frozen.expand(batch, -1)

    def allowed_at(self, where: Positions) -> Tensor | None:
        tables = [t for t in (self.first.allowed_at(where), self.second.allowed_at(where)) if t is not None]
        return torch.stack(tables).all(0) if tables else None

    def index(self, rows: Tensor) -> Both:
        return Both(self.first.index(rows), self.second.index(rows))
