"""Rules of DNA and proteins against `re`, Biopython and counting, on all short sequences or many random ones."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterable

import pytest
from Bio.Seq import Seq

import discdiff as dd
from discdiff.data import LengthModel
from discdiff.errors import DiscdiffError, EmptyLanguageError
from discdiff.languages import window
from discdiff.pipeline import Pipeline
from discdiff.rules import Span
from domains.dna import DNA
from domains.letters import Letters
from domains.protein import Protein
from domains.protein.rules import PATTERNS
from tests.test_pipeline import trained

Check = Callable[[str], object]
FINGER = "C-x(2,4)-C-x(3)-[LIVMFYWC]-x(8)-H-x(3,5)-H"


def every(length: int) -> list[str]:
    return ["".join(letters) for letters in itertools.product("ACGT", repeat=length)]


def planted(site: str, count: int = 1500) -> list[str]:
    """Random sequences of 30 bases, most of which hold the site on some strand."""
    draw, found = random.Random(0), []
    for _ in range(count):
        sequence, at = "".join(draw.choices("ACGT", k=30)), draw.randrange(20)
        found.append((sequence[:at] + draw.choice([site, other(site), ""]) + sequence[at:])[:30])
    return found


def random_ones(letters: str, length: int = 8, count: int = 4000) -> list[str]:
    draw = random.Random(0)
    return ["".join(draw.choices(letters, k=length)) for _ in range(count)]


def other(sequence: str) -> str:
    return str(Seq(sequence).reverse_complement())


def gc(sequence: str) -> int:
    return sum(base in "GC" for base in sequence)


def codes(protein: str, table: int = 1) -> Check:
    return lambda s: str(Seq(s).translate(table=table)) == protein


DNA_RULES: list[tuple[str, str, Span, Check, Iterable[str]]] = [
    ("require", "TAW/both", Span(7, 7), lambda s: re.search("TA[AT]", s) or re.search("TA[AT]", other(s)), every(7)),
    ("require", "TAW/-", Span(7, 7), lambda s: re.search("TA[AT]", other(s)), every(7)),
    ("require", "A N{1-2} C", Span(7, 7), lambda s: re.search("A.{1,2}C", s), every(7)),
    ("forbid", "GRT", Span(7, 7), lambda s: not re.search("G[AG]T", s) and not re.search("G[AG]T", other(s)), every(7)),
    ("forbid", "EcoRI", Span(30, 30), lambda s: "GAATTC" not in s, planted("GAATTC")),
    ("forbid", "BsaI", Span(30, 30), lambda s: "GGTCTC" not in s and "GAGACC" not in s, planted("GGTCTC")),
    ("homopolymer", "2", Span(7, 7), lambda s: not re.search(r"(.)\1\1", s), every(7)),
    ("gc", "40-60%", Span(1, 6), lambda s: 4 * len(s) <= 10 * gc(s) <= 6 * len(s), every(6) + every(5) + every(3)),
    ("gc", "40-60%", Span(7, 7), lambda s: gc(s) in (3, 4), every(7)),
    ("gc_window", "4:25-50%", Span(7, 7), lambda s: all(1 <= gc(s[i : i + 4]) <= 2 for i in range(4)), every(7)),
    ("gc_window", "4/2:25-50%", Span(7, 7), lambda s: all(1 <= gc(s[i : i + 4]) <= 2 for i in (0, 2)), every(7)),
    ("codes", "LS table=1", Span(6, 6), codes("LS"), every(6)),
    ("codes", "LS table=2", Span(6, 6), codes("LS", 2), every(6)),
    ("codes", "LS table=11", Span(6, 6), codes("LS", 11), every(6)),
    ("codes", "M*", Span(6, 6), codes("M*"), every(6)),
    ("composition", "AC=2-3", Span(6, 6), lambda s: 2 <= sum(base in "AC" for base in s) <= 3, every(6)),
    ("regex", "[AC]{2}.*T", Span(6, 6), lambda s: re.fullmatch("[AC]{2}.*T", s), every(6)),
]

PROTEIN_RULES: list[tuple[str, str, Check, str]] = [
    ("require", "N-glycosylation", lambda s: re.search("N[^P][ST][^P]", s), "NPSTA"),
    ("forbid", "N-glycosylation", lambda s: not re.search("N[^P][ST][^P]", s), "NPSTA"),
    ("require", "<M-x(1,2)-[G>]", lambda s: re.search("^M.{1,2}(G|$)", s), "MGA"),
    ("require", "C-x(2,4)-C-x-H>", lambda s: re.search("C.{2,4}C.H$", s), "CHA"),
    ("forbid", "C-x(2,4)-C", lambda s: not re.search("C.{2,4}C", s), "CHA"),
    ("forbid_residues", "CW", lambda s: not set(s) & set("CW"), "CWAGHLKMN"),
    ("charge", "-1..2", lambda s: -1 <= sum(c in "KR" for c in s) - sum(c in "DE" for c in s) <= 2, "KRDEHA"),
    ("composition", "KR=2-3", lambda s: 2 <= sum(c in "KR" for c in s) <= 3, "KRDA"),
]


def disagreement(domain: Letters, rule: str, value: str, span: Span, check: Check, sequences: Iterable[str]) -> None:
    language = domain.rules[rule].read(value, span)
    verdicts = {sequence: bool(check(sequence)) for sequence in sequences}
    assert set(verdicts.values()) == {True, False}  # the check tells sequences apart
    assert [s for s, verdict in verdicts.items() if language.accepts(domain.encode(s)) is not verdict] == []


@pytest.mark.parametrize(("rule", "value", "span", "check", "sequences"), DNA_RULES, ids=lambda v: str(v)[:16])
def test_dna(rule: str, value: str, span: Span, check: Check, sequences: Iterable[str]) -> None:
    disagreement(DNA(), rule, value, span, check, sequences)


@pytest.mark.parametrize(("rule", "value", "check", "letters"), PROTEIN_RULES, ids=lambda v: str(v)[:16])
def test_proteins(rule: str, value: str, check: Check, letters: str) -> None:
    disagreement(Protein(), rule, value, Span(1, 8), check, random_ones(letters))


# PROSITE's patterns as regular expressions, with a sequence of each.
NAMED = {
    "PS00001": ("N[^P][ST][^P]", "NGSA"),
    "PS00004": ("[RK]{2}.[ST]", "RKAS"),
    "PS00005": ("[ST].[RK]", "SAR"),
    "PS00006": ("[ST]..[DE]", "TAAE"),
    "PS00008": ("G[^EDRKHPFYW]..[STAGCN][^P]", "GAAASA"),
    "PS00009": (".G[RK][RK]", "FGKR"),
    "PS00014": ("[KRHQSA][DENQ]EL$", "KDEL"),
    "PS00016": ("RGD", "RGD"),
    "PS00017": ("[AG].{4}GK[ST]", "GPPGTGKT"),
    "PS00028": ("C.{2,4}C.{3}[LIVMFYWC].{8}H.{3,5}H", "CPECGKSFSQSSNLQKHQRTH"),
    "PS00029": ("L.{6}L.{6}L.{6}L", "LAAAAAALAAAAAALAAAAAAL"),
    "PS00342": ("[STAGCN][RKH][LIVMAFY]$", "SKL"),
}


@pytest.mark.parametrize(("accession", "name"), PATTERNS)
def test_named_patterns(accession: str, name: str) -> None:
    """Each against `re`, in 300 random sequences: as they are, with the pattern in them, and with it broken."""
    expression, example = NAMED[accession]
    domain, draw = Protein(), random.Random(accession)
    language = domain.rules["require"].read(accession, Span(1, 40))
    assert language.equivalent(domain.rules["require"].read(name, Span(1, 40)))
    seen = set()
    for k in range(300):
        before = "".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=draw.randrange(8)))
        after = "" if expression.endswith("$") and k % 2 else draw.choice(["", "A", "PK", "WWDE"])
        middle = list(example)
        for _ in range(k % 3):
            middle[draw.randrange(len(middle))] = draw.choice("ACDEFGHIKLMNPQRSTVWY")
        sequence = before + "".join(middle) + after
        found = re.search(expression, sequence) is not None
        assert language.accepts(domain.encode(sequence)) is found, sequence
        seen.add(found)
    assert seen == {True, False}


def test_a_zinc_finger() -> None:
    language = Protein().rules["require"].read(FINGER, Span(1, 40))
    finger = "MKYACPECGKSFSQSSNLQKHQRTHTGEKP"  # of a C2H2 protein
    assert re.search("C.{2,4}C.{3}[LIVMFYWC].{8}H.{3,5}H", finger)
    assert language.accepts(Protein().encode(finger))
    assert not language.accepts(Protein().encode(finger.replace("C", "S", 1)))


@pytest.mark.parametrize(
    ("domain", "rule", "value", "words"),
    [
        (DNA(), "forbid", "EcoR1x", ["EcoR1x", "EcoRI"]),
        (DNA(), "require", "TAJ", ["'J'"]),
        (DNA(), "require", "TA[C", ["never closed"]),
        (DNA(), "require", "A N{3-1} C", ["runs backwards"]),
        (DNA(), "gc", "60-40%", ["60"]),
        (DNA(), "gc_window", "20:40-60%", ["200,000", "20/4:...", "20/2:45-55% implies"]),
        (DNA(), "gc_window", "20/0:40-60%", ["0 bases apart", "1, 2, 4, 5, 10, 20"]),
        (DNA(), "homopolymer", "many", ["many"]),
        (DNA(), "codes", "MK1", ["1"]),
        (Protein(), "require", "C-x(4,2)-C", ["runs backwards"]),
        (Protein(), "require", "C-[LIV", ["never closed"]),
        (Protein(), "charge", "plenty", ["plenty"]),
        (Protein(), "forbid_residues", "X", ["leaves no residue at all"]),
        (Protein(), "forbid_residues", "ACDEFGHIKLMNPQRSTVWY", ["leaves no residue at all"]),
        (Protein(), "regex", "", ["the regular expression is empty", ".*"]),
        (DNA(), "regex", "", ["the regular expression is empty"]),
    ],
)
def test_mistakes(domain: Letters, rule: str, value: str, words: list[str]) -> None:
    with pytest.raises(DiscdiffError) as caught:
        domain.rules[rule].read(value, Span(1, 100))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_band_that_a_refusal_recommends_implies_what_was_asked() -> None:
    """Windows d apart in a band narrower by d − 1 at both ends leave no window outside: all sequences, any length."""
    for width, step, low, high in ((6, 2, 1, 5), (6, 3, 1, 5), (8, 2, 2, 6), (9, 3, 2, 7)):
        narrow = window({0}, width, low + step - 1, high - step + 1, 4, every=step)
        assert not narrow.empty
        assert (narrow - window({0}, width, low, high, 4)).empty
        wider = window({0}, width, low + step - 2, high - step + 2, 4, every=step)
        assert not (wider - window({0}, width, low, high, 4)).empty
    assert not DNA().rules["gc_window"].read("20/2:45-55%", Span(50, 50)).empty


def pipe_of(domain: Letters, longest: int) -> Pipeline:
    size = domain.vocab_size
    lengths = LengthModel.of([longest // 2, longest - 3, longest])
    return Pipeline(trained(size, process=dd.Absorbing(size)), domain, lengths, longest)


def test_samples_of_dna() -> None:
    pipe = pipe_of(DNA(), 40)
    rules = {"require": "TATAAT", "forbid": ["EcoRI", "BsaI"], "gc": "40-60%", "homopolymer": "4"}
    for found in pipe.sample(24, rules=rules, steps=6):
        assert "TATAAT" in found
        assert not re.search("GAATTC|GGTCTC|GAGACC", found)
        assert 0.4 <= gc(found) / len(found) <= 0.6
        assert not re.search(r"(.)\1{4}", found)
    for found in pipe.infill("TTGACA N{16-18} TATAAT", 12, rules={"gc": "30-50%"}, steps=6):
        assert re.fullmatch("TTGACA.{16,18}TATAAT", found)
        assert 0.3 <= gc(found) / len(found) <= 0.5
    for found in pipe.sample(8, rules={"codes": "MKVLAWQE*", "forbid": "EcoRI"}, steps=6):
        assert str(Seq(found).translate()) == "MKVLAWQE*"


def test_samples_of_proteins() -> None:
    pipe = pipe_of(Protein(), 40)
    for found in pipe.sample(12, rules={"require": FINGER, "forbid": "N-glycosylation"}, steps=6):
        assert re.search("C.{2,4}C.{3}[LIVMFYWC].{8}H.{3,5}H", found)
        assert not re.search("N[^P][ST][^P]", found)
    for found in pipe.sample(12, rules={"charge": "-2..2", "forbid_residues": "CW"}, steps=6):
        assert abs(sum(c in "KR" for c in found) - sum(c in "DE" for c in found)) <= 2
        assert not set(found) & set("CW")


@pytest.mark.parametrize(
    ("rules", "options", "words"),
    [
        ({"require": "GAATTC", "forbid": "EcoRI"}, {}, ["require GAATTC", "forbid EcoRI"]),
        ({"codes": "M" * 20 + "*"}, {}, ["40"]),
        ({"gc": "41-42%"}, {"length": 10}, ["10"]),
        ({"forbidden": "EcoRI"}, {}, ["forbidden", "forbid"]),
    ],
)
def test_what_cannot_hold(rules: dict[str, str], options: dict[str, int], words: list[str]) -> None:
    with pytest.raises(DiscdiffError) as caught:
        pipe_of(DNA(), 40).sample(2, rules=rules, **options)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_motif_longer_than_the_model() -> None:
    with pytest.raises((EmptyLanguageError, DiscdiffError), match="40"):
        pipe_of(DNA(), 40).sample(2, rules={"require": "A" * 60})
