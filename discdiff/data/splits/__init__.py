"""Training, validation and test parts of one data set: by content, scaffold, similarity, or name.

    parts = Scaffold(valid=0.1, test=0.1).divide(smiles.dataset("zinc.csv"), seed=0)
    parts.train, parts.valid, parts.test

A configuration names one: `data: {train: zinc.csv, split: {class_path: Scaffold, init_args: {valid: 0.1, test: 0.1}}}`.
"""

from __future__ import annotations

from discdiff.data.splits.base import PARTS, Parts, Split
from discdiff.data.splits.chromosome import Chromosome
from discdiff.data.splits.hash import Hash
from discdiff.data.splits.identity import Identity
from discdiff.data.splits.scaffold import Scaffold

__all__ = ["PARTS", "Chromosome", "Hash", "Identity", "Parts", "Scaffold", "Split"]
