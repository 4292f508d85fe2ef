"""Template languages: the sets that a template states, and a caret under each fault."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from discdiff.constraints import Allowed, Automaton, Clamp, Constraint
from discdiff.domain import Domain
from discdiff.errors import TemplateError
from domains.dna import DNA
from domains.protein import Protein
from domains.templates import Cursor, constraint
from domains.tokens import Tokens

# the standard ambiguity codes, written out from the nomenclature and not from the code under test
IUPAC = {
    "A": "A", "C": "C", "G": "G", "T": "T", "U": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT", "_": "ACGT",
}  # fmt: skip


def sets(rule: Constraint, letters: str) -> list[str]:
    """The letters allowed at each position."""
    length = rule.length or 0
    if isinstance(rule, Clamp):
        given_at, tokens = rule.mask[0].tolist(), rule.tokens[0].tolist()
        return [letters[t] if known else letters for known, t in zip(given_at, tokens, strict=True)]
    assert isinstance(rule, Allowed)
    table = rule.table[0]
    assert table.shape == (length, len(letters))
    return ["".join(c for c, ok in zip(letters, row, strict=True) if ok) for row in table.tolist()]


def fault(domain: DNA | Protein | Tokens, template: str) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        domain.template(template)
    lines = str(caught.value).split("\n")
    assert len(lines) == 3
    # a caret stands under the column, in a line of the template's own characters
    assert lines[1] == "  " + re.sub(r"[\t\r\n]", " ", template)
    assert caught.value.column is not None
    assert lines[2] == "  " + " " * caught.value.column + "^"
    return caught.value


def caret(domain: DNA | Protein | Tokens, template: str) -> tuple[str, int | None]:
    error = fault(domain, template)
    return str(error).split("\n")[0], error.column


# ---- DNA -------------------------------------------------------------------------------------------------------------
@given(st.text(st.sampled_from([*IUPAC, *map(str.lower, IUPAC)]), min_size=1))
def test_iupac_codes(template: str) -> None:
    assert sets(DNA().template(template), "ACGT") == [IUPAC[c.upper()] for c in template]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("ACGT", ["A", "C", "G", "T"]),
        ("A C\tG\nT", ["A", "C", "G", "T"]),
        ("N{3}A", ["ACGT"] * 3 + ["A"]),
        ("W {2} A{1}", ["AT", "AT", "A"]),
        ("[AC]T[^G]", ["AC", "T", "ACT"]),
        ("[AR]{ 2 }", ["AG", "AG"]),
        ("[a c]", ["AC"]),
    ],
)
def test_dna_templates(template: str, expected: list[str]) -> None:
    assert sets(DNA().template(template), "ACGT") == expected


def test_the_template_of_the_documentation() -> None:
    rule = DNA().template("N{20}TATAWAW N{30} ATG")
    assert isinstance(rule, Allowed)
    expected = ["ACGT"] * 20 + ["T", "A", "T", "A", "AT", "A", "AT"] + ["ACGT"] * 30 + ["A", "T", "G"]
    assert sets(rule, "ACGT") == expected


def test_known_and_free_positions_are_a_clamp() -> None:
    rule = DNA().template("N{2}ACG[ACGT]")
    assert isinstance(rule, Clamp)
    tokens, frozen = rule.given(1, 6)
    assert frozen.tolist() == [[False, False, True, True, True, False]]
    assert tokens[frozen].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("template", "message", "column"),
    [
        ("", "the template is empty", 0),
        (" \n", "the template is empty", 0),
        ("ACXGT", "'X' is no base (known: ACGTRYSWKMBDHVNU_)", 2),
        ("AC-GT", "'-' is no base", 2),
        ("AC\nG!", "'!' is no base", 4),
        ("N{-5}", "a gap cannot be negative: -5", 2),
        ("N{0}A", "a gap of 0 positions (leave it out)", 2),
        ("N{10-}", "the range 10- has no end (write the longest gap too)", 2),
        ("N{10,}", "the range 10, has no end (write the longest gap too)", 2),
        ("N{-30}", "a gap cannot be negative: -30", 2),
        ("N{30-10}", "the range 30-10 runs backwards (from 10 to 30?)", 2),
        ("N{x}", "expected a number of positions, got 'x'", 2),
        ("N{}", "expected a number of positions, got ''", 2),
        ("N{2.5}", "expected a number of positions, got '2.5'", 2),
        ("N{²}", "expected a number of positions, got '²'", 2),
        ("N{20", "'{' is never closed", 1),
        ("[ACG", "'[' is never closed", 0),
        ("{20}A", "nothing stands before this number", 0),
        ("N{2}{3}", "nothing stands before this number", 4),
        ("A[]", "the brackets are empty", 1),
        ("A[^]", "the brackets are empty", 1),
        ("A[^N]", "this allows no base at all", 1),
        ("A[CX]", "'X' is no base", 3),
        ("A}", "'}' is no base", 1),
        ("N{99999999999}", "a gap of 99999999999 positions is too long", 2),
        ("N{9999999}N{9999999}", "the template is too long", 11),
    ],
)
def test_dna_template_faults(template: str, message: str, column: int) -> None:
    said, at = caret(DNA(), template)
    assert message in said
    assert at == column


# ---- protein ---------------------------------------------------------------------------------------------------------
AA = "ACDEFGHIKLMNPQRSTVWY"


def but(letters: str) -> str:
    return "".join(a for a in AA if a not in letters)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("MKV", ["M", "K", "V"]),
        ("m-x(3)-[LIVM]-{P}-G", ["M", AA, AA, AA, "ILMV", but("P"), "G"]),
        ("<M-x-G>.", ["M", AA, "G"]),
        ("X{3}_", [AA] * 4),
        ("{P}{2} {ED}(2)", [but("P")] * 2 + [but("DE")] * 2),
        ("[^LIVM]BZJ", [but("ILMV"), "DN", "EQ", "IL"]),
        ("C-x(2)-C-{ C }", ["C", AA, AA, "C", but("C")]),
    ],
)
def test_protein_templates(template: str, expected: list[str]) -> None:
    assert sets(Protein().template(template), AA) == expected


@pytest.mark.parametrize(
    ("template", "message", "column"),
    [
        ("M-x(4,2)-G", "the range 4,2 runs backwards (from 2 to 4?)", 4),
        ("M-x(-2)-G", "a gap cannot be negative: -2", 4),
        ("M-x(2-G", "'(' is never closed", 3),
        ("[A-D]", "'-' is no residue", 2),
        ("M-{}-G", "expected a number of positions", 3),
        ("M-{X}", "this allows no residue at all", 2),
        ("M*", "'*' is no residue", 1),
        ("M<G", "'<' is no residue", 1),
        ("M.G", "'.' is no residue", 1),
        ("(3)M", "nothing stands before this number", 0),
        ("--", "the template is empty", 0),
        ("M-U", "'U' is no residue (write C,", 2),
        ("M-{AO}", "'O' is no residue (write K,", 4),
    ],
)
def test_protein_template_faults(template: str, message: str, column: int) -> None:
    said, at = caret(Protein(), template)
    assert message in said
    assert at == column


def test_an_anchor_alone_has_no_positions() -> None:
    with pytest.raises(TemplateError, match="the template has no positions"):
        Protein().template("<>")


def test_gaps_that_are_letters_are_so_in_templates() -> None:
    assert sets(Protein(gaps="keep").template("M-_"), AA + "-") == ["M", "-", AA + "-"]
    # without them a dash only separates
    assert sets(Protein().template("M-x"), AA) == ["M", AA]


# ---- integers --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("[5, 3, ?, ?{2}, 1|2|7]", ["5", "3", "*", "*", "*", "127"]),
        ("5 3 _ 1 | 2", ["5", "3", "*", "12"]),
        ("[9{3}]", ["9"] * 3),
        ("1|1, 0", ["1", "0"]),
        ("1|2{2}", ["12", "12"]),
    ],
)
def test_token_templates(template: str, expected: list[str]) -> None:
    letters = "0123456789"
    assert sets(Tokens(10).template(template), letters) == [letters if e == "*" else e for e in expected]


@pytest.mark.parametrize(
    ("template", "message", "column"),
    [
        ("", "the template is empty", 0),
        ("[5, 10]", "token 10 is not in 0..9", 4),
        ("[5, -1]", "a token cannot be negative", 4),
        ("[5, x]", "expected a token, got 'x'", 4),
        ("[5, 1|]", "expected a token, got ']'", 6),
        ("5 1|", "expected a token, the template ends here", 4),
        ("[5, 3", "'[' is never closed", 0),
        ("5, 3]", "expected a token, got ']'", 4),
        ("[5] 3", "the list has ended already", 4),
        ("[{3}]", "nothing stands before this number", 1),
        ("?{4-2}", "the range 4-2 runs backwards (from 2 to 4?)", 2),
        ("?{-4}", "a gap cannot be negative: -4", 2),
        ("[[1]]", "expected a token, got '['", 1),
    ],
)
def test_token_template_faults(template: str, message: str, column: int) -> None:
    said, at = caret(Tokens(10), template)
    assert message in said
    assert at == column


def test_a_list_without_positions() -> None:
    with pytest.raises(TemplateError, match="the template has no positions"):
        Tokens(10).template("[]")


# ---- the machinery ---------------------------------------------------------------------------------------------------
def test_constraint_chooses_the_simplest_form() -> None:
    assert isinstance(constraint([{0}, None, {0, 1, 2}], 3), Clamp)
    rule = constraint([{0}, None, {0, 1}], 3)
    assert isinstance(rule, Allowed)
    assert torch.equal(rule.table[0], torch.tensor([[1, 0, 0], [1, 1, 1], [1, 1, 0]]).bool())


@pytest.mark.parametrize(
    ("domain", "template", "accepted", "refused"),
    [
        (DNA(), "A N{1-2} T", ["ACT", "AGGT", "aatt"], ["AT", "ACCCT", "ACC"]),
        (DNA(), "[AG]{0-2}C", ["C", "AC", "GAC"], ["TC", "AAAC", "A"]),
        (Protein(), "M-x(2,3)-{P}", ["MAAG", "MAPAG"], ["MAAP", "MAG", "MAAAAG"]),
        (Tokens(10), "[5, ?{0-1}, 1|2]", ["5 1", "5 9 2"], ["5", "5 9 9 1", "5 9 3"]),
    ],
)
def test_gaps_of_several_lengths(domain: Domain, template: str, accepted: list[str], refused: list[str]) -> None:
    rule = domain.template(template)
    assert isinstance(rule, Automaton)
    assert rule.length is None
    for sequences, verdict in ((accepted, True), (refused, False)):
        for sequence in sequences:
            assert rule.language.accepts(domain.encode(sequence)) is verdict, sequence


def test_a_long_template_is_no_burden() -> None:
    assert DNA().template("N{1000000}W").length == 1_000_001


def test_cursor_walks() -> None:
    cursor = Cursor("  a {12}", blanks=" ")
    assert cursor.skip()
    assert cursor.take() == "a"
    assert cursor.skip()
    assert cursor.span() == (12, 12)
    assert not cursor.skip()
    assert cursor.peek() == ""
