"""Unrolled languages broken on purpose: the guarding tests must fail."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from discdiff.errors import EmptyLanguageError
from discdiff.languages import Language, unrolled
from discdiff.languages.language import Table
from discdiff.languages.minimal import Bools, Ints, distinct_rows
from tests.languages import test_unrolled as tests

FAILS = (AssertionError, IndexError, EmptyLanguageError)
GUARDS: list[Callable[[], None]] = [tests.test_what_is_accepted, tests.test_totals_marginals_and_draws]


def test_pruned_one_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state in which a shorter row ends, and from which no longer one goes on, is dropped."""
    inner = unrolled._merged

    def merged(table: Table, final: Bools, dead: int) -> tuple[Table, Bools, Ints]:
        last = table.shape[1] == 0
        return inner(table, final if last else final & (table != dead).any(1), dead)

    monkeypatch.setattr(unrolled, "_merged", merged)
    with pytest.raises(FAILS):
        tests.test_what_is_accepted()
    with pytest.raises(FAILS):
        tests.test_one_after_the_other()


def test_ends_not_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """States that lead to the same are one, though a row may end in only one of them."""

    def merged(table: Table, final: Bools, dead: int) -> tuple[Table, Bools, Ints]:
        alive = np.nonzero(final | (table != dead).any(1))[0]
        first, same = distinct_rows(table[alive])
        number = np.full(len(table) + 1, len(first), dtype=np.int32)
        number[alive] = same
        return table[alive[first]], final[alive[first]], number

    monkeypatch.setattr(unrolled, "_merged", merged)
    with pytest.raises(FAILS):
        tests.test_what_is_accepted()


def test_states_not_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each state stays, though others have the same ways on."""

    def apart(rows: Ints) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(len(rows)), np.arange(len(rows))

    inner = unrolled._merged

    def merged(table: Table, final: Bools, dead: int) -> tuple[Table, Bools, Ints]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(unrolled, "distinct_rows", apart)
            return inner(table, final, dead)

    monkeypatch.setattr(unrolled, "_merged", merged)
    with pytest.raises(FAILS):
        tests.test_what_is_accepted()


def test_classes_of_the_first_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that only a later language tells apart are taken for one."""

    def first_only(languages: list[Language]) -> tuple[Ints, list[Ints]]:
        first, classes = distinct_rows(languages[0].classes[:, None])
        return classes.astype(np.int32), [language.classes[first] for language in languages]

    monkeypatch.setattr(unrolled, "joint_classes", first_only)
    for guard in GUARDS:
        with pytest.raises((*FAILS, KeyError)):
            guard()


def test_sets_of_positions_one_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may stand at a position is looked up at the one before."""
    inner = unrolled._sets

    def late(allowed: Bools | None, classes: Ints, count: int, longest: int) -> list[Table]:
        return inner(None if allowed is None else np.roll(allowed, 1, axis=0), classes, count, longest)

    monkeypatch.setattr(unrolled, "_sets", late)
    with pytest.raises(FAILS):
        tests.test_what_is_accepted()
