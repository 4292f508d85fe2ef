"""What an atom's valence and aromaticity allow of the bonds written beside it, as a finite automaton."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

from discdiff.errors import require
from discdiff.languages import Language
from domains.smiles.symbols import BONDS, bracket_role, digit_of, element_of

MANY = 7
"""So many free bonds never run out."""

_ORDER = {"-": 1, "=": 2, "#": 3, "/": 1, "\\": 1}
_TWO = ("o", "s", "se", "te")
"""Aromatic elements with two neighbours; others have three."""

_BRACKET = re.compile(
    r"\[[0-9]*(?P<element>[A-Z][a-z]?|[a-z]{1,2}|\*)@*(?P<h>H?)(?P<count>[0-9]?)(?P<sign>[+-]?)(?P<size>[0-9]?)\]",
    re.ASCII,
)


class Atom(NamedTuple):
    """An atom as a token brings it.

    Attributes:
        bonds: the most that it can have: orders summed, or neighbours where it is aromatic.
        aromatic: whether it is written in small letters; None where a token does not tell.
    """

    bonds: int
    aromatic: bool | None


UNKNOWN = Atom(MANY, None)


class Place(NamedTuple):
    """Where the automaton stands; what it knows is of the last atom only.

    Attributes:
        phase: what came last: "start", "atom" (and its digits), "bond", "(", ")" or "[".
        free: bonds that the atom can still have, or `MANY`.
        aromatic: whether it is aromatic; None if that is not known.
        needs: neighbours in an aromatic ring that it still has to get: 2, 1 or 0; the first of two by a ring's digit.
        order: of the bond written, or 0.
    """

    phase: str = "start"
    free: int = MANY
    aromatic: bool | None = False
    needs: int = 0
    order: int = 0


FORGOTTEN = Place("atom", MANY, None)


class Valence:
    """Strings in which no atom has more bonds than it can have, and aromatic atoms have neighbours that are.

    A companion of `Grammar`, with which it is meant to be intersected. It remembers an atom until a branch begins, so
    that it leaves out no molecule, but lets through what goes wrong on both sides of a branch; and of aromaticity it
    holds that an atom which does not follow another aromatic one has a ring's digit, and that each one has two
    neighbours in its rings, not that these can be drawn with alternating bonds.
    """

    def step(self, place: Place, symbol: Atom | str | int) -> Place | None:
        """The place after one more symbol, or None where nothing that is right can follow."""
        if isinstance(symbol, Atom):
            return self._atom(place, symbol)
        if isinstance(symbol, int):
            return self._digit(place)
        if place.needs == 2:  # a ring's digit comes first
            return None
        if symbol in _ORDER:
            if place.phase not in ("atom", ")", "(") or not _room(place, _ORDER[symbol]):
                return None
            return place._replace(phase=place.phase if place.phase == "(" else "bond", order=_ORDER[symbol])
        if symbol == "(":
            return place._replace(phase="(") if place.phase in ("atom", ")") and _room(place, 2) else None
        if symbol == ")":
            return FORGOTTEN._replace(phase=")") if self.accepts(place) else None
        if symbol == ".":
            return Place() if self.accepts(place) else None
        return None

    def accepts(self, place: Place) -> bool:
        """Whether a string may end here."""
        return place.phase == "atom" and not place.needs

    def _atom(self, place: Place, atom: Atom) -> Place | None:
        if place.phase == "start":
            return Place("atom", min(atom.bonds, MANY), atom.aromatic, 2 if atom.aromatic else 0)
        if place.needs == 2:
            return None
        order, branch = max(place.order, 1), place.phase == "("
        together = atom.aromatic is not False and place.aromatic is not False and place.order < 2
        if place.needs and not branch and not together:
            return None
        taken = 1 if atom.aromatic else order
        # A branch is not the last thing of its atom: a bond is kept for what comes after it.
        if not _room(place, order + branch) or atom.bonds < taken:
            return None
        needs = (1 if together else 2) if atom.aromatic else 0
        return Place("atom", _without(min(atom.bonds, MANY), taken), atom.aromatic, needs)

    def _digit(self, place: Place) -> Place | None:
        if place.phase not in ("atom", "bond") or place.free < 1 or place.order > 1:
            return None
        return place._replace(phase="atom", order=0, free=_without(place.free, 1), needs=max(place.needs - 1, 0))

    def language(self, tokens: Sequence[str]) -> Language:
        """The language over a vocabulary; tokens that are no part of it are never allowed."""
        return _language(tuple(tokens))


def _without(free: int, order: int) -> int:
    return free if free == MANY else free - order


def _room(place: Place, order: int) -> bool:
    """Whether the atom takes a bond of this order more; an aromatic one counts neighbours, not orders."""
    if place.aromatic and order > 1:
        return place.free >= order - 1 and order < 4
    return place.free >= order


def atom_of(token: str) -> Atom | None:
    """What a token brings, by RDKit's table of valences; None if it is no atom."""
    element = element_of(token)
    if element is None:
        return None
    found = _BRACKET.fullmatch(token)
    hydrogens = int(found["count"] or 1) if found and found["h"] else 0
    if element[0].islower():
        return Atom((2 if element in _TWO else 3) - hydrogens, True)
    charge = int(f"{found['sign']}{found['size'] or 1}") if found and found["sign"] else 0
    return Atom(_valence(element, charge) - hydrogens, False)


@cache
def _valence(element: str, charge: int) -> int:
    """The highest valence of an element; a charged one has that of its neighbour in the periodic table."""
    table: Any = require("rdkit.Chem").GetPeriodicTable()
    number = table.GetAtomicNumber(element) if element != "*" else 0
    if number <= charge or number - charge > 118:
        return MANY
    highest = [int(value) for value in table.GetValenceList(number - charge)]
    return MANY if -1 in highest else max(highest)


@lru_cache(maxsize=8)
def _language(tokens: tuple[str, ...]) -> Language:
    valence, spelled = Valence(), "[" in tokens
    kinds = []
    for token in tokens:
        atom, digit = atom_of(token), digit_of(token)
        symbol = atom if atom is not None else digit if digit is not None else token
        known = isinstance(symbol, Atom | int) or symbol in (*BONDS, "(", ")", ".")
        kinds.append((symbol if known else None, bracket_role(token) if spelled else None))
    distinct = list(dict.fromkeys(kinds))

    def step(place: Place, number: int) -> Place | None:
        symbol, role = distinct[number]
        if place.phase == "[":
            return (place._replace(phase="atom") if role == "]" else place) if role not in (None, "[") else None
        if role == "[":
            following = valence.step(place, UNKNOWN)
            return None if following is None else following._replace(phase="[")
        return None if symbol is None else valence.step(place, symbol)

    return Language.explore(
        Place(),
        step,
        valence.accepts,
        [distinct.index(kind) for kind in kinds],
        what="SMILES valence",
    )


__all__ = ["Atom", "Place", "Valence", "atom_of"]
