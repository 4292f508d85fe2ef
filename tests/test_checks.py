"""What is asked of whole strings: `check=` and `valid=True` of a pipeline, and `--valid`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import discdiff as dd
from discdiff.data import LengthModel
from discdiff.domain import Domain
from discdiff.errors import DiscdiffError, DiscdiffWarning
from discdiff.pipeline import Pipeline
from domains.dna import DNA
from domains.smiles import SMILES, chemistry
from domains.text import Text
from domains.tokens import Tokens
from tests.test_pipeline import trained

MOLECULES = ["CCO", "c1ccccc1C(=O)N", "CC(C)Cl", "C1CCNCC1", "CN1C=NC2=C1C(=O)N"]


def chemist(process: type[dd.Absorbing] | type[dd.Uniform] = dd.Absorbing, *, end: bool = False) -> Pipeline:
    """A model of molecules that knows nothing of chemistry."""
    domain = SMILES(tokenizer="atom").fit(MOLECULES)
    size = domain.vocab_size
    lengths = LengthModel.of([13], end=size) if end else LengthModel.of([8, 10, 12])
    return Pipeline(trained(size + end, process=process(size + end)), domain, lengths, 12)


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("process", [dd.Absorbing, dd.Uniform])
def test_molecules_of_a_model_that_knows_none(process: type[dd.Absorbing] | type[dd.Uniform], end: bool) -> None:
    pipe = chemist(process, end=end)
    free = pipe.sample(16, steps=6, seed=1)
    assert sum(chemistry.fault(one) is None for one in free) < 8
    drawn = pipe.sample(16, steps=6, seed=1, valid=True)
    assert [one for one in drawn if chemistry.fault(one) is not None] == []
    assert pipe.sample(16, steps=6, seed=1, valid=True, batch_size=5) == drawn
    assert len(set(drawn)) > 8


def test_a_template_a_rule_and_a_check_at_once() -> None:
    """A ring given, no chlorine, and as many oxygens as nitrogens, which no small automaton counts."""
    drawn = chemist().infill(
        "C1CC{2-4}1{3}",
        12,
        steps=6,
        valid=True,
        rules={"elements": "C,N,O", "grammar": "depth=2,rings=2"},
        check=lambda text: text.count("O") == text.count("N"),
    )
    for one in drawn:
        assert chemistry.fault(one) is None
        assert one.startswith("C1CC")
        assert one.count("O") == one.count("N")
        assert "Cl" not in one


def test_a_check_of_dna() -> None:
    """Its own reverse complement: longer than an automaton remembers."""
    domain = DNA()
    pipe = Pipeline(trained(domain.vocab_size, process=dd.Absorbing(domain.vocab_size)), domain, LengthModel.of([8]), 8)
    complement = str.maketrans("ACGT", "TGCA")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DiscdiffWarning)
        drawn = pipe.sample(8, steps=4, check=lambda text: text == text.translate(complement)[::-1])
    assert all(text == text.translate(complement)[::-1] for text in drawn)


def test_few_draws_that_pass_are_told() -> None:
    domain = DNA()
    pipe = Pipeline(trained(domain.vocab_size, process=dd.Absorbing(domain.vocab_size)), domain, LengthModel.of([8]), 8)
    with pytest.warns(DiscdiffWarning, match=r"the check: of \d+% of the draws none of 64 passed"):
        pipe.sample(4, steps=16, check=lambda text: text[:5] == "ACGTA")
    with pytest.raises(DiscdiffError, match=r"the check: none of 4096 sequences"):
        pipe.sample(1, steps=2, check=lambda text: False)
    with pytest.raises(dd.IncompatibleError, match="Particles"):
        pipe.sample(1, particles=2, check=lambda text: True, sampler=dd.samplers.FirstHitting())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"particles": 0}, "particles=0; expected a whole number"),
        ({"particles": 2.5}, "particles: got float 2.5, expected an integer"),
        ({"sampler": "ancestral"}, "'ancestral'"),
        ({"sampler": dd.samplers.Ancestral}, "expected a sampler"),
        ({"check": "TATAAT"}, "expected a function"),
        ({"rules": "gc=40-60%"}, "expected names and values"),
        ({"rules": {"gc": 0.5}}, "rule gc: got 0.5, expected a string such as"),
        ({"rules": {"gc": None}}, "rule gc: got None"),
        ({"particles": 2, "reward": len, "sampler": dd.samplers.FirstHitting()}, "a number for each of a list"),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused(asked: dict[str, object], message: str) -> None:
    domain = DNA()
    pipe = Pipeline(trained(domain.vocab_size, process=dd.Absorbing(domain.vocab_size)), domain, LengthModel.of([8]), 8)
    with pytest.raises(DiscdiffError, match=message):
        pipe.sample(2, **asked)  # type: ignore[arg-type]
    assert all("AAA" not in text for text in pipe.sample(4, steps=4, rules={"homopolymer": 2}))


def test_a_template_that_is_too_long_is_blamed_itself() -> None:
    domain = DNA()
    pipe = Pipeline(trained(domain.vocab_size, process=dd.Absorbing(domain.vocab_size)), domain, LengthModel.of([8]), 8)
    with pytest.raises(dd.errors.TemplateError, match="more than 8 positions"):
        pipe.infill("N{5-7} ACGT", 2, rules={"gc": "40-60%"})
    with pytest.raises(DiscdiffError, match=r"expected a string\. Ask for several in turn"):
        pipe.infill(["N{5}"], 2)  # type: ignore[arg-type]


def promoters() -> Pipeline:
    domain = DNA()
    return Pipeline(trained(4, process=dd.Absorbing(4)), domain, LengthModel.of([8]), 8)


@pytest.mark.parametrize("answer", [None, 0.3, 1, "yes", torch.tensor(1.0), torch.tensor([True, False])])
def test_a_check_that_answers_neither_yes_nor_no_is_refused(answer: Any) -> None:
    with pytest.raises(DiscdiffError, match=r"the check: got .* for '[ACGT]{8}'; expected True or False"):
        promoters().sample(2, steps=2, check=lambda text: answer)


@pytest.mark.parametrize("truth", [bool, np.bool_, torch.tensor])
def test_truths_of_numpy_and_torch_are_answers(truth: Any) -> None:
    drawn = promoters().sample(4, steps=2, check=lambda text: truth("A" in text))
    assert all("A" in text for text in drawn)


@pytest.mark.parametrize("answer", [None, "yes"])
def test_a_check_of_sequences_gives_a_tensor(answer: Any) -> None:
    with pytest.raises(DiscdiffError, match=r"the check: got .*, expected bool \[2\]"):
        promoters().sample(2, steps=2, constraint=dd.constraints.Checked(lambda sequences: answer))


def test_validity_that_asks_for_nothing_is_told() -> None:
    with pytest.warns(DiscdiffWarning, match="every string of the domain 'dna' is valid"):
        promoters().sample(1, steps=2, valid=True)
    bounded = promoters()
    bounded.domain = DNA(min_length=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DiscdiffWarning)
        bounded.sample(1, steps=2, valid=True)


@pytest.mark.parametrize(
    ("domain", "every"),
    [
        (DNA(), True),
        (DNA(max_length=9), False),
        (Tokens(5), True),
        (Text(tokenizer="characters").fit(["ab\n"]), True),
        (Text(tokenizer="characters", lines=True).fit(["ab\n"]), False),
        (Text(tokenizer="characters").fit(["a\ufffd"]), False),
        (Text(vocab_size=256).fit(["ab"]), False),
        (SMILES(), False),
    ],
)
def test_where_every_string_is_valid(domain: Domain, every: bool) -> None:
    """Where that is claimed, no token is invalid alone or in pairs."""
    assert domain.every_valid == every
    size = domain.vocab_size
    strings = [domain.decode([a, b]) for a in range(size) for b in range(size)] if every else []
    assert not any(domain.invalid(string) for string in strings)


def test_the_rules_of_validity_are_named_as_such() -> None:
    """The one to blame is not a rule that nobody asked for by name."""
    with pytest.raises(DiscdiffError) as caught:
        chemist().sample(1, steps=2, valid=True, rules={"require": "C()", "elements": "C"})
    assert "require C()" in str(caught.value)
    assert "grammar (for validity)" in str(caught.value)
    with pytest.raises(DiscdiffError, match=r"grammar(?! [( ])"):
        chemist().sample(1, steps=2, rules={"require": "C()", "grammar": ""})
