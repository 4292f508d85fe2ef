"""Automata of characters read along tokens that are several characters (byte-pair encodings): 50,000 at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from discdiff.languages.minimal import merge_columns

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
CHUNK = 1 << 23
"""Entries of maps of states held at once."""


def walk(table: Ints, classes: Ints, words: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """Where each word leads from each state.

    All words go one letter further at a time. Words that have done the same to all states so far share one map of
    states, so that the work is that of the maps that differ, not that of states × words; words that lead nowhere are
    left.

    Args:
        table: `[states, classes]`, −1 where nothing leads on.
        classes: of each letter.
        words: sequences of letters.

    Returns:
        Distinct maps of states, int32 `[maps, states]` with −1 for none, and the map of each word, int32 `[words]`.

    Raises:
        IncompatibleError: too many maps.
    """
    states, count = table.shape
    sizes = np.array([len(word) for word in words], dtype=np.int64)
    letters = np.zeros((len(words), int(sizes.max(initial=0))), dtype=np.int32)
    for row, word in enumerate(words):
        letters[row, : len(word)] = np.frombuffer(word, dtype=np.uint8) if isinstance(word, bytes) else word
    letters = classes[letters].astype(np.int32) if letters.size else letters
    # The dead state is a row of its own, so that walks need no test.
    onward = np.ascontiguousarray(np.concatenate([table, np.full((1, count), -1, dtype=np.int32)]).T)
    nowhere = np.full((1, states), -1, dtype=np.int32)
    finished = [nowhere]  # maps of words that have ended; the first is that of words that lead nowhere
    of_word = np.zeros(len(words), dtype=np.int64)
    total = 1
    maps = np.arange(states, dtype=np.int32)[None]
    active: Longs = np.nonzero(sizes > 0)[0]
    current: Longs = np.zeros(len(active), dtype=np.int64)
    for column in range(letters.shape[1]):
        if not len(active):
            break
        pairs, which = np.unique(current * count + letters[active, column], return_inverse=True)
        maps, same = _followed(maps, onward, pairs // count, pairs % count)
        current = same[which]
        ended = sizes[active] == column + 1
        kept, renamed = np.unique(current[ended], return_inverse=True)
        of_word[active[ended]] = total + renamed
        finished.append(maps[kept])
        total += len(kept)
        alive: npt.NDArray[np.bool_] = np.asarray((maps >= 0).any(1))
        going = ~ended & alive[current]
        active, current = active[going], current[going]
    found, of_map = merge_columns(np.concatenate(finished).T, np.arange(total, dtype=np.int32))
    return np.ascontiguousarray(found.T), of_map[of_word].astype(np.int32)


def _followed(maps: Ints, onward: Ints, before: Longs, letter: Longs) -> tuple[Ints, Longs]:
    """Each map `before`, then a letter: the distinct results, and which of them each is."""
    from discdiff.languages.language import check_size

    size = max(CHUNK // maps.shape[1], 1)
    parts: list[Ints] = []
    names: list[Longs] = []
    total = 0
    for start in range(0, len(before), size):
        here = slice(start, start + size)
        results = onward[letter[here, None], maps[before[here]]]
        distinct, same = merge_columns(results.T, np.arange(len(results), dtype=np.int32))
        check_size(maps.shape[1], total + distinct.shape[1], "tokens of several characters")
        parts.append(distinct.T)
        names.append(same.astype(np.int64) + total)
        total += distinct.shape[1]
    if len(parts) == 1:
        return np.ascontiguousarray(parts[0]), names[0]
    distinct, same = merge_columns(np.concatenate(parts).T, np.arange(total, dtype=np.int32))
    return np.ascontiguousarray(distinct.T), same.astype(np.int64)[np.concatenate(names)]


__all__ = ["walk"]
