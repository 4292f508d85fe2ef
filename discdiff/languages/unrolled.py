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
from discdiff.languages.language import DEAD, MAX_ENTRIES, Language, Table, check_vocabularies
from discdiff.languages.minimal import Bools, Ints, distinct_rows

MAX_UNROLLED = 100_000_000
"""Entries of the tables of all positions together; positions that are alike count once."""

MAX_LOOKED_AT = 400_000_000
"""Entries that two languages may be looked at in: ten seconds to a minute."""

SMALL = 1_000
"""Pairs of states at a position that are multiplied out without further ado."""

Pairs = npt.NDArray[np.int64]


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
    return _all(parts)


def _all(parts: list[Unrolled]) -> Unrolled:
    """What all accept: small ones first among themselves, which costs little; the largest then takes them in turn."""
    groups: list[Unrolled] = []
    for part in sorted(parts, key=lambda part: part.num_states):
        if groups and groups[-1].num_states * part.num_states <= SMALL:
            groups[-1] = _meet(groups[-1], part)
        else:
            groups.append(part)
    return reduce(_meet, reversed(groups))


def joint_classes(languages: Sequence[Language]) -> tuple[Ints, list[Ints]]:
    """Classes of tokens that no language tells apart; those that one of them never takes are one class.

    Returns:
        int32 `[V]`; and for each language int32 `[classes]`, its own class that each is part of, −1 for none.

    Raises:
        IncompatibleError: different vocabularies.
    """
    check_vocabularies(languages)
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
    # A pair of states is one number: those that a beginning leads to, at each position, in order.
    reached = [np.zeros(min(len(one.final[0]), len(other.final[0]), 1), dtype=np.int64)]
    # Positions are alike again and again, so what follows is found once, and so is what leads there.
    onward: dict[tuple[int, int, bytes], Pairs] = {}
    looked_at = 0
    for i in range(one.longest):
        key = (id(one.tables[i]), id(other.tables[i]), reached[i].tobytes())
        if key not in onward:
            pairs = _led_to(one, other, i, reached[i])
            onward[key] = _distinct(pairs[pairs >= 0], len(one.final[i + 1]) * len(other.final[i + 1]))
            looked_at += pairs.size
            _check(len(onward[key]), one.num_classes, looked_at, MAX_LOOKED_AT)
        reached.append(onward[key])
    return _smallest(one, other, reached)


def _led_to(one: Unrolled, other: Unrolled, i: int, here: Pairs) -> Pairs:
    """Where pairs of states at position i lead: int64 `[n, classes]`, −1 where nothing accepted follows."""
    width, after = len(other.final[i]), (len(one.final[i + 1]), len(other.final[i + 1]))
    to_one, to_other = one.tables[i][here // width], other.tables[i][here % width]
    pairs = to_one.astype(np.int64) * after[1] + to_other
    pairs[(to_one == after[0]) | (to_other == after[1])] = DEAD
    return pairs


def _distinct(pairs: Pairs, most: int) -> Pairs:
    """Which of 0 .. most − 1 occur, in order."""
    if most > 8 * len(pairs) + (1 << 16):
        return np.unique(pairs)
    seen = np.zeros(most, dtype=np.bool_)  # quicker than sorting
    seen[pairs] = True
    return np.nonzero(seen)[0]


def _looked_up(pairs: Pairs, there: Pairs, states: Ints, most: int) -> Table:
    """The state of each pair, of those that occur and, last, of the dead one."""
    if most > 8 * pairs.size + (1 << 16):
        return states[np.where(pairs < 0, len(there), np.searchsorted(there, pairs))]
    of_pair = np.full(most + 1, states[-1], dtype=np.int32)  # −1 is the last
    of_pair[there] = states[:-1]
    return of_pair[pairs]


def _smallest(one: Unrolled, other: Unrolled, reached: list[Pairs]) -> Unrolled:
    """Without pairs from which nothing is accepted, and with one state for all that have the same ways on."""
    known: dict[tuple[int, int, bytes, bytes, bytes], tuple[Table, Bools, Ints]] = {}
    tables: list[Table] = []
    ends: list[Bools] = []
    after, entries = np.zeros(1, dtype=np.int32), 0  # the state of each pair at the next position, the dead one last
    for i in range(one.longest, -1, -1):
        width, here = len(other.final[i]), reached[i]
        final = one.final[i][here // width] & other.final[i][here % width]
        last = i == one.longest
        origin = (-1, -1) if last else (id(one.tables[i]), id(other.tables[i]))
        key = (*origin, here.tobytes(), after.tobytes(), final.tobytes())
        if key not in known:
            table = np.zeros((len(here), 0), dtype=np.int32)
            if not last:
                most = len(one.final[i + 1]) * len(other.final[i + 1])
                table = _looked_up(_led_to(one, other, i, here), reached[i + 1], after, most)
            known[key] = _merged(table, final, int(after[-1]))
            entries += known[key][0].size
            _check(len(known[key][0]), one.num_classes, entries, MAX_UNROLLED)
        smaller, ending, after = known[key]
        ends.append(ending)
        if not last:
            tables.append(smaller)
    return Unrolled(tables[::-1], ends[::-1], one.classes, one.num_classes)


def _merged(table: Table, final: Bools, dead: int) -> tuple[Table, Bools, Ints]:
    """The rows that differ, whether they may end, and the number of each state's row, that of the dead one last."""
    alive = np.nonzero(final | (table != dead).any(1))[0]
    first, same = distinct_rows(np.append(table[alive], final[alive, None].astype(np.int32), axis=1))
    number = np.full(len(table) + 1, len(first), dtype=np.int32)
    number[alive] = same
    return table[alive[first]], final[alive[first]], number


def _check(states: int, classes: int, entries: int, most: int) -> None:
    if states * classes > MAX_ENTRIES or entries > most:
        raise IncompatibleError(
            "Constraint (all that is asked, together)",
            got=f"{states:,} states or more at a position, {classes} classes of tokens, {entries:,} entries in all",
            expected=f"at most {MAX_ENTRIES:,} entries at a position, and {most:,} in all",
            remedy="Ask for less at once, or for one length: narrower bands, shorter windows, fewer forbidden words.",
        )


__all__ = ["Unrolled", "joint_classes", "unroll"]
