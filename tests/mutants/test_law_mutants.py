"""Broken remasking by confidence, blocks, bounds, intersections, leaps: tests of their laws must see each."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from discdiff.constraints import Constraint
from discdiff.prediction import Prediction
from discdiff.samplers import Level, Remasking, State, first_hitting, remasking
from tests.oracles import test_o06_exact_samplers as o06
from tests.oracles import test_o16_remasking as o16


# ---- remasking by confidence ----------------------------------------------------------------------------------------
def test_what_is_cut_goes_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks are revealed as if it had."""

    def cut(log_weights: Tensor, shown: Tensor, mean: float) -> Tensor:
        weights = log_weights.masked_fill(~shown, -torch.inf).softmax(-1).nan_to_num()
        return (mean * shown.sum(-1, keepdim=True).double() * weights).clamp(max=1)

    monkeypatch.setattr(o16, "spread", cut)
    with pytest.raises(AssertionError):
        o16.test_rates_by_confidence()


def test_the_surest_masked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    right = remasking.spread
    monkeypatch.setattr(remasking, "spread", lambda log_weights, shown, mean: right(-log_weights, shown, mean))
    with pytest.raises(AssertionError):
        o16.test_sample_follows_the_enumerated_law(Remasking("confidence", 0.3))


class EmptyRowsApart(Remasking):
    """Rows that show no token reveal as ancestral steps do."""

    def two_draws(
        self,
        prediction: Prediction,
        constraint: Constraint,
        state: State,
        level: Level,
        sigma: Tensor,
        sigma_next: Tensor,
    ) -> State:
        arguments = (prediction, constraint, state, level, sigma, sigma_next)
        usual, other = super().two_draws(*arguments), Remasking("confidence", 0.0).two_draws(*arguments)
        empty = prediction.process.active(state.tokens).all(-1, keepdim=True)
        sure = torch.where(empty, other.extras["confidence"], usual.extras["confidence"])
        return replace(usual, tokens=torch.where(empty, other.tokens, usual.tokens), extras={"confidence": sure})


def test_rows_without_tokens() -> None:
    with pytest.raises(AssertionError):
        o16.test_sample_follows_the_enumerated_law(EmptyRowsApart("confidence", 0.3))


# ---- what networks are shown ----------------------------------------------------------------------------------------
def test_the_mask_fraction_of_free_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """λ from 1, whatever is given."""
    monkeypatch.setattr(first_hitting, "fraction_hidden", lambda state, hidden: hidden.any(-1).double())
    with pytest.raises(AssertionError):
        o06.test_first_hitting_shows_the_share_of_masks()
