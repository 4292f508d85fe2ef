"""Languages against independent predicates on every short sequence; minimal, trimmed, limited in size."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discdiff.errors import IncompatibleError, TemplateError
from discdiff.languages import (
    EMPTY,
    Choice,
    Expression,
    Language,
    Repeat,
    Sequential,
    alternatives,
    anything,
    avoids,
    compile_expression,
    contains,
    count,
    longest_run,
    nothing,
    one_of,
    regex,
    share,
    span_of_lengths,
    total,
    window,
    word,
)
from discdiff.languages import language as language_module

Tokens = tuple[int, ...]


def sequences(size: int, longest: int) -> list[Tokens]:
    """Every sequence of at most `longest` tokens."""
    return [each for n in range(longest + 1) for each in itertools.product(range(size), repeat=n)]


def check_is(language: Language, size: int, longest: int, rule: Callable[[Tokens], bool]) -> None:
    """The language is that of a predicate, and its automaton has no state, and no class, too many."""
    every = sequences(size, longest)
    wrong = [each for each in every if language.accepts(each) != bool(rule(each))]
    assert not wrong, wrong[:5]
    expected = [any(rule(each) for each in every if len(each) == n) for n in range(longest + 1)]
    assert language.lengths(longest).tolist() == expected
    check_smallest(language)


def check_smallest(language: Language) -> None:
    """Myhill and Nerode, by filling a table of pairs: no two states are equivalent, all are of use."""
    n, table, final = language.num_states, language.table, language.accepting
    dead = n
    step = np.where(
        np.vstack([table, np.full((1, table.shape[1]), -1)]) < 0, dead, np.vstack([table, table[:1] * 0 - 1])
    )
    final = np.append(final, False)
    apart = final[:, None] != final[None, :]
    for _ in range(n + 1):
        apart = apart | apart[step[:, None, :], step[None, :, :]].any(-1)
    pairs = [(a, b) for a in range(n + 1) for b in range(a) if not apart[a, b]]
    assert not pairs or (language.empty and n == 1), pairs
    reached = {0}
    for _ in range(n):
        reached |= {int(t) for s in reached for t in table[s] if t >= 0}
    assert reached == set(range(n))
    columns = {tuple(column) for column in table.T}
    assert len(columns) == table.shape[1] == len(set(language.classes.tolist()))


def occurs(words: Sequence[Sequence[set[int]]], each: Tokens) -> bool:
    return any(
        all(token in letter for token, letter in zip(each[i : i + len(w)], w, strict=True))
        for w in words
        for i in range(len(each) - len(w) + 1)
    )


def runs(each: Tokens, tokens: set[int]) -> int:
    return max((len(part) for part in "".join("x" if t in tokens else " " for t in each).split(" ")), default=0)


WORDS: list[list[list[set[int]]]] = [
    [[{0}, {0}, {1}]],
    [[{0, 1}, {1}], [{2}, {0, 2}, {1}]],
    [[{0}], [{0}, {1}]],
    [[{1}, {0, 1, 2}, {1}], [{1}, {1}]],
]


@pytest.mark.parametrize("words", WORDS)
def test_words(words: list[list[set[int]]]) -> None:
    check_is(contains(words, 3), 3, 6, lambda each: occurs(words, each))
    check_is(avoids(words, 3), 3, 6, lambda each: not occurs(words, each))


@pytest.mark.parametrize(("low", "high"), [(0, 0), (0, 2), (1, None), (2, 4), (0, None)])
def test_counts(low: int, high: int | None) -> None:
    top = 99 if high is None else high
    check_is(count({0, 2}, low, high, 3), 3, 6, lambda each: low <= sum(t != 1 for t in each) <= top)
    check_is(span_of_lengths(low, high, 3), 3, 6, lambda each: low <= len(each) <= top)


@pytest.mark.parametrize(("low", "high", "length"), [(0.4, 0.6, 5), (0.0, 0.25, 4), (1.0, 1.0, 3), (1 / 3, 1 / 3, 6)])
def test_share(low: float, high: float, length: int) -> None:
    check_is(
        share({0}, low, high, length, 3),
        3,
        6,
        lambda each: len(each) == length and low - 1e-9 <= each.count(0) / length <= high + 1e-9,
    )


@pytest.mark.parametrize(
    ("width", "low", "high"),
    [(width, low, high) for width in (1, 2, 3, 4, 5) for low in range(width + 1) for high in range(low, width + 2)],
)
def test_window(width: int, low: int, high: int) -> None:
    def rule(each: Tokens) -> bool:
        return all(low <= each[i : i + width].count(0) <= high for i in range(len(each) - width + 1))

    check_is(window({0}, width, low, high, 2), 2, 8, rule)
    check_is(window({0}, width, low, high, 2, every=1), 2, 6, rule)


def test_window_explores_little_more_than_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 20 in a wide band fit, though there are half a million histories of 19 tokens."""
    seen: list[int] = []
    monkeypatch.setattr(language_module, "check_size", lambda states, *_, **__: seen.append(states))
    found = window({0}, 14, 4, 10, 2)
    assert found.num_states < seen[-1] < 1.6 * found.num_states < 2**13


@pytest.mark.parametrize("sets", [[{0}], [{0}, {1}, {2}], [{0, 1}, {1, 2}], [{0, 1}, {1}]])
@pytest.mark.parametrize("longest", [1, 2, 3])
def test_longest_run(sets: list[set[int]], longest: int) -> None:
    """Sets that share tokens too."""
    check_is(longest_run(sets, longest, 3), 3, 6, lambda each: all(runs(each, tokens) <= longest for tokens in sets))


@pytest.mark.parametrize(
    ("weights", "low", "high"), [([1, 0, -1], 0, 0), ([1, 2, 3], 5, 9), ([-2, 1, 1], -1, 2), ([0, 0, 1], 2, 9)]
)
def test_total(weights: list[int], low: int, high: int) -> None:
    language = total(weights, low, high, longest=6)
    for each in sequences(3, 6):
        assert language.accepts(each) == (low <= sum(weights[t] for t in each) <= high)


def test_explore() -> None:
    """A count modulo 3, from states of any kind."""
    language = Language.explore("0", lambda s, c: str((int(s) + c) % 3), lambda s: s == "1", [0, 1, 2, 1])
    check_is(language, 4, 5, lambda each: sum([0, 1, 2, 1][t] for t in each) % 3 == 1)


# ---- algebra on random automata -------------------------------------------------------------------------------------
@st.composite
def automata(draw: st.DrawFn, size: int = 3) -> tuple[Language, Callable[[Tokens], bool]]:
    """A random automaton, some classes of no token, and what it accepts by walking it."""
    states, classes = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    row = st.lists(st.integers(-1, states - 1), min_size=classes, max_size=classes)
    table = draw(st.lists(row, min_size=states, max_size=states))
    final = draw(st.lists(st.booleans(), min_size=states, max_size=states))
    of_token = draw(st.lists(st.integers(0, classes - 1), min_size=size, max_size=size))

    def rule(each: Tokens) -> bool:
        state = 0
        for token in each:
            state = table[state][of_token[token]]
            if state < 0:
                return False
        return final[state]

    return Language.of(table, final, of_token), rule


@given(automata(), automata())
def test_algebra(
    one: tuple[Language, Callable[[Tokens], bool]], two: tuple[Language, Callable[[Tokens], bool]]
) -> None:
    (a, in_a), (b, in_b) = one, two
    check_is(a, 3, 4, in_a)
    check_is(a & b, 3, 4, lambda x: in_a(x) and in_b(x))
    check_is(a | b, 3, 4, lambda x: in_a(x) or in_b(x))
    check_is(a - b, 3, 4, lambda x: in_a(x) and not in_b(x))
    check_is(~a, 3, 4, lambda x: not in_a(x))
    assert a.equivalent(~~a)
    if any(in_a(x) != in_b(x) for x in sequences(3, 4)):
        assert not a.equivalent(b)
    assert (a - a).empty


@given(automata(), st.lists(st.integers(-1, 2), min_size=1, max_size=4))
def test_renamed(one: tuple[Language, Callable[[Tokens], bool]], names: list[int]) -> None:
    a, rule = one
    size = len(names)
    check_is(a.renamed(names), size, 4, lambda x: all(names[t] >= 0 for t in x) and rule(tuple(names[t] for t in x)))


@given(automata(), st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=4))
def test_along(one: tuple[Language, Callable[[Tokens], bool]], words: list[list[int]]) -> None:
    a, rule = one
    check_is(
        a.along(words),
        len(words),
        3,
        lambda x: all(words[t] for t in x) and rule(tuple(letter for t in x for letter in words[t])),
    )


@given(automata(size=2))
def test_ended(one: tuple[Language, Callable[[Tokens], bool]]) -> None:
    a, rule = one

    def ends(each: Tokens) -> bool:
        head = each[: each.index(2)] if 2 in each else each
        return set(each[len(head) :]) <= {2} and rule(head)

    check_is(a.ended(), 3, 5, ends)


# ---- expressions ----------------------------------------------------------------------------------------------------
def patterns() -> st.SearchStrategy[str]:
    letters = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", "[b-c]", r"\w", ""])

    def longer(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        repeats = st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,3}", "{2,}", "{0}"])
        return st.one_of(
            st.tuples(inner, inner).map("".join),
            st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
            st.tuples(inner, repeats).map(lambda two: f"(?:{two[0]}){two[1]}"),
        )

    return st.recursive(letters, longer, max_leaves=6)


@given(patterns())
def test_regex_against_python(pattern: str) -> None:
    language = compile_expression(regex(pattern, "abc"), 3)
    matches = re.compile(pattern).fullmatch
    check_is(language, 3, 5, lambda each: matches("".join("abc"[t] for t in each)) is not None)


def test_expressions() -> None:
    two: Expression = one_of({0, 1}) + alternatives([[2], [0, 0]]) | EMPTY
    check_is(compile_expression(two, 3), 3, 4, lambda x: x == () or (x[0] < 2 and x[1:] in [(2,), (0, 0)]))
    check_is(compile_expression(word([1, 2]).repeated(1, 2), 3), 3, 5, lambda x: x in [(1, 2), (1, 2) * 2])
    assert compile_expression(Choice(()), 3).empty
    assert compile_expression(one_of(()), 3).empty
    check_is(compile_expression(Sequential(()), 2), 2, 3, lambda x: x == ())
    check_is(anything(2), 2, 3, lambda x: True)
    check_is(nothing(2), 2, 3, lambda x: False)


@pytest.mark.parametrize(
    ("pattern", "message", "column"),
    [
        ("ab(c", "'\\(' is never closed", 2),
        ("abc)", "closes nothing", 3),
        ("a[bc", "'\\[' is never closed", 1),
        ("ax", "'x' is not in the alphabet", 1),
        ("*a", "repeats nothing", 0),
        ("a{3,1}", "the range 3 to 1 runs backwards", 1),
        ("a{x}", "expected {n}", 1),
        ("a+?", "lazy repeat", 2),
        ("a*+", "possessive repeat", 2),
        ("ab[c-a]", "runs backwards", 3),
        (r"[a-\w]", "ends with a character", 1),
        (r"(a)\1", "a back-reference is not supported", 3),
        ("a(?=b)", "look-ahead", 1),
        ("a$b", "only at the end", 1),
        ("a\\", "backslash at the end", 1),
        (r"a\d", "no character of the alphabet", 1),
        ("a{20000}", "too long", 1),
        ("(" * 300 + ")" * 300, "nested too deep", 100),
    ],
)
def test_faults_are_shown(pattern: str, message: str, column: int) -> None:
    with pytest.raises(TemplateError, match=message) as caught:
        regex(pattern, "abc")
    assert caught.value.column == column


# ---- refused --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Language.of([[0, 1]], [True], [0, 1]), "Language: got table"),
        (lambda: Language.of([[0, -2]], [True], [0, 1]), "Language: got table"),
        (lambda: Language.of([[0, 0]], [True], [0, -1]), "Language: got table"),
        (lambda: anything(2) & anything(3), "vocabularies of 2 and 3"),
        (lambda: count({3}, 0, 1, 3), "got token 3"),
        (lambda: avoids([[{0}, {-1}]], 3), "got token -1"),
        (lambda: compile_expression(one_of({-1, 1}), 3), "got token -1"),
        (lambda: count({0}, 3, 2, 3), "got 3 to 2"),
        (lambda: window({0}, 0, 0, 1, 3), "a width of 0"),
        (lambda: window({0}, 2, 3, 4, 3), "a width of 2"),
        (lambda: longest_run([{0}], 0, 3), "longest run: got 0"),
        (lambda: total([0, 1], 3, 2, longest=4), "sums 3 to 2"),
        (lambda: total([0.5, 1], 1, 2, longest=4), "float64 weights"),  # type: ignore[list-item]
        (lambda: share({0}, 0.41, 0.44, 10, 3), "0.400 and 0.500"),
        (lambda: contains([], 3), "no word"),
        (lambda: Repeat(EMPTY, 2, 1), "Repeat: got 2 to 1"),
        (lambda: avoids([[{0}, *[{0, 1}] * 30, {0}]], 2), r"words\): got an automaton of"),
        (lambda: compile_expression(regex("(a|b)*a(a|b){20}", "ab"), 2), r"pattern\): got an automaton of"),
    ],
)
def test_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        make()
