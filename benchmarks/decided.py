"""What a filter pass costs as tokens of its rows are decided: over all states, and over those that rows can reach.

    python -m benchmarks.decided ../shared/data/smiles/zinc250k.csv.xz --threads 1

Rows are held-out molecules of a table with the columns smiles and split, under the grammar of SMILES and its valences;
a share of their tokens, at random, is masked, and every class of tokens weighs as much there. Prints one JSON line a
share: seconds of both passes (median, least, greatest), taking turns, and which the library takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import discdiff as dd
from benchmarks.automata import spread
from benchmarks.real_data import hardware
from discdiff.constraints import Automaton, alive
from discdiff.constraints.alive import AliveWays, alive_ways
from discdiff.constraints.class_sums import classes_of
from discdiff.constraints.trellis import TINY
from discdiff.rules import Span

SHARES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15, 0.05)


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what it gives."""
    started = time.perf_counter()
    found = action()
    return time.perf_counter() - started, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = pd.read_csv(arguments.table)
    strings = table[table.split == "test"].smiles.tolist()[: arguments.rows]
    domain = dd.domain("smiles", tokenizer="atom")
    domain.fit(table[table.split == "train"].smiles.tolist()[:20_000])
    rows = [domain.encode(text) for text in strings]
    lengths = torch.tensor([len(row) for row in rows])
    width = int(lengths.max())
    rules = {name: domain.rules[name].read("", Span(1, width)) for name in ("grammar", "valence")}
    tables = Automaton(rules).bound(lengths).trellis(torch.device("cpu"))
    classes = classes_of(tables.language, torch.device("cpu"))
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    own = torch.nn.functional.one_hot(classes.of_token[tokens], classes.count).float()
    draw = torch.Generator().manual_seed(0)
    tiny = TINY[own.dtype]
    for share in SHARES:
        masked = torch.rand(tokens.shape, generator=draw) < share
        even = classes.sizes / classes.sizes.sum()
        weights = torch.where(masked[..., None], even, own).permute(1, 2, 0).contiguous()
        taken = isinstance(tables.ways(weights), AliveWays)
        seconds: dict[str, list[float]] = {"all": [], "alive": [], "chosen": []}
        moves = 0
        for _ in range(arguments.turns):
            seconds["all"].append(timed(partial(tables.all_ways, weights))[0])
            seconds["chosen"].append(timed(partial(tables.ways, weights))[0])
            if taken:
                spent, found = timed(partial(alive_ways, tables, weights, tiny))
                seconds["alive"].append(spent)
                moves = sum(len(layer.rows) for layer in found.layers)
        every = len(rows) * sum(each.total for each in tables.moves[:width])
        row = {
            "command": " ".join(["python -m benchmarks.decided", *sys.argv[1:]]),
            "masked": share,
            "rows": len(rows),
            "longest": width,
            "most_states": max(map(len, tables.final)),
            "moves": every,
            "moves_alive": moves / every if taken else None,
            "takes": "alive" if taken else "all",
            "seconds": {name: spread(values) for name, values in seconds.items() if values},
            "given_up_above": 1 / alive.SHARE,
            "hardware": hardware(),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
