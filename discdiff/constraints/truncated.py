"""Truncation: draws from the most likely tokens only (top-k, top-p), under a constraint."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.errors import IncompatibleError
from discdiff.prediction import Positions, Prediction


class Truncated(Constraint):
    """x0_i ~ p(x0_i | xt, constraint) cut to its most likely tokens, and normalised.

    top-k keeps the k most likely tokens (Fan et al. 2018). top-p then keeps the smallest set of most likely tokens
    whose mass is at least p, the token that crosses p among them (Holtzman et al. 2020, equation 2, the nucleus). Of
    equally likely tokens those of lower number are kept. The cut is of the *constrained* marginals: what a constraint
    allows is never all cut away at a position; a row in which an automaton accepts nothing of what the cuts leave
    together is drawn without them.

    `discdiff.sample(top_k=, top_p=)` wraps its constraint in one.

    Args:
        constraint: any other.
        top_k: at least 1, or None; the vocabulary's size changes nothing.
        top_p: in (0, 1], or None; 1 changes nothing.

    Raises:
        IncompatibleError: a number out of range.
    """

    restricts_draws = True
    wraps = True

    def __init__(self, constraint: Constraint, *, top_k: int | None = None, top_p: float | None = None) -> None:
        check_truncation(top_k, top_p)
        self.constraint, self.top_k, self.top_p = constraint, top_k, top_p
        self.length, self.rows = constraint.length, constraint.rows

    @property
    def untruncated(self) -> Constraint:
        return self.constraint.untruncated

    def check(self, *, vocab_size: int, length: int) -> None:
        self.constraint.check(vocab_size=vocab_size, length=length)

    def given(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        return self.constraint.given(batch, length)

    def possible_lengths(self, longest: int) -> Tensor | None:
        return self.constraint.possible_lengths(longest)

    def most_rows(self, lengths: Tensor) -> int | None:
        return self.constraint.most_rows(lengths)

    def bound(self, lengths: Tensor) -> Truncated:
        return Truncated(self.constraint.bound(lengths), top_k=self.top_k, top_p=self.top_p)

    def index(self, rows: Tensor) -> Truncated:
        return Truncated(self.constraint.index(rows), top_k=self.top_k, top_p=self.top_p)

    def log_marginals(self, prediction: Prediction, where: Positions) -> Tensor:
        return truncate(self.constraint.log_marginals(prediction, where), top_k=self.top_k, top_p=self.top_p)

    def draw(self, prediction: Prediction, where: Positions, u: Tensor, *, tilt: Tensor | None = None) -> Tensor:
        log_p = self.log_marginals(prediction, where)
        cut = torch.zeros_like(log_p).masked_fill(torch.isneginf(log_p), -torch.inf)
        return self.constraint.draw_cut(prediction, where, u, cut, tilt=tilt)

    def __and__(self, other: Constraint) -> Constraint:
        return Truncated(self.constraint & other, top_k=self.top_k, top_p=self.top_p)


def check_truncation(top_k: int | None, top_p: float | None) -> None:
    """Refuse numbers that are no truncation.

    Raises:
        IncompatibleError: `top_k` below 1, or `top_p` outside (0, 1].
    """
    if top_k is not None and top_k < 1:
        raise IncompatibleError(
            "top_k", got=top_k, expected="at least 1", remedy="The most likely token is always kept."
        )
    if top_p is not None and not 0 < top_p <= 1:
        raise IncompatibleError(
            "top_p", got=top_p, expected="above 0 and at most 1", remedy="1 changes nothing, 0.9 drops unlikely tokens."
        )


def truncate(log_p: Tensor, *, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Cut log probabilities `[..., V]` to the most likely tokens: top-k, then top-p of what is left; normalised.

    Args:
        log_p: normalised.
        top_k: how many tokens to keep, or None.
        top_p: the mass to keep, in (0, 1], or None.
    """
    size = log_p.shape[-1]
    if top_k is not None and top_k < size:
        log_p = _kept(log_p, log_p.argsort(dim=-1, descending=True, stable=True)[..., :top_k]).log_softmax(-1)
    if top_p is not None and top_p < 1:
        sorted_p, order = log_p.sort(dim=-1, descending=True, stable=True)
        p = sorted_p.double().exp()
        before = p.cumsum(-1) - p  # a token stays if those before it fall short of p
        inside = before < top_p
        inside[..., 0] = True
        keep = torch.zeros_like(inside).scatter(-1, order, inside)
        log_p = log_p.masked_fill(~keep, -torch.inf).log_softmax(-1)
    return log_p


def _kept(log_p: Tensor, tokens: Tensor) -> Tensor:
    """−∞ but at `tokens` `[..., K]`."""
    return torch.full_like(log_p, -torch.inf).scatter(-1, tokens, log_p.gather(-1, tokens))


__all__ = ["Truncated", "check_truncation", "truncate"]
