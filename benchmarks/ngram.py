"""Interpolated Witten-Bell n-grams: what a model must beat.

    python benchmarks/ngram.py configs/qm9.yaml --data-root ../shared/data --orders 1 2 8

Prints one JSON line an order: bits per unit on the test split (the validation split where there is no test split).
Sequence ends are not predicted, as the bound of a diffusion model does not predict them either.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable

from discdiff.experiment import Experiment


class WittenBell:
    """p(c | h) = (n(h, c) + d(h) p(c | h')) / (n(h) + d(h)), d(h) the distinct successors of h, h' one symbol shorter.

    Witten and Bell 1991. Below the unigram stands the uniform law over the symbols of the training set and one more.
    """

    def __init__(self, order: int) -> None:
        self.order = order
        self.counts: list[defaultdict[str, dict[str, int]]] = [defaultdict(dict) for _ in range(order)]
        self.totals: list[dict[str, int]] = []

    def fit(self, sequences: Iterable[str]) -> WittenBell:
        """Count."""
        for text in sequences:
            for i, symbol in enumerate(text):
                for k in range(min(self.order, i + 1)):
                    after = self.counts[k][text[i - k : i]]
                    after[symbol] = after.get(symbol, 0) + 1
        self.totals = [{context: sum(after.values()) for context, after in level.items()} for level in self.counts]
        return self

    def bits(self, sequences: Iterable[str]) -> tuple[float, int]:
        """Total bits and number of symbols."""
        floor = 1 / (len(self.counts[0][""]) + 1)
        total, symbols = 0.0, 0
        for text in sequences:
            symbols += len(text)
            for i, symbol in enumerate(text):
                p = floor
                for k in range(min(self.order, i + 1)):
                    context = text[i - k : i]
                    after = self.counts[k].get(context)
                    if after is None:
                        break
                    p = (after.get(symbol, 0) + len(after) * p) / (self.totals[k][context] + len(after))
                total -= math.log2(p)
        return total, symbols


def baselines(train: list[str], test: list[str], orders: Iterable[int]) -> dict[int, float]:
    """Bits per symbol of `test` for each order."""
    found = {}
    for order in orders:
        total, symbols = WittenBell(order).fit(train).bits(test)
        found[order] = total / symbols
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--data-root")
    parser.add_argument("--orders", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--max-train", type=int, default=None, help="use only this many training sequences")
    arguments = parser.parse_args()
    values = {"data": {"root": arguments.data_root}} if arguments.data_root else {}
    experiment = Experiment.load(arguments.config, values=values)
    held = "test" if experiment.data.path("test") is not None else "valid"
    texts = {}
    for split in ("train", held):
        path = experiment.data.path(split)
        assert path is not None
        records = experiment.domain.read(path, **experiment.data.reader_options(split))
        texts[split] = [record.sequence for record in records][: arguments.max_train if split == "train" else None]
    for order, bits in baselines(texts["train"], texts[held], arguments.orders).items():
        print(json.dumps({"config": arguments.config, "order": order, "split": held, "bits_per_unit": round(bits, 4)}))


if __name__ == "__main__":
    main()
