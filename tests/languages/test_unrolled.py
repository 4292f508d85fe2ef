"""Languages unrolled over positions, against enumeration: what is accepted, and that no state is one too many."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from discdiff.constraints import Allowed, Automaton, automaton
from discdiff.errors import EmptyLanguageError, IncompatibleError
from discdiff.languages import Language, anything, contains, count, span_of_lengths, unrolled
from discdiff.languages.unrolled import Unrolled, joint_classes, unroll
from tests.constraints.test_automaton import V, everywhere, languages, marginals, said

LONGEST = 4
# After one token, 0 or not, the same may follow; but a sequence may end there only if it was 0.
ENDS_APART = Language.of([[1, 2], [3, 3], [3, 3], [-1, -1]], [False, True, False, True], [0, 1, 1])
# Each tells tokens apart that the other does not.
CLASSES_APART = [count({0}, 1, 1, V), count({1}, 1, 1, V)]


def rich(seed: int) -> list[Language]:
    """One to three languages of up to five states in which much is accepted."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(int(draw.integers(1, 4))):
        table = draw.integers(0, 5, size=(5, 3))
        table[draw.random(size=table.shape) < 0.1] = -1
        found.append(Language.of(table, draw.random(5) < 0.7, draw.integers(3, size=V)))
    return found


several = st.one_of(st.lists(languages(), min_size=1, max_size=3), st.integers(0, 2**31).map(rich))
some_lengths = st.sets(st.integers(1, LONGEST), min_size=1)


def sets(seed: int) -> npt.NDArray[np.bool_]:
    """Tokens allowed at each position: one in three not, never none."""
    draw = np.random.default_rng(seed)
    allowed = draw.uniform(size=(LONGEST, V)) < 0.67
    allowed[np.arange(LONGEST), draw.integers(V, size=LONGEST)] = True
    return allowed


def accepted(asked: list[Language], lengths: set[int], allowed: npt.NDArray[np.bool_] | None) -> list[tuple[int, ...]]:
    """By the definition."""
    every = [x for n in lengths for x in itertools.product(range(V), repeat=n)]
    free = [x for x in every if allowed is None or all(allowed[i, t] for i, t in enumerate(x))]
    return [x for x in free if all(language.accepts(x) for language in asked)]


def walked(found: Unrolled, lengths: set[int]) -> list[tuple[int, ...]]:
    """By the tables."""
    result = []
    for n in lengths:
        for x in itertools.product(range(V), repeat=n):
            state = 0 if len(found.final[0]) else -1
            for i, token in enumerate(x):
                if state >= 0:
                    state = int(found.tables[i][state, found.classes[token]])
                    state = -1 if state == len(found.final[i + 1]) else state
            if state >= 0 and found.final[n][state]:
                result.append(x)
    return result


@given(several, some_lengths, st.integers(0, 2**31), st.booleans())
@example([ENDS_APART], {1, 2}, 0, False)
@example(CLASSES_APART, {2, 3}, 0, False)
def test_what_is_accepted(asked: list[Language], lengths: set[int], seed: int, narrowed: bool) -> None:
    """The sequences are those that all accept, and the states of a position are as many as there are different ends.

    Two beginnings of one length need two states only if some end can follow one and not the other (Nerode 1958).
    """
    allowed = sets(seed) if narrowed else None
    found = unroll(asked, lengths, allowed)
    # A class is taken where one of its tokens may stand.
    alike = found.classes[:, None] == found.classes
    expected = accepted(asked, lengths, None if allowed is None else (allowed @ alike) > 0)
    assert walked(found, lengths) == expected
    assert np.nonzero(found.lengths)[0].tolist() == sorted({len(x) for x in expected})
    for i in range(max(lengths) + 1):
        ends: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
        for x in expected:
            if len(x) >= i:
                ends.setdefault(x[:i], set()).add(x[i:])
        assert len(found.final[i]) == len(set(map(frozenset, ends.values())))
    used = {int(found.classes[token]) for x in expected for token in x}
    assert set(np.nonzero(found.used)[0].tolist()) == used


@given(several, st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 5.0]), st.booleans())
@example(CLASSES_APART, 0, 5.0, False)
def test_totals_marginals_and_draws(asked: list[Language], seed: int, flat: float, narrowed: bool) -> None:
    """Languages kept apart: Z and marginals to 1e-12, and draws on a grid of u, as the law says.

    Draws catch what the marginals of one position alone would not: 3.5 / 24 of a sequence's probability.
    """
    draw = np.random.default_rng(seed)
    n = 3
    p = draw.dirichlet(np.full(V, flat), size=n) * (1 - 3e-6) + 1e-6
    allowed = sets(seed)[:n] if narrowed else np.ones((n, V), dtype=np.bool_)
    p = p * allowed / (p * allowed).sum(-1, keepdims=True)
    if any(language.empty for language in asked):
        return
    law = {x: float(np.prod(p[np.arange(n), list(x)])) for x in accepted(asked, {n}, allowed)}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(automaton, "MOST_AT_ONCE", 0)
        constraint = Automaton(dict(enumerate_names(asked)), Allowed(torch.from_numpy(allowed)) if narrowed else None)
    assert len(constraint._factors) == len(asked)
    side = 24
    axis = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    u = torch.cartesian_prod(axis, axis, axis)
    lengths = torch.full((len(u),), n)
    if not law:
        with pytest.raises(EmptyLanguageError):
            constraint.bound(lengths)
        return
    bound = constraint.bound(lengths)
    prediction, where = said(np.broadcast_to(p, (len(u), n, V)).copy()), everywhere(lengths)
    z = sum(law.values())
    np.testing.assert_allclose(bound.log_total(prediction).numpy(), np.log(z), atol=1e-11)
    one = (torch.zeros(n, dtype=torch.int64), torch.arange(n))
    np.testing.assert_allclose(bound.log_marginals(prediction, one).exp().numpy(), marginals(law, n, V), atol=1e-12)
    drawn = bound.draw(prediction, where, u).reshape(-1, n)
    shares = dict.fromkeys(law, 0.0)
    for x in map(tuple, drawn.tolist()):
        shares[x] += 1 / len(u)
    for x, weight in law.items():
        assert shares[x] == pytest.approx(weight / z, abs=3.5 / side)


def enumerate_names(asked: list[Language]) -> list[tuple[str, Language]]:
    return [(str(k), language) for k, language in enumerate(asked)]


@given(several, st.integers(0, 2**31))
def test_one_after_the_other(asked: list[Language], seed: int) -> None:
    """Kept apart or multiplied out, rows of several lengths have the same Z and marginals to 1e-12."""
    draw = np.random.default_rng(seed)
    try:
        whole = Automaton(dict(enumerate_names(asked)))
    except EmptyLanguageError:
        return
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(automaton, "MOST_AT_ONCE", 0)
        apart = Automaton(dict(enumerate_names(asked)))
    assert apart.language.equivalent(whole.language)
    possible = whole.possible_lengths(LONGEST)
    assert apart.possible_lengths(LONGEST).tolist() == possible.tolist()
    if not len(possible):
        return
    lengths = possible[torch.from_numpy(draw.integers(len(possible), size=6))]
    prediction = said(draw.dirichlet(np.ones(V), size=(6, int(lengths.max()))))
    where = everywhere(lengths)
    first, second = whole.bound(lengths), apart.bound(lengths)
    torch.testing.assert_close(first.log_total(prediction), second.log_total(prediction), rtol=1e-12, atol=1e-12)
    each = [bound.log_marginals(prediction, where).exp() for bound in (first, second)]
    torch.testing.assert_close(*each, rtol=1e-12, atol=1e-12)
    width = int(lengths.max())
    assert all(map(torch.equal, first.given(6, width), second.given(6, width)))


@given(several, st.integers(0, 2**31))
def test_rows_with_sets_of_their_own(asked: list[Language], seed: int) -> None:
    """Unrolled over what any row may hold, each row has the Z and the marginals that it has alone: 1e-12."""
    draw = np.random.default_rng(seed)
    rows, n = 4, 3
    each = np.stack([sets(int(draw.integers(2**31)))[:n] for _ in range(rows)])
    named = dict(enumerate_names(asked))
    if any(language.empty for language in asked) or not all(accepted(asked, {n}, allowed) for allowed in each):
        return
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(automaton, "MOST_AT_ONCE", 0)
        whole = Automaton(named, Allowed(torch.from_numpy(each))).bound(torch.full((rows,), n))
        alone = [Automaton(named, Allowed(torch.from_numpy(a))).bound(torch.tensor([n])) for a in each]
    p = draw.dirichlet(np.ones(V), size=(rows, n))
    where = everywhere(torch.full((rows,), n))
    found = whole.log_marginals(said(p), where).reshape(rows, n, V)
    for b, constraint in enumerate(alone):
        mine = said(p[b : b + 1])
        torch.testing.assert_close(whole.log_total(said(p))[b], constraint.log_total(mine)[0], rtol=1e-12, atol=1e-12)
        one = constraint.log_marginals(mine, everywhere(torch.tensor([n])))
        torch.testing.assert_close(found[b].exp(), one.exp(), rtol=1e-12, atol=1e-12)


@given(st.lists(languages(), min_size=3, max_size=5), st.integers(1, LONGEST))
def test_in_any_order_and_grouping(asked: list[Language], length: int) -> None:
    """Small languages first or the largest: one smallest automaton."""
    sizes = []
    for small in (0, 3, 10**6):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(unrolled, "SMALL", small)
            found = unroll(asked, {length})
        assert walked(found, {length}) == accepted(asked, {length}, None)
        sizes.append([len(final) for final in found.final])
    assert sizes[0] == sizes[1] == sizes[2]


@given(st.lists(st.integers(0, 199), max_size=30), st.booleans())
def test_numbers_of_pairs(pairs: list[int], sparse: bool) -> None:
    """With a table where numbers are dense, by searching where they are not: the same."""
    most = 10**7 if sparse else 200
    found = unrolled._distinct(np.array(pairs, dtype=np.int64), most)
    assert found.tolist() == sorted(set(pairs))
    states = np.arange(len(found) + 1, dtype=np.int32) * 7
    asked = np.array([[*pairs, -1]])
    looked_up = unrolled._looked_up(asked, found, states, most).tolist()[0]
    assert looked_up == [7 * sorted(set(pairs)).index(pair) for pair in pairs] + [7 * len(found)]


def test_positions_alike_share_a_table() -> None:
    """The middle of a long sequence costs as much as one position of it."""
    word = contains([[{0}, {1}, {0}]], V)
    found = unroll([word, count({2}, 0, 3, V)], {500})
    assert len({id(table) for table in found.tables}) < 40
    assert found.num_states <= 4 * 4


def test_classes() -> None:
    """Tokens are apart where some language tells them apart, and together where one never takes them."""
    classes, columns = joint_classes([count({0, 1}, 0, 1, 5), count({1, 2}, 0, 0, 5)])
    assert classes.tolist() == [0, 1, 1, 2, 2]
    assert [column.tolist() for column in columns] == [[0, -1, 1], [0, -1, 0]]


def test_conflicts_of_what_is_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named when lengths are asked for: the length, or the positions."""
    monkeypatch.setattr(automaton, "MOST_AT_ONCE", 0)
    apart = Automaton({"two": count({0}, 2, 2, V), "few": count({0, 1}, 0, 2, V), "long": span_of_lengths(3, None, V)})
    with pytest.raises(EmptyLanguageError, match="long: no sequence of 2 tokens satisfies it"):
        apart.bound(torch.tensor([2]))
    short = Automaton({"two": count({0}, 2, 2, V), "none of 2": count({2}, 0, 0, V), "few": count({0, 1}, 0, 2, V)})
    assert short.possible_lengths(9).tolist() == [2]
    with pytest.raises(EmptyLanguageError, match="no sequence of 3 tokens satisfies two and none of 2"):
        short.bound(torch.tensor([3]))
    given = torch.ones(3, V, dtype=torch.bool)
    given[:2] = torch.tensor([False, True, False])
    with pytest.raises(EmptyLanguageError, match="two cannot hold with what is given or allowed at the positions"):
        Automaton(apart.parts, Allowed(given)).bound(torch.tensor([3]))
    given[:2] = torch.tensor([[False, True, False], [True, True, True]])
    with pytest.raises(EmptyLanguageError, match="two, few, long together cannot hold with what is given"):
        Automaton(apart.parts, Allowed(given)).bound(torch.tensor([3]))


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IncompatibleError, match=r"vocabularies of 3 and 4 tokens.*one vocabulary"):
        Automaton({"one": anything(3), "other": anything(4)})
    monkeypatch.setattr(unrolled, "MAX_ENTRIES", 10)
    with pytest.raises(IncompatibleError, match=r"all that is asked, together.*at a position.*Ask for less"):
        Automaton(contains([[{0}, {1}, {0}]], V)).bound(torch.tensor([9]))


def test_batches_alike_are_unrolled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def counted(*arguments: Any) -> Unrolled:
        calls.append(arguments)
        return unroll(*arguments)

    monkeypatch.setattr(automaton, "unroll", counted)
    constraint = Automaton(count({0}, 1, 2, V))
    for _ in range(3):
        constraint.bound(torch.tensor([3, 4]))
    assert len(calls) == 1
    constraint.bound(torch.tensor([3, 3]))
    assert len(calls) == 2
