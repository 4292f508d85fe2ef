"""The grammar of SMILES: what it accepts, RDKit parses; what RDKit parses in its shape, it accepts, up to its caps."""

from __future__ import annotations

import itertools
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem, rdBase

from discdiff.errors import IncompatibleError
from discdiff.languages import Language
from discdiff.languages.minimal import distance_to_end
from domains.smiles import SMILES, chemistry, shipped_smiles
from domains.smiles.grammar import Grammar
from domains.smiles.vocabulary import CLOSED

DATA = Path("../shared/data/smiles")
ATOMS = (
    "C",
    "N",
    "O",
    "c",
    "n",
    "Cl",
    "[nH]",
    "[C@@H]",
    "[O-]",
    "%12",
    "#",
    "-",
    "/",
    "\\",
    "=",
    "(",
    ")",
    ".",
    *"123456",
)

# The shape in which canonical SMILES are written, as an expression of its own: after a branch's end comes a bond, an
# atom or another branch; no empty branch; bonds before atoms, or one "-" before a digit.
SHAPE = re.compile(r"(?!.*[()=-]$)(?!.*\(\))(?!.*\)[12)])(?!.*[=(][12])(?!.*--)(?!.*==)")


def differences(kind: type[Grammar], longest: int = 8) -> tuple[list[str], list[str]]:
    """Of all short strings: those that it accepts and RDKit does not parse, and those of the shape that it leaves out.

    One element, two numbers of rings; "=" and "-" in strings of up to 6 tokens.
    """
    parameters: Any = Chem.SmilesParserParams()
    parameters.sanitize = False
    wrong, missing = [], []
    with rdBase.BlockLogs():
        for length in range(1, longest + 1):
            alphabet = tuple("C12()=-") if length <= 6 else tuple("C12()")
            language = kind(2, 2).language(alphabet)
            for tokens in itertools.product(range(len(alphabet)), repeat=length):
                text = "".join([alphabet[token] for token in tokens])
                accepted = language.accepts(tokens)
                if not accepted and not SHAPE.match(text):
                    continue
                parsed = SHAPE.match(text) is not None and Chem.MolFromSmiles(text, parameters) is not None
                wrong += [text] if accepted and not parsed else []
                missing += [text] if parsed and not accepted else []
    return wrong, missing


def test_all_short_strings() -> None:
    wrong, missing = differences(Grammar)
    assert wrong == []
    # a bond's order is written where a ring is closed, not where it is opened; the rest is what bounded memory costs
    assert [text for text in missing if not re.search(r"-[12].*[12]", text)] == []
    assert len(missing) == 2


@cache
def distances(language: Language) -> np.ndarray:
    """The fewest tokens that lead from each state to the end of a string."""
    return distance_to_end(language.table, language.accepting)


def walk(language: Language, tokens: tuple[str, ...], choices: list[int], longest: int) -> list[int]:
    """A string of the language that some choices lead to."""
    distance = distances(language)
    state = 0
    found: list[int] = []
    for choice in itertools.chain(choices, itertools.repeat(0)):
        left = longest - len(found)
        able = [c for c, to in enumerate(language.table[state]) if to >= 0 and distance[to] < left]
        ends = [-1] if language.accepting[state] and (len(found) > 12 or not able) else []
        pick = (ends + able)[choice % len(ends + able)]
        if pick < 0:
            return found
        members = np.nonzero(language.classes == pick)[0]
        found.append(int(members[choice // 7 % len(members)]))
        state = int(language.table[state, pick])
    raise AssertionError


@pytest.mark.parametrize(
    ("tokens", "depth", "rings"),
    [(ATOMS, 4, 4), (ATOMS, 2, 6), (ATOMS, 1, 2), (CLOSED, 2, 4), (CLOSED, 4, 2)],
    ids=["atoms-4-4", "atoms-2-6", "atoms-1-2", "closed-2-4", "closed-4-2"],
)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_all_that_it_accepts_parses(tokens: tuple[str, ...], depth: int, rings: int, data: st.DataObject) -> None:
    language = Grammar(depth, rings).language(tokens)
    choices = data.draw(st.lists(st.integers(0, 2**16), min_size=10, max_size=45))
    found = walk(language, tokens, choices, 48)
    assert language.accepts(found)
    text = "".join(tokens[token] for token in found)
    assert chemistry.syntax_fault(text) is None, text


def test_all_that_it_accepts_parses_at_random() -> None:
    # a fault in 1 of 100 strings of about 40 tokens is missed with probability 0.99^1000 < 1e-4
    draws = np.random.default_rng(0)
    language = Grammar(4, 4).language(ATOMS)
    for _ in range(1000):
        found = walk(language, ATOMS, draws.integers(0, 2**16, size=45).tolist(), 48)
        text = "".join(ATOMS[token] for token in found)
        assert chemistry.syntax_fault(text) is None, text


@pytest.mark.parametrize(
    "smiles",
    [
        "C", "CC(C)C", "c1ccccc1", "C1CC1", "CC(=O)Oc1ccccc1C(=O)O", "C12CC1C2", "c1ccc2c(c1)Cc1ccccc1-2", "C1.C1",
        "[nH]1cccc1", "C/C=C\\C", "C1CC12CC2", "C1(C)CC1", "C1(CC1)C", "N#CC", "[O-]C", "O=C(N)c1ccc(Cl)cc1",
        "C1CC2CCC1C2", "c1cc2ccc3cccc4ccc(c1)c2c34",
    ],
)  # fmt: skip
@pytest.mark.parametrize("tokenizer", ["atom", "closed"])
def test_molecules(smiles: str, tokenizer: str) -> None:
    domain = SMILES(tokenizer=tokenizer).fit([smiles])  # type: ignore[arg-type]
    assert Grammar(4, 4).language(domain.vocabulary.tokens).accepts(domain.encode(smiles))


@pytest.mark.parametrize(
    "smiles",
    [
        "", "C(", "C)", "C()C", "C(C)", "=C", "C=", "C==C", "C(C=)C", "C1CC", "C11", "C1C1", "C1(C)C1", "C1(C1)C",
        "C12CCC12", "C=1CC1", "(C)C", "1CC1", "C(1CC1)C", ".C", "C.", "C..C", "C(C(C(C(C(C)C)C)C)C)C", "C1CC1C5CC5",
    ],
)  # fmt: skip
def test_no_molecules(smiles: str) -> None:
    domain = SMILES()
    language = Grammar(4, 4).language(domain.vocabulary.tokens)
    assert not language.accepts(domain.encode(smiles) if smiles else [])


@pytest.mark.parametrize(
    "atom", ["[H]", "[2H]", "[H+]", "[NH4+]", "[Fe+3]", "[13C@@H2-]", "[se]", "[Cl-]", "[CH3]", "[U]"]
)
def test_bracket_atoms_in_parts(atom: str) -> None:
    language = Grammar(1, 1).language(CLOSED)
    assert language.accepts(SMILES().encode(f"C{atom}"))
    assert chemistry.syntax_fault(f"C{atom}") is None


@pytest.mark.parametrize(
    "atom", ["[", "[ ]", "[ C H H ]", "[ C + + ]", "[ 0 C ]", "[ H H ]", "[ C ( ]", "[ 1 2 3 4 C ]"]
)
def test_no_bracket_atoms(atom: str) -> None:
    language = Grammar(1, 1).language(CLOSED)
    assert not language.accepts([CLOSED.index(token) for token in ["C", *atom.split()]])


def test_shipped_molecules() -> None:
    molecules = shipped_smiles()[:1000]
    domain = SMILES(tokenizer="atom").fit(molecules)
    language = Grammar().language(domain.vocabulary.tokens)
    assert np.mean([language.accepts(domain.encode(one)) for one in molecules]) > 0.985


@pytest.mark.skipif(not DATA.exists(), reason="needs the public data sets")
@pytest.mark.parametrize("name", ["zinc250k", "qm9"])
def test_held_out_molecules(name: str) -> None:
    table = pd.read_csv(DATA / f"{name}.csv.xz")
    molecules = table[table.split == "test"].smiles.tolist()
    domain = SMILES(tokenizer="atom").fit(molecules)
    language = Grammar(4, 4).language(domain.vocabulary.tokens)
    assert language.num_states < 10_000
    assert np.mean([language.accepts(domain.encode(one)) for one in molecules]) > 0.99


def test_caps_are_checked() -> None:
    for depth, rings in ((-1, 4), (9, 4), (4, -1), (4, 10)):
        with pytest.raises(IncompatibleError, match="drug-like"):
            Grammar(depth, rings)
