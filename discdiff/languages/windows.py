"""Languages of windows: how many tokens of a set each stretch of a given width holds."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from discdiff.errors import IncompatibleError
from discdiff.languages.counting import check_bounds, classes_of_sets
from discdiff.languages.language import Language


def window(
    tokens: Collection[int], width: int, low: int, high: int, vocab_size: int, *, every: int | None = None
) -> Language:
    """Sequences in each of whose windows of `width` tokens `low` to `high` are of a set; shorter ones are free.

    The automaton remembers tokens back to the `low`-th of the set and the (`width` − `high`)-th of the others, but at
    most `width` − 1; with `every`, a divisor of `width`, only windows that begin at each `every`-th token are looked
    at, and only the counts between are remembered.
    """
    check_bounds("window", low, high)
    if not max(low, 1) <= width:
        raise IncompatibleError(
            "window", got=f"a width of {width}, at least {low}", expected="low <= width, 1 <= width", remedy="Widen it."
        )
    if every is not None and every != 1:
        return _windows_apart(tokens, width, low, high, vocab_size, every)
    others = max(width - high, 0)

    def step(state: int, symbol: int) -> int | None:
        """A 1, and then for each token remembered whether it is of the set; or −n: n more, and a window is wrong."""
        if state < 0:
            return state + 1 or None
        state = state << 1 | symbol
        read, inside = state.bit_length() - 1, state.bit_count() - 1
        lacking = max(low - inside, others - (read - inside), 0)
        if lacking > width - read:
            return read - width or None
        while read == width or (read and _spare(state >> (read - 1) & 1, inside, read, low, others)):
            inside -= state >> (read - 1) & 1
            read -= 1
            state = state & ((1 << read) - 1) | 1 << read
        return state

    return Language.explore(
        1, step, lambda state: True, classes_of_sets([tokens], vocab_size), what=f"window of {width}"
    )


def _spare(oldest: int, inside: int, read: int, low: int, others: int) -> bool:
    """Whether enough tokens of the set and enough others are remembered without the oldest."""
    return inside - oldest >= low and read - 1 - (inside - oldest) >= others


def _windows_apart(tokens: Collection[int], width: int, low: int, high: int, vocab_size: int, every: int) -> Language:
    if not 1 <= every <= width or width % every:
        raise IncompatibleError(
            "window",
            got=f"windows of {width} at each {every}-th token",
            expected=f"a divisor of {width}",
            remedy="Say how far apart windows begin.",
        )
    blocks = width // every

    def step(state: Any, symbol: int) -> object | None:
        """Counts of the whole blocks before (at most `blocks` − 1), tokens and count of the block begun."""
        before, at, seen = state
        at, seen = at + 1, seen + symbol
        if at < every:
            return before, at, seen
        counts = (*before, seen)
        if len(counts) == blocks:
            if not low <= sum(counts) <= high:
                return None
            counts = counts[1:]
        return counts, 0, 0

    classes = classes_of_sets([tokens], vocab_size)
    return Language.explore(((), 0, 0), step, lambda state: True, classes, what=f"window of {width}")


__all__ = ["window"]
