"""What rules of letters have in common: numbers and bands read from text, motifs, names that are nearly right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from discdiff.errors import ConfigError, TemplateError
from discdiff.languages import (
    Expression,
    Language,
    anything,
    compile_expression,
    count,
    occurs,
    one_of,
    regex,
    share_among,
    whole_numbers,
)
from discdiff.rules import Rule, Span
from domains.templates import Gap, LetterTemplates, Pattern, Position, expression

_NUMBER = r"([+-]?\d+(?:\.\d+)?)\s*(%?)"
_BAND = re.compile(rf"\s*(?:(>=|<=|≥|≤|=)\s*{_NUMBER}|{_NUMBER}(?:\s*(?:-|–|to|\.\.|,)\s*{_NUMBER})?)\s*", re.ASCII)


@dataclass(frozen=True)
class Band:
    """Numbers from `low` to `high`, None where there is no bound; in per cent or not."""

    low: float | None
    high: float | None
    percent: bool = False

    def counts(self, rule: str) -> tuple[int, int | None]:
        """The band as whole numbers.

        Raises:
            ConfigError: they are not.
        """
        for number in (self.low, self.high):
            if number is not None and number != int(number):
                raise ConfigError(f"{rule}: got {number:g}, expected a whole number")
        return int(self.low or 0), None if self.high is None else int(self.high)

    def shares(self, rule: str, example: str) -> tuple[float, float]:
        """The band as fractions of 1.

        Raises:
            ConfigError: they are not between 0 and 1.
        """
        unit = 100 if self.percent else 1
        low, high = (0.0 if self.low is None else self.low) / unit, (unit if self.high is None else self.high) / unit
        if 0 <= low <= high <= 1:
            return low, high
        said = f"{low:g}" if low == high else f"{low:g}-{high:g}"
        remedy = f" Did you mean {said}%?" if not self.percent and 1 < high <= 100 else ""
        raise ConfigError(
            f"{rule}: got {said}, expected a share from 0 to 1 or in per cent, such as {example}.{remedy}"
        )


def band(text: str, *, rule: str, example: str) -> Band:
    """A number, or a band such as `5-10`, `-2..3`, `40-60%`, `>=2`.

    Raises:
        ConfigError: it cannot be read, or the minimum is above the maximum.
    """
    found = _BAND.fullmatch(text)
    if found is None:
        raise ConfigError(f"{rule}: cannot read {text!r}, expected a number or a band, such as {example}")
    if sign := found[1]:
        number = float(found[2])
        low, high = None if sign in "<=≤" and sign != "=" else number, None if sign in ">=≥" and sign != "=" else number
        return Band(low, high, bool(found[3]))
    low, high = float(found[4]), float(found[6] or found[4])
    if low > high:
        raise ConfigError(
            f"{rule}: the minimum of {text.strip()} is above its maximum; from {found[6]} to {found[4]}{found[7]}?"
        )
    return Band(low, high, bool(found[7] or found[5]))


def whole(text: str, *, rule: str, example: str, least: int = 1) -> int:
    """A whole number.

    Raises:
        ConfigError: it is none, or below `least`.
    """
    if not re.fullmatch(r"\s*\d{1,9}\s*", text, re.ASCII) or int(text) < least:
        raise ConfigError(f"{rule}: got {text!r}, expected a whole number of at least {least}, such as {example}")
    return int(text)


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """Up to three known names that are spelt much like this one, the nearest first; case counts for nothing."""
    names = {each.casefold(): each for each in known}
    return [names[found] for found in difflib.get_close_matches(name.casefold(), names, n=3, cutoff=cutoff)]


# ---- languages -------------------------------------------------------------------------------------------------------
def shares(tokens: Collection[int], low: float, high: float, span: Span, vocab_size: int) -> Language:
    """Sequences of the lengths of `span` of which a share between `low` and `high` is of a set.

    Where there is one length, it is not in the language: a count does, with as few states as it has values.
    """
    if span.shortest == span.longest:
        return count(tokens, *whole_numbers(low, high, span.longest), vocab_size)
    return share_among(tokens, low, high, span.shortest, span.longest, vocab_size)


def somewhere(pattern: Pattern, vocab_size: int, *, what: str) -> Language:
    """Sequences in which a pattern occurs.

    Raises:
        TemplateError: a pattern without positions.
        IncompatibleError: gaps too wide for an automaton.
    """
    if not pattern.positions:
        raise TemplateError("the pattern has no positions", template=what, remedy="state at least one")
    if not pattern.or_end:
        whole = expression(pattern.positions, vocab_size)
        return occurs(whole, vocab_size, starts=pattern.starts, ends=pattern.ends, what=what)
    *head, last = pattern.positions
    assert isinstance(last, Gap)
    before = expression(head, vocab_size)
    after = before + one_of(last.tokens if last.tokens is not None else range(vocab_size))
    at_end = occurs(before, vocab_size, starts=pattern.starts, ends=True, what=what)
    return at_end | occurs(after, vocab_size, starts=pattern.starts, ends=pattern.ends, what=what)


def nowhere(pattern: Pattern, vocab_size: int, *, what: str) -> Language:
    """Sequences in which a pattern does not occur."""
    return anything(vocab_size) - somewhere(pattern, vocab_size, what=what)


def only(tokens: Collection[int], vocab_size: int) -> Language:
    """Sequences of nothing but these tokens."""
    return compile_expression(one_of(tokens).repeated(0, None), vocab_size)


def members(letters: str, templates: LetterTemplates, *, rule: str) -> frozenset[int]:
    """The tokens of some letters or codes.

    Raises:
        ConfigError: no letter, or an unknown one.
    """
    plain = [letter.upper() for letter in letters if not letter.isspace() and letter != ","]
    unknown = [letter for letter in plain if letter not in templates.codes]
    if unknown or not plain:
        wrong = f"{unknown[0]!r} is no {templates.kind}" if unknown else f"it names no {templates.kind}"
        raise ConfigError(f"{rule}: {wrong} (known: {''.join(templates.codes)})")
    return frozenset(token for letter in plain for token in templates.codes[letter])


# ---- rules of all alphabets of letters -------------------------------------------------------------------------------
def letter_rules(templates: LetterTemplates, letters: str) -> dict[str, Rule]:
    """`composition` and `regex`.

    Args:
        templates: the codes.
        letters: the alphabet in the order of its tokens.
    """
    size = templates.vocab_size

    def composition(value: str, span: Span) -> Language:
        named, equals, numbers = value.partition("=")
        for sign in (">", "<", "≥", "≤"):  # the equals sign of KR>=5 belongs to the number
            if named.endswith(sign):
                named, numbers = named.removesuffix(sign), f"{sign}{equals}{numbers}"
        if not numbers.strip():
            raise ConfigError(f"composition: cannot read {value!r}, expected LETTERS=NUMBERS, such as KR=5-10")
        tokens = members(named, templates, rule="composition")
        wanted = band(numbers, rule="composition", example="5-10")
        if wanted.percent:
            return shares(tokens, *wanted.shares("composition", "10-20%"), span, size)
        low, high = wanted.counts("composition")
        return count(tokens, low, high, size)

    def matching(value: str, span: Span) -> Language:
        if not value:
            raise TemplateError("the regular expression is empty", template=value, remedy="such as .* for anything")
        return compile_expression(regex(value, letters), size, what=f"regex {value}")

    first, second = letters[8 % len(letters)], letters[1]
    return {
        "composition": Rule(
            f"how many of some {templates.kind}s, or their share: 5, 5-10, >=3, <=3, 10-20%", f"{first}{second}=5-10",
            composition,
        ),
        "regex": Rule("a regular expression that the whole sequence matches", f"[{first}{second}].*", matching),
    }  # fmt: skip


__all__ = [
    "Band",
    "Expression",
    "Position",
    "band",
    "letter_rules",
    "members",
    "nearest",
    "nowhere",
    "only",
    "shares",
    "somewhere",
    "whole",
]
