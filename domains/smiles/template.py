"""Half-known molecules: fragments with gaps, such as `c1ccccc1{4}C(=O)O`."""

from __future__ import annotations

import re
from collections import Counter

from discdiff.constraints import Constraint
from domains.smiles.hints import hint
from domains.smiles.symbols import digit_of
from domains.smiles.vocabulary import Vocabulary
from domains.templates import Cursor, Gap, Position, constraint

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

    A branch opens and closes, in the template or within a gap.

    The rings that are given stay as they are: where the template itself pairs all digits of a number, a gap writes
    none of that number as long as one is still to come. (`{4}c1ccccc1`: a `1` in the gap would be closed by the first
    `1` of the benzene ring.) After the last one the number is free again.

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
    starts: list[int] = []
    at, hole = 0, iter(holes)
    for piece in vocabulary.cut("".join(plain)):
        starts.append(columns[at])
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
    _check_branches(cursor, positions, starts, vocabulary)
    _keep_rings(positions, vocabulary)
    return constraint(positions, len(vocabulary.tokens), template=text)


def _check_branches(cursor: Cursor, positions: list[Position], starts: list[int], vocabulary: Vocabulary) -> None:
    """Refuse a branch that nothing can close, or that nothing can have opened: no gap is on that side."""
    opened: list[int] = []
    gap = -1
    for at, position in enumerate(positions):
        known = next(iter(position)) if isinstance(position, frozenset) and len(position) == 1 else None
        if known is None:
            gap = at
        elif vocabulary.tokens[known] == "(":
            opened.append(at)
        elif vocabulary.tokens[known] == ")":
            if not opened and gap < 0:
                raise cursor.fault("')' closes nothing", starts[at], "add '(' before it, or a gap such as {4}")
            opened = opened[:-1]
    if opened and opened[-1] > gap:
        raise cursor.fault("'(' is never closed", starts[opened[-1]], "add ')', or a gap after it such as {4}")


def _keep_rings(positions: list[Position], vocabulary: Vocabulary) -> None:
    """Take from each gap the digits of rings that are given farther on."""
    digits = {token for token, text in enumerate(vocabulary.tokens) if digit_of(text) is not None}
    given: list[tuple[int, int]] = []
    gaps: list[int] = []
    bracket = False  # inside an atom that is spelled in parts digits count something else
    for at, position in enumerate(positions):
        token = next(iter(position)) if isinstance(position, frozenset) and len(position) == 1 else -1
        if token >= 0:
            text = vocabulary.tokens[token]
            bracket = text == "[" or (bracket and text != "]")
        if bracket:
            continue
        if token in digits:
            given.append((at, token))
        elif position is None or isinstance(position, Gap):
            gaps.append(at)
    counts = Counter(token for _, token in given)
    last = {token: at for at, token in given if counts[token] % 2 == 0}
    for at in gaps:
        free = frozenset(range(len(vocabulary.tokens))) - {token for token, end in last.items() if at < end}
        gap = positions[at]
        if len(free) < len(vocabulary.tokens):
            positions[at] = Gap(free, gap.low, gap.high) if isinstance(gap, Gap) else free


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
