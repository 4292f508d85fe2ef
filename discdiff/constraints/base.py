"""A constraint says what the clean sequence x0 must satisfy. It acts in one place: the draw of x0."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from discdiff.errors import EmptyLanguageError, IncompatibleError
from discdiff.randomness import categorical

if TYPE_CHECKING:
    from discdiff.prediction import Positions, Prediction


_ROOM = 1 << 24
"""Probabilities that are copied at once."""


class Tilt(NamedTuple):
    """Log weights `[N, V]` that multiply the denoiser at N positions."""

    where: Positions
    values: Tensor


Evidence = Callable[[], Tilt]
"""log q(x_s | x_t, x0) of each x0, up to a number for each position; worked out if it is asked for."""


class Constraint(ABC):
    """What every sampler asks of a constraint.

    Attributes:
        length: the length that the constraint fixes, or None.
        rows: the row axis of its tables: 1 (the same for all rows) or B.
        wraps: whether it is another constraint's draws under a further condition.
        weighs: whether it keeps importance weights of the runs that it steers (`Weighed`): samplers then tell it how
            probable their choices were, and where its draws have led.
        restricts_draws: whether positions that are not given are restricted too. Such a constraint needs a denoiser,
            which a score-form network off the absorbing process does not offer.
    """

    length: int | None = None
    rows: int = 1
    restricts_draws: bool = False
    wraps: bool = False
    weighs: bool = False

    def check(self, *, vocab_size: int, length: int) -> None:
        """Refuse, before the first network evaluation, what cannot be satisfied.

        Raises:
            IncompatibleError: the constraint is for another length or vocabulary.
            EmptyLanguageError: no sequence satisfies it; names the position.
        """
        if self.length is not None and self.length != length:
            raise IncompatibleError(
                "Constraint length",
                got=f"{length} positions",
                expected=self.length,
                remedy="Leave the length out: the constraint fixes it.",
            )

    def possible_lengths(self, longest: int) -> Tensor | None:
        """int64: the lengths from 1 to `longest` that it can be satisfied with; None where it takes any."""
        return None if self.length is None else torch.tensor([self.length])

    def bound(self, lengths: Tensor) -> Constraint:
        """The constraint on rows of these lengths, int64 `[B]`; `sample` asks for it once, after `check`.

        Raises:
            EmptyLanguageError: a row of that length cannot satisfy it.
        """
        return self

    def most_rows(self, lengths: Tensor) -> int | None:
        """How many rows of these lengths, int64 `[B]`, should be drawn at once, for memory's sake; None for any number.

        Raises:
            EmptyLanguageError: a row of that length cannot satisfy it.
        """
        return None

    @property
    def untruncated(self) -> Constraint:
        """The constraint alone, without the truncation (top-k, top-p) that draws may be under."""
        return self

    @property
    def aside(self) -> Constraint:
        """The constraint for what is looked at and not kept: which positions come next, states inside a step.

        Itself; but where runs are weighed none, since such choices are to be those of the plain sampler.
        """
        return self

    @abstractmethod
    def given(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        """The positions known beforehand: tokens int64 `[B, L]` (0 elsewhere) and frozen bool `[B, L]`.

        `batch` is `rows`, or any number where `rows` is 1.
        """

    @abstractmethod
    def log_marginals(self, prediction: Prediction, where: Positions) -> Tensor:
        """Normalised log p(x0_i | xt, constraint), `[N, V]`, at the N positions `where`."""

    @abstractmethod
    def draw(self, prediction: Prediction, where: Positions, u: Tensor, *, tilt: Tensor | None = None) -> Tensor:
        """Draw x0 at `where`, jointly under the constraint: int64 `[N]`.

        Args:
            prediction: what the network says of the whole sequence.
            where: `(rows, positions)`, N of each.
            u: `[B, L]` uniform numbers, one a position.
            tilt: `[N, V]` or `[N, 1]` log weights that multiply the denoiser at `where`, or None.
        """

    def redraw(
        self, prediction: Prediction, where: Positions, u: Tensor, tokens: Tensor, *, tilt: Tensor | None = None
    ) -> Tensor:
        """`draw` for a move of one position a row that leaves the law as it is, from a state that shows `tokens`."""
        return self.draw(prediction, where, u, tilt=tilt)

    def account(self, rows: Tensor, log_ratio: Tensor) -> None:
        """Be told of choices: log of the plain sampler's probability over the one that was taken.

        Args:
            rows: int64 `[N]`, repeated or not.
            log_ratio: `[N]`.
        """
        return

    def settle(self, prediction: Prediction, tokens: Tensor, evidence: Evidence | None = None) -> None:
        """Be told where the last draw has led.

        Args:
            prediction: what it was drawn from.
            tokens: the state x_s after the move, int64 `[B, L]`.
            evidence: what x_s says of x0, where tokens do not show it themselves.
        """
        return

    def foresee(self, prediction: Prediction, tokens: Tensor, rows: Tensor, evidence: Evidence) -> None:
        """Be told where a step of these rows has led, int64 `[R]`, all of which `account` has been told."""
        return

    def draw_cut(
        self, prediction: Prediction, where: Positions, u: Tensor, cut: Tensor, *, tilt: Tensor | None = None
    ) -> Tensor:
        """Draw x0 at `where` as `draw` does, without the tokens whose `cut`, 0 or −∞ `[N, V]`, leaves them out.

        Rows in which that leaves nothing are drawn without the cut; the tilt stays.
        """
        return self.draw(prediction, where, u, tilt=cut if tilt is None else cut + tilt)

    def complete(
        self, prediction: Prediction, where: Positions, rows: Tensor, u: Tensor, *, tilt: Tensor | None = None
    ) -> Tensor:
        """Draw all of x0 in rows of the prediction, several times if they are repeated: int64 `[n, L]`.

        Args:
            prediction: what the network says.
            where: all positions that are open in these rows, N of them, in order.
            rows: int64 `[n]`.
            u: float64 `[n, L]` uniform numbers.
            tilt: log weights at `where`, as for `draw`.
        """
        raise IncompatibleError(
            "Check of whole sequences",
            got=f"draws under {type(self).__name__}",
            expected="clamps, sets of tokens and automata",
            remedy="Check within a constraint of these kinds.",
        )

    @abstractmethod
    def index(self, rows: Tensor) -> Constraint:
        """The constraint of some rows."""

    def __and__(self, other: Constraint) -> Constraint:
        """Both constraints at once."""
        raise IncompatibleError(
            "Constraints",
            got=f"{type(self).__name__} & {type(other).__name__}",
            expected="clamps, sets of tokens and automata",
            remedy="Combine constraints of these kinds.",
        )


def _kept(log_w: Tensor, allowed: Tensor) -> Tensor:
    """Log weights of the tokens that are allowed, −∞ of all others."""
    kept = log_w.masked_fill(~allowed, -torch.inf)
    # Where the model gives the whole set no mass, the set still holds: its tokens are then equally likely.
    dead = torch.isneginf(kept).all(-1, keepdim=True)
    return torch.where(dead, torch.zeros_like(kept).masked_fill(~allowed, -torch.inf), kept)


class PositionWise(Constraint):
    """Constraints that are a set of allowed tokens per position; each draw is exact for the factorised denoiser."""

    @abstractmethod
    def allowed_at(self, where: Positions) -> Tensor | None:
        """bool `[N, V]`: the tokens allowed at `where`, or None where all are."""

    @abstractmethod
    def index(self, rows: Tensor) -> PositionWise:
        """The constraint of some rows."""

    def log_marginals(self, prediction: Prediction, where: Positions) -> Tensor:
        allowed = self.allowed_at(where)
        if allowed is None:
            return prediction.log_denoiser(where)
        return _kept(prediction.log_denoiser(where), allowed).log_softmax(-1)

    def draw(self, prediction: Prediction, where: Positions, u: Tensor, *, tilt: Tensor | None = None) -> Tensor:
        log_w, allowed = prediction.log_weights(where), self.allowed_at(where)
        log_w = log_w if allowed is None else _kept(log_w, allowed)
        log_w = log_w if tilt is None else log_w + tilt
        return categorical(log_w.softmax(-1), u[where])

    def complete(
        self, prediction: Prediction, where: Positions, rows: Tensor, u: Tensor, *, tilt: Tensor | None = None
    ) -> Tensor:
        log_p = self.log_marginals(prediction, where)
        if tilt is not None:
            log_p = (log_p + tilt).log_softmax(-1)
        slot = torch.full(prediction.tokens.shape, -1, dtype=torch.int64, device=log_p.device)
        slot[where] = torch.arange(len(log_p), device=log_p.device)
        mine, x0 = slot[rows], prediction.tokens[rows].clone()
        p, at = log_p.exp(), (mine >= 0).nonzero(as_tuple=True)
        for some in torch.arange(len(at[0]), device=log_p.device).split(max(_ROOM // p.shape[1], 1)):
            here = at[0][some], at[1][some]
            x0[here] = categorical(p[mine[here]], u[here])
        return x0

    def __and__(self, other: Constraint) -> Constraint:
        from discdiff.constraints.both import Both

        if other.wraps:
            return other & self  # a truncation or a check is of both together
        return Both(self, other) if isinstance(other, PositionWise) else other & self


class Unconstrained(PositionWise):
    """Every sequence is accepted."""

    def given(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(batch, length, dtype=torch.int64), torch.zeros(batch, length, dtype=torch.bool)

    def allowed_at(self, where: Positions) -> None:
        return None

    def index(self, rows: Tensor) -> Unconstrained:
        return self


def empty_at(position: int, reason: str) -> EmptyLanguageError:
    """The error for a position where nothing is allowed."""
    return EmptyLanguageError(f"position {position + 1}: {reason}, so no sequence satisfies the constraint")
