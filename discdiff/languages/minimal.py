"""Trimming and minimising deterministic automata (NumPy, vectorised)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Back = tuple[Longs, Longs]
_SEED = 20_240_607


def within_reach(table: Ints, accepting: Bools) -> tuple[Ints, Bools]:
    """Only states that lie between the start (0) and an accepting state; the start is kept, as state 0."""
    keep = _reached(table) & (distance_to_end(table, accepting) >= 0)
    keep[0] = True
    number = np.full(len(table) + 1, -1, dtype=np.int32)
    number[:-1][keep] = np.arange(keep.sum())
    return number[table[keep]], accepting[keep]


def _reached(table: Ints) -> Bools:
    reached = np.zeros(len(table) + 1, dtype=np.bool_)
    reached[0] = reached[-1] = True  # −1 indexes the last entry: the dead state is no news
    frontier: npt.NDArray[np.int32] = np.zeros(1, dtype=np.int32)
    while len(frontier):
        targets = np.unique(table[frontier])
        frontier = targets[~reached[targets]]
        reached[frontier] = True
    return reached[:-1]


def distance_to_end(table: Ints, accepting: Bools, back: Back | None = None) -> Longs:
    """The length of the shortest way to an accepting state, −1 where there is none: int64 `[states]`."""
    return _distances(back or _ways_back(table), np.where(accepting, 0, -1))


def distance_to_refusal(table: Ints, accepting: Bools, back: Back | None = None) -> Longs:
    """The length of the shortest word that is not accepted, −1 where all are: int64 `[states]`."""
    ends = (table < 0).any(1)
    return _distances(back or _ways_back(table), np.where(~accepting, 0, np.where(ends, 1, -1)))


def _ways_back(table: Ints) -> Back:
    """The states that lead to each: those of state s lie from `first[s]` to `first[s + 1]`."""
    sources, columns = np.nonzero(table >= 0)
    targets = table[sources, columns]
    order = np.argsort(targets, kind="stable")
    return sources[order], np.searchsorted(targets[order], np.arange(len(table) + 1))


def _distances(back: Back, start: Longs) -> Longs:
    """Shortest ways to where `start` says 0, or 1 for one step more; −1 for what is not known yet."""
    sources, first = back
    distance, ones = start.astype(np.int64), np.flatnonzero(start == 1)
    frontier, steps, unknown = np.flatnonzero(start == 0), 0, int((start < 0).sum())
    while unknown and (len(frontier) or not steps):
        steps += 1
        found = np.concatenate([sources[:0], *(sources[first[s] : first[s + 1]] for s in frontier)])
        frontier = np.unique(found[distance[found] < 0])
        distance[frontier] = steps
        unknown -= len(frontier)
        if steps == 1:
            frontier = np.concatenate([frontier, ones])
    return distance


def longest_to_end(table: Ints, to_end: Longs, back: Back | None = None) -> Longs:
    """The length of the longest way to an accepting state, −1 where there is none or no longest: int64 `[states]`.

    From the last states up (Revuz 1992, section 3); `to_end` is what `distance_to_end` gives.
    """
    sources, first = back or _ways_back(table)
    alive = to_end >= 0
    ahead = np.append(alive, False)[table].sum(1)  # steps to states that are of use, not yet looked at
    heights = np.full(len(table), -1, dtype=np.int64)
    frontier, height = np.flatnonzero(alive & (ahead == 0)), 0
    while len(frontier):
        heights[frontier] = height
        found = np.concatenate([sources[first[s] : first[s + 1]] for s in frontier])
        before, steps = np.unique(found, return_counts=True)
        ahead[before] -= steps
        frontier = before[(ahead[before] == 0) & alive[before]]
        height += 1
    return heights


def minimal(table: Ints, accepting: Bools) -> tuple[Ints, Bools]:
    """The same language with the fewest states: Moore's refinement, from the distances to the ends on.

    Without these distances, which equal states share, a count of up to n takes n rounds.

    Rows are compared by a 64-bit hash in each round; the result is checked to be a congruence, and made again from the
    rows themselves if two unlike ones ever hashed alike.
    """
    back = _ways_back(table)
    to_end, to_refusal = distance_to_end(table, accepting, back), distance_to_refusal(table, accepting, back)
    width = len(table) + 2  # one number for all three: each lies between −1 and the number of states
    start = to_end + width * (to_refusal + width * longest_to_end(table, to_end, back))
    for exact in (False, True):
        labels = _refined(table, np.unique(start, return_inverse=True)[1], exact)
        first = np.unique(labels, return_index=True)[1]
        extended = np.append(labels, -1)
        following = extended[table]
        if (following == following[first][labels]).all() and (start == start[first][labels]).all():
            break
    # states in the order in which they occur: the start stays 0
    order = np.argsort(first, kind="stable")
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    renamed = np.append(number[labels], -1).astype(np.int32)
    return renamed[table[first[order]]], accepting[first[order]]


def _refined(table: Ints, labels: Longs, exact: bool) -> Longs:
    weights = np.random.default_rng(_SEED).integers(1, 2**63, size=table.shape[1] + 1, dtype=np.uint64) | np.uint64(1)
    count = int(labels.max()) + 1
    while True:
        following = np.append(labels, -1)[table]
        if exact:
            rows = np.concatenate([labels[:, None], following], axis=1)
            refined = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
        else:
            mixed = (_scrambled(following + 1) * weights[:-1]).sum(1, dtype=np.uint64)
            refined = np.unique(mixed + _scrambled(labels) * weights[-1], return_inverse=True)[1].reshape(-1)
        found = int(refined.max()) + 1
        if found == count:
            return labels
        labels, count = refined, found


def _scrambled(values: Longs) -> npt.NDArray[np.uint64]:
    """A hash of small integers, so that sums of products of them do not coincide by arithmetic."""
    mixed = (values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)


def merge_columns(table: Ints, classes: Ints) -> tuple[Ints, Ints]:
    """One class for all tokens that no state tells apart; classes in the order of their first token."""
    used = np.unique(classes)
    columns = np.ascontiguousarray(table[:, used].T)
    first, same = distinct_rows(columns)
    number = np.full(table.shape[1], -1, dtype=np.int64)
    number[used] = same
    of_token = number[classes]
    seen, where = np.unique(of_token, return_index=True)
    order = seen[np.argsort(where, kind="stable")]
    rank = np.empty(len(first), dtype=np.int32)
    rank[order] = np.arange(len(order))
    return np.ascontiguousarray(columns[first][order].T), rank[of_token]


def distinct_rows(rows: Ints) -> tuple[Longs, Longs]:
    """The first of each kind of rows, in order, and which of these each row equals: int64 `[kinds]`, `[rows]`."""
    weights = np.random.default_rng(_SEED).integers(1, 2**63, size=rows.shape[1], dtype=np.uint64)
    mixed = (_scrambled(rows.astype(np.int64) + 1) * weights).sum(1, dtype=np.uint64)
    first, same = np.unique(mixed, return_index=True, return_inverse=True)[1:]
    if not (rows == rows[first][same]).all():  # two unlike rows hashed alike
        first, same = np.unique(rows, axis=0, return_index=True, return_inverse=True)[1:]
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return first[order].astype(np.int64), rank[same.reshape(-1)]
