"""Two automata run side by side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from discdiff.languages.language import DEAD, MAX_STATES, Language, check_size, check_vocabularies

Rule = Callable[[npt.NDArray[np.bool_], npt.NDArray[np.bool_]], npt.NDArray[np.bool_]]


def product(first: Language, second: Language, rule: Rule, *, most: int = MAX_STATES) -> Language:
    """The sequences for which `rule(first accepts, second accepts)` holds.

    Only pairs of states that a sequence reaches are made, and only those that can still be accepted go on; `most` of
    them at most.

    Raises:
        IncompatibleError: different vocabularies, or a product over the limits of size.
    """
    check_vocabularies([first, second])
    pairs = first.classes.astype(np.int64) * second.num_classes + second.classes
    joint, classes = np.unique(pairs, return_inverse=True)
    a_class, b_class = joint // second.num_classes, joint % second.num_classes
    # The dead state is the last row, from which nothing leads away.
    a_table, b_table = _with_dead(first)[:, a_class], _with_dead(second)[:, b_class]
    a_final, b_final = np.append(first.accepting, False), np.append(second.accepting, False)
    hopeless = _hopeless(first.num_states, second.num_states, rule)
    width = second.num_states + 1
    start = np.zeros(1, dtype=np.int64)
    known, number = start, np.zeros(1, dtype=np.int64)  # pairs in order, and the states that they are
    frontier, rows, order = start, [], [start]
    while len(frontier):
        targets = a_table[frontier // width].astype(np.int64) * width + b_table[frontier % width]
        targets[hopeless(targets // width, targets % width)] = DEAD
        fresh = np.setdiff1d(targets, np.append(known, DEAD))
        at = np.searchsorted(known, fresh)
        number = np.insert(number, at, len(known) + np.arange(len(fresh)))
        known = np.insert(known, at, fresh)
        check_size(len(known), len(joint), "intersection", most=most)
        rows.append(targets)
        order.append(fresh)
        frontier = fresh
    states, targets = np.concatenate(order), np.concatenate(rows)
    alive = targets != DEAD
    table = np.full(targets.shape, DEAD, dtype=np.int32)
    table[alive] = number[np.searchsorted(known, targets[alive])]
    accepting = rule(a_final[states // width], b_final[states % width])
    return Language.of(table, accepting, classes.reshape(-1))


def _with_dead(language: Language) -> npt.NDArray[np.int32]:
    states = language.num_states
    table = np.concatenate([language.table, np.full((1, language.num_classes), DEAD, dtype=np.int32)])
    return np.where(table == DEAD, states, table).astype(np.int32)


def _hopeless(
    a_dead: int, b_dead: int, rule: Rule
) -> Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.bool_]]:
    """Whether a pair of states can never be accepted, because of what is dead."""
    no, yes = np.zeros(1, dtype=np.bool_), np.ones(1, dtype=np.bool_)
    needs_a, needs_b = not rule(no, yes)[0], not rule(yes, no)[0]

    def dead(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        gone_a, gone_b = a == a_dead, b == b_dead
        return (gone_a & gone_b) | (gone_a & needs_a) | (gone_b & needs_b)

    return dead


__all__ = ["product"]
