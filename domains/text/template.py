"""Half-known text: `running is [MASK] for your [MASK:3]`."""

from __future__ import annotations

import re

from discdiff.constraints import Constraint
from discdiff.errors import TemplateError, UnknownTokenError
from discdiff.languages import Expression, Language, alternatives
from domains.templates import Cursor, Position, constraint
from domains.text.patterns import pattern_language
from domains.text.tokenizers import Tokenizer

_HOLE = re.compile(r"(?P<slashes>\\*)\[(?P<word>\s*MASK\s*)(?P<rest>[:=/\]]|(?=\d)|\Z)", re.IGNORECASE)
"""A hole, or what was probably meant to be one."""
_CLOSING = {":": "]", "=": "]", "/": "/]"}


def read_template(text: str, tokenizer: Tokenizer) -> Constraint:
    r"""The constraint of a text with holes.

    - `[MASK]` is one token that the model writes, `[MASK:3]` three, `[MASK:3-8]` three to eight.
    - `[MASK=he|she]` is one of these, each cut into tokens as the tokenizer would.
    - `[MASK/\d{4}/]` is what a regular expression matches, in whatever tokens.
    - `\[MASK]` is the six characters, and `\\[MASK]` a backslash before a hole; `[mask]` is refused, `\[mask]` not.
    - All else is given as it stands, white space too.

    Numbers count tokens. With byte-level BPE a token begins with the space before its word, so one space just before a
    hole belongs to the hole. The pieces between holes are encoded separately: a hole begins and ends where tokens do.

    Raises:
        TemplateError: with a caret under the fault.
    """
    cursor = Cursor(text, blanks="")
    positions: list[Position] = []
    pending, began = "", 0
    while match := _HOLE.search(text, cursor.at):
        slashes = len(match["slashes"])
        start = match.end("slashes")
        pending += text[cursor.at : match.start()] + "\\" * (slashes // 2)
        if slashes % 2:
            pending += text[start : match.end()]
            cursor.at = match.end()
            continue
        _check_hole(cursor, match)
        space = tokenizer.spaced and pending.endswith(" ")
        positions += _given(cursor, pending[:-1] if space else pending, began, tokenizer)
        cursor.at = match.start("rest")
        if match["rest"] == "]":
            cursor.at += 1
            positions.append(None)
        elif match["rest"] == ":":
            positions += cursor.repeat(None, "]")
        elif match["rest"] == "/":
            positions.append(_matched(cursor, tokenizer, " " if space else ""))
        else:
            positions.append(_choices(cursor, tokenizer, " " if space else ""))
        pending, began = "", cursor.at
    positions += _given(cursor, pending + text[cursor.at :], began, tokenizer)
    return constraint(positions, tokenizer.size, template=text)


def _check_hole(cursor: Cursor, match: re.Match[str]) -> None:
    """Refuse a hole that is never closed, or that is written in another way."""
    text, start, rest = cursor.template, match.end("slashes"), match["rest"]
    end = text.find("]", start)
    if end < 0 or "[MASK" in text[start + 1 : end]:
        closing = _CLOSING.get(rest, "]")
        raise cursor.fault("'[' is never closed", start, f"add {closing!r}; \\[ is the character itself")
    if match["word"] != "MASK" or not rest:
        written = text[start : end + 1]
        inside = text[match.end("word") : end].strip()
        meant = f"[MASK{inside if rest else ':' + inside}]"
        raise cursor.fault(
            f"{written!r} is no hole", start, f"write {meant}, or \\{written} for the characters themselves"
        )


def _given(cursor: Cursor, text: str, began: int, tokenizer: Tokenizer) -> list[frozenset[int] | None]:
    try:
        return [frozenset({token}) for token in tokenizer.encode(text)] if text else []
    except UnknownTokenError as error:
        raise cursor.fault(error.message, began + (error.column or 1) - 1, error.remedy) from error


def _choices(cursor: Cursor, tokenizer: Tokenizer, before: str) -> frozenset[int] | Expression:
    column, inside = cursor.enclosed("]")
    found = []
    for choice in inside.split("|"):
        if not choice:
            raise cursor.fault("an empty choice", column, "words between bars, as in [MASK=he|she]")
        try:
            found.append(tokenizer.encode(before + choice))
        except UnknownTokenError as error:
            at = column - len(before) + (error.column or len(before) + 1) - 1
            raise cursor.fault(error.message, at, error.remedy) from error
        column += len(choice) + 1
    if all(len(tokens) == 1 for tokens in found):
        return frozenset(tokens[0] for tokens in found)
    return alternatives(found)


def _matched(cursor: Cursor, tokenizer: Tokenizer, before: str) -> Language:
    column = cursor.at + 1
    end = cursor.template.find("/]", column)
    if end < 0:
        raise cursor.fault("the regular expression is never closed", cursor.at, "add '/]'")
    cursor.at = end + 2
    try:
        return pattern_language(tokenizer, cursor.template[column:end], before)
    except TemplateError as error:
        raise cursor.fault(error.message, column + (error.column or 0), error.remedy) from error
