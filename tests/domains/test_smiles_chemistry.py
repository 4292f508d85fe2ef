"""Validity in words, templates, figures and pictures of molecules."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rdkit import Chem

from discdiff.constraints import Allowed, Clamp
from discdiff.errors import TemplateError
from domains.smiles import SMILES, atom_spans, atoms_within, molecule_grid_png, molecule_grid_svg
from domains.smiles.chemistry import largest_fragment
from domains.smiles.metrics import possibly_equal
from domains.smiles.properties import PROPERTIES, internal_diversity, properties, valid_molecules

MOLECULES = ["CCO", "c1ccccc1C(=O)O", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "[Na+].[Cl-]", "C"]
INVALID = {
    "": "empty",
    "C(C": "parse error",
    "C C": "parse error",
    "CC)": "parse error",
    "C11": "parse error",
    "c1cccc1": "kekulization",
    "CcC": "kekulization",
    "C=[O-]=C": "valence",
    "F(C)C": "valence",
}


@pytest.fixture(scope="module")
def domain() -> SMILES:
    return SMILES()


@pytest.mark.parametrize(("smiles", "kind"), INVALID.items())
def test_why_a_string_is_not_valid(domain: SMILES, smiles: str, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    why = domain.invalid(smiles)
    assert why is not None
    assert why.split(":")[0] == kind
    assert len(why) > len(kind) + 3
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("smiles", [*MOLECULES, "[H][H]", "*C", "[13CH4]", "C%(123)CCC%(123)", "[2H]C"])
def test_valid_strings(domain: SMILES, smiles: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert domain.invalid(smiles) is None
    again = domain.canonical(smiles)
    assert domain.canonical(again) == again == Chem.CanonSmiles(smiles)
    assert capfd.readouterr().err == ""


def test_canonical_forms_agree(domain: SMILES) -> None:
    assert domain.canonical("OCC") == domain.canonical("C(O)C") == "CCO"
    assert domain.canonical("C1=CC=CC=C1") == "c1ccccc1"
    assert domain.canonical("C(C") == "C(C"  # invalid ones stay as they are


def test_largest_fragment() -> None:
    assert largest_fragment("CC(=O)[O-].[Na+]") == "CC(=O)[O-]"
    assert largest_fragment("Cl.OCC") == "OCC"  # not canonical: cut out, not written anew
    assert largest_fragment("C1.C1") == "CC"


# ---- templates ------------------------------------------------------------------------------------------------------
def shown(domain: SMILES, template: str) -> str:
    constraint = domain.template(template)
    assert constraint.length is not None
    tokens, frozen = constraint.given(1, constraint.length)
    masked = tokens.masked_fill(~frozen, domain.vocab_size)
    return "".join(domain.symbols(masked[0].tolist()))


def test_fragments_with_gaps(domain: SMILES) -> None:
    assert isinstance(domain.template("c1ccccc1{4}C(=O)O"), Clamp)
    assert shown(domain, "c1ccccc1{4}C(=O)O") == "c1ccccc1____C(=O)O"
    assert shown(domain, " C {2} Cl _ [nH] ") == "C__Cl_[nH]"
    assert shown(domain, "[13C{1}H]{1}C<-[Fe]") == "[13C_H]_C<-[Fe]"
    assert shown(domain, "CCO") == "CCO"


def test_choices(domain: SMILES) -> None:
    constraint = domain.template("C<N|O|Cl>c{1}")
    assert isinstance(constraint, Allowed)
    assert constraint.length == 4
    allowed = constraint.table[0].sum(-1).tolist()
    assert allowed == [1, 3, 1, 173]
    assert {i for i, flag in enumerate(constraint.table[0, 1].tolist()) if flag} == {
        domain.vocabulary.ids[token] for token in ("N", "O", "Cl")
    }


@pytest.mark.parametrize(
    ("template", "column", "parts"),
    [
        ("C{8-4}C", 2, ["range", "runs backwards"]),
        ("C{-1}C", 2, ["negative"]),
        ("C{0}C", 2, ["gap of 0"]),
        ("C{x}", 2, ["number of positions"]),
        ("C{4", 1, ["never closed"]),
        ("", 0, ["empty"]),
        ("CC[*:1]", 3, ["attachment point", "{4}"]),
        ("C*", 1, ["attachment point"]),
        ("CCL{2}", 2, ["'L'", "may be meant as Cl"]),
        ("CQ{2}", 1, ["'Q' is not in the closed vocabulary"]),
        ("C<C(|N>", 2, ["'C(' is 2 tokens"]),
        ("C<C||N>", 4, ["empty choice"]),
        ("C<C", 1, ["never closed"]),
        ("C {2} C(C", 7, ["'(' is never closed", "add ')'"]),
        ("CC(C", 2, ["'(' is never closed"]),
        ("C(C)C(=O", 5, ["'(' is never closed"]),
        ("CC)C{3}", 2, ["')' closes nothing"]),
    ],
)
def test_faulty_templates(domain: SMILES, template: str, column: int, parts: list[str]) -> None:
    with pytest.raises(TemplateError) as caught:
        domain.template(template)
    assert caught.value.column == column
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("template", ["CC(C{3}", "{2}C)C", "C(C<C|)>", "C(C(C)_)C", "CC(=O)O"])
def test_a_gap_may_open_or_close_a_branch(domain: SMILES, template: str) -> None:
    assert domain.template(template).length is not None


def test_gaps_stand_outside_atom_level_bracket_atoms() -> None:
    domain = SMILES(tokenizer="atom").fit(["C[C@@H](Br)Cl"])
    assert shown(domain, "C{1}[C@@H]") == "C_[C@@H]"
    with pytest.raises(TemplateError, match="inside a bracket atom"):
        domain.template("[C@{1}H]")


# ---- pictures -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("smiles", [*MOLECULES, "[H]OC[13C@@H](Br)[nH+]", "C%12CC%12", "[2H]C[*:1]", "C%(10)Cl.C%(10)"])
def test_atoms_stand_in_the_order_of_rdkit(smiles: str) -> None:
    parameters = Chem.SmilesParserParams()
    parameters.removeHs = False  # type: ignore[assignment]
    parameters.sanitize = False  # type: ignore[assignment]
    atoms = Chem.MolFromSmiles(smiles, parameters).GetAtoms()
    written = [
        smiles[start:end].strip("[]*+-@0123456789:").split("@")[0].rstrip("H") for start, end in atom_spans(smiles)
    ]
    expected = [atom.GetSymbol().replace("*", "") for atom in atoms]
    assert [one.lower() or "h" for one in written] == [one.lower() or "h" for one in expected]


def test_given_atoms(domain: SMILES) -> None:
    tokens = domain.encode("C[C@@H](Cl)N")
    symbols = domain.symbols(tokens)
    given = [True, True, True, False, True, True, True, True, True, False]
    assert symbols == ["C", "[", "C", "@@", "H", "]", "(", "Cl", ")", "N"]
    assert atoms_within(symbols, given) == [0, 2]
    assert atoms_within(symbols, [True] * 10) == [0, 1, 2, 3]


def test_grids(capfd: pytest.CaptureFixture[str]) -> None:
    text = molecule_grid_svg(
        ["CCO", "C(C", "c1ccccc1", "[H]O"], [[0, 1], [0], [], [0]], ["a", "b", "c", "d"], columns=3
    )
    root = ET.fromstring(text)
    assert (root.attrib["width"], root.attrib["height"]) == ("720px", "400px")
    assert text.startswith("<svg")
    assert "#9" in text.lower(), "marked atoms have their colour"
    picture = molecule_grid_png(["CCO", "C(C"])
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    ET.fromstring(molecule_grid_svg([]))
    ET.fromstring(molecule_grid_svg(["C("]))
    assert capfd.readouterr().err == ""


def test_plots(domain: SMILES, tmp_path: Path) -> None:
    drawn = domain.plots(tmp_path / "plots", [*MOLECULES, "C("], reference=MOLECULES)
    assert {path.name for path in drawn.values()} == {"molecules.svg", "molecules.png", "properties.png"}
    assert all(path.stat().st_size > 1000 for path in drawn.values())
    assert domain.plots(tmp_path, ["C("]) == {}


# ---- figures --------------------------------------------------------------------------------------------------------
def test_figures(domain: SMILES) -> None:
    samples = [*MOLECULES, "OCC", "C(C", "c1cccc1"]
    found = domain.metrics(samples, reference=MOLECULES, training=["C(O)C"])
    assert found["valid"] == {"ratio": 7 / 9, "count": 7, "of": 9, "reasons": {"parse error": 1, "kekulization": 1}}
    assert found["unique"] == {"ratio": 6 / 7, "count": 6, "of": 7}
    assert found["novel"] == {"ratio": 5 / 6, "count": 5, "of": 6}
    assert found["length"]["unit"] == "character"
    assert set(found["properties"]) == set(PROPERTIES)
    assert found["properties"]["weight"]["reference"]["count"] == 6
    assert found["properties"]["weight"]["wasserstein"] > 0
    assert domain.metrics(MOLECULES, reference=MOLECULES)["properties"]["logp"]["wasserstein"] == 0
    nothing = domain.metrics(["C("], reference=MOLECULES)
    assert nothing["properties"]["qed"]["wasserstein"] is None
    assert nothing["internal_diversity"] == {"mean": None, "count": 0}


def test_properties_are_those_of_the_shared_table() -> None:
    # Row 0 of ZINC250k: published logP 5.0506 and SA 2.0840
    (logp,), (sa,) = (
        properties(valid_molecules(["CC(C)(C)c1ccc2occ(CC(=O)Nc3ccccc3F)c2c1"]))[n] for n in ("logp", "sa")
    )
    assert logp == pytest.approx(5.0506, abs=1e-4)
    assert sa == pytest.approx(2.0840, abs=1e-3)


def test_internal_diversity() -> None:
    assert internal_diversity(valid_molecules(["CCO", "OCC"])) == pytest.approx(0)
    assert internal_diversity(valid_molecules(["CCO"])) is None
    mixed = internal_diversity(valid_molecules(["CCO", "CCO", "c1ccccc1"]))
    assert mixed == pytest.approx(2 / 3)  # two of the three pairs have nothing in common


def test_novelty_looks_only_at_molecules_that_may_be_equal() -> None:
    molecules = [*MOLECULES, "C1CC1[N+](=O)[O-]", "C/C=C/[13C@@H](F)O", "O=C1c2ccccc2C(=O)N1", "c1cc[se]c1", "C[*:1]"]
    for smiles in molecules:
        parsed = Chem.MolFromSmiles(smiles)
        forms = set(Chem.MolToRandomSmilesVect(parsed, 10, randomSeed=1))
        forms |= {Chem.MolToSmiles(parsed, kekuleSmiles=True), Chem.MolToSmiles(parsed, allHsExplicit=True)}
        forms |= {Chem.MolToSmiles(Chem.AddHs(parsed)), Chem.MolToSmiles(parsed, allBondsExplicit=True)}
        for form in forms:
            assert possibly_equal([form], [smiles]) == [smiles]
            assert possibly_equal([smiles], [form]) == [form]
    assert possibly_equal(["CC"], ["C1.C1", "[CH3][CH3]", "[#6]C"]) == ["C1.C1", "[CH3][CH3]", "[#6]C"]
    assert possibly_equal(["C1.C1"], ["CC", "CCC", "C1CC1"]) == ["CC"]
    assert possibly_equal(["CN(=O)=O"], ["C[N+](=O)[O-]"]) == ["C[N+](=O)[O-]"]
    assert possibly_equal(["CCO"], ["CCN", "C1CO1", "OCCC"]) == []
