"""Several rules at once whose automata, multiplied out, are too large: what is asked holds in every sample."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from Bio.Seq import Seq
from rdkit import Chem

import discdiff as dd
from discdiff.constraints import automaton
from discdiff.data import LengthModel
from discdiff.domain import Domain
from discdiff.errors import IncompatibleError
from discdiff.pipeline import Pipeline, draws
from domains.dna import DNA
from domains.protein import Protein
from domains.smiles import SMILES
from tests.cases import SAMPLERS
from tests.test_pipeline import trained

FINGER = re.compile("C.{2,4}C.{3}[LIVMFYWC].{8}H.{3,5}H")
SITES = re.compile("GAATTC|GGTCTC|GAGACC")
PROTEIN = "MSNSYDSSSIKVLKGLDAVRKRPGMYIGDTDDGTGLHHMVFEVVDNAIDEALAGHCKEIIVTIHADNSVSVQDDGRGIPTGIHPEEGVSAAEVIMTVLHA"


def pipe_of(domain: Domain, longest: int, process: Any = dd.Absorbing) -> Pipeline:
    size = domain.vocab_size
    return Pipeline(trained(size, process=process(size)), domain, LengthModel.of([longest]), longest)


def charge(sequence: str) -> int:
    return sum(sequence.count(c) for c in "KR") - sum(sequence.count(c) for c in "DE")


def windows(sequence: str, width: int) -> list[float]:
    strong = [letter in "GC" for letter in sequence]
    return [sum(strong[i : i + width]) / width for i in range(len(sequence) - width + 1)]


def finger(sequence: str) -> bool:
    return bool(FINGER.search(sequence)) and -2 <= charge(sequence) <= 3


def clean(sequence: str) -> bool:
    spread = windows(sequence, 20)
    return (
        not SITES.search(sequence) and not re.search(r"(.)\1{4}", sequence) and 0.3 <= min(spread) <= max(spread) <= 0.7
    )


def coding(sequence: str) -> bool:
    gc = sum(letter in "GC" for letter in sequence) / len(sequence)
    whole = str(Seq(sequence).translate()) == PROTEIN
    return whole and not SITES.search(sequence) and 0.45 <= gc <= 0.55 and not re.search(r"(.)\1{4}", sequence)


CASES: dict[str, tuple[Domain, int, dict[str, Any], Callable[[str], bool]]] = {
    "a zinc finger and a charge": (Protein(), 30, {"require": "PS00028", "charge": "-2..3"}, finger),
    "windows of 20 and sites": (
        DNA(), 50, {"gc_window": "20:30-70%", "forbid": ["EcoRI", "BsaI"], "homopolymer": "4"}, clean,
    ),
    "codons of 100 residues": (
        DNA(), 300, {"codes": PROTEIN, "forbid": ["EcoRI", "BsaI"], "homopolymer": "4", "gc": "45-55%"}, coding,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_all_hold(name: str) -> None:
    """In three steps, so that what one reveals has to be completed by the next."""
    domain, length, rules, holds = CASES[name]
    pipe = pipe_of(domain, length)
    drawn = pipe.sample(4, rules=rules, length=length, steps=3, seed=1)
    assert [text for text in drawn if not holds(text) or len(text) != length] == []
    assert len(set(drawn)) == 4


def test_a_molecule() -> None:
    """Grammar, rings, elements and a fragment: parsable, and as asked."""
    pipe = pipe_of(SMILES(), 30)
    rules = {"grammar": "depth=2,rings=2", "rings": "1-2", "elements": "C,N,O,F", "require": "C(=O)N"}
    for smiles in pipe.sample(6, rules=rules, steps=3):
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)
        assert molecule is not None, smiles
        assert {atom.GetSymbol() for atom in molecule.GetAtoms()} <= {"C", "N", "O", "F", "H"}
        assert "C(=O)N" in smiles
        assert 2 <= len(re.findall("[0-9]", re.sub(r"\[[^]]*\]", "", smiles))) <= 4  # a bond closes with two digits


def test_rows_at_once_follow_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the states of a batch would take decides how many rows are drawn at once; the strings are the same."""
    pipe, rules = pipe_of(DNA(), 20), {"gc_window": "8:30-70%", "homopolymer": "3"}
    rows: list[int] = []

    def counted(model: Any, batch: int, **options: Any) -> Any:
        rows.append(batch)
        return dd.sample(model, batch, **options)

    monkeypatch.setattr(draws, "sample", counted)
    free = pipe.sample(8, rules=rules, steps=4)
    assert rows == [8]
    monkeypatch.setattr(automaton, "ROOM", 12_000)
    assert pipe.sample(8, rules=rules, steps=4) == free
    assert max(rows[1:]) < 8
    assert sum(rows[1:]) == 8
    rows.clear()
    pipe.sample(4, rules=rules, sampler=dd.samplers.FirstHitting(), particles=2)
    assert max(rows) < 4
    assert len(pipe.sample(4, rules={}, steps=4)) == 4


@pytest.mark.parametrize("name", sorted(name for name, case in SAMPLERS.items() if not case.absorbing_only))
def test_score_networks_refuse_sets_of_tokens(name: str) -> None:
    """A template such as c1ccc({4})cc1 restricts what its gap may hold: without a denoiser it cannot be drawn.

    Refused before the network is called, with the reason.
    """
    smiles = SMILES()
    process = dd.Uniform(smiles.vocab_size)
    network = dd.Transformer(process.num_states, dim=16, depth=1, heads=2)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Score())
    pipe = Pipeline(model.eval(), smiles, LengthModel.of([13]), 20)
    sampler = SAMPLERS[name].make()
    how: dict[str, Any] = {"sampler": sampler, "steps": 2 if sampler.takes_steps else None}
    assert smiles.template("c1ccc({4})cc1").restricts_draws
    with pytest.raises(IncompatibleError, match="got a score network off the absorbing process") as refused:
        pipe.infill("c1ccc({4})cc1", 2, **how)
    assert "a template that says what a gap may hold" in str(refused.value) or name == "uniformization"
    with pytest.raises(IncompatibleError, match="got a score network off the absorbing process"):
        pipe.sample(2, rules={"elements": "C,N,O"}, length=6, **how)
