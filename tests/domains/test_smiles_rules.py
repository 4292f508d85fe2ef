"""Rules of molecules: what each holds, how they compose with templates and samplers, and what faults say."""

from __future__ import annotations

import re

import pytest
import torch

import discdiff as dd
from discdiff import samplers
from discdiff.constraints import Automaton, Constraint
from discdiff.data import LengthModel
from discdiff.errors import ConfigError, DiscdiffError, EmptyLanguageError, IncompatibleError, TemplateError
from discdiff.languages import Language
from discdiff.pipeline import Pipeline
from discdiff.pipeline.inputs import constraint_of
from discdiff.rules import Span
from discdiff.samplers import Sampler
from domains.smiles import SMILES, chemistry

KNOWN = [
    "Cc1ccc(N)cc1", "O=C([O-])c1ccccc1Cl", "C[C@@H](N)C(=O)O", "c1cc[nH]c1", "C#N", "c1ccc2c(c1)Cc1ccccc1-2", "FBr",
    "C1CCC2C(C1)CCC1C3CCCC3CCC21",
]  # fmt: skip
BOTH = pytest.mark.parametrize("tokenizer", ["atom", "closed"])


def molecules(tokenizer: str) -> SMILES:
    return SMILES(tokenizer=tokenizer).fit(KNOWN)  # type: ignore[arg-type]


def language(domain: SMILES, rule: str, value: str) -> Language:
    return domain.rules[rule].read(value, Span(1, 40))


def holds(rule: str, value: str, tokenizer: str, smiles: str) -> bool:
    domain = molecules(tokenizer)
    return language(domain, rule, value).accepts(domain.encode(smiles))


# ---- what each holds -------------------------------------------------------------------------------------------------
@BOTH
@pytest.mark.parametrize(
    ("rule", "value", "yes", "no"),
    [
        ("grammar", "", "Cc1ccc(N)cc1", "Cc1ccc(N)cc"),
        ("grammar", "depth=1, rings=1", "Cc1ccc(N)cc1", "c1ccc2c(c1)Cc1ccccc1-2"),
        ("grammar", "depth=0", "c1cc[nH]c1", "Cc1ccc(N)cc1"),
        ("elements", "C,N", "c1cc[nH]c1", "CO"),
        ("elements", "C, O", "O=C([O-])C", "C[C@@H](N)C"),
        ("elements", "C,Br,F", "BrCF", "ClCF"),
        ("rings", "1", "C1CC1", "CC"),
        ("rings", "2", "c1ccc2ccccc2c1", "C1CC1"),
        ("rings", "-1", "CCC", "c1ccc2ccccc2c1"),
        ("rings", "1-", "c1ccc2ccccc2c1", "CCC"),
        ("rings", "1-2", "C1CC1", "CCC"),
        ("heteroatoms", "1", "c1cc[nH]c1", "CC"),
        ("heteroatoms", "2-3", "C[C@@H](N)C(=O)O", "CCO"),
        ("heteroatoms", "<=1", "CCl", "ClCCl"),
        ("require", "C(=O)O", "NCC(=O)O", "NCC(=O)N"),
        ("require", "[O-]", "C[O-]", "CO"),
        ("forbid", "Cl", "CC", "CCCl"),
        ("forbid", "C(=O)O", "CC(=O)N", "CC(=O)O"),
        ("length", "3", "CCC", "CC"),
        ("length", "2-3", "CC", "CCCC"),
    ],
)  # fmt: skip
def test_rules(tokenizer: str, rule: str, value: str, yes: str, no: str) -> None:
    assert holds(rule, value, tokenizer, yes)
    assert not holds(rule, value, tokenizer, no)


def test_digits_in_brackets_are_no_rings() -> None:
    domain = SMILES()
    assert language(domain, "rings", "0").accepts(domain.encode("[13CH3]C[NH3+]"))
    assert not language(domain, "rings", "0").accepts(domain.encode("[13CH2]1CC1"))


@BOTH
def test_each_rule_reads_its_own_example(tokenizer: str) -> None:
    domain = SMILES(tokenizer=tokenizer).fit([*KNOWN, "C[N+](=O)[O-]"])  # type: ignore[arg-type]
    for rule in domain.rules.values():
        assert not rule.read(rule.example, Span(1, 60)).empty


# ---- faults ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rule", "value", "column", "parts"),
    [
        ("grammar", "depth=4,ring=3", 8, ["'ring=3'", "rings=4"]),
        ("grammar", "deep", 0, ["'deep'", "depth=4"]),
        ("elements", "C,X", 2, ["'X' is no element"]),
        ("elements", "C, cl", 3, ["did you mean Cl?"]),
        ("elements", "C,Xx", 2, ["'Xx' is no element", "did you mean Xe?"]),
        ("elements", "C,,N", 2, ["missing"]),
        ("rings", "two", 0, ["a number or a range"]),
        ("rings", "3-1", 0, ["backwards", "from 1 to 3?"]),
        ("heteroatoms", "2x", 1, ["a number or a range"]),
        ("length", "", 0, ["a number or a range"]),
        ("require", "  ", None, ["empty"]),
        ("require", "C Si", 1, ["' ' is not in"]),
        ("forbid", "CQ", 1, ["'Q' is not in the learned atom-level vocabulary"]),
    ],
)
def test_faulty_values(rule: str, value: str, column: int | None, parts: list[str]) -> None:
    with pytest.raises(TemplateError) as caught:
        language(molecules("atom"), rule, value)
    assert caught.value.column == column
    for part in parts:
        assert part in str(caught.value)


def test_caps_out_of_bounds() -> None:
    with pytest.raises(IncompatibleError, match="depth=12, rings=4"):
        language(molecules("atom"), "grammar", "depth=12")


def test_no_such_rule() -> None:
    with pytest.raises(ConfigError, match=r"no rule 'ring'.*Did you mean 'rings'"):
        constraint_of(molecules("atom"), None, {"ring": "3"}, None, longest=20)


@pytest.mark.parametrize(
    ("template", "rules", "named"),
    [
        (None, {"grammar": "", "require": "C()"}, "require C()"),
        (None, {"elements": "C", "require": "CN"}, "require CN"),
        (None, {"rings": "3-", "length": "-5"}, "length -5"),
        ("C({2})", {"grammar": ""}, "grammar"),
        ("C1CC{2}", {"rings": "2-"}, "rings 2-"),
    ],
)
def test_what_cannot_hold_together_is_named(template: str | None, rules: dict[str, str], named: str) -> None:
    def refused() -> None:
        asked = constraint_of(molecules("atom"), template, rules, None, longest=20)
        assert isinstance(asked, Automaton)
        assert asked.length is not None
        asked.bound(torch.tensor([asked.length]))

    with pytest.raises(EmptyLanguageError, match=re.escape(named)):
        refused()


# ---- templates -------------------------------------------------------------------------------------------------------
def accepted(domain: SMILES, asked: Constraint, smiles: str) -> bool:
    tokens = domain.encode(smiles)
    assert isinstance(asked, Automaton)
    if asked.length not in (None, len(tokens)):
        return False
    if not asked.language.accepts(tokens):
        return False
    allowed = asked.within.allowed_at((torch.zeros(len(tokens), dtype=torch.int64), torch.arange(len(tokens))))
    fixed, known = (value[0] for value in asked.within.given(1, len(tokens)))
    ok = torch.ones(len(tokens), dtype=torch.bool) if allowed is None else allowed[torch.arange(len(tokens)), tokens]
    return bool((ok & (~known | (fixed == torch.tensor(tokens)))).all())


@pytest.mark.parametrize(
    ("template", "smiles", "yes"),
    [
        ("c1ccc({2-6})cc1{0-4}", "c1ccc(CN)cc1", True),
        ("c1ccc({2-6})cc1{0-4}", "c1ccc(C(=O)N)cc1CCl", True),
        ("c1ccc({2-6})cc1{0-4}", "c1ccc(CN)cc1C1", False),  # a ring that nothing closes
        ("c1ccc({2-6})cc1{0-4}", "c1ccc(C)cc1", False),  # too short a gap
        ("{4}c1ccccc1", "C2CC2c1ccccc1", False),  # five tokens
        ("{5}c1ccccc1", "C2CC2c1ccccc1", True),
        ("{5}c1ccccc1", "C1CC1c1ccccc1", False),  # the number of a ring that is given farther on
        ("c1ccccc1{5}", "c1ccccc1C1CC1", True),  # after its last place a number is free again
        ("C{3}c1ccccc1{3}", "CC1Cc1ccccc1C1C", False),  # the gaps' rings would be closed by the given one
        ("{2}1{2}c2ccccc2", "CC1CC1c2ccccc2", False),
        ("C1{4}", "C1CCC1", True),  # a given ring that the gap has to close
    ],
)
def test_templates_and_the_grammar(template: str, smiles: str, yes: bool) -> None:
    domain = molecules("atom")
    assert accepted(domain, constraint_of(domain, template, {"grammar": ""}, None, longest=60), smiles) == yes


def test_rules_narrow_a_template() -> None:
    domain = molecules("closed")
    rules = {"grammar": "depth=2,rings=2", "elements": "C,N", "heteroatoms": "1", "length": "-12"}
    asked = constraint_of(domain, "c1ccc({2-6})cc1{0-4}", rules, None, longest=60)
    assert accepted(domain, asked, "c1ccc(CN)cc1")
    assert not accepted(domain, asked, "c1ccc(CO)cc1")
    assert not accepted(domain, asked, "c1ccc(CNCC)cc1")


# ---- samples ---------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    """A network that knows nothing, so that hardly any free sample parses."""
    domain = SMILES(tokenizer="atom").fit(KNOWN)
    process = dd.Absorbing(domain.vocab_size)
    network = dd.Transformer(process.num_states, dim=16, depth=1, heads=2)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    return Pipeline(model.eval(), domain, LengthModel.of([9, 14, 20]), 24)


def parsable(samples: list[str]) -> int:
    return sum(chemistry.syntax_fault(one) is None for one in samples)


@pytest.mark.parametrize(
    "sampler",
    [
        samplers.FirstHitting(),
        samplers.PredictorCorrector(final_sweeps=2.0),
        samplers.Confidence(),
        samplers.AnyOrder(),
        samplers.Remasking("rescale"),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_all_samples_parse(pipe: Pipeline, sampler: Sampler) -> None:
    steps = None if isinstance(sampler, samplers.FirstHitting | samplers.PredictorCorrector) else 5
    asked = {"grammar": "depth=2,rings=2", "rings": "1-2", "forbid": "[O-]"}
    found = pipe.sample(24, rules=asked, sampler=sampler, steps=steps, seed=1)
    assert parsable(found) == len(found)
    assert not any("[O-]" in one for one in found)
    assert all(2 <= sum(one.count(digit) for digit in "12") <= 4 for one in found)
    assert parsable(pipe.sample(24, sampler=sampler, steps=steps, seed=1)) < 12


def test_decorations_hold_their_scaffold(pipe: Pipeline) -> None:
    found = pipe.infill("{2-5}c1ccc({2-4})cc1", 30, rules={"grammar": ""}, seed=1)
    for one in found:
        assert chemistry.syntax_fault(one) is None
        # The digits of the scaffold pair with one another: without its gaps it is a ring of six.
        head, tail = one.split("c1ccc(", 1)
        assert "1" not in head
        assert tail.endswith(")cc1")
        assert "1" not in tail[:-4]
    with pytest.raises(DiscdiffError, match="trained on at most 24"):
        pipe.infill("c1ccccc1{20}", rules={"grammar": ""})
