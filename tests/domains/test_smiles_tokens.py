"""Tokens of SMILES: the round trip is exact, nothing that RDKit reads is unknown, and a fault has a place."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem, RDConfig
from tokenizers import Tokenizer

from discdiff.domain import Domain
from discdiff.errors import CheckpointError, ConfigError, UnknownTokenError
from domains.smiles import SMILES
from domains.smiles.vocabulary import ATOM_PATTERN, CLOSED, ELEMENTS, AtomVocabulary, ClosedVocabulary

HARD = [
    "[13CH4]", "C%(123)CCC%(123)", "C%12CCCC%12", "[C@TH1H](F)(Cl)Br", "[C@AL1H](F)(Cl)Br", "[Pt@SP1](F)(Cl)(Br)I",
    "[As@TB15](F)(Cl)(Br)(I)O", "[Co@OH26](F)(Cl)(Br)(I)(S)O", "C[*:1]", "*C", "[2*]C", "[Na+].[Cl-]", "[Fe++]",
    "[Fe+3]", "[OH-]", "[H][H]", "[HH]", "[2H]O[3H]", "[12345C]", "[nH]1cccc1", "Cn1cccc1", "[Cn]", "C[Sn](C)(C)C",
    "[sH+]1cccc1", "[se]1cccc1", "[te]1cccc1", "[as]1ccccc1", "[si]1ccccc1", "b1ccccc1", "[CH3:10][CH3:11]", "C$C",
    "F/C=C\\F", "C->[Fe]", "C<-[Fe]", "C~C", "[#6]C", "[Uun]", "['Db']", "[C@@H](N)(C)C(=O)O", "C1.C1", "[Sc+3]",
    "[99Tc]", "OS(=O)(=O)O", "CCCl", "BrCCBr", "[Nb]", "[In]", "[Po]", "[No]", "[Co+2]", "[Hs]", "[Yb]", "[Ho]",
]  # fmt: skip


@pytest.fixture(scope="module")
def closed() -> SMILES:
    return SMILES()


def test_closed_vocabulary_does_not_change() -> None:
    # A saved model's ids are these; the order is part of the format.
    assert len(CLOSED) == len(set(CLOSED)) == 173
    assert len(ELEMENTS) == 118
    assert [CLOSED.index(token) for token in ("(", "0", "@@", "C", "Cl", "c", "Uuo")] == [0, 19, 30, 41, 52, 155, 172]


@pytest.mark.parametrize("smiles", HARD)
def test_hard_strings(closed: SMILES, smiles: str) -> None:
    assert Chem.MolFromSmiles(smiles, sanitize=False) is not None, "the case itself must be a SMILES"
    tokens = closed.encode(smiles)
    assert closed.decode(tokens) == smiles
    assert "".join(closed.symbols(tokens)) == smiles


def test_every_element_of_the_periodic_table(closed: SMILES) -> None:
    table = Chem.GetPeriodicTable()
    for number in range(1, 119):
        symbol = table.GetElementSymbol(number)
        assert closed.symbols(closed.encode(f"C[{symbol}+2]")) == ["C", "[", symbol, "+", "2", "]"]


def test_what_a_letter_means_depends_on_the_bracket(closed: SMILES) -> None:
    assert closed.symbols(closed.encode("Cn1cccc1")) == list("Cn1cccc1")
    assert closed.symbols(closed.encode("[Cn]Cn")) == ["[", "Cn", "]", "C", "n"]
    assert closed.symbols(closed.encode("[13C@@H3+]")) == ["[", "1", "3", "C", "@@", "H", "3", "+", "]"]


CHARACTERS = st.sampled_from([*"[]()123@CHNOSPFIBrlncsoah+-=#%.", "Cl", "Br", "[nH]", "@@", "[Cn]"])


@given(st.lists(CHARACTERS, max_size=40))
def test_fast_path_is_the_tokenizer(parts: list[str]) -> None:
    text = "".join(parts)
    vocabulary = ClosedVocabulary()
    pieces = vocabulary.cut(text)
    assert "".join(pieces) == text
    known = [piece in vocabulary.ids for piece in pieces]
    if all(known):
        assert [vocabulary.tokens[token] for token in vocabulary.encode(text)] == pieces
    else:
        with pytest.raises(UnknownTokenError) as caught:
            vocabulary.encode(text)
        assert caught.value.column == len("".join(pieces[: known.index(False)])) + 1


@given(st.lists(st.sampled_from(CLOSED), max_size=40))
def test_any_tokens_decode_and_encode_to_the_same_string(tokens: list[str]) -> None:
    domain = SMILES()
    text = "".join(tokens)
    try:
        again = domain.decode(domain.encode(text))
    except UnknownTokenError:
        return  # such as the two tokens "[" "Uun" of a bracket that is never closed: not a SMILES
    assert again == text


@pytest.mark.parametrize("text", [*HARD, "C\nC", "C C", "[C\nn]Cn", "CnC]", "[Cn", ""])
def test_tokenizer_json_is_the_same_tokenizer(text: str, closed: SMILES, tmp_path: Path) -> None:
    closed.save_tokenizer(tmp_path)
    saved = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    try:
        expected = closed.encode(text)
    except UnknownTokenError:
        with pytest.raises(Exception, match="UNK"):
            saved.encode(text)
        return
    assert saved.encode(text).ids == expected
    assert saved.decode(expected, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    ("text", "column", "parts"),
    [
        ("CCL", 3, ["'L'", "may be meant as Cl"]),
        ("ССО", 1, ["U+0421", "cyrillic"]),
        ("CC C", 3, ["white space"]),
        ("InChI=1S/CH4/h1H4", 4, ["InChI", "MolFromInchi"]),
        ("CC\x00C", 3, ["'\\x00'"]),
        ("C{4}C", 2, ["gaps belong to templates"]),
        ("CCQ", 3, ["'Q'"]),
    ],
)
def test_unknown_characters_are_named(closed: SMILES, text: str, column: int, parts: list[str]) -> None:
    with pytest.raises(UnknownTokenError) as caught:
        closed.encode(text, record="mol 7")
    assert (caught.value.record, caught.value.column) == ("mol 7", column)
    for part in (*parts, "mol 7", f"column {column}"):
        assert part in str(caught.value)


def test_rdkit_files_have_no_unknown_token(closed: SMILES) -> None:
    data = Path(RDConfig.RDDataDir)
    nci = [line.split()[0] for line in (data / "NCI" / "first_5K.smi").read_text().splitlines()]
    wehi = [line.split(",")[0].strip('"') for line in (data / "Pains/test_data/wehi_mols.csv").read_text().splitlines()]
    assert (len(nci), len(wehi)) == (4999, 10_000)
    reference = closed.vocabulary.tokenizer()
    for i, smiles in enumerate(nci + wehi):
        tokens = closed.encode(smiles)
        assert closed.decode(tokens) == smiles
        if i % 20 == 0:
            assert reference.encode(smiles).ids == tokens


@pytest.mark.parametrize("name", ["zinc250k", "qm9", "pubchem100k", "moses352k"])
def test_shared_sets_have_no_unknown_token(closed: SMILES, shared_dir: Path, name: str) -> None:
    path = shared_dir / "data" / "smiles" / f"{name}.csv.xz"
    if not path.exists():
        pytest.skip(f"reference data absent: {path.name}")
    strings = pd.read_csv(path, usecols=["smiles"], keep_default_na=False)["smiles"].tolist()
    strings = strings[:: 1 if name == "pubchem100k" else 10]
    assert [closed.decode(closed.encode(smiles)) for smiles in strings] == strings


# ---- atom-level -----------------------------------------------------------------------------------------------------
def test_atom_tokens_are_learned_and_saved(tmp_path: Path) -> None:
    training = ["C[C@@H](Br)Cl", "c1cc[nH]c1", "C%12CC%12", "C%(123)CC%(123)", "[Na+].[O-]C"]
    domain = SMILES(tokenizer="atom").fit(training)
    assert domain.symbols(domain.encode("C[C@@H](Br)Cl")) == ["C", "[C@@H]", "(", "Br", ")", "Cl"]
    assert domain.symbols(domain.encode("C%(123)")) == ["C", "%(123)"]
    assert domain.vocabulary.tokens == tuple(sorted(domain.vocabulary.tokens))
    domain.save_tokenizer(tmp_path)
    again = Domain.from_json(json.loads(json.dumps(domain.to_json())), tmp_path)
    assert isinstance(again, SMILES)
    assert again.vocabulary.tokens == domain.vocabulary.tokens
    reference = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for smiles in training:
        assert again.decode(again.encode(smiles)) == smiles
        assert reference.encode(smiles).ids == again.encode(smiles)


def test_atom_tokens_refuse_what_they_have_not_seen() -> None:
    domain = SMILES(tokenizer="atom").fit(["CCO", "c1ccccc1"])
    with pytest.raises(UnknownTokenError, match=r"record 3, column 3: '\[13CH3\]'.*closed") as caught:
        domain.encode("CC[13CH3]", record=3)
    assert caught.value.column == 3


@given(st.lists(st.text(alphabet="[]()%C@Hl123\nBré", max_size=20), min_size=1, max_size=5))
def test_atom_tokens_round_trip_on_any_text(training: list[str]) -> None:
    if not any(training):
        return
    vocabulary = AtomVocabulary.learn(training)
    for text in training:
        assert "".join(vocabulary.tokens[token] for token in vocabulary.encode(text)) == text
    assert all(len(token) == 1 or token[0] in "[BC%@" for token in vocabulary.tokens), ATOM_PATTERN


def test_options_are_checked_and_nothing_is_used_before_it_is_learned(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'closed', 'atom'"):
        SMILES(tokenizer="selfies")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="call fit"):
        _ = SMILES(tokenizer="atom").vocab_size
    SMILES(tokenizer="atom").fit(["CC"]).save_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="not the closed vocabulary"):
        SMILES().load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        SMILES().load_tokenizer(tmp_path)
