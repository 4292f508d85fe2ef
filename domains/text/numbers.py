"""Whole numbers in a range, as an expression over characters."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from discdiff.languages import Choice, Expression, Sequential


def integers(low: int, high: int, text: Callable[[str], Expression]) -> Expression:
    """The whole numbers `low` .. `high` in decimal, without leading zeros, a plus, or −0.

    Args:
        low: the smallest.
        high: the largest, at least `low`.
        text: an expression for given characters.
    """
    options: list[Expression] = []
    if low < 0:
        options += [text("-") + part for part in _positive(max(1, -high), -low, text)]
    if high >= 0:
        options += list(_positive(max(0, low), high, text))
    return Choice(tuple(options))


def _positive(low: int, high: int, text: Callable[[str], Expression]) -> Iterator[Expression]:
    """Ranges of numbers of the same number of digits, first digit by first digit."""
    for size in range(len(str(low)), len(str(high)) + 1):
        least, most = max(low, 10 ** (size - 1) if size > 1 else 0), min(high, 10**size - 1)
        if least <= most:
            yield _digits(str(least), str(most), text)


def _digits(low: str, high: str, text: Callable[[str], Expression]) -> Expression:
    """Strings of digits between two of the same length."""
    if not low:
        return Sequential(())
    if set(low) == {"0"} and set(high) == {"9"}:
        return Sequential(tuple(Choice(tuple(map(text, "0123456789"))) for _ in low))
    if low[0] == high[0]:
        return text(low[0]) + _digits(low[1:], high[1:], text)
    rest = len(low) - 1
    options = [text(low[0]) + _digits(low[1:], "9" * rest, text)]
    if between := [str(digit) for digit in range(int(low[0]) + 1, int(high[0]))]:
        options.append(Choice(tuple(map(text, between))) + _digits("0" * rest, "9" * rest, text))
    options.append(text(high[0]) + _digits("0" * rest, high[1:], text))
    return Choice(tuple(options))


__all__ = ["integers"]
