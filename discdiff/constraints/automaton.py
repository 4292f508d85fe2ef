"""Automaton: the whole sequence belongs to a regular language."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from discdiff.constraints.base import Constraint, PositionWise, Unconstrained
from discdiff.constraints.filtered import Filtered, Tilt
from discdiff.constraints.trellis import Trellis
from discdiff.errors import EmptyLanguageError, IncompatibleError
from discdiff.languages import Language
from discdiff.prediction import Positions, Prediction


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
        IncompatibleError: the intersection is over the limits of size, or vocabularies differ.
        EmptyLanguageError: the languages have nothing in common; names them.
    """

    restricts_draws = True

    def __init__(self, language: Language | Mapping[str, Language], within: PositionWise | None = None) -> None:
        self.parts = {"language": language} if isinstance(language, Language) else dict(language)
        if not self.parts:
            raise IncompatibleError("Automaton", got="no language", expected="one or more", remedy="Name one.")
        self.within = within or Unconstrained()
        self.language = self._joint()
        self.length, self.rows = self.within.length, self.within.rows
        self.lengths: Tensor | None = None
        self._given: tuple[Tensor, Tensor] | None = None
        self._trellis: Trellis | None = None
        self._last: Filtered | None = None

    def _joint(self) -> Language:
        joint: Language | None = None
        so_far: list[str] = []
        for name, part in self.parts.items():
            if part.empty:
                raise EmptyLanguageError(f"{name}: no sequence satisfies it")
            both = part if joint is None else joint & part
            if both.empty:
                raise EmptyLanguageError(f"{name} cannot hold together with {', '.join(so_far)}")
            joint = both
            so_far.append(name)
        assert joint is not None
        return joint

    # ---- before the first draw --------------------------------------------------------------------------------------
    def check(self, *, vocab_size: int, length: int) -> None:
        super().check(vocab_size=vocab_size, length=length)
        if self.language.vocab_size != vocab_size:
            raise IncompatibleError(
                "Automaton",
                got=f"a language over {self.language.vocab_size} tokens",
                expected=vocab_size,
                remedy="Build it with the model's own vocabulary.",
            )
        self.within.check(vocab_size=vocab_size, length=length)

    def bound(self, lengths: Tensor) -> Automaton:
        """The constraint on rows of these lengths.

        Raises:
            EmptyLanguageError: a row that nothing satisfies; names the length, and the parts in conflict.
        """
        result = Automaton.__new__(Automaton)
        result.__dict__.update(self.__dict__, lengths=lengths, _trellis=None, _last=None)
        result._settle()
        return result

    def _settle(self) -> None:
        """Find the tokens that follow from what is asked, and refuse what nothing satisfies."""
        assert self.lengths is not None
        lengths = self.lengths.cpu()
        different, row_of = lengths, torch.arange(len(lengths))
        if self.rows == 1:
            different, row_of = lengths.unique(return_inverse=True)
        possible = self.language.lengths(int(lengths.max()))
        for length in different.tolist():
            if not possible[length]:
                raise EmptyLanguageError(self._reason(length))
        allowed, counts = self._available(len(different))
        classes = Trellis(self.language, different).possible(counts.permute(1, 2, 0) > 0).permute(2, 0, 1)
        if not bool(classes[:, 0].any(-1).all()):
            raise EmptyLanguageError(self._conflict(different))
        token_count = (classes * counts).sum(-1)
        single = (token_count == 1) & (torch.arange(classes.shape[1]) < different[:, None])
        rows, positions = single.nonzero(as_tuple=True)
        of_token = torch.as_tensor(self.language.classes).long()
        left = allowed[rows if len(allowed) > 1 else rows * 0, positions] & classes[rows, positions][:, of_token]
        tokens = torch.zeros(single.shape, dtype=torch.int64).index_put((rows, positions), left.int().argmax(-1))
        self._given = tokens[row_of], single[row_of]

    def _available(self, rows: int, language: Language | None = None) -> tuple[Tensor, Tensor]:
        """What positions' own sets leave: tokens, bool `[1 or B, L, V]`; how many of each class, `[rows, L, C]`."""
        language = language or self.language
        assert self.lengths is not None
        width = int(self.lengths.max())
        members = torch.nn.functional.one_hot(torch.as_tensor(language.classes).long(), language.num_classes)
        where = torch.ones(self.rows, width, dtype=torch.bool).nonzero(as_tuple=True)
        allowed = self.within.allowed_at((where[0], where[1]))
        if allowed is None:
            allowed = torch.ones(len(where[0]), language.vocab_size, dtype=torch.bool)
        tokens, frozen = (value.reshape(-1) for value in self.within.given(self.rows, width))
        exact = torch.nn.functional.one_hot(tokens[frozen], language.vocab_size).bool()
        allowed = allowed.clone().index_put((frozen,), exact)
        counts = (allowed.float() @ members.float()).reshape(self.rows, width, -1)
        return allowed.reshape(self.rows, width, -1), counts.expand(rows, -1, -1)

    def _conflict(self, lengths: Tensor) -> str:
        """Which of the languages cannot hold with what stands at the positions."""
        alone = []
        for name, part in self.parts.items():
            counts = self._available(len(lengths), part)[1]
            if not bool(Trellis(part, lengths).possible(counts.permute(1, 2, 0) > 0)[0].any(0).all()):
                alone.append(name)
        named = " and ".join(alone) if alone else f"{', '.join(self.parts)} together"
        return f"{named} cannot hold with what is given or allowed at the positions"

    def _reason(self, length: int) -> str:
        for name, part in self.parts.items():
            possible = np.nonzero(part.lengths(length + 64))[0]
            if length not in possible:
                hint = f"{_ranges(possible)} tokens" if len(possible) else f"more than {length + 64} tokens"
                return f"{name}: no sequence of {length} tokens satisfies it (it takes {hint})"
        return f"no sequence of {length} tokens satisfies {' and '.join(self.parts)} together"

    def given(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        return self.within.given(batch, length) if self._given is None else self._given

    def possible_lengths(self, longest: int) -> Tensor:
        if self.length is not None:
            return torch.tensor([self.length])
        found = torch.as_tensor(np.nonzero(self.language.lengths(longest))[0])
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
        if self._trellis is None or self._trellis.lengths.device != device:
            self._trellis = Trellis(self.language, self.lengths, device)
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
        rows = where[0].unique()
        if tilt is None or tilt.shape[-1] == 1:  # one number for all tokens of a position says nothing
            return self._filtered(prediction, rows).draw(where, u)
        filtered = self.filter(prediction, Tilt(where, tilt), rows)
        dead = torch.zeros(len(prediction.tokens), dtype=torch.bool, device=rows.device)
        dead[rows] = torch.isneginf(filtered.log_total())
        if bool(dead.any()):  # the tilt leaves these rows nothing that is accepted
            kept = tilt.masked_fill(dead[where[0]][:, None], 0.0)
            filtered = self.filter(prediction, Tilt(where, kept), rows)
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


def _ranges(lengths: np.ndarray) -> str:
    """Numbers in words: 3, 5 to 8."""
    runs = np.split(lengths, np.nonzero(np.diff(lengths) != 1)[0] + 1)
    words = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs[:5]]
    return ", ".join(words) + (", ..." if len(runs) > 5 else "")


__all__ = ["Automaton"]
