"""Broken grammars of SMILES: comparing all short strings with RDKit's parser must see each of them."""

from __future__ import annotations

import pytest

from domains.smiles.grammar import Grammar, Place
from domains.smiles.symbols import ATOM
from tests.domains.test_smiles_grammar import differences


class ClosesOnNeighbours(Grammar):
    """Forgets which rings the atom before opened: `C1C1`."""

    def step(self, place: Place, symbol: str | int) -> Place | None:
        found = super().step(place, symbol)
        return found._replace(barred=0) if found is not None and symbol == ATOM else found


class ClosesOnItself(Grammar):
    """Forgets which rings this atom opened: `C11`."""

    def step(self, place: Place, symbol: str | int) -> Place | None:
        return super().step(place._replace(fresh=0) if isinstance(symbol, int) else place, symbol)


class ForgetsBehindBranches(Grammar):
    """Forgets the open ring of an atom once its branch ends: `C1(C)C1`."""

    def step(self, place: Place, symbol: str | int) -> Place | None:
        found = super().step(place, symbol)
        return found._replace(fresh=0) if found is not None and symbol == ")" else found


class JoinsTwice(Grammar):
    """Two rings between the same two atoms: `C12CCC12`."""

    def step(self, place: Place, symbol: str | int) -> Place | None:
        return super().step(place._replace(twins=0), symbol)


class LeavesOpen(Grammar):
    """Strings may end with open rings."""

    def accepts(self, place: Place) -> bool:
        return super().accepts(place._replace(rings=0))


class EmptyBranches(Grammar):
    """`C()C`."""

    def step(self, place: Place, symbol: str | int) -> Place | None:
        bare = place.phase == "(" and symbol == ")"
        return super().step(place._replace(phase="atom") if bare else place, symbol)


class OneRingAnAtom(Grammar):
    """Leaves out what is right: `C12CC1C2`."""

    def step(self, place: Place, symbol: str | int) -> Place | None:
        return None if isinstance(symbol, int) and place.fresh else super().step(place, symbol)


@pytest.mark.parametrize(
    "mutant",
    [ClosesOnNeighbours, ClosesOnItself, ForgetsBehindBranches, JoinsTwice, LeavesOpen, EmptyBranches, OneRingAnAtom],
)
def test_broken_grammars(mutant: type[Grammar]) -> None:
    wrong, missing = differences(mutant)
    assert wrong or len(missing) > 2
