"""What the template languages of all domains share: a cursor, repeats, and sets of tokens per position.

A template is read into one set of tokens a position, None for any token; `constraint` turns that into a
`Clamp` where every position is known or free, into `Allowed` where it has a set, and into an `Automaton` where a
gap may have several lengths.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeGuard

import torch

from discdiff.constraints import Allowed, Automaton, Clamp, Constraint
from discdiff.errors import TemplateError
from discdiff.languages import Expression, Language, Sequential, compile_expression, concatenated, one_of

LONGEST = 10_000_000
_WHITE = " \t\r\n"
_NUMBERS = re.compile(r"\s*(\d{1,9})\s*(?:(-)\s*(\d{1,9})?\s*)?", re.ASCII)
_LAST = re.compile(r"\[([^\]>]*[^\]>\s][^\]>]*)(>\s*\])[\s>.]*$")
_RANGE = re.compile(r"\s*(\d*)\s*(-|,|\.\.|:)?\s*(\d*)\s*", re.ASCII)


@dataclass(frozen=True)
class Gap:
    """`low` to `high` positions in a row, each with one token of a set (None: any)."""

    tokens: frozenset[int] | None
    low: int
    high: int


Letter = Collection[int] | None | Gap
"""One position, or a gap of several lengths."""

Position = Letter | Expression | Language
"""One position, or a part of the sequence that may have several lengths."""


@dataclass(frozen=True)
class Pattern:
    """What a template says: of a whole sequence, or of a part of one.

    Attributes:
        positions: for each position the tokens allowed there, or a gap.
        starts: whether it says that the sequence starts here (`<`).
        ends: whether it says that the sequence ends here (`>`).
        or_end: whether the sequence may end before the last position (`[G>]`), which is a gap of 0 to 1 then.
    """

    positions: list[Letter]
    starts: bool = False
    ends: bool = False
    or_end: bool = False


def constraint(positions: Sequence[Position], vocab_size: int, *, template: str = "") -> Constraint:
    """The constraint of a template.

    Args:
        positions: for each position the tokens allowed there, or None for any; or a gap of several lengths, an
            expression, or a language of its own.
        vocab_size: V.
        template: the text that they were read from, for messages.

    Raises:
        TemplateError: no position at all.
        IncompatibleError: gaps of too many lengths for an automaton.
    """
    if not positions:
        raise TemplateError("the template has no positions", template=template, remedy="state at least one")
    if any(isinstance(position, Gap | Expression | Language) for position in positions):
        return Automaton({"template": _language(positions, vocab_size)})
    return _fixed([position for position in positions if _is_set(position)], vocab_size)


def _is_set(position: Position) -> TypeGuard[Collection[int] | None]:
    return not isinstance(position, Gap | Expression | Language)


def _language(positions: Sequence[Position], vocab_size: int) -> Language:
    """Languages as they are; what stands between them is compiled as one."""
    parts: list[Language] = []
    for whole, run in groupby(positions, lambda position: isinstance(position, Language)):
        if whole:
            parts += [position for position in run if isinstance(position, Language)]
        else:
            parts.append(compile_expression(expression(list(run), vocab_size), vocab_size))
    return parts[0] if len(parts) == 1 else concatenated(parts)


def expression(positions: Sequence[Position], vocab_size: int) -> Expression:
    """What positions say, one after the other; languages have no place in it."""
    every = one_of(range(vocab_size))
    parts: list[Expression] = []
    for position in positions:
        if isinstance(position, Gap):
            part = every if position.tokens is None else one_of(position.tokens)
            parts.append(part.repeated(position.low, position.high))
        elif isinstance(position, Expression):
            parts.append(position)
        elif _is_set(position):
            parts.append(every if position is None else one_of(position))
    return Sequential(tuple(parts))


def _fixed(positions: Sequence[Collection[int] | None], vocab_size: int) -> Constraint:
    sets = [None if allowed is None or len(set(allowed)) == vocab_size else set(allowed) for allowed in positions]
    if all(allowed is None or len(allowed) == 1 for allowed in sets):
        given = torch.tensor([allowed is not None for allowed in sets])
        return Clamp(torch.tensor([min(allowed) if allowed else 0 for allowed in sets]), given)
    rows: dict[frozenset[int] | None, torch.Tensor] = {}
    for allowed in sets:
        key = None if allowed is None else frozenset(allowed)
        if key not in rows:
            row = torch.full((vocab_size,), key is None)
            row[sorted(key or ())] = True
            rows[key] = row
    return Allowed(torch.stack([rows[None if allowed is None else frozenset(allowed)] for allowed in sets]))


def read_range(value: str, *, start: int = 0) -> tuple[int, int | None]:
    """`20`, `20-40`, or `20-` without an end, from column `start` of a value on.

    Raises:
        TemplateError: with a caret under the fault.
    """
    found = _NUMBERS.fullmatch(value, start)
    if found is None:
        raise TemplateError(
            "expected a number or a range", template=value, column=start, remedy="such as 20, 20-40 or 20-"
        )
    low = int(found[1])
    high = low if found[2] is None else None if found[3] is None else int(found[3])
    if high is not None and high < low:
        raise TemplateError(
            f"the range {low} to {high} runs backwards", template=value, column=found.start(1),
            remedy=f"{high}-{low}?",
        )  # fmt: skip
    return low, high


class Cursor:
    """A place in a template.

    Args:
        template: the text.
        blanks: characters that mean nothing between items.

    Attributes:
        at: 0-based column of the next character.

    Raises:
        TemplateError: nothing but blanks.
    """

    def __init__(self, template: str, *, blanks: str = _WHITE) -> None:
        self.template, self.blanks, self.at = template, blanks, 0
        if not template.strip(blanks):
            raise self.fault("the template is empty", 0, "state at least one position")

    def fault(self, message: str, column: int | None = None, remedy: str | None = None) -> TemplateError:
        """The error at a column (by default: here)."""
        column = self.at if column is None else column
        # one line, one column a character: the caret must stand under the fault
        line = "".join(" " if character in "\t\r\n" else character for character in self.template)
        return TemplateError(message, template=line, column=column, remedy=remedy)

    def skip(self) -> bool:
        """Go past blanks; whether anything is left."""
        while self.at < len(self.template) and self.template[self.at] in self.blanks:
            self.at += 1
        return self.at < len(self.template)

    def peek(self) -> str:
        """The next character, or the empty string at the end."""
        return self.template[self.at : self.at + 1]

    def take(self) -> str:
        """The next character; moves on."""
        self.at += 1
        return self.template[self.at - 1]

    def enclosed(self, closing: str) -> tuple[int, str]:
        """What stands between the bracket here and its `closing` one, and the column where it begins.

        Raises:
            TemplateError: the bracket is never closed.
        """
        start = self.at
        end = self.template.find(closing, start)
        if end < 0:
            raise self.fault(f"{self.template[start]!r} is never closed", start, f"add {closing!r}")
        self.at = end + 1
        return start + 1, self.template[start + 1 : end]

    def span(self, closing: str = "}") -> tuple[int, int]:
        """The number in the brackets here, `{20}`, or the range, `{4-8}`: lowest and highest.

        Raises:
            TemplateError: not a number, negative, zero, backwards, or more positions than anybody has.
        """
        start, inside = self.enclosed(closing)
        number = inside.strip()
        if re.fullmatch(r"-\s*\d+", number):
            raise self.fault(f"a gap cannot be negative: {number}", start, "write how many positions it has")
        match = _RANGE.fullmatch(inside)
        if match is None or not match[1]:
            raise self.fault(f"expected a number of positions, got {inside!r}", start, "such as {20} or {4-8}")
        if match[2] and not match[3]:
            raise self.fault(f"the range {number} has no end", start, "write the longest gap too")
        low, high = (text.strip() for text in (match[1], match[3] or match[1]))
        if max(len(low), len(high)) > 12 or max(int(low), int(high)) > LONGEST:
            raise self.fault(f"a gap of {number} positions is too long", start, f"at most {LONGEST:,}")
        if int(low) > int(high):
            raise self.fault(f"the range {number} runs backwards", start, f"from {high} to {low}?")
        if int(high) == 0:
            raise self.fault("a gap of 0 positions", start, "leave it out")
        return int(low), int(high)

    def repeat(self, position: Letter, closing: str = "}") -> list[Letter]:
        """The positions that come of one item and the number or range in the brackets here."""
        low, high = self.span(closing)
        if low == high:
            return [position] * low
        assert _is_set(position)
        return [Gap(None if position is None else frozenset(position), low, high)]


@dataclass(frozen=True)
class LetterTemplates:
    """The template language of alphabets of letters: one set of tokens a position.

    `N` a code; `[ACG]` one of these, `[^ACG]` none of these; `N{20}` an item repeated, `N{4-8}` four to eight times.
    With `prosite` also `x(3)` for `x{3}`, `x(2,4)`, `{P}` for "not P", a last `[G>]` for "G, or the end before it", and
    `<`, `>` and a final `.`, which say nothing more in a template of a whole sequence.

    Args:
        codes: tokens that each upper-case code stands for; case does not matter in a template.
        vocab_size: V.
        kind: what messages call a code, such as "base".
        blanks: characters without meaning between items.
        prosite: read PROSITE's syntax.
        remedies: what to write instead of some upper-case letters that are no codes.
    """

    codes: Mapping[str, Collection[int]]
    vocab_size: int
    kind: str = "letter"
    blanks: str = _WHITE
    prosite: bool = False
    remedies: Mapping[str, str] = field(default_factory=dict)

    def read(self, template: str) -> Constraint:
        """The constraint of a template.

        Raises:
            TemplateError: with a caret under the fault.
        """
        return constraint(self.pattern(template).positions, self.vocab_size, template=template)

    def pattern(self, template: str) -> Pattern:
        """The tokens allowed at each position, or gaps, and what is said of the sequence's ends.

        Raises:
            TemplateError: with a caret under the fault.
        """
        cursor = Cursor(template, blanks=self.blanks)
        result: list[Letter] = []
        said: set[str] = set()
        repeatable = False
        while cursor.skip():
            here = cursor.at
            if (closing := self._repeats(cursor)) is not None:
                if not repeatable:
                    raise cursor.fault("nothing stands before this number", here, "say what repeats, as in N{20}")
                result[-1:] = cursor.repeat(result[-1], closing)
                if len(result) > LONGEST:
                    raise cursor.fault("the template is too long", here, f"at most {LONGEST:,} positions")
                repeatable = False  # N{2}{3} says nothing clear
            elif self.prosite and _anchor(cursor):
                said.add(cursor.take())
            elif self.prosite and (or_end := _LAST.match(template, here)):
                result.append(Gap(self._members(cursor, here + 1, or_end[1]), 0, 1))
                cursor.at = or_end.end(2)
                said.add("or end")
                repeatable = False
            else:
                result.append(self._item(cursor))
                repeatable = True
        return Pattern(result, "<" in said, ">" in said, "or end" in said)

    def _repeats(self, cursor: Cursor) -> str | None:
        """The bracket that closes a number here, or None where none begins."""
        if self.prosite and cursor.peek() == "(":
            return ")"
        excluded = self.prosite and re.match(r"\{\s*[^\W\d]", cursor.template[cursor.at : cursor.at + 80])
        return "}" if cursor.peek() == "{" and not excluded else None

    def _item(self, cursor: Cursor) -> frozenset[int]:
        here = cursor.at
        if (opening := cursor.peek()) not in ("[", "{"):
            return self._members(cursor, here, cursor.take())
        start, inside = cursor.enclosed("]" if opening == "[" else "}")
        negative = inside.startswith("^") or opening == "{"
        caret = inside.startswith("^")
        if not inside[caret:].strip():
            raise cursor.fault("the brackets are empty", here, f"name at least one {self.kind}")
        chosen = self._members(cursor, start + caret, inside[caret:])
        if negative:
            chosen = frozenset(range(self.vocab_size)) - chosen
        if not chosen:
            raise cursor.fault(f"this allows no {self.kind} at all", here, "exclude fewer")
        return chosen

    def _members(self, cursor: Cursor, start: int, inside: str) -> frozenset[int]:
        found: set[int] = set()
        for column, letter in enumerate(inside, start):
            if letter.upper() in self.codes:
                found.update(self.codes[letter.upper()])
            elif letter not in _WHITE:
                known = "".join(self.codes)
                remedy = self.remedies.get(letter.upper(), f"known: {known}")
                raise cursor.fault(f"{letter!r} is no {self.kind}", column, remedy)
        return frozenset(found)


def _anchor(cursor: Cursor) -> bool:
    before, after = cursor.template[: cursor.at], cursor.template[cursor.at + 1 :]
    if cursor.peek() == "<":
        return not before.strip(cursor.blanks)
    return cursor.peek() in (">", ".") and not after.strip(cursor.blanks + ".")
