"""Valence: what it leaves out of the grammar is no molecule; what it holds of the last atom is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem, rdBase

from discdiff.errors import TemplateError
from discdiff.languages import Language
from discdiff.rules import Span
from domains.smiles import SMILES, chemistry, shipped_smiles
from domains.smiles.grammar import Grammar
from domains.smiles.valence import Atom, Valence, atom_of
from domains.smiles.vocabulary import CLOSED
from tests.domains.test_smiles_grammar import walk

DATA = Path("../shared/data/smiles")
ATOMS = ("C", "N", "O", "S", "F", "c", "n", "o", "s", "[nH]", "[N+]", "[O-]", "[C@@H]", "=", "#", "-", "(", ")", *"123")


def left_out(tokens: tuple[str, ...]) -> Language:
    """What the grammar accepts and valence does not."""
    return Grammar(2, 3).language(tokens) - Valence().language(tokens)


def accepted_strings(language: Language, longest: int) -> list[list[int]]:
    """All strings of a language up to a length."""
    found: list[list[int]] = []
    front: list[tuple[int, list[int]]] = [(0, [])]
    for _ in range(longest):
        following = []
        for state, text in front:
            for token, of_class in enumerate(language.classes.tolist()):
                to = int(language.table[state, of_class])
                if to >= 0:
                    following.append((to, [*text, token]))
        found += [text for state, text in following if language.accepting[state]]
        front = following
    return found


def as_written(text: str) -> bool:
    """Whether RDKit takes a string as it is: valid, its aromatic atoms and charges those that are written."""
    parameters: Any = Chem.SmilesParserParams()
    parameters.sanitize = parameters.removeHs = False
    molecule = chemistry.molecule(text)
    if molecule is None:
        return False
    with rdBase.BlockLogs():
        pair = [list(made.GetAtoms()) for made in (molecule, Chem.MolFromSmiles(text, parameters))]
    written = [(sum(a.GetIsAromatic() for a in atoms), sum(abs(a.GetFormalCharge()) for a in atoms)) for atoms in pair]
    return written[0] == written[1]


def test_all_short_strings_that_it_leaves_out_are_wrong() -> None:
    """Every string of up to 4 tokens in the grammar that valence refuses; the few that RDKit reads, it reads anew."""
    strings = accepted_strings(left_out(ATOMS), 4)
    texts = ["".join(ATOMS[token] for token in text) for text in strings]
    assert len(texts) > 20_000
    assert [text for text in texts if as_written(text)] == []


@pytest.mark.parametrize("tokens", [ATOMS, CLOSED], ids=["atoms", "closed"])
def test_long_strings_that_it_leaves_out_are_wrong(tokens: tuple[str, ...]) -> None:
    """A molecule among 1 in 100 of them would be missed with probability 0.99^1000 < 1e-4."""
    draws, language = np.random.default_rng(0), left_out(tokens)
    for _ in range(1000):
        found = walk(language, tokens, draws.integers(0, 2**16, size=30).tolist(), 40)
        text = "".join(tokens[token] for token in found)
        assert not as_written(text), text


@pytest.mark.parametrize(
    "text", ["CFC", "CO(C)C", "C=O=C", "N#CC#C#N", "cc", "Cc", "O(=C)C", "C1CO1C", "FF(F)F", "C=F", "C1=O=C1"]
)
def test_faults_of_one_atom(text: str) -> None:
    tokens = tuple(dict.fromkeys(text))
    assert not Valence().language(tokens).accepts([tokens.index(c) for c in text])


@pytest.mark.parametrize(
    ("token", "atom"),
    [
        ("C", Atom(4, False)),
        ("[NH3+]", Atom(1, False)),
        ("[N+]", Atom(4, False)),
        ("[O-]", Atom(1, False)),
        ("[C@@H]", Atom(3, False)),
        ("[nH]", Atom(2, True)),
        ("[n+]", Atom(3, True)),
        ("s", Atom(2, True)),
        ("[S@@+]", Atom(5, False)),
        ("[Fe]", Atom(7, False)),
        ("S", Atom(6, False)),
        ("Cl", Atom(1, False)),
    ],
)
def test_atoms(token: str, atom: Atom) -> None:
    assert atom_of(token) == atom


def test_what_is_no_atom() -> None:
    assert [atom_of(token) for token in ("(", "1", "=", "[", "%12", ".")] == [None] * 6


def test_the_shipped_molecules() -> None:
    texts = shipped_smiles()
    smiles = SMILES().fit(texts)
    tokens = smiles.vocabulary.tokens
    grammar, valence = Grammar(4, 4).language(tokens), Valence().language(tokens)
    fit = [text for text in texts if as_written(text) and grammar.accepts(smiles.encode(text))]
    assert len(fit) > 0.8 * len(texts)
    assert [text for text in fit if not valence.accepts(smiles.encode(text))] == []


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the data sets of ../shared")
@pytest.mark.parametrize("name", ["zinc250k", "qm9", "moses352k", "pubchem100k"])
def test_held_out_molecules(name: str) -> None:
    """All that the grammar holds, but for at most 1 in 1000."""
    table = pd.read_csv(DATA / f"{name}.csv.xz")
    texts = table.smiles[table.split == "valid"].tolist()[:1500]
    smiles = SMILES().fit(texts)
    tokens = smiles.vocabulary.tokens
    grammar, valence = Grammar(4, 4).language(tokens), Valence().language(tokens)
    fit = [text for text in texts if grammar.accepts(smiles.encode(text))]
    wrong = [text for text in fit if not valence.accepts(smiles.encode(text))]
    assert len(fit) > 0.8 * len(texts)
    assert len(wrong) <= len(fit) / 1000, wrong


def test_its_value() -> None:
    smiles = SMILES(tokenizer="closed")
    with pytest.raises(TemplateError, match="--rule valence"):
        smiles.rules["valence"].read("rings=4", Span(1, 20))
    both = smiles.rules["valence"].read("", Span(1, 20)) & smiles.rules["grammar"].read("", Span(1, 20))
    for text in ("CC(=O)Oc1ccccc1C(=O)O", "c1ccc2c(c1)CCC2", "[nH]1cccc1", "C[N+](C)(C)CC(=O)[O-]"):
        assert both.accepts(smiles.encode(text)), text
    assert not any(both.accepts(smiles.encode(text)) for text in ("cc", "C=F", "CFC", "c1ccc(c1"))
