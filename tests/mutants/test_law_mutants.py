"""Broken remasking by confidence, blocks, bounds, intersections, leaps: tests of their laws must see each."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from discdiff.constraints import Allowed, Constraint, Unconstrained
from discdiff.constraints.both import Both
from discdiff.model import Model
from discdiff.prediction import Positions, Prediction
from discdiff.processes import RankOne
from discdiff.randomness import Randomness
from discdiff.samplers import (
    AnyOrder,
    ForwardBackward,
    Gibbs,
    Level,
    Remasking,
    Sampler,
    State,
    entropy_bounded,
    first_hitting,
    remasking,
)
from tests.oracles import test_clean_sweeps as clean
from tests.oracles import test_forward_backward as forward_backward
from tests.oracles import test_o06_exact_samplers as o06
from tests.oracles import test_o16_remasking as o16
from tests.oracles import test_orders_by_enumeration as orders
from tests.toys import DENSE, P_VALUE, TOYS


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


# ---- blocks, bounds, intersections ----------------------------------------------------------------------------------
class FixedOrder(AnyOrder):
    """Blocks from left to right, whatever is drawn."""

    def turns(self, state: State, hidden: Tensor, steps: int | None) -> Tensor:
        assert isinstance(self.blocks, list)
        ends = torch.tensor(self.blocks).cumsum(0)
        return torch.searchsorted(ends, (hidden.long().cumsum(-1) - 1).contiguous(), right=True)


def test_blocks_of_another_order_or_size() -> None:
    assert orders.blocks_error(FixedOrder([1, 2]), DENSE, [1, 2]) > 1e-3
    assert orders.blocks_error(AnyOrder([2, 1]), DENSE, [1, 2]) > 1e-3


def test_a_bound_with_the_largest_entropy_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Σ H ≤ γ: fewer positions a call than are promised."""

    def all_of_them(entropies: Tensor, gamma: float) -> Tensor:
        ascending, order = entropies.sort(dim=-1, stable=True)
        inside = ascending.cumsum(-1) <= gamma
        inside[:, 0] = True
        return torch.zeros_like(inside).scatter(-1, order, inside)

    monkeypatch.setattr(entropy_bounded, "within_bound", all_of_them)
    assert max(orders.bounded_error(TOYS["dense2x4"], gamma) for gamma in orders.EVERY_BOUND) > 1e-3


def union(self: Both, where: Positions) -> Tensor | None:
    """What either allows."""
    tables = [t for t in (self.first.allowed_at(where), self.second.allowed_at(where)) if t is not None]
    return torch.stack(tables).any(0) if tables else None


def first_alone(self: Both, where: Positions) -> Tensor | None:
    """What the first allows."""
    return self.first.allowed_at(where)


@pytest.mark.parametrize("mutant", [union, first_alone])
def test_no_intersection(mutant: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Both, "allowed_at", mutant)
    constraint, allowed = Allowed(orders.FIRST) & Allowed(orders.SECOND), orders.INTERSECTIONS["two tables"][1]
    assert orders.intersection_error(constraint, allowed) > 0.01
    monkeypatch.setitem(orders.INTERSECTIONS, "two tables", (constraint, allowed))
    with pytest.raises(AssertionError):
        orders.test_draws_under_an_intersection("two tables")


# ---- forward and backward -------------------------------------------------------------------------------------------
class ToAnotherLevel(ForwardBackward):
    """Back to 1% less noise than the move began at."""

    def interval(self, model: Model, level: Level) -> Level:
        right = super().interval(model, level)
        return replace(right, sigma_next=0.99 * right.sigma_next)


class LowerRise(ForwardBackward):
    """Nine tenths of the rise."""

    def interval(self, model: Model, level: Level) -> Level:
        right = super().interval(model, level)
        return replace(right, sigma=0.9 * right.sigma + 0.1 * right.sigma_next)


@pytest.mark.parametrize("process", ["absorbing", "uniform", "circular"])
def test_back_to_another_level(process: str) -> None:
    assert forward_backward.change(ToAnotherLevel(0.4), process, "denoiser", forward_backward.LETTER) > 1e-4
    assert forward_backward.move_p_value(LowerRise(0.4), process) < P_VALUE


def test_less_noise_on_the_way_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forward half adds nine tenths of the noise that the backward half takes away."""
    right = RankOne.corrupt

    def less(self: RankOne, x0: Tensor, sigma: Tensor, *, generator: Randomness) -> Tensor:
        return right(self, x0, 0.9 * sigma, generator=generator)

    monkeypatch.setattr(RankOne, "corrupt", less)
    assert forward_backward.move_p_value(ForwardBackward(0.4), "uniform") < P_VALUE


# ---- sweeps at σ = 0 ------------------------------------------------------------------------------------------------
class OwnTokenKept(Gibbs):
    """At σ = 0 the posterior is drawn from: every token stays."""

    def move(
        self, model: Model, constraint: Constraint, state: State, predictor: Sampler, level: Level, rows: Tensor
    ) -> State:
        return super().move(model, NoTilt(), state, predictor, level, rows)


class NoTilt(Unconstrained):
    """Draws x0 from the denoiser, not from its quotient by P_σ."""

    def draw(self, prediction: Prediction, where: Positions, u: Tensor, *, tilt: Tensor | None = None) -> Tensor:
        return super().draw(prediction, where, u)


class FarFromClean(Gibbs):
    """Clean tokens shown at a noise that is not the lowest."""

    def move(
        self, model: Model, constraint: Constraint, state: State, predictor: Sampler, level: Level, rows: Tensor
    ) -> State:
        at = replace(level, sigma_next=0.3) if level.last else level
        return super().move(model, constraint, state, predictor, at, rows)


@pytest.mark.parametrize(
    ("mutant", "parameterization"),
    [(OwnTokenKept(), "leave_one_out"), (FarFromClean(), "leave_one_out"), (FarFromClean(), "score")],
)
def test_clean_sweeps(mutant: Gibbs, parameterization: str) -> None:
    assert clean.swept_p_value(mutant, "marginal", parameterization) < P_VALUE
