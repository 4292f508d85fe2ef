"""Checked: clean sequences pass a test that no automaton holds, such as the chemistry of a whole molecule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint, Unconstrained
from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.prediction import DenoiserPrediction, Positions, Prediction, positions_of
from discdiff.randomness import Keys
from discdiff.sequences import Sequences

Check = Callable[[Sequences], Tensor]
"""Which of some clean sequences pass: bool `[rows]`. It must give one answer for one sequence."""


class Checked(Constraint):
    """x0 passes a check, beside a constraint that it can be drawn under.

    At each draw of x0 whole sequences are drawn under `within` until one passes, which is an exact draw given the
    check, whatever it computes; the network is not called again. Rows in which none of `tries` passes go on from the
    last x0 that did: a few positions in a row are drawn anew, and kept if the result passes (Metropolis steps whose
    stationary law is that exact one). That x0 holds all that has been revealed since, so that, once a row has
    one, the check holds with probability one, whatever the sampler; `draws` counts how many x0 came which way. A row
    that finds none at its first draw is refused.

    As with an automaton, a run is a proposal for p0(· | accepted). Marginals, which some samplers order positions by or
    take rates from, are those of `within`.

    Args:
        check: of clean sequences.
        within: what else holds; the more it shares with the check, the fewer draws are needed.
        name: what errors call it.
        tries: whole draws for each x0.
        first: whole draws for a row's first x0.
        moves: Metropolis steps where no draw passes.

    Raises:
        IncompatibleError: a number out of range.
    """

    restricts_draws = True
    wraps = True

    def __init__(
        self,
        check: Check,
        within: Constraint | None = None,
        *,
        name: str = "the check",
        tries: int = 64,
        first: int = 4096,
        moves: int = 16,
    ) -> None:
        if tries < 1 or first < tries or moves < 1:
            raise IncompatibleError(
                "Checked",
                got=f"tries={tries}, first={first}, moves={moves}",
                expected="1 <= tries <= first, moves >= 1",
                remedy="The defaults suit checks that one draw in a hundred passes.",
            )
        self.passes, self.within, self.name = check, within or Unconstrained(), name
        self.tries, self.first, self.moves = tries, first, moves
        self.length, self.rows = self.within.length, self.within.rows
        self.draws = {"exact": 0, "moved": 0}
        self._bound: _Bound | None = None
        self._last: tuple[Prediction, Tensor, Tensor, Tensor] | None = None

    # ---- what every constraint says ---------------------------------------------------------------------------------
    def check(self, *, vocab_size: int, length: int) -> None:
        self.within.check(vocab_size=vocab_size, length=length)

    def possible_lengths(self, longest: int) -> Tensor | None:
        return self.within.possible_lengths(longest)

    def given(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        return self.within.given(batch, length)

    def log_marginals(self, prediction: Prediction, where: Positions) -> Tensor:
        return self.within.log_marginals(prediction, where)

    def most_rows(self, lengths: Tensor) -> int | None:
        return self.within.most_rows(lengths)

    def bound(self, lengths: Tensor) -> Checked:
        width = int(lengths.max()) if len(lengths) else 0
        found = torch.full((len(lengths), width), -1, dtype=torch.int64)
        return self._like(self.within.bound(lengths), _bound=_Bound(lengths, torch.arange(len(lengths)), found))

    def index(self, rows: Tensor) -> Checked:
        bound = None if self._bound is None else self._bound.index(rows)
        return self._like(self.within.index(rows), _bound=bound)

    def _like(self, within: Constraint, **changes: object) -> Checked:
        result = Checked.__new__(Checked)
        own = {"within": within, "length": within.length, "rows": within.rows, "_last": None}
        result.__dict__.update({**self.__dict__, **own, **changes})
        return result

    def __and__(self, other: Constraint) -> Constraint:
        if other.untruncated is not other:
            return other & self
        if isinstance(other, Checked):

            def both(sequences: Sequences) -> Tensor:
                return self.passes(sequences) & other.passes(sequences)

            return self._like(self.within & other.within, passes=both, name=f"{self.name} and {other.name}")
        return self._like(self.within & other)

    # ---- draws ------------------------------------------------------------------------------------------------------
    def draw(self, prediction: Prediction, where: Positions, u: Tensor, *, tilt: Tensor | None = None) -> Tensor:
        rows = where[0].unique()
        if len(rows) == 0:
            return where[1].clone()
        place = torch.searchsorted(rows, where[0].contiguous())
        if tilt is not None and tilt.shape[-1] > 1:
            return self._clean(prediction, rows, u, (where, tilt))[place, where[1]]
        last = self._last
        # Samplers may ask for parts of one x0, a few positions at a time.
        if last is None or last[0] is not prediction or not torch.equal(last[1], rows) or not torch.equal(last[2], u):
            last = self._last = prediction, rows, u.clone(), self._clean(prediction, rows, u, None)
        return last[3][place, where[1]]

    def _clean(self, prediction: Prediction, rows: Tensor, u: Tensor, tilt: tuple[Positions, Tensor] | None) -> Tensor:
        """x0 of rows, int64 `[R, L]`: draws that pass, or moves from the last one that did."""
        bound = self._bound
        assert bound is not None, "bound to lengths before the first draw"
        job = _Job(prediction, rows, bound.open_in(prediction, rows), tilt)
        x0, known = bound.recall(prediction.tokens[rows], rows, job.open[rows])
        keys, every = self._keys(rows, u), torch.arange(len(rows), device=rows.device)
        x0, left = self._tried(job, every, x0, u, torch.where(known, self.tries, self.first))
        self.draws["exact"] += len(rows) - len(left)
        if len(left):
            lost = left[~known[left]]
            if len(lost):
                x0[lost] = self._begun(job, lost, x0[lost], u)
            x0[left] = self._moved(job, left, x0[left], keys[left])
            self.draws["moved"] += len(left)
        bound.keep(rows, x0)
        return x0

    def _tried(self, job: _Job, places: Tensor, x0: Tensor, u: Tensor, budget: Tensor) -> tuple[Tensor, Tensor]:
        """Whole draws of rows by their places: x0 `[n, L]`, replaced where one passes, and the n' places where not."""
        rows, x0 = job.rows[places], x0.clone()
        keys, left, lost, tried = self._keys(rows, u), torch.arange(len(places), device=rows.device), [], 0
        while len(left):
            most = max(len(rows), min(tried * len(left), _AT_ONCE)) // len(left)
            each = max(1, min(most, int(budget[left].min()) - tried))
            draws, turn = left.repeat_interleave(each), torch.arange(each, device=rows.device).repeat(len(left))
            # The sampler's own numbers first, then others that follow from them: a row's draws are its own.
            numbers = _numbers(keys[draws], tried + turn, u.shape[1], "again") if tried else u[rows[draws]]
            drawn = job.complete(self.within, job.prediction, job.open, places[draws], numbers)
            passed = self._passing(drawn, rows[draws]).view(len(left), each)
            good, which = passed.any(1), passed.int().argmax(1)
            x0[left[good]] = drawn.view(len(left), each, -1)[good, which[good]]
            left, tried = left[~good], tried + each
            lost.append(left[budget[left] <= tried])
            left = left[budget[left] > tried]
        return x0, torch.cat([*lost, left]).sort().values

    def _begun(self, job: _Job, places: Tensor, x0: Tensor, u: Tensor) -> Tensor:
        """Any x0 that passes, for rows that have none yet: without the tilt, then of ever flatter laws."""
        left, found = torch.arange(len(places), device=places.device), x0.clone()
        for by in _FLATTER if job.tilt is None else (1, *_FLATTER):
            freer = _Job(_flatter(job.prediction, by), job.rows, job.open, None)
            budget = torch.full_like(left, self.first)
            found[left], still = self._tried(freer, places[left], found[left], u, budget)
            left = left[still]
            if len(left) == 0:
                return found
        raise DiscdiffError(
            f"{self.name}: none of {self.first} sequences that the model and the rest of the constraint hold possible "
            f"passes it (row {int(job.rows[places[left[0]]]) + 1}), nor of as many drawn more freely; ask for less, "
            "add rules that bring draws closer to what passes, or allow more draws (Checked(first=...))"
        )

    def _moved(self, job: _Job, some: Tensor, x0: Tensor, keys: Tensor) -> Tensor:
        """Metropolis steps from x0 that pass: runs of open positions are drawn anew given all others."""
        rows, prediction = job.rows[some], job.prediction
        open_ = job.open[rows]
        count, order = open_.sum(1), open_.cumsum(1) - 1
        for step in range(self.moves):
            turn = torch.full_like(some, step)
            size, start = _numbers(keys, turn, 2, "window").unbind(1)
            size = (count.double() ** size).ceil().clamp(min=1)  # short runs as often as long ones
            start = (start * (count - size + 1)).floor()
            again = open_ & (order >= start[:, None]) & (order < (start + size)[:, None])
            held = open_ & ~again
            tokens, frozen = prediction.tokens.clone(), torch.zeros_like(job.open)
            tokens[rows] = torch.where(held, x0, tokens[rows])
            frozen[rows] = held
            pinned = prediction.beside(tokens, frozen)
            mask = torch.zeros_like(job.open)
            mask[rows] = again
            drawn = job.complete(self.within, pinned, mask, some, _numbers(keys, turn, x0.shape[1], "move"))
            x0 = torch.where(self._passing(drawn, rows)[:, None], drawn, x0)
        return x0

    def _keys(self, rows: Tensor, u: Tensor) -> Tensor:
        """A number for each row, int64, that follows from the uniform numbers of its own positions."""
        assert self._bound is not None
        place = torch.arange(u.shape[1], device=u.device)
        used = place < self._bound.lengths.to(u.device)[rows][:, None]
        digits = (u[rows].double() * 2.0**53).long().masked_fill(~used, 0)
        return (digits * (2 * place + 1)).sum(1)

    def _passing(self, tokens: Tensor, rows: Tensor) -> Tensor:
        assert self._bound is not None
        lengths = self._bound.lengths.to(tokens.device)[rows]
        given = self.passes(Sequences(tokens, lengths))
        try:
            found = torch.as_tensor(given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DiscdiffError(f"{self.name}: got {given!r}, expected bool [{len(tokens)}], one a sequence") from error
        if found.shape != (len(tokens),) or found.dtype != torch.bool:
            raise DiscdiffError(
                f"{self.name}: got {found.dtype} {list(found.shape)}, expected bool [{len(tokens)}], one a sequence"
            )
        return found.to(tokens.device)


@dataclass
class _Bound:
    """Rows' lengths, and the last x0 of each that passed; those of some rows share it with those of all.

    Attributes:
        lengths: int64 `[B]`.
        row_of: int64 `[B]`: where in `found`.
        found: int64, −1 where none has passed yet.
    """

    lengths: Tensor
    row_of: Tensor
    found: Tensor

    def index(self, rows: Tensor) -> _Bound:
        return _Bound(self.lengths[rows.to(self.lengths.device)], self.row_of[rows.cpu()], self.found)

    def open_in(self, prediction: Prediction, rows: Tensor) -> Tensor:
        """bool `[B, L]`: positions of these rows that are to be drawn."""
        tokens = prediction.tokens
        used = torch.arange(tokens.shape[1], device=tokens.device) < self.lengths.to(tokens.device)[:, None]
        open_ = used & prediction.process.active(tokens)
        open_ &= torch.zeros_like(open_[:, 0]).index_fill(0, rows, True)[:, None]
        return open_ if prediction.frozen is None else open_ & ~prediction.frozen

    def recall(self, tokens: Tensor, rows: Tensor, open_: Tensor) -> tuple[Tensor, Tensor]:
        """The last x0 of rows, int64 `[R, L]`, and whether it is one and holds all that is no longer open."""
        last = self.found[self.row_of[rows.cpu()], : tokens.shape[1]].to(tokens.device)
        used = torch.arange(tokens.shape[1], device=tokens.device) < self.lengths.to(tokens.device)[rows][:, None]
        known = (last[:, 0] >= 0) & ((last == tokens) | open_ | ~used).all(1)
        return torch.where(known[:, None], last, tokens), known

    def keep(self, rows: Tensor, x0: Tensor) -> None:
        self.found[self.row_of[rows.cpu()], : x0.shape[1]] = x0.cpu()


class _Job:
    """One draw of x0 in some rows: where it is open, and the weights that tilt it."""

    def __init__(
        self, prediction: Prediction, rows: Tensor, open_: Tensor, tilt: tuple[Positions, Tensor] | None
    ) -> None:
        self.prediction, self.rows, self.open, self.tilt = prediction, rows, open_, tilt
        self._weights: tuple[Tensor, Tensor | None] | None = None

    def complete(self, within: Constraint, prediction: Prediction, open_: Tensor, draws: Tensor, u: Tensor) -> Tensor:
        """x0 of rows by their places, drawn where `open_`."""
        where = positions_of(open_)
        return within.complete(prediction, where, self.rows[draws], u, tilt=self._tilt(open_, where))

    def _tilt(self, open_: Tensor, where: Positions) -> Tensor | None:
        """The weights spread over all open positions; they are made once for the same ones."""
        if self.tilt is None:
            return None
        if self._weights is None or self._weights[0] is not open_:
            at, values = self.tilt
            slot = torch.full(open_.shape, len(values), dtype=torch.int64, device=open_.device)
            slot[at] = torch.arange(len(values), device=open_.device)
            padded = torch.cat([values, values.new_zeros(1, values.shape[1])])
            self._weights = open_, padded[slot[where]]
        return self._weights[1]


def _flatter(prediction: Prediction, by: float) -> Prediction:
    """p^(1/by)."""
    place = (prediction.process, prediction.tokens, prediction.sigma, prediction.frozen)
    return DenoiserPrediction(
        *place, log_p=lambda where: prediction.log_denoiser(where) / by, calls=lambda: prediction.calls
    )


def _numbers(keys: Tensor, turn: Tensor, count: int, purpose: str) -> Tensor:
    """float64 `[n, count]` uniform numbers of each key's turn."""
    return Keys(0, keys + turn * _TURN).uniform((len(keys), count), purpose, torch.float64)


_FLATTER = (2, 8)
"""Powers of the denoiser's inverse temperature that a first x0 is looked for with, where the denoiser finds none."""

_AT_ONCE = 256
"""Draws made together for few rows, once as many as that have failed."""

_TURN = 0x5851F42D4C957F2D
"""An odd number: turns of one key are far apart."""

__all__ = ["Check", "Checked"]
