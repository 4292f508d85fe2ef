"""Half-known molecules: fragments with gaps, such as `c1ccccc1{4}C(=O)O`."""

from __future__ import annotations

import re

from discdiff.constraints import Constraint
from domains.smiles.hints import hint
from domains.smiles.vocabulary import Vocabulary
from domains.templates import Cursor, Position, constraint

_HOLE = "_"
_DATIVE = re.compile(r"<-(?![^<>]*\|)")
_REACHES = "a gap must stand outside the bracket atom, or the model must use tokenizer='closed'"


def read_template(text: str, vocabulary: Vocabulary) -> Constraint:
    """The constraint of a SMILES template.

    - SMILES as it stands is given, token by token, up to the gaps: `c1ccccc1`.
    - `{4}` is a gap of four tokens that the model writes, `{4-8}` of four to eight; `_` is a gap of one.
    - `<C|N|O>` is one token out of these. (Square brackets are bracket atoms; `<-` without a `|` is a dative bond.)
    - Blanks mean nothing.

    Gaps count tokens of the vocabulary: with the closed one `[nH]` is four.

    Args:
        text: the template.
        vocabulary: the model's tokens.

    Raises:
        TemplateError: with a caret under the fault.
    """
    cursor = Cursor(text)
    plain: list[str] = []
    columns: list[int] = []
    holes: list[Position] = []

    def add(characters: str, column: int) -> None:
        plain.append(characters)
        columns.extend([column] * len(characters))

    while cursor.skip():
        here = cursor.at
        if cursor.peek() == "{":
            gap = cursor.repeat(None)
            holes.extend(gap)
            add(_HOLE * len(gap), here)
        elif cursor.peek() == "<" and not _DATIVE.match(text, here):
            holes.append(_choices(cursor, vocabulary))
            add(_HOLE, here)
        elif (character := cursor.take()) == _HOLE:
            holes.append(None)
            add(_HOLE, here)
        else:
            add(character, here)

    # Cut as one string, so that a token's reading may depend on what stands beyond a gap, as in `[13C{1}H]`.
    positions: list[Position] = []
    at, hole = 0, iter(holes)
    for piece in vocabulary.cut("".join(plain)):
        if piece == _HOLE:
            positions.append(next(hole))
        elif _HOLE in piece:
            raise cursor.fault("a gap inside a bracket atom, which is one token here", columns[at], _REACHES)
        elif "*" in piece:
            raise cursor.fault(
                "an attachment point '*' is no place for the model to write", columns[at],
                "write a gap where atoms may come, such as {4}",
            )  # fmt: skip
        elif piece in vocabulary.ids:
            positions.append(frozenset({vocabulary.ids[piece]}))
        else:
            kind = f"the {vocabulary.kind} vocabulary"
            remedy = hint("".join(plain).replace(_HOLE, "C"), column=at)
            raise cursor.fault(f"{piece!r} is not in {kind}", columns[at], remedy)
        at += len(piece)
    return constraint(positions, len(vocabulary.tokens), template=text)


def _choices(cursor: Cursor, vocabulary: Vocabulary) -> frozenset[int]:
    start, inside = cursor.enclosed(">")
    found = set()
    column = start
    for choice in inside.split("|"):
        token = choice.strip()
        if not token:
            raise cursor.fault("an empty choice", column, "one token between bars, as in <C|N|O>")
        if token not in vocabulary.ids:
            pieces = vocabulary.cut(token)
            fault = f"{token!r} is {len(pieces)} tokens" if len(pieces) > 1 else f"{token!r} is no token"
            raise cursor.fault(f"{fault}; a choice is one token", column, "such as <C|N|O> or <Cl|Br>")
        found.add(vocabulary.ids[token])
        column += len(choice) + 1
    return frozenset(found)
