"""The intersection of two position-wise constraints."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.constraints.base import PositionWise, empty_at
from discdiff.errors import IncompatibleError
from discdiff.prediction import Positions


class Both(PositionWise):
    """x0 satisfies `first` and `second`.

    Raises:
        IncompatibleError: they fix different lengths.
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
        self.first, self.second = first, second
        self.length = lengths.pop() if lengths else None
        self.restricts_draws = first.restricts_draws or second.restricts_draws

    def check(self, *, vocab_size: int, length: int) -> None:
        self.first.check(vocab_size=vocab_size, length=length)
        self.second.check(vocab_size=vocab_size, length=length)
        tokens, frozen = self.first.given(1, length)
        other_tokens, other_frozen = self.second.given(1, length)
        clash = (frozen & other_frozen & (tokens != other_tokens)).any(0).nonzero()
        if clash.numel():
            raise empty_at(int(clash[0]), "the two constraints give different tokens")
        for part, known, fixed in ((self.second, tokens, frozen), (self.first, other_tokens, other_frozen)):
            where = fixed.nonzero(as_tuple=True)
            allowed = part.allowed_at((where[0], where[1]))
            if allowed is not None and not (ok := allowed.gather(-1, known[where][:, None])[:, 0]).all():
                raise empty_at(int(where[1][~ok][0]), "one constraint gives a token that the other forbids")
        every = torch.arange(length)
        joint = self.allowed_at((torch.zeros_like(every), every))
        if joint is not None and (empty := (~joint.any(-1)).nonzero()).numel():
            raise empty_at(int(empty[0]), "the two sets of allowed tokens have nothing in common")

    def given(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        tokens, frozen = self.first.given(batch, length)
        more, also = self.second.given(batch, length)
        return torch.where(frozen, tokens, more), frozen | also

    def allowed_at(self, where: Positions) -> Tensor | None:
        tables = [t for t in (self.first.allowed_at(where), self.second.allowed_at(where)) if t is not None]
        return torch.stack(tables).all(0) if tables else None

    def index(self, rows: Tensor) -> Both:
        return Both(self.first.index(rows), self.second.index(rows))  # type: ignore[arg-type]
