"""Broken readings of patterns, tokens and schemas, and broken sums of classes: the tests of them must see each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from discdiff.constraints import filtered
from discdiff.languages import EMPTY, Choice, Sequential, language, spelled
from discdiff.languages.utf8 import Atoms
from domains.text import json_schema, numbers, patterns
from tests.constraints import test_filtered as draws
from tests.domains import test_text_json as schemas
from tests.domains import test_text_rules as rules
from tests.languages import test_spelled as tokens
from tests.toys import P_VALUE


# ---- tokens of several characters -----------------------------------------------------------------------------------
def test_empty_words_that_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word without letters leads from each state to itself."""
    walk = spelled.walk

    def mutant(table: Any, classes: Any, words: Any) -> Any:
        maps, of_word = walk(table, classes, words)
        of_word = np.where([not len(word) for word in words], len(maps), of_word)
        return np.concatenate([maps, np.arange(len(table), dtype=np.int32)[None]]), of_word

    assert all(tokens.along_matches(seed) for seed in range(4))
    monkeypatch.setattr(spelled, "walk", mutant)
    assert not all(tokens.along_matches(seed) for seed in range(4))


def test_words_that_end_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last letter of long words is not read."""
    walk = spelled.walk
    monkeypatch.setattr(spelled, "walk", lambda table, classes, words: walk(table, classes, [w[:2] for w in words]))
    assert not all(tokens.along_matches(seed) for seed in range(4))


def test_surrogates_and_long_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that decode to half a surrogate pair, or that say a short character at length."""
    assert tokens.bytes_differ(".*") == []
    of = Atoms.of.__func__  # type: ignore[attr-defined]

    def surrogates(literals: str, **how: bool) -> Atoms:
        made = of(Atoms, literals, **how)
        points = made.of_point.copy()
        points[0xD800:0xE000] = points[0xE000]
        return Atoms(made.alphabet, points)

    monkeypatch.setattr(Atoms, "of", surrogates)
    assert tokens.bytes_differ(".*")
    monkeypatch.undo()
    made = language.Language.of

    def long_forms(table: Any, accepting: Any, classes: Any, **how: bool) -> language.Language:
        if np.shape(table)[1] == 256:
            table = np.array(table)
            table[:, 0xC0:0xC2] = table[:, 0xC2:0xC4]
        return made(table, accepting, classes, **how)

    monkeypatch.setattr(language.Language, "of", long_forms)
    assert tokens.bytes_differ(".*")


# ---- patterns -------------------------------------------------------------------------------------------------------
def test_bars_within_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alternatives are cut at every bar, so that anchors belong to the wrong one."""
    monkeypatch.setattr(patterns, "_alternatives", lambda pattern: pattern.split("|"))
    with pytest.raises((AssertionError, ValueError)):
        rules.test_somewhere_and_nowhere("bpe", "/[|$]|(a|t) /")


def test_anchors_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """`^` of the first alternative is taken for that of all."""
    monkeypatch.setattr(patterns, "_alternatives", lambda pattern: [pattern])
    with pytest.raises(AssertionError):
        rules.test_somewhere_and_nowhere("bpe", "/^[Tt]|e$/")


# ---- JSON -----------------------------------------------------------------------------------------------------------
def test_strings_without_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_schema._Writer, "_encoded", lambda self, expression, path: expression)
    assert schemas.json_faults("person")


def test_commas_before_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every property but the first brings its comma, whatever came before."""

    def mutant(self: Any, names: list[str], pairs: list[Any], required: set[str]) -> Any:
        parts = [(self.text(", ") if k else EMPTY) + pair for k, pair in enumerate(pairs)]
        kept = [part.repeated(int(name in required), 1) for name, part in zip(names, parts, strict=True)]
        return Sequential(tuple(kept))

    monkeypatch.setattr(json_schema._Writer, "_members", mutant)
    with pytest.raises(AssertionError):
        schemas.test_optional_properties()


def test_ranges_that_forget_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers with the first digit of the largest are all taken."""
    digits = numbers._digits

    def mutant(low: str, high: str, text: Any) -> Any:
        return digits(low, high[:1] + "9" * (len(high) - 1), text)

    assert schemas.integer_faults() == []
    monkeypatch.setattr(numbers, "_digits", mutant)
    assert schemas.integer_faults()


def test_a_zero_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    positive = numbers._positive
    monkeypatch.setattr(numbers, "_positive", lambda low, high, text: positive(max(low, 1), high, text))
    assert schemas.integer_faults()


def test_either_in_place_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of at least one may be empty."""
    array = json_schema._Writer._array

    def mutant(self: Any, schema: Any, path: str, depth: int) -> Any:
        return Choice((array(self, schema, path, depth), self.text("[]")))

    monkeypatch.setattr(json_schema._Writer, "_array", mutant)
    assert schemas.json_faults("person")


# ---- draws ----------------------------------------------------------------------------------------------------------
def test_classes_cut_one_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last token of a class is never drawn."""

    members = filtered.Filtered._members

    def mutant(self: Any, where: Any, drawn: Any, width: int, u: Any) -> Any:
        sizes, self.classes.sizes = self.classes.sizes, (self.classes.sizes - 1).clamp(min=1)
        try:
            return members(self, where, drawn, width, u)
        finally:
            self.classes.sizes = sizes

    assert draws.drawn_law(0) > P_VALUE
    monkeypatch.setattr(filtered.Filtered, "_members", mutant)
    assert draws.drawn_law(0) < P_VALUE


def test_the_same_number_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token within its class follows the number that chose the class."""
    within = filtered.Filtered._within_classes
    seen: list[torch.Tensor] = []
    draw = filtered.Filtered.draw

    def remembering(self: Any, where: Any, u: torch.Tensor) -> torch.Tensor:
        seen.append(u[where])
        return draw(self, where, u)

    def mutant(self: Any, where: Any, drawn: Any, u: Any) -> Any:
        return within(self, where, drawn, seen[-1])

    monkeypatch.setattr(filtered.Filtered, "draw", remembering)
    monkeypatch.setattr(filtered.Filtered, "_within_classes", mutant)
    assert min(draws.drawn_law(seed) for seed in (0, 1, 4)) < P_VALUE


def test_weights_that_round_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too light for float32 is taken for impossible."""
    assert max(draws.marginal_error(seed, scale=60.0, dtype=torch.float32) for seed in range(12)) < 2e-4
    monkeypatch.setattr(filtered.Filtered, "_checked", lambda self, ways, rounded: ways)
    assert max(draws.marginal_error(seed, scale=60.0, dtype=torch.float32) for seed in range(12)) > 0.1
