"""Tokens of several characters: automata read along words, UTF-8 and languages in turn, against plain definitions."""

from __future__ import annotations

import itertools
import random
import re

import numpy as np
import pytest

from discdiff.errors import IncompatibleError
from discdiff.languages import (
    Language,
    anything,
    avoids,
    compile_expression,
    concatenated,
    contains,
    nothing,
    regex,
    spelled,
)
from discdiff.languages.language import DEAD
from discdiff.languages.utf8 import Atoms

PATTERNS = [
    r".*",
    r"\d{2}|[^a]",
    r"é?[à-ü]",
    r"\w",
    r"\S\s?",
    r"[^\w]{1,2}",
    r"(?a)\w\W?",
    "東|[а-я]",
    "\U0001f642?.",
    r"(?:ab?)+",
    "[\ud7ff-\ue000]",
]


def random_language(seed: int, states: int, classes: int, vocab_size: int) -> Language:
    draw = np.random.default_rng(seed)
    table = draw.integers(-1, states, size=(states, classes))
    return Language.of(table, draw.random(states) < 0.4, draw.integers(0, classes, size=vocab_size))


def walked(language: Language, word: tuple[int, ...], state: int) -> int:
    for letter in word:
        state = DEAD if state == DEAD else int(language.table[state, language.classes[letter]])
    return state


def along_matches(seed: int) -> bool:
    """Every sequence of up to three words is accepted where its letters are."""
    language = random_language(seed, 5, 3, 4)
    draw = random.Random(seed)
    words = [tuple(draw.randrange(4) for _ in range(draw.randrange(4))) for _ in range(12)]
    spelt = language.along(words)
    same = True
    for size in range(4):
        for sequence in itertools.product(range(len(words)), repeat=size):
            letters = [letter for k in sequence for letter in words[k]]
            expected = language.accepts(letters) and all(words[k] for k in sequence)
            same &= spelt.accepts(sequence) == expected
    return same


@pytest.mark.parametrize("seed", range(12))
def test_along_words(seed: int) -> None:
    assert along_matches(seed)


def test_along_words_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps of states made a few at a time are the same."""
    language = random_language(3, 6, 4, 6)
    words = [tuple(map(int, np.base_repr(k, 6))) for k in range(400)]
    whole = language.along(words)
    monkeypatch.setattr(spelled, "CHUNK", 7)
    parts = language.along(words)
    assert parts.equivalent(whole)
    assert (parts.num_states, parts.num_classes) == (whole.num_states, whole.num_classes)
    for k, word in enumerate(words[::37]):
        ends = [walked(language, word, state) for state in range(language.num_states)]
        maps = spelled.walk(language.table, language.classes, words)
        assert maps[0][maps[1][k * 37]].tolist() == ends


def test_classes_are_as_few_as_words_differ() -> None:
    """50,000 words over 200 states, of which only what their digits do matters: as many classes as lengths."""
    language = compile_expression(regex("[0-9]{199}", [*"0123456789x"]), 11)
    draw = random.Random(1)
    words = [tuple(draw.randrange(10) for _ in range(1 + k % 7)) for k in range(50_000)] + [(10,), (1, 10)]
    spelt = language.along(words)
    assert spelt.num_classes == 8
    assert spelt.accepts([6] * 28 + [2]) == (28 * len(words[6]) + len(words[2]) == 199)


def bytes_differ(pattern: str) -> list[bytes]:
    """Texts of one or two bytes, or of up to four from a list, on which the automaton of bytes and Python disagree."""
    atoms = Atoms.of(pattern)
    language = atoms.over_bytes(compile_expression(regex(pattern, atoms.alphabet), len(atoms.alphabet)))
    flags = re.ASCII if pattern.startswith("(?a)") else 0
    python = re.compile(pattern.removeprefix("(?a)"), flags)
    edges = [
        0x0A,
        0x0D,
        0x31,
        0x61,
        0x7F,
        0x80,
        0x9F,
        0xA0,
        0xA8,
        0xBF,
        0xC2,
        0xC3,
        0xD0,
        0xE0,
        0xE6,
        0x9D,
        0xB1,
        0xED,
        0xEE,
    ]
    tries = [bytes(pair) for size in (0, 1, 2) for pair in itertools.product(range(256), repeat=size)]
    tries += [bytes(three) for three in itertools.product(edges, repeat=3)]
    tails = list(itertools.product([0x80, 0x8F, 0x90, 0x99, 0x9F, 0xBF], [0x80, 0x82, 0xBF], [0x7F, 0x80, 0xBF]))
    tries += [bytes([first, *rest]) for first in (0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF) for rest in tails]
    wrong = []
    for each in tries:
        try:
            expected = python.fullmatch(each.decode()) is not None
        except UnicodeDecodeError:
            expected = False
        if language.accepts(each) != expected:
            wrong.append(each)
    return wrong


@pytest.mark.parametrize("pattern", PATTERNS)
def test_bytes_of_patterns(pattern: str) -> None:
    """All texts of two bytes, and of four at the edges of what UTF-8 allows."""
    assert bytes_differ(pattern) == []


def test_atoms_hold_every_character() -> None:
    atoms = Atoms.of("aé東")
    surrogate = np.zeros(0x110000, dtype=bool)
    surrogate[0xD800:0xE000] = True
    assert ((atoms.of_point < 0) == surrogate).all()
    for character in "aé東":
        assert (atoms.of_point == atoms.of_point[ord(character)]).sum() == 1
        assert atoms.alphabet[atoms.of_point[ord(character)]] == character
    for point in range(0, 0xD000, 7):
        like = atoms.alphabet[atoms.of_point[point]]
        assert like.isspace() == chr(point).isspace()
        assert (like.isalnum(), like.isdecimal()) == (chr(point).isalnum(), chr(point).isdecimal())


@pytest.mark.parametrize("seed", range(8))
def test_languages_in_turn(seed: int) -> None:
    parts = [random_language(seed + 100 * k, 3, 2, 3) for k in range(3)]
    joined = concatenated(parts)
    for size in range(6):
        for sequence in itertools.product(range(3), repeat=size):
            cuts = itertools.combinations_with_replacement(range(size + 1), 2)
            expected = any(
                parts[0].accepts(sequence[:a]) and parts[1].accepts(sequence[a:b]) and parts[2].accepts(sequence[b:])
                for a, b in cuts
            )
            assert joined.accepts(sequence) == expected


def test_languages_in_turn_need_one_vocabulary() -> None:
    with pytest.raises(IncompatibleError, match="vocabularies of 2 and 3 tokens"):
        concatenated([anything(2), anything(3)])
    assert concatenated([anything(2), nothing(2)]).empty
    word = [[{0}, {1}]]
    assert concatenated([contains(word, 2), avoids(word, 2)]).equivalent(contains(word, 2))
