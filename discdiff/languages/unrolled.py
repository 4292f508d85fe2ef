"""Several languages at once, unrolled over the positions of sequences of given lengths; never multiplied out.

An intersection has at most as many states as its parts' numbers multiplied, and that is often too many. At one position
of a sequence whose length is known few of them matter: those that a beginning of that length leads to, and from which
an end of what is left is accepted; and states with the same ways on are one. That is the smallest deterministic
automaton of the sequences of these lengths whose states know their position.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import numpy.typing as npt

from discdiff.errors import IncompatibleError
from discdiff.languages.language import DEAD, MAX_ENTRIES, MAX_STATES, Language, Table
from discdiff.languages.minimal import Bools, Ints, distinct_rows

MAX_UNROLLED = 100_000_000
"""Entries of the tables of all positions together, while they are being made."""


@dataclass(frozen=True, eq=False)
class Unrolled:
    """What a beginning of each length can be followed by.

    Attributes:
        tables: for each position 0 .. L − 1 int32 `[states, classes]`: the state of the next position that a class of
            tokens leads to; one more than its last state where nothing accepted can follow. Positions that are alike
            share a table.
        final: for each position 0 .. L bool `[states]`: whether a sequence of that length may end in it.
        classes: int32 `[V]`: the class of each token.
        num_classes: how many classes there are.
    """

    tables: list[Table]
    final: list[npt.NDArray[np.bool_]]
    classes: Ints
    num_classes: int

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.classes)

    @property
    def longest(self) -> int:
        """L, the most tokens."""
        return len(self.tables)

    @property
    def lengths(self) -> npt.NDArray[np.bool_]:
        """bool `[L + 1]`: whether some sequence of n tokens is accepted."""
        return np.array([final.any() for final in self.final])

    @property
    def num_states(self) -> int:
        """The most states at one position."""
        return max(map(len, self.final))

    @cached_property
    def used(self) -> Bools:
        """bool `[classes]`: whether something accepted holds a token of the class."""
        found = np.zeros(self.num_classes, dtype=np.bool_)
        for table, after in {
            id(table): (table, len(self.final[i + 1])) for i, table in enumerate(self.tables)
        }.values():
            found |= (table < after).any(0)
        return found


def unroll(languages: Sequence[Language], lengths: Collection[int], allowed: Bools | None = None) -> Unrolled:
    """The sequences of some lengths that all languages accept.

    Args:
        languages: over one vocabulary.
        lengths: at least one.
        allowed: bool `[L, V]`, the tokens that may stand at each position; by default all. A class of tokens is taken
            where one of them may stand.

    Raises:
        IncompatibleError: different vocabularies, or too many states at a position.
    """
    classes, columns = joint_classes(languages)
    count, longest = int(classes.max()) + 1, max(lengths)
    ends = [np.array([i in lengths]) for i in range(longest + 1)]
    free = Unrolled(_sets(allowed, classes, count, longest), ends, classes, count)
    parts = []
    for language, column in zip(languages, columns, strict=True):
        table = np.where(language.table == DEAD, language.num_states, language.table)
        table = np.append(table, np.full((language.num_states, 1), language.num_states), axis=1)
        steps = [np.ascontiguousarray(table[:, column]).astype(np.int32)] * longest
        parts.append(_meet(free, Unrolled(steps, [language.accepting] * (longest + 1), classes, count)))
    parts.sort(key=lambda part: part.num_states)
    return reduce(_meet, parts)


def joint_classes(languages: Sequence[Language]) -> tuple[Ints, list[Ints]]:
    """Classes of tokens that no language tells apart; those that one of them never takes are one class.

    Returns:
        int32 `[V]`; and for each language int32 `[classes]`, its own class that each is part of, −1 for none.

    Raises:
        IncompatibleError: different vocabularies.
    """
    if len({language.vocab_size for language in languages}) != 1:
        raise IncompatibleError(
            "Languages",
            got=f"vocabularies of {' and '.join(str(language.vocab_size) for language in languages)} tokens",
            expected="one vocabulary",
            remedy="Build all with the model's own domain.",
        )
    own = np.stack([language.classes for language in languages], axis=1)
    live = np.stack([(each.table != DEAD).any(0)[each.classes] for each in languages], axis=1).all(1)
    own[~live] = DEAD
    first, classes = distinct_rows(own)
    return classes.astype(np.int32), list(own[first].T)


def _sets(allowed: Bools | None, classes: Ints, count: int, longest: int) -> list[Table]:
    """Automata of one state that take what is allowed at each position."""
    if allowed is None:
        return [np.zeros((1, count), dtype=np.int32)] * longest
    known: dict[bytes, Table] = {}
    tables = []
    for tokens in allowed[:longest]:
        able = np.bincount(classes[tokens], minlength=count) > 0
        tables.append(known.setdefault(able.tobytes(), (~able).astype(np.int32)[None]))
    return tables


def _meet(one: Unrolled, other: Unrolled) -> Unrolled:
    """What both accept, with the fewest states."""
    here = np.zeros(min(len(one.final[0]), len(other.final[0]), 1), dtype=np.int64)  # pairs, as one number each
    tables: list[Table] = []
    final: list[Bools] = []
    # Positions are alike again and again, so what follows is found once.
    known: dict[tuple[int, int, bytes], tuple[Table, npt.NDArray[np.int64]]] = {}
    entries = 0
    for i in range(one.longest + 1):
        width = len(other.final[i])
        final.append(one.final[i][here // width] & other.final[i][here % width])
        if i == one.longest:
            break
        key = (id(one.tables[i]), id(other.tables[i]), here.tobytes())
        if key not in known:
            known[key] = _onward(one, other, i, here)
            entries += known[key][0].size
            _check(len(known[key][1]), one.num_classes, entries, MAX_ENTRIES, MAX_UNROLLED)
        table, here = known[key]
        tables.append(table)
    return _smallest(tables, final, one)


def _onward(one: Unrolled, other: Unrolled, i: int, here: npt.NDArray[np.int64]) -> tuple[Table, npt.NDArray[np.int64]]:
    """Where pairs of states at position i lead, and the pairs that they lead to."""
    width, after = len(other.final[i]), (len(one.final[i + 1]), len(other.final[i + 1]))
    to_one, to_other = one.tables[i][here // width], other.tables[i][here % width]
    alive = (to_one < after[0]) & (to_other < after[1])
    there, place = _numbered(to_one[alive].astype(np.int64) * after[1] + to_other[alive], after[0] * after[1])
    table = np.full(alive.shape, len(there), dtype=np.int32)
    table[alive] = place
    return table, there


def _numbered(pairs: npt.NDArray[np.int64], most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which of 0 .. most − 1 occur, in order, and the place of each among them."""
    if most > 8 * len(pairs) + (1 << 16):
        return np.unique(pairs, return_inverse=True)
    seen = np.zeros(most, dtype=np.bool_)  # quicker than sorting
    seen[pairs] = True
    return np.nonzero(seen)[0], (np.cumsum(seen) - 1)[pairs]


def _smallest(tables: list[Table], final: list[Bools], like: Unrolled) -> Unrolled:
    """Without states from which nothing is accepted, and with one for all that have the same ways on."""
    known: dict[tuple[int, bytes, bytes], tuple[Table, Bools, Ints]] = {}
    fewest: list[Table] = []
    ends: list[Bools] = []
    after, entries = (
        np.zeros(1, dtype=np.int32),
        0,
    )  # the new number of each state at the next position, the dead one last
    for i in range(len(tables), -1, -1):
        table = tables[i] if i < len(tables) else np.zeros((len(final[i]), 0), dtype=np.int32)
        key = (id(tables[i]) if i < len(tables) else -1, after.tobytes(), final[i].tobytes())
        if key not in known:
            known[key] = found = _merged(after[table], final[i], int(after[-1]))
            entries += found[0].size
            _check(len(found[0]), like.num_classes, entries, MAX_ENTRIES, MAX_UNROLLED)
        smaller, ending, after = known[key]
        ends.append(ending)
        if i < len(tables):
            fewest.append(smaller)
    return Unrolled(fewest[::-1], ends[::-1], like.classes, like.num_classes)


def _merged(table: Table, final: Bools, dead: int) -> tuple[Table, Bools, Ints]:
    """The rows that differ, whether they may end, and the number of each state's row, that of the dead one last."""
    alive = np.nonzero(final | (table != dead).any(1))[0]
    first, same = distinct_rows(np.append(table[alive], final[alive, None].astype(np.int32), axis=1))
    number = np.full(len(table) + 1, len(first), dtype=np.int32)
    number[alive] = same
    return table[alive[first]], final[alive[first]], number


def _check(states: int, classes: int, entries: int, most_here: int, most: int) -> None:
    if states * classes > most_here or entries > most:
        raise IncompatibleError(
            "Constraint (all that is asked, together)",
            got=f"{states:,} states or more at a position, {classes} classes of tokens, {entries:,} entries in all",
            expected=f"at most {most_here:,} entries at a position, and {most:,} in all",
            remedy="Ask for less at once, or for one length: narrower bands, shorter windows, fewer forbidden words.",
        )


__all__ = ["MAX_STATES", "Unrolled", "joint_classes", "unroll"]
