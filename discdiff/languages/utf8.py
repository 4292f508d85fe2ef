"""Languages over characters read as languages over the bytes of UTF-8, as byte-level tokens need them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from discdiff.languages.language import DEAD, Language, check_size
from discdiff.languages.minimal import merge_columns

CODE_POINTS = 0x110000
_ALWAYS = "\n\t\r\f\v\0"
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Atoms:
    """The characters of Unicode in classes that some patterns do not tell apart.

    Attributes:
        alphabet: a character of each class, which stands for the class; each literal character is its own.
        of_point: int32 `[0x110000]`: the class of each code point, −1 for surrogates, which are no characters.
    """

    alphabet: list[str]
    of_point: Ints

    @classmethod
    def of(cls, literals: Iterable[str], *, categories: bool = True) -> Atoms:
        r"""Classes for patterns whose characters and ends of ranges are `literals`.

        Args:
            literals: characters.
            categories: tell apart what `\d`, `\w` and `\s` do.
        """
        return _atoms(frozenset(map(ord, (*_ALWAYS, *literals))), categories)

    def over_bytes(self, language: Language) -> Language:
        r"""A language over `alphabet` as one over the 256 bytes; what is no UTF-8 is not in it.

        Inside a character the automaton stands at a node that says where each of the bytes still to come leads. Nodes
        that say the same are one, from the last byte up: `[^"]` costs a handful and `\w` some hundreds.
        """
        table = np.concatenate([language.table, np.full((language.num_states, 1), DEAD, dtype=np.int32)], axis=1)
        of_point = np.where(self.of_point < 0, language.num_classes, language.classes[self.of_point])
        blocks, of_block = _distinct(of_point.reshape(-1, 64))  # by all bits but the last six
        last, below = _nodes(table, blocks, base=language.num_states)
        overlong = np.arange(CODE_POINTS >> 6)
        three = np.where((overlong >= 0x800 >> 6) & (overlong < 0x10000 >> 6), of_block, len(blocks))
        four = np.where(overlong >= 0x10000 >> 6, of_block, len(blocks))
        seconds, of_second = _distinct(np.concatenate([three, four]).reshape(-1, 64))
        middle, over = _nodes(below, seconds, base=language.num_states + len(last))
        of_three, of_four = np.split(of_second, 2)
        padded = np.full(5 * 64, len(seconds))
        padded[: len(of_four)] = of_four
        firsts, of_first = _distinct(padded.reshape(5, 64))
        upper, top = _nodes(over, firsts, base=language.num_states + len(last) + len(middle))
        states = language.num_states + len(last) + len(middle) + len(upper)
        check_size(states, 1, "bytes of characters")  # before 1 KB is taken for each
        edges = np.full((states, 256), DEAD, dtype=np.int32)
        start = edges[: language.num_states]
        start[:, :0x80] = table[:, of_point[:0x80]]
        start[:, 0xC2:0xE0] = below[:, of_block[2:32]]
        start[:, 0xE0:0xF0] = over[:, of_three[:16]]
        start[:, 0xF0:0xF5] = top[:, of_first]
        edges[language.num_states :, 0x80:0xC0] = np.concatenate([last, middle, upper])
        accepting = np.append(language.accepting, np.zeros(states - language.num_states, dtype=np.bool_))
        # Nothing to merge: what differs by a character differs by its bytes, and nodes that say the same are one.
        return Language.of(edges, accepting, np.arange(256), shrink=False)


def _distinct(rows: npt.NDArray[np.int64] | Ints) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    found, which = merge_columns(rows.astype(np.int32).T, np.arange(len(rows), dtype=np.int32))
    return found.T.astype(np.int64), which.astype(np.int64)


def _nodes(targets: Ints, kinds: npt.NDArray[np.int64], *, base: int) -> tuple[Ints, Ints]:
    """The nodes whose 64 bytes lead from each state to `targets[state, kinds]`.

    Args:
        targets: `[states, n]`.
        kinds: `[k, 64]`, columns of `targets`.
        base: the number of the first node.

    Returns:
        The distinct nodes `[m, 64]`, and which of them (or the dead state) each state and kind is: `[states, k + 1]`;
        the last kind is dead.
    """
    states, count = len(targets), len(kinds)
    rows, which = _distinct(targets[:, kinds].reshape(-1, 64))
    alive = (rows != DEAD).any(1)
    number = np.where(alive, np.cumsum(alive) - 1 + base, DEAD).astype(np.int32)
    dead = np.full((states, 1), DEAD, dtype=np.int32)
    return rows[alive].astype(np.int32), np.concatenate([number[which].reshape(states, count), dead], axis=1)


@lru_cache(maxsize=8)
def _atoms(points: frozenset[int], categories: bool) -> Atoms:
    fixed = [0x80, 0xD800, 0xE000]
    bounds = np.unique(np.array([edge for point in points for edge in (point, point + 1)] + fixed))
    every = np.searchsorted(bounds, np.arange(CODE_POINTS), side="right").astype(np.int64)
    if categories:
        every = every * 8 + _categories()
    every[0xD800:0xE000] = -1  # surrogates
    first, of_point = np.unique(every, return_index=True, return_inverse=True)[1:]
    return Atoms([chr(point) for point in first[1:]], (of_point.reshape(-1) - 1).astype(np.int32))


@lru_cache(maxsize=1)
def _categories() -> npt.NDArray[np.int64]:
    r"""What `\d`, `\w` and `\s` say of each code point, as three bits."""
    found = np.zeros(CODE_POINTS, dtype=np.int64)
    for point in range(CODE_POINTS):
        c = chr(point)
        found[point] = c.isdecimal() + 2 * (c.isalnum() or c == "_") + 4 * c.isspace()
    return found


__all__ = ["Atoms"]
