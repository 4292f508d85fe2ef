"""Rules of integers against plain definitions, on all short sequences."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest

from discdiff.errors import TemplateError
from discdiff.rules import Span
from domains.tokens import Tokens

Numbers = Sequence[int]
SPAN = Span(1, 6)
EVERY = [word for size in range(7) for word in itertools.product(range(4), repeat=size)]


def occurs(parts: Sequence[set[int]]) -> Callable[[Numbers], bool]:
    """Whether tokens of these sets stand one after the other somewhere."""

    def found(word: Numbers) -> bool:
        starts = range(len(word) - len(parts) + 1)
        return any(all(word[at + k] in part for k, part in enumerate(parts)) for at in starts)

    return found


def gapped(word: Numbers, low: int, high: int) -> bool:
    """2, then `low` to `high` tokens, then 0 or 1."""
    return any(
        word[at] == 2 and word[at + gap + 1] in (0, 1)
        for at in range(len(word))
        for gap in range(low, high + 1)
        if at + gap + 1 < len(word)
    )


ANY = {0, 1, 2, 3}
RULES: list[tuple[str, str, Callable[[Numbers], bool]]] = [
    ("require", "2, 3, ?, 1|2", occurs([{2}, {3}, ANY, {1, 2}])),
    ("require", "1 1", occurs([{1}, {1}])),
    ("require", "2 ?{1-2} 0|1", lambda word: gapped(word, 1, 2)),
    ("forbid", "[0|1, 2]", lambda word: not occurs([{0, 1}, {2}])(word)),
    ("forbid", "2 ?{0-1} 0|1", lambda word: not gapped(word, 0, 1)),
    ("regex", "3, ?{2-4}, 0|1", lambda word: len(word) in (4, 5, 6) and word[0] == 3 and word[-1] in (0, 1)),
    ("count", "2=1-3", lambda word: 1 <= word.count(2) <= 3),
    ("count", "0 | 3 = 2", lambda word: word.count(0) + word.count(3) == 2),
    ("count", "1=2-", lambda word: word.count(1) >= 2),
    ("count", "1=0", lambda word: word.count(1) == 0),
    ("length", "3", lambda word: len(word) == 3),
    ("length", "2-4", lambda word: 2 <= len(word) <= 4),
]


@pytest.mark.parametrize(("rule", "value", "expected"), RULES, ids=[f"{rule} {value}" for rule, value, _ in RULES])
def test_rules(rule: str, value: str, expected: Callable[[Numbers], bool]) -> None:
    """All 5,461 sequences of up to six of four tokens."""
    found = Tokens(4).rules[rule].read(value, SPAN)
    taken = [word for word in EVERY if expected(word)]
    assert 0 < len(taken) < len(EVERY)
    assert [word for word in EVERY if found.accepts(word)] == taken


@pytest.mark.parametrize(
    ("rule", "value", "column", "part"),
    [
        ("require", "2, 9", 3, "token 9 is not in 0..3"),
        ("require", "[2, 1", 0, "'[' is never closed"),
        ("forbid", "2 x", 2, "expected a token, got 'x'"),
        ("regex", "?{4-2}", 2, "the range 4-2 runs backwards (from 2 to 4?)"),
        ("regex", "", 0, "the template is empty"),
        ("count", "2", 1, "expected TOKEN=NUMBER"),
        ("count", "7=1", 0, "token 7 is not in 0..3"),
        ("count", "1 2=1", 2, "expected the end, got '2'"),
        ("count", "2=3-1", 2, "the range 3 to 1 runs backwards (1-3?)"),
        ("count", "2=many", 2, "expected a number or a range"),
    ],
)
def test_faults(rule: str, value: str, column: int, part: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Tokens(4).rules[rule].read(value, SPAN)
    assert part in str(caught.value)
    assert caught.value.column == column


def test_rules_are_listed_before_there_is_a_vocabulary() -> None:
    assert list(Tokens().rules) == ["require", "forbid", "regex", "count", "length"]
    for rule in Tokens(10).rules.values():
        assert rule.read(rule.example, SPAN).lengths(64).any()
