"""Expressions over tokens: sets, sequences, choices, repeats; compiled to a `Language`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from discdiff.errors import IncompatibleError
from discdiff.languages.language import DEAD, Language, check_size

MAX_PLACES = 100_000


class Expression:
    """What a sequence of tokens may be; `a + b` is a followed by b, `a | b` either."""

    def __add__(self, other: Expression) -> Expression:
        return Sequential((self, other))

    def __or__(self, other: Expression) -> Expression:
        return Choice((self, other))

    def repeated(self, low: int, high: int | None) -> Expression:
        """Between `low` and `high` times (None: any number from `low` on)."""
        return Repeat(self, low, high)


@dataclass(frozen=True)
class Symbols(Expression):
    """One token of a set."""

    tokens: frozenset[int]


@dataclass(frozen=True)
class Sequential(Expression):
    """Parts in their order; none of them: the empty sequence."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Choice(Expression):
    """One of the parts; none of them: nothing."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Repeat(Expression):
    """A part, `low` to `high` times; `high` is None for any number."""

    part: Expression
    low: int
    high: int | None

    def __post_init__(self) -> None:
        if self.low < 0 or (self.high is not None and self.high < self.low):
            raise IncompatibleError(
                "Repeat",
                got=f"{self.low} to {self.high}",
                expected="0 <= low <= high",
                remedy="Swap the numbers, or leave the part out.",
            )


EMPTY = Sequential(())


def one_of(tokens: Collection[int]) -> Symbols:
    """One token of a set."""
    return Symbols(frozenset(tokens))


def word(tokens: Iterable[int]) -> Expression:
    """These tokens, one after the other."""
    return Sequential(tuple(one_of((token,)) for token in tokens))


def alternatives(words: Iterable[Sequence[int]]) -> Expression:
    """One of several words."""
    return Choice(tuple(word(each) for each in words))


class _Places:
    """Glushkov's automaton: a state for each place of a set in the expression, no empty moves.

    For each part: the places that it can begin with, those that it can end with, and whether it may be empty.
    """

    def __init__(self, what: str) -> None:
        self.sets: list[frozenset[int]] = []
        self.follow: list[set[int]] = []
        self.what = what

    def add(self, expression: Expression) -> tuple[set[int], set[int], bool]:
        if isinstance(expression, Symbols):
            self.sets.append(expression.tokens)
            self.follow.append(set())
            if len(self.sets) > MAX_PLACES:
                check_size(10**9, 1, self.what)
            place = {len(self.sets) - 1}
            return place, set(place), False
        if isinstance(expression, Sequential):
            return self._in_turn(list(map(self.add, expression.parts)))
        if isinstance(expression, Choice):
            parts = list(map(self.add, expression.parts))
            first, last = ({p for part in parts for p in part[k]} for k in (0, 1))  # type: ignore[union-attr]
            return first, last, any(part[2] for part in parts)
        assert isinstance(expression, Repeat), expression
        return self._repeated(expression)

    def _in_turn(self, parts: list[tuple[set[int], set[int], bool]]) -> tuple[set[int], set[int], bool]:
        first: set[int] = set()
        last: set[int] = set()
        empty = True
        for begin, end, skippable in parts:
            for place in last:
                self.follow[place] |= begin
            first = first | begin if empty else first
            last = last | end if skippable else set(end)
            empty = empty and skippable
        return first, last, empty

    def _repeated(self, expression: Repeat) -> tuple[set[int], set[int], bool]:
        low, high = expression.low, expression.high
        copies = [self.add(expression.part) for _ in range(max(low, 1) if high is None else high)]
        if not copies:
            return set(), set(), True
        # Copies may be left out from the end only: each follows the one before it and no other.
        for (_, end, _), (begin, _, _) in pairwise(copies):
            for place in end:
                self.follow[place] |= begin
        if high is None:
            begin, end, _ = copies[-1]
            for place in end:
                self.follow[place] |= begin
        skippable = copies[0][2]
        least = 0 if skippable else max(low, 1) - 1
        last = {place for _, end, _ in copies[least:] for place in end}
        return copies[0][0], last, skippable or low == 0


def compile_expression(expression: Expression, vocab_size: int, *, what: str = "pattern") -> Language:
    """The language of an expression: every sequence that it describes as a whole.

    Raises:
        IncompatibleError: more states than the limit, or tokens outside the vocabulary.
    """
    places = _Places(what)
    first, last, empty = places.add(expression)
    members, classes = _token_classes(places.sets, vocab_size)
    # Bit k of a state: the automaton may stand at place k; bit `len(sets)`: at the start.
    start = 1 << len(places.sets)
    follow = [sum(1 << p for p in following) for following in places.follow] + [sum(1 << p for p in first)]
    ends = sum(1 << p for p in last) | (start if empty else 0)
    reads = [sum(1 << p for p in range(len(places.sets)) if members[p, c]) for c in range(members.shape[1])]
    number, states, rows = {start: 0}, [start], []
    for state in states:  # grows as it goes
        ahead, left = 0, state
        while left:
            lowest = left & -left
            ahead |= follow[lowest.bit_length() - 1]
            left ^= lowest
        row = []
        for read in reads:
            following = ahead & read
            if not following:
                row.append(DEAD)
                continue
            if following not in number:
                number[following] = len(states)
                states.append(following)
            row.append(number[following])
        rows.append(row)
        check_size(len(states), len(reads), what)
    return Language.of(np.array(rows).reshape(len(rows), len(reads)), [bool(s & ends) for s in states], classes)


def _token_classes(
    sets: Sequence[frozenset[int]], vocab_size: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """Which sets each class is in, bool `[sets, classes]`, and each token's class: tokens in the same sets are one."""
    distinct = list(dict.fromkeys(sets))
    signature = np.zeros((vocab_size, len(distinct)), dtype=np.bool_)
    for column, tokens in enumerate(distinct):
        if tokens and not 0 <= min(tokens) <= max(tokens) < vocab_size:
            raise IncompatibleError(
                "Language",
                got=f"token {max(tokens) if min(tokens) >= 0 else min(tokens)}",
                expected=f"tokens 0..{vocab_size - 1}",
                remedy="Encode with the model's own domain.",
            )
        signature[list(tokens), column] = True
    rows, classes = np.unique(signature, axis=0, return_inverse=True)
    place = {tokens: column for column, tokens in enumerate(distinct)}
    members = rows[:, [place[tokens] for tokens in sets]].T if sets else np.zeros((0, len(rows)), dtype=np.bool_)
    return members, classes.reshape(-1).astype(np.int32)
