"""The distances by which states are told apart at first, and how few rounds are left."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discdiff.errors import IncompatibleError
from discdiff.languages import Atoms, compile_expression, minimal, one_of, span_of_lengths
from discdiff.languages.minimal import distance_to_end, distance_to_refusal, longest_to_end
from discdiff.rules import Span
from domains.smiles import SMILES
from domains.text import Text
from domains.tokens import Tokens


@st.composite
def automata(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Tables of up to five states and two classes, −1 for dead, and accepting states."""
    states = draw(st.integers(1, 5))
    cells = st.lists(st.integers(-1, states - 1), min_size=2 * states, max_size=2 * states)
    accepting = draw(st.lists(st.booleans(), min_size=states, max_size=states))
    return np.array(draw(cells), dtype=np.int32).reshape(states, 2), np.array(accepting)


def accepts(table: np.ndarray, accepting: np.ndarray, state: int, word: tuple[int, ...]) -> bool:
    for letter in word:
        state = table[state, letter] if state >= 0 else -1
    return state >= 0 and bool(accepting[state])


@given(automata())
def test_distances_are_those_of_the_shortest_and_longest_words(automaton: tuple[np.ndarray, np.ndarray]) -> None:
    """Against all words. A word as long as there are states visits one twice: there are longer ones, and one of fewer
    than twice as many letters."""
    table, accepting = automaton
    words = [word for n in range(2 * len(table)) for word in itertools.product(range(2), repeat=n)]
    to_end, to_refusal = distance_to_end(table, accepting), distance_to_refusal(table, accepting)
    longest = longest_to_end(table, to_end)
    for state in range(len(table)):
        lengths: dict[bool, list[int]] = {True: [], False: []}
        for word in words:
            lengths[accepts(table, accepting, state, word)].append(len(word))
        assert to_end[state] == min(lengths[True], default=-1)
        assert to_refusal[state] == min(lengths[False], default=-1)
        most = max(lengths[True], default=-1)
        assert longest[state] == (most if most < len(table) else -1)


@given(automata())
def test_hashes_that_collide_change_nothing(automaton: tuple[np.ndarray, np.ndarray]) -> None:
    """Where unlike rows hash alike, they are compared themselves."""
    table, accepting = automaton
    expected = minimal.minimal(table, accepting)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minimal, "_scrambled", lambda values: np.zeros(values.shape, dtype=np.uint64))
        found = minimal.minimal(table, accepting)
    assert [array.tolist() for array in found] == [array.tolist() for array in expected]


def test_a_count_takes_a_few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one for each number."""
    rounds = 0
    refined = minimal._scrambled

    def counted(values: np.ndarray) -> np.ndarray:
        nonlocal rounds
        rounds += 1
        return refined(values)

    monkeypatch.setattr(minimal, "_scrambled", counted)
    assert span_of_lengths(20, 40_000, 3).num_states == 40_001
    one, other = one_of([0]), one_of([1])
    assert compile_expression(one.repeated(2, 9000) + other, 2).num_states == 9002
    assert rounds < 60


@pytest.mark.parametrize("name", ["text", "letters", "tokens", "smiles"])
@pytest.mark.parametrize(("low", "high"), [(0, 4), (2, 3), (2, 9), (3, 100_000), (5, 8), (0, 7), (4, 4)])
def test_an_end_that_nothing_reaches_is_left_out(name: str, low: int, high: int) -> None:
    """Among the possible lengths the language is the same; the automaton has no state for what is past them."""
    domain = {
        "text": Text().fit(["ab " * 9]),
        "letters": Text(tokenizer="characters").fit(["ab"]),
        "tokens": Tokens(vocab_size=2),
        "smiles": SMILES(),
    }[name]
    language = domain.rules["length"].read(f"{low}-{high}", Span(1, 4))
    for length in range(5):
        assert language.accepts([0] * length) == (low <= length <= high)
    assert language.num_states <= max(low, 4) + 5


def test_characters_of_tokens_of_several_bytes() -> None:
    """The most characters are those of the longest token in every place."""
    text = Text().fit(["abab " * 50])
    longest = max(map(len, text.tokenizer.spelled()))
    assert longest > 1
    most = 3 * longest
    for high in (most - 1, most, 99_999):
        language = text.rules["characters"].read(f"1-{high}", Span(1, 3))
        widest = max(range(text.vocab_size), key=lambda token: len(text.tokenizer.spelled()[token]))
        assert language.accepts([widest] * 3) == (high >= most)


def test_bytes_are_refused_before_they_take_memory() -> None:
    atoms = Atoms.of("")
    many = span_of_lengths(30_000, 30_000, len(atoms.alphabet))
    with pytest.raises(IncompatibleError, match=r"bytes of characters.*at most 200,000 states"):
        atoms.over_bytes(many)
