"""Languages that count: words that occur or do not, composition, runs, lengths."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from discdiff.errors import IncompatibleError
from discdiff.languages.expression import Expression, compile_expression, one_of
from discdiff.languages.language import DEAD, MAX_STATES, Language, check_size


def classes_of_sets(sets: Sequence[Collection[int]], vocab_size: int) -> np.ndarray:
    """One class a set, from 1 on; 0 for all other tokens."""
    classes = np.zeros(vocab_size, dtype=np.int32)
    _known(sets, vocab_size)
    for number, tokens in enumerate(sets, 1):
        classes[list(tokens)] = number
    return classes


def _word_automaton(
    words: Sequence[Sequence[Collection[int]]], vocab_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aho and Corasick 1975, for words whose letters are sets of tokens: table, which words end at a state, classes.

    A word with sets stands for all words that it describes. States are the sets of places that the words have been
    read up to, so that overlapping sets need no list of words.
    """
    letters = list(dict.fromkeys(frozenset(letter) for each in words for letter in each))
    _known(letters, vocab_size)
    signature = np.zeros((vocab_size, len(letters)), dtype=np.bool_)
    for column, tokens in enumerate(letters):
        signature[list(tokens), column] = True
    rows, classes = np.unique(signature, axis=0, return_inverse=True)
    column_of = {tokens: column for column, tokens in enumerate(letters)}
    # Bit (w, k): the last k letters read are the first k of word w.
    bits, offset, final, begins = [], 0, 0, 0
    for each in words:
        begins |= 1 << offset
        final |= 1 << (offset + len(each))
        bits += [(offset + k, column_of[frozenset(letter)]) for k, letter in enumerate(each)]
        offset += len(each) + 1
    reads = [sum(1 << place for place, column in bits if row[column]) for row in rows]
    number, states, table = {begins: 0}, [begins], []
    for state in states:  # grows as it goes
        row = []
        for read in reads:
            following = ((state & read) << 1) | begins
            if following not in number:
                number[following] = len(states)
                states.append(following)
            row.append(number[following])
        table.append(row)
        check_size(len(states), len(reads), "words")
    ended = np.array([[bool(state & final)] for state in states])[:, 0]
    return np.array(table, dtype=np.int32), ended, classes.reshape(-1).astype(np.int32)


Word = Sequence[Collection[int]]
"""A word: for each place the tokens that may stand there."""


def contains(words: Sequence[Word], vocab_size: int) -> Language:
    """Sequences in which at least one of the words occurs."""
    _not_empty(words)
    table, ended, classes = _word_automaton(words, vocab_size)
    table[ended] = np.nonzero(ended)[0][0] if ended.any() else DEAD
    return Language.of(table, ended, classes)


def avoids(words: Sequence[Word], vocab_size: int) -> Language:
    """Sequences in which none of the words occurs."""
    _not_empty(words)
    table, ended, classes = _word_automaton(words, vocab_size)
    table[np.isin(table, np.nonzero(ended)[0])] = DEAD
    return Language.of(table, ~ended, classes)


def occurs(
    expression: Expression, vocab_size: int, *, starts: bool = False, ends: bool = False, what: str = "pattern"
) -> Language:
    """Sequences of which some part matches an expression.

    Args:
        expression: what the part may be.
        vocab_size: V.
        starts: only a part at the start counts.
        ends: only a part at the end counts.
        what: its name, for messages.

    Raises:
        IncompatibleError: more states than the limit: a pattern with wide gaps must remember every place where it may
            have begun.
    """
    before = one_of(range(vocab_size)).repeated(0, None)
    language = compile_expression(expression if starts else before + expression, vocab_size, what=what)
    if ends:
        return language
    table = np.where(language.accepting[:, None], np.arange(language.num_states)[:, None], language.table)
    return Language.of(table, language.accepting, language.classes)


def _not_empty(words: Sequence[Word]) -> None:
    if not words or not all(len(word) for word in words):
        raise IncompatibleError(
            "Words", got="no word, or an empty one", expected="words of at least one token", remedy="Name one."
        )


def total(weights: Sequence[int], low: int, high: int, *, longest: int) -> Language:
    """Sequences of at most `longest` tokens whose weights add up to `low` .. `high`: a charge, a number of rings.

    Args:
        weights: `[V]`, an integer for each token.
        low: the smallest sum.
        high: the largest.
        longest: the longest sequence that will be asked for; bounds the sums that matter.
    """
    whole = np.asarray(weights)
    if not np.issubdtype(whole.dtype, np.integer) or low > high:
        raise IncompatibleError(
            "sum of weights",
            got=f"{whole.dtype} weights, sums {low} to {high}",
            expected="integers, low <= high",
            remedy="Scale weights to integers, or swap the bounds.",
        )
    values, classes = np.unique(whole, return_inverse=True)
    most, least = max(int(values.max()), 0) * longest, min(int(values.min()), 0) * longest
    # Beyond these a sum cannot come back, or need not be told apart.
    floor, ceiling = max(low - most, least), min(high - least, most)
    return Language.explore(
        0,
        lambda state, symbol: _within(state + int(values[symbol]), floor, ceiling),
        lambda state: low <= state <= high,
        classes.reshape(-1),
        what="sum of weights",
    )


def _within(value: int, floor: int, ceiling: int) -> int | None:
    return value if floor <= value <= ceiling else None


def count(tokens: Collection[int], low: int, high: int | None, vocab_size: int) -> Language:
    """Sequences with `low` to `high` tokens of a set; `high` None: any number from `low` on.

    Raises:
        IncompatibleError: a bound that needs more states than the limit.
    """
    check_bounds("count", low, high)
    top = low if high is None else high
    check_size(top + 2, 2, "count")
    table = [[n, min(n + 1, top) if high is None or n < high else DEAD] for n in range(top + 1)]
    return Language.of(table, [n >= low for n in range(top + 1)], classes_of_sets([tokens], vocab_size))


def whole_numbers(low: float, high: float, length: int) -> tuple[int, int]:
    """The smallest and largest count that are shares between `low` and `high` of `length` tokens.

    Raises:
        IncompatibleError: no band of shares, or one that holds no whole number of tokens.
    """
    if not 0 <= low <= high <= 1:
        raise IncompatibleError(
            "share", got=f"{low} to {high}", expected="0 <= low <= high <= 1", remedy="Shares are fractions of 1."
        )
    least, most = int(np.ceil(low * length - 1e-9)), int(np.floor(high * length + 1e-9))
    if least > most:
        raise IncompatibleError(
            "share",
            got=f"{low:g} to {high:g} of {length} tokens",
            expected="a band that holds a whole number of tokens",
            remedy=f"{most / length:.3f} and {least / length:.3f} are the nearest shares.",
        )
    return least, most


def share(tokens: Collection[int], low: float, high: float, length: int, vocab_size: int) -> Language:
    """Sequences of exactly `length` tokens of which a share between `low` and `high` is of a set (GC content)."""
    least, most = whole_numbers(low, high, length)
    return count(tokens, least, most, vocab_size) & span_of_lengths(length, length, vocab_size)


def share_among(
    tokens: Collection[int], low: float, high: float, shortest: int, longest: int, vocab_size: int
) -> Language:
    """Sequences of `shortest` to `longest` tokens of which a share between `low` and `high` is of a set.

    The automaton counts both the tokens and those of the set, up to `longest`² / 2 states; lengths at which no whole
    number lies in the band are not in the language.
    """
    if shortest == longest:
        return share(tokens, low, high, longest, vocab_size)
    check_bounds("lengths", shortest, longest)
    if (states := (longest + 1) * (longest + 2) // 2) > MAX_STATES:
        raise IncompatibleError(
            "share",
            got=f"lengths up to {longest}, an automaton of {states:,} states",
            expected=f"at most {MAX_STATES:,} states",
            remedy="Ask for one length; the share of a sequence of known length needs only a count.",
        )

    def step(state: Any, symbol: int) -> object | None:
        n, seen = state
        return (n + 1, seen + symbol) if n < longest else None

    def accepts(state: Any) -> bool:
        n, seen = state
        return n >= shortest and low * n - 1e-9 <= seen <= high * n + 1e-9

    return Language.explore((0, 0), step, accepts, classes_of_sets([tokens], vocab_size), what="share")


def longest_run(sets: Sequence[Collection[int]], longest: int, vocab_size: int) -> Language:
    """Sequences in which no set has more than `longest` tokens in a row (homopolymers: one set a base)."""
    if longest < 1:
        raise IncompatibleError("longest run", got=longest, expected="at least 1", remedy="Forbid the tokens instead.")
    classes = classes_of_sets(sets, vocab_size)
    if len(sets) > 1 and sum(len(set(tokens)) for tokens in sets) > np.count_nonzero(classes):
        # sets that share tokens are counted side by side
        return longest_run(sets[:1], longest, vocab_size) & longest_run(sets[1:], longest, vocab_size)

    def step(state: Any, symbol: int) -> object | None:
        kind, seen = state
        if symbol == 0:
            return (0, 0)
        seen = seen + 1 if symbol == kind else 1
        return (symbol, seen) if seen <= longest else None

    return Language.explore((0, 0), step, lambda state: True, classes, what="longest run")


def span_of_lengths(low: int, high: int | None, vocab_size: int) -> Language:
    """Sequences of `low` to `high` tokens."""
    return count(range(vocab_size), low, high, vocab_size)


def _known(sets: Iterable[Collection[int]], vocab_size: int) -> None:
    stray = [token for tokens in sets for token in tokens if not 0 <= token < vocab_size]
    if stray:
        raise IncompatibleError(
            "Language",
            got=f"token {stray[0]}",
            expected=f"tokens 0..{vocab_size - 1}",
            remedy="Encode with the model's own domain.",
        )


def check_bounds(what: str, low: int, high: int | None) -> None:
    if low < 0 or (high is not None and high < low):
        raise IncompatibleError(what, got=f"{low} to {high}", expected="0 <= low <= high", remedy="Swap the numbers.")


__all__ = [
    "Word",
    "avoids",
    "contains",
    "count",
    "longest_run",
    "occurs",
    "share",
    "share_among",
    "span_of_lengths",
    "total",
    "whole_numbers",
]
