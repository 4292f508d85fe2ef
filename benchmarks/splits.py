"""How alike are sequences on two sides of a split by identity? Aligned by Biopython, which the split does not use.

    python benchmarks/splits.py FILE --domain protein --threshold 0.4 --sample 100

Each of a sample of held-out sequences is aligned (locally) with every training sequence; the identity of a pair is
identical positions over the length of the shorter one. Prints one JSON line: sizes, seconds, pairs at least as alike as
the threshold, and the same for a split by content. `--shortest` leaves out of the check those so short that chance
makes them alike.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import discdiff as dd
from discdiff.data.splits import Hash, Identity, Split


def aligner(domain: str) -> Any:
    """BLAST's scores."""
    from Bio.Align import PairwiseAligner, substitution_matrices

    if domain == "protein":
        made = PairwiseAligner(mode="local", open_gap_score=-11, extend_gap_score=-1)
        made.substitution_matrix = substitution_matrices.load("BLOSUM62")
        return made
    return PairwiseAligner(mode="local", match_score=2, mismatch_score=-3, open_gap_score=-5, extend_gap_score=-2)


def across(split: Split, data: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Divide, and align a sample of the test part with all of the training part."""
    begun = time.perf_counter()
    parts = split.divide(data, seed=arguments.seed)
    seconds = time.perf_counter() - begun
    assert parts.test is not None
    align = aligner(arguments.domain)
    train = [text for text in parts.train.texts() if len(text) >= arguments.shortest]
    test = [text for text in parts.test.texts() if len(text) >= arguments.shortest]
    random = np.random.default_rng(arguments.seed)
    chosen = [test[i] for i in random.permutation(len(test))[: arguments.sample]]
    alike = [
        align.align(one, other)[0].counts().identities / min(len(one), len(other)) for one in chosen for other in train
    ]
    above = [value for value in alike if value >= arguments.threshold]
    return {
        "split": repr(split),
        "sequences": parts.record["sequences"],
        "groups": parts.record["groups"],
        "notes": parts.notes[1:],
        "split_seconds": round(seconds, 1),
        "aligned_pairs": len(alike),
        "pairs_at_threshold": len(above),
        "most_alike": round(max(alike), 3),
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--domain", default="protein", choices=("protein", "dna"))
    parser.add_argument("--threshold", type=float, default=0.4)
    parser.add_argument("--sample", type=int, default=100, help="held-out sequences to align")
    parser.add_argument("--shortest", type=int, default=50, help="leave out shorter sequences from the check")
    parser.add_argument("--count", type=int, help="sequences of the file to split, from its beginning")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = dd.domain(arguments.domain).dataset(arguments.file)
    if arguments.count is not None:
        data = data.subset(range(min(arguments.count, len(data))))
    splits: list[Split] = [Identity(0.1, 0.1, threshold=arguments.threshold), Hash(0.1, 0.1)]
    result = {
        "file": arguments.file.name,
        "command": ["python", "benchmarks/splits.py", *sys.argv[1:]],
        "seed": arguments.seed,
        "machine": platform.machine(),
        "shortest": arguments.shortest,
        "results": [across(split, data, arguments) for split in splits],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
