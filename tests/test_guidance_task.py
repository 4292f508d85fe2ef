"""The benchmark of guidance: its classes, judges and distances, on cases worked out by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import guidance, labelled
from domains.dna import DNA


def test_thirds_are_of_the_training_set() -> None:
    training = np.arange(1.0, 7.0)  # thirds end at 8/3 and 13/3
    values = np.array([-9.0, 2.6, 2.7, 4.3, 4.4, 99.0])
    assert labelled.thirds(values, training).tolist() == ["low", "low", "mid", "mid", "high", "high"]


def test_tables_with_classes(tmp_path: Path) -> None:
    """One file with a column of splits, two properties: classes of both, by the training rows."""
    rows = [(f"C{'C' * i}", i, 9 - i, "train") for i in range(9)] + [("N", 99.0, 99.0, "valid"), ("O", -1, -1, "test")]
    pd.DataFrame(rows, columns=["smiles", "logp", "qed", "split"]).to_csv(tmp_path / "all.csv", index=False)
    tables = labelled.labelled(labelled.SOURCES["zinc"], str(tmp_path / "all.csv"))
    assert tables["train"].bin.tolist() == ["low-high"] * 3 + ["mid-mid"] * 3 + ["high-low"] * 3
    assert tables["valid"].bin.tolist() == ["high-high"]
    assert tables["test"].bin.tolist() == ["low-low"]


def test_logarithms_and_missing_values(tmp_path: Path) -> None:
    for split in labelled.SPLITS:
        rows = [("AC", 10.0), ("AG", 1000.0), ("AT", None)]
        pd.DataFrame(rows, columns=["sequence", "expression"]).to_csv(tmp_path / f"{split}.tsv", sep="\t", index=False)
    tables = labelled.labelled(labelled.SOURCES["ecoli"], str(tmp_path / "{split}.tsv"))
    assert tables["test"].expression.tolist() == [1.0, 3.0]


def test_ridge_finds_what_was_put_in() -> None:
    """A property of one base at one place and one 3-mer: predicted for other sequences."""
    draws = np.random.default_rng(0)
    texts = ["".join(row) for row in draws.choice(list("ACGT"), (600, 12))]
    values = np.array([3.0 * (text[5] == "G") + 2.0 * ("TAT" in text) for text in texts])
    judge = guidance.Ridge(texts[:500], values[:500], strength=1.0)
    assert guidance.r_squared(judge(texts[500:]), values[500:]) > 0.8
    shuffled = guidance.Ridge(texts[:500], draws.permutation(values[:500]), strength=1.0)
    assert guidance.r_squared(shuffled(texts[500:]), values[500:]) < 0.1


def test_features_count() -> None:
    found = guidance.Ridge.features(["ACACA"])[0]
    assert found.shape == (5 * 4 + 4 + 16 + 64 + 256 + 1024,)
    assert found[:20].reshape(5, 4).argmax(1).tolist() == [0, 1, 0, 1, 0]
    assert found[20:24].tolist() == [3, 2, 0, 0]
    pairs = found[24:40].reshape(4, 4)
    assert (pairs[0, 1], pairs[1, 0], pairs.sum()) == (2, 2, 4)
    assert found.sum() == 5 + 5 + 4 + 3 + 2 + 1


def test_area_under_the_curve() -> None:
    """Three wanted against two: pairs won 1 + 2 + (a tie and a win)."""
    scores, wanted = np.array([1.0, 3.0, 2.0, 0.5, 2.0]), np.array([True, True, True, False, False])
    assert guidance.auc(scores, wanted) == pytest.approx((1 + 2 + 1.5) / 6)
    assert guidance.auc(-scores, wanted) == pytest.approx(1 - (1 + 2 + 1.5) / 6)


def test_share_explained() -> None:
    values = np.array([1.0, 2.0, 3.0])
    assert guidance.r_squared(values, values) == 1
    assert guidance.r_squared(np.full(3, 2.0), values) == pytest.approx(0)
    assert guidance.r_squared(np.array([1.0, 2.0, 4.0]), values) == pytest.approx(0.5)


def test_pairs_that_differ() -> None:
    """AA-AC, AA-CC, AC-CC differ at 1, 2, 1 of 2 positions."""
    assert guidance.hamming(["AA", "AC", "CC"]) == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert guidance.hamming(["ACGT", "ACGT"]) == 0


def test_mean_and_error() -> None:
    found = guidance.mean_of(np.array([1.0, 2.0, 3.0, 6.0]))
    assert found == {"mean": 3.0, "standard_error": pytest.approx(np.sqrt(14 / 3 / 4))}


def test_descriptors_apart() -> None:
    """Nothing between a set and itself; half of a set is farther from it than three of its four."""
    chem = pytest.importorskip("rdkit.Chem")
    small, large = (
        [chem.MolFromSmiles(one) for one in texts] for texts in (["CCO", "CC(C)N"], ["C" * 9, "c1ccccc1CO"])
    )
    assert guidance.described_apart(small + large, large + small) == 0
    some = guidance.described_apart(small, small + large)
    assert guidance.described_apart(small[:1] + large, small + large) < some


def test_judge_of_dna() -> None:
    """Samples of G are of the class, of T are not; test sequences are no distance from themselves."""
    draws = np.random.default_rng(1)

    def table(count: int) -> pd.DataFrame:
        texts = ["".join(row) for row in draws.choice(list("ACGT"), (count, 10))]
        return pd.DataFrame({"sequence": texts, "expression": [float(text.count("G")) for text in texts]})

    tables = {split: table(count) for split, count in (("train", 300), ("valid", 40), ("test", 40))}
    for one in tables.values():
        one["bin"] = labelled.thirds(one.expression.to_numpy(), tables["train"].expression.to_numpy())
    pipe: Any = SimpleNamespace(domain=DNA())
    judge = guidance.Judge(pipe, tables, "high", 16)
    assert judge(["G" * 10, "GGGGGAGGGG"])["of_class"] == 1
    assert judge(["T" * 10, "G" * 10])["of_class"] == 0.5
    assert judge(judge.all)["to_all"] == pytest.approx(0, abs=1e-9)
    assert judge(judge.alike)["to_class"] == pytest.approx(0, abs=1e-9)
    about = judge.about()
    assert (about["test"], about["test_of_class"]) == (40, (tables["test"].bin == "high").sum())
    assert about["real_of_all"]["samples"] == 16
    assert about["judge_auc"] > 0.9
