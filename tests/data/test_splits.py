"""Splits: nothing alike on two sides, nothing lost, and what cannot be split is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import discdiff as dd
from discdiff.data import SequenceDataset
from discdiff.data.splits import Chromosome, Hash, Identity, Parts, Scaffold, Split
from discdiff.errors import ConfigError, DataError, DiscdiffError, IncompatibleError, MissingDependencyError
from domains.clusters import identity_clusters
from domains.smiles import shipped_smiles
from tests.letters import Letters

SPELLINGS = ["OCC", "CCO", "C(O)C", "c1ccccc1", "C1=CC=CC=C1", "CC(C)O", "OC(C)C", "CN", "NC", "CCCl", "ClCC", "N#CC"]


def sides(parts: Parts[SequenceDataset]) -> dict[str, list[str]]:
    """The strings of each part."""
    made = {"train": parts.train, "valid": parts.valid, "test": parts.test}
    return {name: part.texts() for name, part in made.items() if part is not None}


def molecules(count: int) -> SequenceDataset:
    return SequenceDataset.from_sequences(dd.domain("smiles"), shipped_smiles()[:count])


# ---- by content --------------------------------------------------------------------------------------------
@settings(max_examples=30)
@given(st.lists(st.sampled_from(SPELLINGS), min_size=20, max_size=40), st.integers(0, 1000))
def test_two_spellings_are_never_on_two_sides(spelled: list[str], seed: int) -> None:
    from rdkit import Chem

    numbers = Hash(0.3, 0.3).assign(SequenceDataset.from_sequences(dd.domain("smiles"), spelled), seed=seed).numbers
    found: dict[str, set[int]] = {}
    for smiles, number in zip(spelled, numbers.tolist(), strict=True):
        found.setdefault(Chem.CanonSmiles(smiles), set()).add(number)
    assert all(len(parts) == 1 for parts in found.values())


def test_hash_gives_each_part_its_share_and_loses_nothing() -> None:
    words = ["".join(word) for word in itertools.product("abcd", repeat=6)]
    data = SequenceDataset.from_sequences(Letters(), words)
    parts = Hash(valid=0.1, test=0.2).divide(data, seed=3)
    assert sorted(itertools.chain.from_iterable(sides(parts).values())) == sorted(words)
    assert parts.valid is not None
    assert parts.test is not None
    # six standard deviations of a binomial of 4096
    assert abs(len(parts.valid) - 409.6) < 6 * 19.2
    assert abs(len(parts.test) - 819.2) < 6 * 25.6
    again = Hash(valid=0.1, test=0.2).divide(SequenceDataset.from_sequences(Letters(), words[::-1]), seed=3)
    assert {name: set(texts) for name, texts in sides(again).items()} == {
        name: set(texts) for name, texts in sides(parts).items()
    }, "the order of the file says nothing"
    more = Hash(valid=0.1, test=0.2).divide(SequenceDataset.from_sequences(Letters(), words[:2000]), seed=3)
    assert more.test is not None
    assert set(more.test.texts()) <= set(parts.test.texts()), "it stays where it is"
    other = Hash(valid=0.1, test=0.2).divide(data, seed=4)
    assert other.test is not None
    assert set(other.test.texts()) != set(parts.test.texts())


def test_a_stream_is_split_in_runs() -> None:
    data = SequenceDataset.from_sequences(Letters(streams=True), ["abcd" * 25], length=10)
    parts = Hash(valid=0.2, test=0.1).divide(data)
    assert parts.record["sequences"] == {"train": 7, "valid": 2, "test": 1}
    assert parts.numbers is not None
    assert parts.numbers.tolist() == [0] * 7 + [1] * 2 + [2]


# ---- by scaffold -------------------------------------------------------------------------------------------
def test_no_scaffold_is_on_two_sides() -> None:
    from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

    parts = Scaffold(valid=0.15, test=0.15).divide(molecules(400), seed=1)
    rings = {
        name: {MurckoScaffoldSmiles(smiles, includeChirality=False) for smiles in texts} - {""}
        for name, texts in sides(parts).items()
    }
    for one, other in itertools.combinations(rings, 2):
        assert not rings[one] & rings[other]
    counts = parts.record["sequences"]
    assert sum(counts.values()) == 400
    assert abs(counts["valid"] - 60) <= 5
    assert abs(counts["test"] - 60) <= 5


def test_what_has_no_scaffold_is_told() -> None:
    data = SequenceDataset.from_sequences(dd.domain("smiles"), [*SPELLINGS, "c1ccccc1C", "C1CCCCC1", "C1CC1O"])
    parts = Scaffold(valid=0.2, test=0.2).divide(data)
    assert "10 of 15 have no scaffold: each goes by its own form" in parts.notes
    held = {name: {dd.domain("smiles").canonical(text) for text in texts} for name, texts in sides(parts).items()}
    assert not held["train"] & held["test"]
    assert not held["train"] & held["valid"]
    assert not held["valid"] & held["test"]


def test_scaffolds_are_those_of_the_paper() -> None:
    groups = dd.domain("smiles").groups("scaffold", ["CCOc1ccc(C)cc1", "C1CCCCC1O", "CCO", "C[C@H]1CCCN1Cc1ccncc1"])
    assert groups == ["c1ccccc1", "C1CCCCC1", None, "c1cc(CN2CCCC2)ccn1"]
    generic = dd.domain("smiles").groups("scaffold", ["CCOc1ccc(C)cc1", "C1CCCCC1O", "O=C1CCCCC1"], generic=True)
    assert generic == ["C1CCCCC1"] * 3


# ---- by identity -------------------------------------------------------------------------------------------
def mutated(sequence: str, changes: int, letters: str, random: np.random.Generator) -> str:
    made = list(sequence)
    for place in random.choice(len(made), changes, replace=False):
        made[place] = letters[(letters.index(made[place]) + 1 + random.integers(len(letters) - 1)) % len(letters)]
    return "".join(made)


@pytest.fixture(scope="module")
def program() -> None:
    try:
        identity_clusters(["ACGT" * 10], letters="base")
    except MissingDependencyError as error:
        pytest.skip(f"MMseqs2 absent: {error}")


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize(("name", "length", "changes", "threshold"), [("protein", 90, 20, 0.6), ("dna", 60, 5, 0.8)])
def test_no_pair_across_is_alike(name: str, length: int, changes: int, threshold: float) -> None:
    """Families of mutants of 12 ancestors; every pair across is aligned by Biopython."""
    from Bio.Align import PairwiseAligner, substitution_matrices

    domain = dd.domain(name)
    letters = domain.decode(range(domain.vocab_size))
    random = np.random.default_rng(0)
    ancestors = ["".join(random.choice(list(letters), length)) for _ in range(12)]
    sequences = [mutated(one, changes, letters, random) for one in ancestors for _ in range(5)]
    sequences += [sequences[0], sequences[0][5:-5]]  # the same again, and a part of it
    data = SequenceDataset.from_sequences(domain, sequences)
    parts = Identity(valid=0.2, test=0.2, threshold=threshold).divide(data, seed=0)
    aligner = PairwiseAligner(mode="local", open_gap_score=-11, extend_gap_score=-1)
    if name == "protein":
        aligner.substitution_matrix = substitution_matrices.load("BLOSUM62")
    else:
        aligner.match_score, aligner.mismatch_score, aligner.open_gap_score, aligner.extend_gap_score = 2, -3, -5, -2
    checked = 0
    for one, other in itertools.combinations(sides(parts).values(), 2):
        for a, b in itertools.product(one, other):
            identical = aligner.align(a, b)[0].counts().identities
            assert identical < threshold * min(len(a), len(b))
            checked += 1
    assert checked > 500
    assert parts.record["groups"] == 12, "each family is one cluster"


@pytest.mark.usefixtures("program")
def test_gaps_and_case_make_no_difference_to_identity() -> None:
    gapped = dd.domain("protein", gaps="keep")
    text = "MKVLAWYQRSTHEDNGPICFMKVLAWYQRSTHED"
    groups = gapped.groups("identity", [text, text[:10] + "---" + text[10:], "-" * 12, text.lower()])
    assert groups == [text, text, None, text]


def test_the_order_of_a_file_does_not_name_its_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """MMseqs2 represents a cluster by another member when sequences come in another order."""

    def by_first_letter(sequences: list[str], letters: str, threshold: float) -> dict[int, int]:
        first: dict[str, int] = {}
        return {i: first.setdefault(text[0], i) for i, text in enumerate(sequences)}

    monkeypatch.setattr("domains.clusters._clusters", by_first_letter)
    texts = ["".join(word) for word in itertools.product("ACGT", repeat=3)]

    def part_of(order: list[str]) -> dict[str, int]:
        data = SequenceDataset.from_sequences(dd.domain("dna"), order)
        return dict(zip(order, Identity(valid=0.25, test=0.25).assign(data, seed=0).numbers.tolist(), strict=True))

    assert part_of(texts) == part_of(texts[::-1])
    assert identity_clusters(["CC", "CA", "G"], letters="base") == ["CA", "CA", "G"]


def test_identity_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("domains.clusters.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"MMseqs2: pip install 'discdiff\[bio\]'"):
        Identity().divide(SequenceDataset.from_sequences(dd.domain("dna"), ["ACGT", "GGGG", "TTTT"]))


def test_a_program_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mmseqs"
    program.write_text("#!/bin/sh\necho 'no space left' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(DiscdiffError, match="mmseqs createdb ended with code 3: no space left"):
        identity_clusters(["ACGT"], letters="base")


# ---- by name -----------------------------------------------------------------------------------------------
@pytest.fixture
def genome(tmp_path: Path) -> Path:
    path = tmp_path / "genome.fasta"
    path.write_text("".join(f">chr{i} of something\n{'ACGT'[i % 4] * 8 * i}\n" for i in range(1, 12)))
    return path


def test_chromosomes_go_by_name(genome: Path) -> None:
    parts = Chromosome(valid="chr8, chr9", test="chr1?").divide(dd.domain("dna").dataset(genome))
    assert parts.valid is not None
    assert parts.test is not None
    assert (parts.valid.names, parts.test.names) == (["chr8", "chr9"], ["chr10", "chr11"])
    assert parts.train.names == [f"chr{i}" for i in range(1, 8)]
    some = Chromosome(train="chr[1-3]", test=["chr5"]).divide(dd.domain("dna").dataset(genome))
    assert some.record["sequences"] == {"train": 3, "valid": 0, "test": 1}
    assert some.record["left_out"] == 7
    assert "7 that no part names are left out" in some.notes[0]


def test_chromosomes_of_a_stream_are_read_apart(genome: Path) -> None:
    from discdiff.experiment import Data

    dna = dd.domain("dna", streams=True)
    data = Data(str(genome), length=16, split=Chromosome(valid="chr8", test="chr11"))
    parts = data.parts(dna, seed=0)
    assert parts.valid is not None
    assert parts.test is not None
    assert isinstance(parts.test, SequenceDataset)
    assert isinstance(parts.valid, SequenceDataset)
    assert set("".join(parts.test.texts())) == {"T"}
    assert set("".join(parts.valid.texts())) == {"A"}
    assert parts.record["sequences"] == {"train": (66 - 19) * 8 // 16, "valid": 4, "test": 5}
    with pytest.raises(DataError, match=r"no record is left for test \(names found: chr1, chr10"):
        Data(str(genome), length=16, split=Chromosome(test="chrX")).parts(dna, seed=0)


# ---- refusals ----------------------------------------------------------------------------------------------
WORDS = ["abc", "d", "abcd", "bb", "ca", "dd"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Hash(0.5, 0.5), "valid=0.5 and test=0.5 leave nothing for training"),
        (lambda: Hash(0.1, 0.1, train=0.7), r"train=0.7, valid=0.1 and test=0.1 sum to 0.9, expected 1"),
        (lambda: Scaffold(-0.1, 0.1), r"valid got -0.1, expected a fraction .* in \[0, 1\)"),
        (lambda: Hash(0, 0), "both 0"),
        (lambda: Identity(threshold=1.5), r"threshold got 1.5, expected .* in \(0, 1\]"),
        (lambda: Chromosome(), "name no records"),
        (lambda: Chromosome("chr1,chr2", "chr2"), "'chr2' is named by both valid and test"),
    ],
)
def test_arguments_that_make_no_sense(make: Callable[[], Split], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


@pytest.mark.parametrize(
    ("split", "make", "error", "said"),
    [
        (
            Hash(0.001, 0),
            lambda: SequenceDataset.from_sequences(Letters(), WORDS),
            DataError,
            "valid part of 6 sequ",
        ),
        (Scaffold(), lambda: SequenceDataset.from_sequences(Letters(), WORDS), IncompatibleError, "got 'scaffold'"),
        (Identity(), lambda: molecules(9), IncompatibleError, "got 'identity', expected 'scaffold'"),
        (Scaffold(), lambda: dd.domain("dna").dataset("-"), DataError, "no such file"),
        (
            Scaffold(0.2, 0.2),
            lambda: SequenceDataset.from_sequences(dd.domain("smiles"), ["c1ccccc1" + "C" * i for i in range(9)]),
            DataError,
            "one scaffold, 'c1ccccc1', holds 9 of 9 sequences, and there are 1 in all .split by Hash",
        ),
        (Chromosome("a"), lambda: SequenceDataset.from_sequences(Letters(), WORDS), DataError, "have no names"),
        (
            Identity(),
            lambda: SequenceDataset.from_tokens(dd.domain("dna").encode_all(["ACGT", "AC"])),
            DataError,
            "bare tokens have no groups by identity",
        ),
    ],
)
def test_what_cannot_be_split(split: Split, make: Any, error: type[DiscdiffError], said: str) -> None:
    with pytest.raises(error, match=said):
        split.divide(make())


def test_a_group_that_holds_most_is_told() -> None:
    alike = ["c1ccccc1" + "C" * i for i in range(12)]
    others = ["C" * i + "O" for i in range(1, 9)]
    parts = Scaffold(0.1, 0.1).divide(SequenceDataset.from_sequences(dd.domain("smiles"), alike + others))
    assert "one scaffold, 'c1ccccc1', holds 12 of 20 sequences: none of it can be in two parts" in parts.notes
