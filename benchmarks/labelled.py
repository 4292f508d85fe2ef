"""Tables with a class for each sequence, for training models that are guided: a measured property in thirds.

    python -m benchmarks.labelled yeast ../shared/data/dna/yeast_expr.{split}.tsv.xz tables/
    python -m benchmarks.labelled ecoli ../shared/data/dna/ecoli_promoters.{split}.tsv.xz tables/
    python -m benchmarks.labelled zinc ../shared/data/smiles/zinc250k.csv.xz tables/

Writes NAME.train.tsv and so on, with the columns sequence, property (one or two) and bin. Thirds are of the training
set. Classes are `low`, `mid` and `high`; of ZINC one of each of logP and QED, such as `low-high`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

SPLITS = ("train", "valid", "test")
NAMES = np.array(["low", "mid", "high"])


@dataclass(frozen=True)
class Source:
    """Where a set's sequences and properties stand.

    Attributes:
        sequence: the column of sequences.
        properties: columns, by the names that they get here.
        log: whether logarithms are taken.
    """

    sequence: str
    properties: dict[str, str]
    log: bool = False


SOURCES = {
    "yeast": Source("sequence", {"expression": "expr_complex"}),
    "ecoli": Source("sequence", {"expression": "expression"}, log=True),
    "zinc": Source("smiles", {"logp": "logp", "qed": "qed"}),
}


def thirds(values: np.ndarray, training: np.ndarray) -> np.ndarray:
    """`low`, `mid` or `high` for each value, by the thirds of the training set."""
    return NAMES[np.searchsorted(np.quantile(training, [1 / 3, 2 / 3]), values, side="right")]


def read(path: str, split: str) -> pd.DataFrame:
    """A split of a table: a file of its own, or rows of one file by its column `split`."""
    place = path.replace("{split}", split)
    table = pd.read_csv(place, sep="\t" if ".tsv" in place else ",")
    return table[table.split == split] if place == path else table


def labelled(source: Source, path: str) -> dict[str, pd.DataFrame]:
    """The splits with the columns sequence, the properties, and bin."""
    tables = {}
    for split in SPLITS:
        table = read(path, split)[[source.sequence, *source.properties.values()]].dropna()
        table.columns = pd.Index(["sequence", *source.properties])
        if source.log:
            table[list(source.properties)] = np.log10(table[list(source.properties)])
        tables[split] = table
    for table in tables.values():
        parts = [thirds(table[name].to_numpy(), tables["train"][name].to_numpy()) for name in source.properties]
        table["bin"] = ["-".join(each) for each in zip(*parts, strict=True)]
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SOURCES)
    parser.add_argument("path", help="the table; {split} stands for train, valid and test")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for split, table in labelled(SOURCES[arguments.set], arguments.path).items():
        table.to_csv(arguments.folder / f"{arguments.set}.{split}.tsv", sep="\t", index=False)
        print(arguments.set, split, len(table), table.bin.value_counts().to_dict())


if __name__ == "__main__":
    main()
