"""Automata broken on purpose: the guarding tests must fail."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.constraints import automaton, filtered, trellis
from discdiff.constraints.automaton import Automaton
from discdiff.constraints.class_sums import Classes
from discdiff.constraints.filtered import Filtered
from discdiff.constraints.trellis import Trellis, Ways
from discdiff.languages import Language, count
from discdiff.languages.unrolled import Unrolled, unroll
from tests.constraints import test_automaton as automata
from tests.languages import test_languages as languages
from tests.oracles import test_o17_automata as o17

FAILS = (AssertionError, IndexError, ZeroDivisionError, KeyError)


def test_backward_pass_without_the_accepting_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any state may end a row."""

    def made(languages: Sequence[Language], lengths: Collection[int], allowed: Any = None) -> Unrolled:
        loose = [Language(each.table, np.ones(each.num_states, dtype=np.bool_), each.classes) for each in languages]
        return unroll(loose, lengths, allowed)

    monkeypatch.setattr(automaton, "unroll", made)
    with pytest.raises(FAILS):
        automata.test_tilts(torch.float64)


def test_draw_from_filtered_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token by its own weight where an accepted one can follow, in place of the weight of all ways on."""
    inner = Trellis.sample

    def blind(self: Trellis, weights: Tensor, ways: Ways, *numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return inner(self, weights, replace(ways, beta=[(b > 0).to(b.dtype) for b in ways.beta]), *numbers)

    monkeypatch.setattr(Trellis, "sample", blind)
    with pytest.raises(FAILS):
        automata.test_tilts(torch.float64)
    with pytest.raises(FAILS):
        o17.test_draws_follow_the_law("absorbing", "ancestral")


def test_class_weights_not_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class weighs as much as its likeliest token."""

    def likeliest(self: Classes, values: Tensor) -> Tensor:
        index = self.of_token[self.tokens].expand(values.shape)
        return values.new_zeros(len(values), self.count).scatter_reduce(1, index, values, "amax")

    monkeypatch.setattr(Classes, "sums", likeliest)
    law = automata.SURE * 0 + [0.2, 0.4, 0.4]
    language = count({0}, 1, 2, automata.V)
    found = automata.drawn_law(Automaton(language), law, torch.float64)
    assert automata.distance(found, automata.enumerated(language, law)) > 0.02


def test_floor_too_high(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes without mass weigh nearly as much as others: more tokens than needed go against the model."""
    monkeypatch.setattr(filtered, "FLOOR", -1.0)
    with pytest.raises(FAILS):
        automata.test_models_that_rule_out_all_that_is_accepted(torch.float32)


def test_plain_floats_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that lose their digits are not done again."""
    for dtype in trellis.TINY:
        monkeypatch.setitem(trellis.TINY, dtype, -1.0)
        monkeypatch.setitem(filtered.SMALLEST, dtype, -1.0)
    monkeypatch.setattr(filtered.Filtered, "_checked", lambda self, ways, rounded: ways)
    with pytest.raises(FAILS):
        automata.test_near_certain_models(torch.float32)


def test_lengths_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row as long as the longest."""
    inner = Trellis.over

    def made(self: Trellis, lengths: Tensor) -> Trellis:
        return inner(self, torch.full_like(lengths, int(lengths.max())))

    monkeypatch.setattr(Trellis, "over", made)
    with pytest.raises(FAILS):
        automata.test_against_enumeration(torch.float64)


def test_revealed_tokens_not_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step has revealed is drawn again with the rest."""
    inner = Filtered.__init__

    def made(self: Filtered, *arguments: object) -> None:
        inner(self, *arguments)  # type: ignore[arg-type]
        self.own = torch.ones_like(self.own)

    monkeypatch.setattr(Filtered, "__init__", made)
    with pytest.raises(FAILS):
        o17.test_draws_follow_the_law("absorbing", "ancestral")


def test_states_not_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    from discdiff.languages import language

    monkeypatch.setattr(language, "minimal", lambda table, accepting: (table, accepting))
    with pytest.raises(FAILS):
        languages.test_words(languages.WORDS[3])
