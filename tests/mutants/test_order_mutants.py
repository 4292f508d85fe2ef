"""Broken orders, blocks and truncations: the tests of them must see each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.constraints import truncated
from discdiff.constraints.base import PositionWise
from discdiff.errors import DiscdiffError
from discdiff.networks.markov import MarkovChain
from discdiff.prediction import Positions, Prediction
from discdiff.samplers import AnyOrder, Bisection, Confidence, State, confidence, entropy_bounded
from tests.constraints import test_truncation as truncation
from tests.networks import test_markov
from tests.oracles import test_adaptive_orders as adaptive
from tests.oracles import test_o13_block_schedules as o13
from tests.oracles import test_o14_bisection as o14
from tests.oracles import test_zipf_entropy as zipf


# ---- blocks ---------------------------------------------------------------------------------------------------------
class LateBlocks(AnyOrder):
    """Blocks in the opposite order of size."""

    def turns(self, state: State, hidden: Tensor, steps: int | None) -> Tensor:
        turns = super().turns(state, hidden, steps)
        ranks = state.uniform("order").argsort(-1).argsort(-1)
        sizes = torch.bincount(turns[0]).flip(0)
        return torch.searchsorted(sizes.cumsum(0), ranks, right=True)


def test_blocks_of_other_sizes() -> None:
    assert o13.cost_error(AnyOrder([1, 3]), "parity2x4", [1, 3]) < 1e-9
    assert o13.cost_error(LateBlocks([1, 3]), "dense2x4", [1, 3]) > 0.01


def test_schedules_that_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even blocks in place of the best ones."""

    def even(curve: Tensor, steps: int) -> list[int]:
        return np.diff(np.linspace(0, len(curve), steps + 1).astype(int)).tolist()

    monkeypatch.setattr(o13, "optimal_blocks", even)
    with pytest.raises(AssertionError):
        o13.test_no_schedule_costs_less(8)
    with pytest.raises(AssertionError):
        o13.test_repeated_bit()


# ---- bisection ------------------------------------------------------------------------------------------------------
class FinestFirst(Bisection):
    """The last turn first: neighbours of one another's neighbours, with nothing known between them."""

    def turns(self, state: State, hidden: Tensor, steps: int | None) -> Tensor:
        turns = super().turns(state, hidden, steps)
        return turns.masked_fill(~hidden, 0).amax(-1, keepdim=True) - turns


class CountFromZero(Bisection):
    """Positions numbered from 0: two of one call may be neighbours."""

    def turns(self, state: State, hidden: Tensor, steps: int | None) -> Tensor:
        return super().turns(state, hidden, steps).roll(-1, -1) // 2 * 2


def test_bisection_in_another_order() -> None:
    for broken in (FinestFirst(), CountFromZero()):
        assert o14.pointwise_error(broken)[0] > 0.1


# ---- certainty ------------------------------------------------------------------------------------------------------
def test_certainty_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The margin between the first and the third token; entropy with its sign lost."""
    sizes = [1, 1, 1, 1]
    assert adaptive.wrong_choices(Confidence("max_probability"), "margin", sizes) > 0

    def third(log_p: Tensor) -> Tensor:
        ordered = log_p.double().exp().sort(dim=-1, descending=True).values
        return (ordered[:, 0] - ordered[:, 2]).log()

    monkeypatch.setattr(confidence, "log_margin", third)
    assert adaptive.wrong_choices(Confidence("margin"), "margin", sizes) > 0
    monkeypatch.setattr(confidence, "entropy", lambda log_p: -torch.special.entr(log_p.exp()).sum(-1))
    assert adaptive.wrong_choices(Confidence("entropy"), "entropy", sizes) > 0


def test_a_bound_on_each_position_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every position below γ, however many: more is lost than the bound says."""
    monkeypatch.setattr(
        entropy_bounded, "within_bound", lambda entropies, gamma: entropies <= max(gamma, entropies.min())
    )
    with pytest.raises(AssertionError):
        adaptive.test_entropy_bound_bounds_the_error(0.7, "bit")


# ---- truncation -----------------------------------------------------------------------------------------------------
def test_the_crossing_token_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest set whose mass is at most p, in place of the smallest whose mass is at least p."""

    def short(log_p: Tensor, *, top_k: int | None = None, top_p: float | None = None) -> Tensor:
        ordered, order = log_p.sort(dim=-1, descending=True, stable=True)
        inside = ordered.exp().cumsum(-1) <= (top_p or 1.0)
        inside[..., 0] = True
        return log_p.masked_fill(~torch.zeros_like(inside).scatter(-1, order, inside), -torch.inf).log_softmax(-1)

    monkeypatch.setattr(truncation, "truncate", short)
    with pytest.raises(AssertionError):
        truncation.test_the_crossing_token_is_kept(0.51, 2)
    monkeypatch.setattr(truncated, "truncate", short)
    with pytest.raises(AssertionError):
        truncation.test_samplers_by_order("ordered", (None, 0.7))


def cut_before_the_constraint(self: truncated.Truncated, prediction: Prediction, where: Positions) -> Tensor:
    """The model's own law is cut; what the constraint leaves of it may be nothing."""
    log_p = truncated.truncate(prediction.log_denoiser(where), top_k=self.top_k, top_p=self.top_p)
    assert isinstance(self.constraint, PositionWise)
    allowed = self.constraint.allowed_at(where)
    return log_p if allowed is None else log_p.masked_fill(~allowed, -torch.inf).log_softmax(-1)


def test_truncation_before_the_constraint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truncated.Truncated, "log_marginals", cut_before_the_constraint)
    with pytest.raises((AssertionError, DiscdiffError)):
        truncation.test_what_a_constraint_forbids_stays_out()


def test_certainty_of_the_cut_law(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is chosen under top-k too: at k = 1 all positions look certain."""
    monkeypatch.setattr(truncated.Truncated, "untruncated", property(lambda self: self))
    with pytest.raises(AssertionError):
        truncation.test_confidence_is_of_the_whole_law((2, None))
    with pytest.raises(AssertionError):
        truncation.test_entropy_bound_is_of_the_whole_law()


def test_draws_from_the_whole_law(monkeypatch: pytest.MonkeyPatch) -> None:
    """The truncation read by `log_marginals` alone."""

    def whole(self: PositionWise, prediction: Prediction, where: Positions, u: Tensor, **options: Tensor) -> Tensor:
        return self.constraint.draw(prediction, where, u, **options)  # type: ignore[attr-defined]

    monkeypatch.setattr(truncated.Truncated, "draw", whole)
    with pytest.raises(AssertionError):
        truncation.test_grid_samplers("absorbing", "ancestral", (2, None))


# ---- networks, large vocabularies -----------------------------------------------------------------------------------
def test_messages_from_one_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain's network that does not look to the right."""
    inner = MarkovChain.log_posterior

    def one_sided(self: MarkovChain, *arguments: Tensor) -> Tensor:
        kept, self.transition = self.transition, self.transition * 0 + 1 / len(self.initial)
        out = inner(self, *arguments)  # type: ignore[arg-type]
        self.transition = kept
        return out

    monkeypatch.setattr(MarkovChain, "log_posterior", one_sided)
    with pytest.raises(AssertionError):
        test_markov.test_against_enumeration("absorbing", "conditional", False)


def test_one_percent_of_temperature() -> None:
    """A law at temperature 0.99 is outside the tolerance of the entropy test."""
    p = zipf.zipf() ** (1 / 0.99)
    lost = zipf.entropy(zipf.zipf()) - zipf.nll(p / p.sum(), "any_order", 16)
    assert lost > 2 * zipf.TOLERANCE
