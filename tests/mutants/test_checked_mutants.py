"""Checks that are broken on purpose: the tests of `Checked` see it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discdiff.constraints import Checked, checked
from discdiff.sequences import Sequences
from tests.constraints import test_checked as tests


def test_a_tilt_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked._Job, "_tilt", lambda self, open_, where: None)
    with pytest.raises(AssertionError):
        tests.test_tilts()


def test_moves_kept_that_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Checked._moved

    def careless(self: Checked, job: checked._Job, some: Tensor, x0: Tensor, keys: Tensor) -> Tensor:
        lenient = self._like(self.within, passes=lambda sequences: torch.ones(len(sequences), dtype=torch.bool))
        return plain(lenient, job, some, x0, keys)

    monkeypatch.setattr(Checked, "_moved", careless)
    with pytest.raises(AssertionError):
        tests.test_moves_keep_the_law("all")


def test_moves_that_favour_some_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that always end at the last position leave the first one as it was."""
    plain = checked._numbers

    def late(keys: Tensor, turn: Tensor, count: int, purpose: str) -> Tensor:
        found = plain(keys, turn, count, purpose)
        return found * torch.tensor([0.5, 0.0]) + torch.tensor([0.0, 0.999]) if purpose == "window" else found

    monkeypatch.setattr(checked, "_numbers", late)
    with pytest.raises(AssertionError):
        tests.test_moves_forget_where_they_began()


def test_the_length_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding shown as if it belonged to the sequence."""
    plain = Checked._passing

    def whole(self: Checked, tokens: Tensor, rows: Tensor) -> Tensor:
        return plain(self._like(self.within, passes=lambda s: self.passes(Sequences.full(s.tokens))), tokens, rows)

    monkeypatch.setattr(Checked, "_passing", whole)
    from tests.oracles.test_o20_keys import test_constrained_rows_stand_alone

    with pytest.raises(AssertionError):
        test_constrained_rows_stand_alone("first_hitting", "checked")
