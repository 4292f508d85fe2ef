"""What several rules cost together: states, seconds to build, and seconds of a draw.

    python -m benchmarks.products                       # all cases
    python -m benchmarks.products --only finger-charge

Prints one JSON line a case: the states of each rule, those of all multiplied out (or that they are too many), the most
at one position once they are unrolled over positions, and what a draw of a batch costs, one thread, without a network.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import reduce
from operator import and_
from typing import Any, NamedTuple

import torch

import discdiff as dd
from benchmarks.real_data import hardware
from discdiff.constraints import Automaton
from discdiff.prediction import DenoiserPrediction, positions_of
from discdiff.rules import Span, languages

BATCH = 16
FINGER = {"require": "PS00028"}
SITES = {"forbid": ["EcoRI", "BsaI"], "homopolymer": "4"}
# The first hundred residues of E. coli's DNA gyrase, subunit B, as one writes them down.
PROTEIN = "MSNSYDSSSIKVLKGLDAVRKRPGMYIGDTDDGTGLHHMVFEVVDNAIDEALAGHCKEIIVTIHADNSVSVQDDGRGIPTGIHPEEGVSAAEVIMTVLHA"


class Case(NamedTuple):
    """Rules of a domain, for sequences of one length."""

    domain: str
    rules: dict[str, Any]
    length: int


CASES = {
    "finger": Case("protein", FINGER, 40),
    "finger-charge": Case("protein", {**FINGER, "charge": "-2..3"}, 40),
    "finger-composition": Case("protein", {**FINGER, "composition": "KR=5-10"}, 40),
    "finger-charge-composition": Case("protein", {**FINGER, "charge": "-2..3", "composition": "KR=5-10"}, 40),
    "finger-charge-100": Case("protein", {**FINGER, "charge": "-2..3"}, 100),
    "window-50": Case("dna", {"gc_window": "20:30-70%"}, 50),
    "window-sites-50": Case("dna", {"gc_window": "20:30-70%", **SITES}, 50),
    "window-sites-200": Case("dna", {"gc_window": "20:30-70%", **SITES}, 200),
    "window4-sites-200": Case("dna", {"gc_window": "20/4:30-70%", **SITES}, 200),
    "codons": Case("dna", {"codes": PROTEIN, **SITES, "gc": "45-55%"}, 300),
    "molecule": Case(
        "smiles", {"grammar": "depth=4,rings=4", "rings": "-3", "elements": "C,N,O,F", "require": "C(=O)N"}, 44
    ),
    "molecule-valence": Case(
        "smiles",
        {"grammar": "depth=4,rings=4", "valence": "", "rings": "-3", "elements": "C,N,O,F", "require": "C(=O)N"},
        44,
    ),
}


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and its seconds."""
    started = time.perf_counter()
    found = action()
    return found, time.perf_counter() - started


def multiplied(asked: list[Any]) -> dict[str, Any]:
    """All rules in one automaton, if the limits let it."""
    try:
        whole, seconds = timed(lambda: reduce(and_, asked))
    except dd.IncompatibleError as error:
        return {"whole": "refused", "why": str(error)}
    return {"whole": whole.num_states, "whole_seconds": seconds}


def results(names: list[str], turns: int) -> Iterator[dict[str, Any]]:
    """One row a case."""
    for name in names:
        kind, rules, length = CASES[name]
        row: dict[str, Any] = {
            "command": " ".join(["python -m benchmarks.products", *sys.argv[1:]]),
            "case": name,
            "rules": rules,
            "length": length,
            "batch": BATCH,
        }
        domain = dd.domain(kind)
        try:
            parts, row["seconds_to_read"] = timed(
                lambda: languages(domain.rules, rules, Span(length, length), domain=kind)  # noqa: B023
            )
            row["states"] = {rule: part.num_states for rule, part in parts.items()}
            row |= multiplied(list(parts.values()))
            lengths = torch.full((BATCH,), length)
            bound, row["seconds_to_build"] = timed(lambda: Automaton(parts).bound(lengths))  # noqa: B023
            row |= {**size_of(bound), **draws(bound, domain.vocab_size, length, turns)}
        except dd.IncompatibleError as error:
            row["refused"] = str(error)
        row["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        yield {**row, "hardware": hardware()}


def size_of(bound: Automaton) -> dict[str, int]:
    """States and entries over positions."""
    trellis = bound.trellis(torch.device("cpu"))
    return {
        "classes": trellis.language.num_classes,
        "most_states_at_a_position": max(map(len, trellis.final)),
        "entries": sum(table.numel() for table in trellis.following),
        "entries_that_differ": sum({id(table): table.numel() for table in trellis.following}.values()),
    }


def draws(bound: Automaton, size: int, length: int, turns: int) -> dict[str, float]:
    """Median seconds of a filter pass, of a draw with it, and of marginals with it."""
    process = dd.Absorbing(size)
    generator = torch.Generator().manual_seed(0)
    log_p = torch.randn(BATCH, length, size, generator=generator).log_softmax(-1)
    u = torch.rand(BATCH, length, dtype=torch.float64, generator=generator)
    seconds: dict[str, list[float]] = {"filter": [], "draw": [], "marginals": []}
    for _ in range(turns):
        prediction = DenoiserPrediction(
            process,
            torch.full((BATCH, length), size),
            torch.ones(BATCH, 1),
            None,
            log_p=lambda where: log_p if where is None else log_p[where],
            calls=lambda: torch.ones(BATCH, dtype=torch.int64),
        )
        where = positions_of(process.active(prediction.tokens))
        filtered = bound.filter(prediction, None, torch.arange(BATCH))
        filtered.weights_for(where)
        seconds["filter"].append(timed(lambda: filtered.ways)[1])  # noqa: B023
        seconds["draw"].append(timed(lambda: filtered.draw(where, u))[1])  # noqa: B023
        seconds["marginals"].append(timed(lambda: filtered.log_marginals(where))[1])  # noqa: B023
    return {f"seconds_{name}": statistics.median(each) for name, each in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        for row in results(arguments.only, arguments.turns):
            print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()
