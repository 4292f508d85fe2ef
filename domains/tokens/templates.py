"""The template language of integers."""

from __future__ import annotations

import re

from discdiff.constraints import Constraint
from domains.templates import LONGEST, Cursor, Letter, constraint

_ITEM = re.compile(r"\d+", re.ASCII)


def read_template(text: str, vocab_size: int) -> Constraint:
    """The constraint of a list with gaps such as `[5, 3, ?, ?{4}, ?{2-6}, 1|2|7]`.

    Raises:
        TemplateError: with a caret under the fault.
    """
    return constraint(read_positions(text, vocab_size), vocab_size, template=text)


def read_positions(text: str, vocab_size: int) -> list[Letter]:
    """The tokens allowed at each position of a list, or gaps.

    Raises:
        TemplateError: with a caret under the fault.
    """
    cursor = Cursor(text, blanks=" \t\r\n,")
    cursor.skip()
    bracket = cursor.at if cursor.peek() == "[" else None
    if bracket is not None:
        cursor.take()
    positions: list[Letter] = []
    repeatable = closed = False
    while cursor.skip():
        here, character = cursor.at, cursor.peek()
        if closed:
            raise cursor.fault("the list has ended already", here, "write one list")
        if character == "]" and bracket is not None:
            cursor.take()
            closed = True
        elif character == "{":
            if not repeatable:
                raise cursor.fault("nothing stands before this number", here, "say what repeats, as in ?{4}")
            positions[-1:] = cursor.repeat(positions[-1])
            if len(positions) > LONGEST:
                raise cursor.fault("the template is too long", here, f"at most {LONGEST:,} positions")
            repeatable = False
        elif character in "?_":
            cursor.take()
            positions.append(None)
            repeatable = True
        else:
            positions.append(_choice(cursor, vocab_size))
            repeatable = True
    if bracket is not None and not closed:
        raise cursor.fault("'[' is never closed", bracket, "add ']'")
    return positions


def read_choice(text: str, vocab_size: int) -> frozenset[int]:
    """Numbers with bars between them and nothing else.

    Raises:
        TemplateError: with a caret under the fault.
    """
    cursor = Cursor(text, blanks=" \t\r\n")
    found = _choice(cursor, vocab_size)
    if cursor.skip():
        raise cursor.fault(f"expected the end, got {cursor.peek()!r}", remedy="write one token, or 1|2 for a choice")
    return found


def _choice(cursor: Cursor, vocab_size: int) -> frozenset[int]:
    """Numbers with bars between them."""
    found: set[int] = set()
    while True:
        cursor.skip()
        match = _ITEM.match(cursor.template, cursor.at)
        if match is None:
            rest = cursor.peek()
            if re.match(r"-\s*\d", cursor.template[cursor.at : cursor.at + 20]):
                raise cursor.fault("a token cannot be negative", remedy=f"expected 0..{vocab_size - 1}")
            what = f"got {rest!r}" if rest else "the template ends here"
            raise cursor.fault(f"expected a token, {what}", remedy="write numbers, '?' for any, '1|2' for a choice")
        if len(match[0]) > 18 or int(match[0]) >= vocab_size:
            raise cursor.fault(f"token {match[0]} is not in 0..{vocab_size - 1}", remedy="is this the model's data?")
        found.add(int(match[0]))
        cursor.at = match.end()
        here = cursor.at
        while cursor.peek() in (" ", "\t"):
            cursor.take()
        if cursor.peek() != "|":
            cursor.at = here
            return frozenset(found)
        cursor.take()
