"""Figures of quality that every domain shares, and the distances that they are made of.

No ratio comes without its counts, and nothing is dropped in silence: distances are taken over all samples, valid or
not; those that cannot be encoded are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from discdiff.errors import DiscdiffError

if TYPE_CHECKING:
    from discdiff.domain import Domain

_CHUNK = 1 << 20
Counts = tuple[NDArray[np.int64], NDArray[np.int64]]


def basic_metrics(
    domain: Domain,
    samples: Sequence[str],
    *,
    reference: Sequence[str] | None = None,
    training: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Validity, uniqueness, novelty, lengths and composition of samples, in time linear in all the input.

    Returns:
        - `count`: how many samples;
        - `valid`: `ratio`, `count`, `of` all samples, and `reasons`: how many are invalid for what
          (what `domain.invalid` says before its first colon);
        - `unique`: distinct canonical forms of the valid ones;
        - `novel`, with `training`: unique ones that are not in the training set, on canonical forms;
        - `length`: mean, std, min, max in the domain's unit; with `reference` also of that, and `wasserstein`, the
          1-Wasserstein distance in units;
        - `composition`, with `reference`: total variation distance of single tokens (`unigram`) and of pairs of
          neighbours (`bigram`), in [0, 1], with the numbers of tokens and of samples that have none (`unencodable`).

        A ratio of nothing is None.
    """
    reasons: Counter[str] = Counter()
    canonical: set[str] = set()
    for sample in samples:
        if (why := domain.invalid(sample)) is None:
            canonical.add(domain.canonical(sample))
        else:
            reasons[why.split(":", 1)[0]] += 1
    valid = len(samples) - reasons.total()
    result: dict[str, Any] = {
        "count": len(samples),
        "valid": ratio(valid, len(samples)) | {"reasons": dict(reasons.most_common())},
        "unique": ratio(len(canonical), valid),
    }
    if training is not None:
        known = {_canonical(domain, sequence) for sequence in set(training)}
        result["novel"] = ratio(len(canonical - known), len(canonical))
    lengths = [domain.units(sample) for sample in samples]
    result["length"] = {"unit": domain.unit} | summary(lengths)
    if reference is not None:
        expected = [domain.units(sequence) for sequence in reference]
        result["length"]["reference"] = summary(expected)
        result["length"]["wasserstein"] = wasserstein(lengths, expected)
        result["composition"] = _composition(domain, samples, reference)
    return result


def _canonical(domain: Domain, sequence: str) -> str:
    # a training set may hold what the domain calls invalid; such a sequence is known as it stands
    try:
        return domain.canonical(sequence)
    except DiscdiffError:
        return sequence


def _composition(domain: Domain, samples: Sequence[str], reference: Sequence[str]) -> dict[str, Any]:
    rows, unencodable = encoded(domain, samples)
    others, _ = encoded(domain, reference)
    result: dict[str, Any] = {}
    for name, n in (("unigram", 1), ("bigram", 2)):
        left, right = (ngram_counts(r, n, domain.vocab_size) for r in (rows, others))
        result[name] = total_variation(left, right)
    sizes = {"tokens": sum(map(len, rows)), "reference_tokens": sum(map(len, others))}
    return result | sizes | {"unencodable": unencodable}


def encoded(domain: Domain, sequences: Iterable[str]) -> tuple[list[NDArray[np.int64]], int]:
    """Tokens of each string that has any, and how many could not be encoded."""
    rows: list[NDArray[np.int64]] = []
    failed = 0
    for sequence in sequences:
        try:
            rows.append(np.asarray(domain.encode(sequence), dtype=np.int64))
        except DiscdiffError:
            failed += 1
    return rows, failed


def ratio(count: int, of: int) -> dict[str, Any]:
    """A ratio with its counts."""
    return {"ratio": count / of if of else None, "count": count, "of": of}


def summary(values: ArrayLike) -> dict[str, float | None]:
    """Mean, standard deviation, least and greatest of some numbers."""
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        return dict.fromkeys(("mean", "std", "min", "max"))
    found = {"mean": array.mean(), "std": array.std(), "min": array.min(), "max": array.max()}
    return {name: float(value) for name, value in found.items()}


def wasserstein(left: ArrayLike, right: ArrayLike) -> float | None:
    r"""1-Wasserstein distance of two sets of numbers, W1 = ∫ |F(x) − G(x)| dx; None if one is empty."""
    a, b = (np.sort(np.asarray(values, dtype=np.float64).ravel()) for values in (left, right))
    if not a.size or not b.size:
        return None
    points = np.sort(np.concatenate([a, b]))
    f = np.searchsorted(a, points[:-1], side="right") / a.size
    g = np.searchsorted(b, points[:-1], side="right") / b.size
    return float(np.sum(np.abs(f - g) * np.diff(points)))


def ngram_counts(rows: Iterable[NDArray[np.int64]], n: int, size: int) -> Counts:
    """How often each run of n neighbouring tokens occurs within a row.

    Args:
        rows: tokens, int64 `[length]` each.
        n: tokens in a run.
        size: V; size^n must fit into 63 bits.

    Returns:
        The runs that occur, each as one number (base V, first token leading), increasing; and their counts.

    Raises:
        DiscdiffError: too many possible runs to number.
    """
    if size**n >= 1 << 63:
        raise DiscdiffError(f"runs of {n} tokens of {size}: more than 2^63 of them; ask for shorter ones")
    parts = [np.unique(codes, return_counts=True) for codes in _codes(rows, n, size)]
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    codes, where = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    counts = np.zeros(len(codes), dtype=np.int64)
    np.add.at(counts, where, np.concatenate([part[1] for part in parts]))
    return codes, counts


def _codes(rows: Iterable[NDArray[np.int64]], n: int, size: int) -> Iterator[NDArray[np.int64]]:
    """The runs of some rows, about `_CHUNK` tokens at a time."""
    held: list[NDArray[np.int64]] = []
    total = 0
    for row in rows:
        if len(row) < n:
            continue
        code = np.zeros(len(row) - n + 1, dtype=np.int64)
        for j in range(n):
            code = code * size + row[j : len(row) - n + 1 + j]
        held.append(code)
        total += len(code)
        if total >= _CHUNK:
            yield np.concatenate(held)
            held, total = [], 0
    if held:
        yield np.concatenate(held)


def _aligned(left: Counts, right: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    if not left[1].sum() or not right[1].sum():
        return None
    every = np.union1d(left[0], right[0])
    p, q = np.zeros(len(every)), np.zeros(len(every))
    p[np.searchsorted(every, left[0])] = left[1] / left[1].sum()
    q[np.searchsorted(every, right[0])] = right[1] / right[1].sum()
    return p, q


def total_variation(left: Counts, right: Counts) -> float | None:
    """½ Σ |p − q| of two sets of counts, in [0, 1]; None if one is empty."""
    pair = _aligned(left, right)
    return None if pair is None else float(np.abs(pair[0] - pair[1]).sum() / 2)


def jensen_shannon(left: Counts, right: Counts) -> float | None:
    """Jensen-Shannon divergence of two sets of counts in bits, in [0, 1]; None if one is empty."""
    if (pair := _aligned(left, right)) is None:
        return None
    middle = (pair[0] + pair[1]) / 2
    bits = 0.0
    for p in pair:
        some = p > 0
        bits += float(np.sum(p[some] * np.log2(p[some] / middle[some]))) / 2
    return max(bits, 0.0)
