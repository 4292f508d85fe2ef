"""What tokens mean to the grammar of SMILES: atoms, bonds, digits, brackets; and bracket atoms spelled in parts."""

from __future__ import annotations

import re
from typing import NamedTuple

from domains.smiles.vocabulary import AROMATIC, ELEMENTS

BONDS = ("-", "=", "#", "/", "\\")
"""Bonds that the grammar knows: of covalent molecules."""

ORGANIC = ("B", "C", "N", "O", "P", "S", "F", "Cl", "Br", "I", "b", "c", "n", "o", "p", "s")
ATOM = "atom"
"""The symbol of every atom."""

_BRACKET = re.compile(
    r"\[[0-9]{0,3}(?P<element>[A-Z][a-z]?|[a-z]{1,2}|\*)(?:@@?)?(?:H[0-9]?)?(?:[+-][0-9]?)?\]", re.ASCII
)
_DIGIT = re.compile(r"%(?P<two>[0-9]{2})|(?P<one>[0-9])", re.ASCII)


def element_of(text: str) -> str | None:
    """The element of a token that is an atom, such as `C`, `c` or `[NH3+]`, as it is written; None for others."""
    if text in ORGANIC:
        return text
    found = _BRACKET.fullmatch(text)
    if found is None or found["element"] not in (*ELEMENTS, *AROMATIC):
        return None
    return found["element"]


def digit_of(text: str) -> int | None:
    """The ring that a token opens or closes, or None: `7`, and `%12` where that is one token."""
    found = _DIGIT.fullmatch(text)
    return int(found["two"] or found["one"]) if found else None


def symbol_of(text: str) -> str | int | None:
    """A token outside brackets: `ATOM`, the number of a ring, a bond, `(`, `)`, `.`, or None if it has no place."""
    if element_of(text) is not None:
        return ATOM
    digit = digit_of(text)
    if digit is not None:
        return digit
    return text if text in BONDS or text in ("(", ")", ".") else None


class Bracket(NamedTuple):
    """A bracket atom that is spelled in several tokens, as far as it has been read.

    Attributes:
        part: what came last: "[", "isotope", "element", "proton", "chirality", "H", "count", "charge", "size".
        digits: of the isotope.
    """

    part: str = "["
    digits: int = 0

    def step(self, text: str) -> Bracket | str | None:
        """After one more token; `ATOM` where the bracket closes; None where the token has no place here."""
        digit = len(text) == 1 and text in "0123456789"
        if self.part in ("[", "isotope"):
            if digit:
                begins = text == "0" and not self.digits
                return None if begins or self.digits == 3 else Bracket("isotope", self.digits + 1)
            if text == "H":
                return Bracket("proton")
            return Bracket("element") if text in ELEMENTS or text in AROMATIC else None
        if text == "]":
            return ATOM
        if self.part == "proton":  # hydrogen itself: no chirality, no hydrogens
            return Bracket("size") if text == "+" else None
        place = _PARTS.index(self.part)
        if text in ("@", "@@") and place < _PARTS.index("chirality"):
            return Bracket("chirality")
        if text == "H" and place < _PARTS.index("H"):
            return Bracket("H")
        if digit and self.part == "H":
            return Bracket("count")
        if text in ("+", "-") and place < _PARTS.index("charge"):
            return Bracket("charge")
        return Bracket("size") if digit and text != "0" and self.part == "charge" else None


_PARTS = ("element", "chirality", "H", "count", "charge", "size")


def bracket_role(text: str) -> str | None:
    """Tokens of one role are alike inside brackets."""
    if text == "H":
        return "H"
    if text in ELEMENTS or text in AROMATIC:
        return "element"
    if len(text) == 1 and text in "123456789":
        return "digit"
    return text if text in ("0", "[", "]", "@", "@@", "+", "-") else None


__all__ = ["ATOM", "BONDS", "ORGANIC", "Bracket", "bracket_role", "digit_of", "element_of", "symbol_of"]
