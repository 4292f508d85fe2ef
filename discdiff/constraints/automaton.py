"""Automaton: the whole sequence belongs to a regular language."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, reduce
from operator import and_

import numpy as np
import torch
from torch import Tensor

from discdiff.constraints.base import Constraint, PositionWise, Tilt, Unconstrained
from discdiff.constraints.conflicts import class_counts, why_empty
from discdiff.constraints.filtered import Filtered
from discdiff.constraints.trellis import Trellis
from discdiff.errors import EmptyLanguageError, IncompatibleError
from discdiff.languages import Language
from discdiff.languages.product import product
from discdiff.languages.unrolled import joint_classes, unroll
from discdiff.prediction import Positions, Prediction

MOST_AT_ONCE = 20_000
"""Pairs of states looked at before languages are kept apart: their positions alone are then multiplied out."""

ROOM = 1 << 29
"""Numbers that a filter may hold for all rows of a batch, one for each state at each position: 2 GB."""


class Automaton(Constraint):
    """x0 is accepted by a deterministic automaton; beside it, positions may be clamped or have sets of their own.

    Each draw is exact for the factorised denoiser given acceptance, by forward filtering and backward sampling over
    states × classes of tokens; what a step reveals of it can always be completed, so that the constraint holds with
    probability one, whatever the sampler. A run as a whole is a proposal for p0(· | accepted), not a draw from it.

    Where the model gives all accepted sequences no mass at all, the constraint still holds: classes of tokens without
    mass then weigh e^-300 each, so that the fewest tokens are taken against the model.

    Args:
        language: over the model's vocabulary, or several by name: all of them hold, and an error says which conflict.
        within: clamps or sets of tokens, which hold as well.

    Raises:
        IncompatibleError: vocabularies differ.
        EmptyLanguageError: the languages have nothing in common; names them. Where that takes many states to see, it is
            raised once lengths are asked for.
    """

    restricts_draws = True

    def __init__(self, language: Language | Mapping[str, Language], within: PositionWise | None = None) -> None:
        self.parts = {"language": language} if isinstance(language, Language) else dict(language)
        if not self.parts:
            raise IncompatibleError("Automaton", got="no language", expected="one or more", remedy="Name one.")
        self.within = within or Unconstrained()
        self._factors = self._multiplied()
        self.length, self.rows = self.within.length, self.within.rows
        self.lengths: Tensor | None = None
        self._given: tuple[Tensor, Tensor] | None = None
        self._known: dict[bytes, Trellis] = {}
        self._tables: Trellis | None = None
        self._trellis: Trellis | None = None
        self._last: Filtered | None = None

    def _multiplied(self) -> list[Language]:
        """Languages whose intersection it is: those together that have few states together."""
        joint_classes(list(self.parts.values()))  # one vocabulary
        joint: Language | None = None
        apart: list[Language] = []
        so_far: list[str] = []
        for name, part in self.parts.items():
            if part.empty:
                raise EmptyLanguageError(f"{name}: no sequence satisfies it")
            try:
                both = part if joint is None else product(joint, part, and_, most=MOST_AT_ONCE)
            except IncompatibleError:  # too many states
                apart.append(part)
                continue
            if both.empty:
                raise EmptyLanguageError(f"{name} cannot hold together with {', '.join(so_far)}")
            joint = both
            so_far.append(name)
        assert joint is not None
        return [joint, *apart]

    @cached_property
    def language(self) -> Language:
        """All languages in one.

        Raises:
            IncompatibleError: it is over the limits of size; draws do not need it.
        """
        return reduce(and_, self._factors)

    # ---- before the first draw --------------------------------------------------------------------------------------
    def check(self, *, vocab_size: int, length: int) -> None:
        super().check(vocab_size=vocab_size, length=length)
        if self._factors[0].vocab_size != vocab_size:
            raise IncompatibleError(
                "Automaton",
                got=f"a language over {self._factors[0].vocab_size} tokens",
                expected=vocab_size,
                remedy="Build it with the model's own vocabulary.",
            )
        self.within.check(vocab_size=vocab_size, length=length)

    def bound(self, lengths: Tensor) -> Automaton:
        """The constraint on rows of these lengths.

        Raises:
            EmptyLanguageError: a row that nothing satisfies; names the length, and the parts in conflict.
            IncompatibleError: what is asked takes too many states, or two parts together do.
        """
        result = Automaton.__new__(Automaton)
        result.__dict__.update(self.__dict__, lengths=lengths, _trellis=None, _last=None)
        result._settle()
        return result

    def most_rows(self, lengths: Tensor) -> int:
        tables = self.bound(lengths)._tables
        assert tables is not None
        return max(ROOM // sum(map(len, tables.final)), 1)

    def _settle(self) -> None:
        """Find the tokens that follow from what is asked, and refuse what nothing satisfies."""
        assert self.lengths is not None
        lengths = self.lengths.cpu()
        different, row_of = lengths, torch.arange(len(lengths))
        if self.rows == 1:
            different, row_of = lengths.unique(return_inverse=True)
        allowed = self._sets()
        self._tables = self._unrolled(different, allowed)
        language = self._tables.language
        of_token = torch.as_tensor(language.classes).long()
        counts = class_counts(language, allowed, len(different))
        classes = self._tables.over(different).possible(counts.permute(1, 2, 0) > 0).permute(2, 0, 1)
        if not bool(classes[:, 0].any(-1).all()):
            raise EmptyLanguageError(why_empty(self.parts, self._factors, different, allowed))
        token_count = (classes * counts).sum(-1)
        single = (token_count == 1) & (torch.arange(classes.shape[1]) < different[:, None])
        rows, positions = single.nonzero(as_tuple=True)
        left = allowed[rows if len(allowed) > 1 else rows * 0, positions] & classes[rows, positions][:, of_token]
        tokens = torch.zeros(single.shape, dtype=torch.int64).index_put((rows, positions), left.int().argmax(-1))
        self._given = tokens[row_of], single[row_of]

    def _unrolled(self, lengths: Tensor, allowed: Tensor) -> Trellis:
        """The languages over the positions of rows of these lengths; the last ones are kept, for batches alike."""
        sets = None if bool(allowed.all()) else allowed.any(0).numpy()
        different = set(lengths.tolist())
        key = repr(sorted(different)).encode() + (b"" if sets is None else np.packbits(sets).tobytes())
        if key not in self._known:
            self._known.clear()
            self._known[key] = Trellis(unroll(self._factors, different, sets), lengths)
        return self._known[key]

    def _sets(self) -> Tensor:
        """The tokens that positions' own sets leave: bool `[1 or B, L, V]`."""
        assert self.lengths is not None
        width, vocab_size = int(self.lengths.max()), self._factors[0].vocab_size
        where = torch.ones(self.rows, width, dtype=torch.bool).nonzero(as_tuple=True)
        allowed = self.within.allowed_at((where[0], where[1]))
        if allowed is None:
            allowed = torch.ones(len(where[0]), vocab_size, dtype=torch.bool)
        tokens, frozen = (value.reshape(-1) for value in self.within.given(self.rows, width))
        exact = torch.nn.functional.one_hot(tokens[frozen], vocab_size).bool()
        return allowed.clone().index_put((frozen,), exact).reshape(self.rows, width, -1)

    def given(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        return self.within.given(batch, length) if self._given is None else self._given

    def possible_lengths(self, longest: int) -> Tensor:
        if self.length is not None:
            return torch.tensor([self.length])
        try:
            possible = self.language.lengths(longest)
        except IncompatibleError:  # over the limits; at each position it need not be
            possible = unroll(self._factors, range(1, longest + 1)).lengths
        found = torch.as_tensor(np.nonzero(possible)[0])
        return found[found > 0]

    def index(self, rows: Tensor) -> Automaton:
        result = Automaton.__new__(Automaton)
        within = self.within.index(rows)
        lengths = None if self.lengths is None else self.lengths[rows.to(self.lengths.device)]
        result.__dict__.update(
            self.__dict__,
            within=within,
            rows=within.rows,
            lengths=lengths,
            _given=None if self._given is None else tuple(value[rows.cpu()] for value in self._given),
            _trellis=None if self._trellis is None else self._trellis.index(rows.to(self._trellis.lengths.device)),
            _last=None,
        )
        return result

    def __and__(self, other: Constraint) -> Constraint:
        if other.wraps:
            return other & self
        if isinstance(other, Automaton):
            names = {name if name not in self.parts else f"{name} (2)": part for name, part in other.parts.items()}
            return Automaton({**self.parts, **names}, _both(self.within, other.within))
        if isinstance(other, PositionWise):
            return Automaton(self.parts, _both(self.within, other))
        return super().__and__(other)

    # ---- draws ------------------------------------------------------------------------------------------------------
    def trellis(self, device: torch.device) -> Trellis:
        """The language unrolled over the rows."""
        assert self.lengths is not None, "bound to lengths before the first draw"
        assert self._tables is not None
        if self._trellis is None or self._trellis.lengths.device != device:
            same = self._tables.lengths.device == device
            tables = self._tables if same else Trellis(self._tables.language, self.lengths, device)
            self._trellis = tables.over(self.lengths)
        return self._trellis

    def log_total(self, prediction: Prediction, asked: Tensor | None = None) -> Tensor:
        """log Σ ∏_i p(x0_i | xt) over accepted x0: the log probability that a free draw is accepted, float64 `[R]`.

        Args:
            prediction: what the network says.
            asked: int64 `[R]`, increasing, the rows to say it of; None for all.
        """
        rows = torch.arange(len(prediction.tokens), device=prediction.tokens.device)
        filtered = self._filtered(prediction, rows if asked is None else asked)
        return filtered.log_total() if asked is None else filtered.log_total()[filtered.place(asked)]

    def log_marginals(self, prediction: Prediction, where: Positions) -> Tensor:
        return self._filtered(prediction, where[0].unique()).log_marginals(where)

    def draw(self, prediction: Prediction, where: Positions, u: Tensor, *, tilt: Tensor | None = None) -> Tensor:
        if tilt is None or tilt.shape[-1] == 1:  # one number for all tokens of a position says nothing
            return self._filtered(prediction, where[0].unique()).draw(where, u)
        return self._tilted(prediction, where, u, [tilt, torch.zeros_like(tilt)])

    def draw_cut(
        self, prediction: Prediction, where: Positions, u: Tensor, cut: Tensor, *, tilt: Tensor | None = None
    ) -> Tensor:
        if tilt is None:
            return self._tilted(prediction, where, u, [cut, torch.zeros_like(cut)])
        return self._tilted(prediction, where, u, [cut + tilt, tilt.expand_as(cut), torch.zeros_like(cut)])

    def _tilted(self, prediction: Prediction, where: Positions, u: Tensor, tilts: list[Tensor]) -> Tensor:
        """A draw under the first of some tilts, `[N, V]`, that leaves a row something that is accepted."""
        rows, tilt = where[0].unique(), tilts[0]
        filtered = self.filter(prediction, Tilt(where, tilt), rows)
        for spare in tilts[1:]:
            dead = torch.zeros(len(prediction.tokens), dtype=torch.bool, device=rows.device)
            dead[rows] = torch.isneginf(filtered.log_total())
            if not bool(dead.any()):
                break
            tilt = torch.where(dead[where[0]][:, None], spare, tilt)
            filtered = self.filter(prediction, Tilt(where, tilt), rows)
        return filtered.draw(where, u)

    def complete(
        self, prediction: Prediction, where: Positions, rows: Tensor, u: Tensor, *, tilt: Tensor | None = None
    ) -> Tensor:
        asked = rows.unique()
        if tilt is None or tilt.shape[-1] == 1:
            return self._filtered(prediction, asked).complete(rows, u)
        return self.filter(prediction, Tilt(where, tilt), asked).complete(rows, u)

    def _filtered(self, prediction: Prediction, rows: Tensor) -> Filtered:
        """The filter of a prediction as it stands, made once for the rows asked for; the one before it goes."""
        last = self._last
        if last is None or last.prediction is not prediction or not last.covers(rows):
            self._last = last = self.filter(prediction, None, rows)
        return last

    def shown(self, prediction: Prediction, tokens: Tensor, rows: Tensor) -> Filtered:
        """The filter of what a prediction says, once `tokens` `[B, L]` are shown where some were masks."""
        last = self._last
        if last is not None and last.prediction is prediction and torch.equal(last.rows, rows):
            return last.pinned(tokens)
        return self.filter(prediction.beside(tokens), None, rows)

    def filter(self, prediction: Prediction, tilt: Tilt | None, rows: Tensor) -> Filtered:
        """∏_i p(x0_i | xt) · 1[accepted] of the rows asked for, int64 `[R]`, increasing."""
        if self.lengths is None:  # all rows are full
            count, width = prediction.tokens.shape
            return self.bound(torch.full((count,), width)).filter(prediction, tilt, rows)
        trellis = self.trellis(prediction.tokens.device)
        return Filtered(trellis, self.within, prediction, tilt, rows.to(prediction.tokens.device))


def _both(first: PositionWise, second: PositionWise) -> PositionWise:
    if type(first) is Unconstrained or type(second) is Unconstrained:
        return second if type(first) is Unconstrained else first
    both = first & second
    assert isinstance(both, PositionWise)
    return both


__all__ = ["Automaton"]
