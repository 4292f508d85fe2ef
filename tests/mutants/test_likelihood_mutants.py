"""Deliberately broken likelihoods: the tests against enumeration must see each of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from discdiff.likelihood import orders, terms
from discdiff.likelihood.scored import Scored
from discdiff.model import Model
from tests.likelihood import test_orders, test_spans, test_tolerance


def test_a_token_that_sees_itself_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions already revealed stay masked."""
    real = orders._reveal

    def forgetful(model: Model, part: Scored, ranks: Tensor) -> tuple[Tensor, Tensor]:
        wide = Scored(part.sequences, part.where)
        return real(model, wide, torch.where(part.where, 0, ranks))

    monkeypatch.setattr(orders, "_reveal", forgetful)
    with pytest.raises(AssertionError):
        test_orders.test_ordered_is_the_product_of_conditionals("absorbing", "conditional", (0, 1, 2))


def test_mean_over_orders_is_no_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of log p over orders in place of the log of the mean."""
    monkeypatch.setattr(Tensor, "logsumexp", lambda self, dim: self.mean(dim) + math.log(self.shape[dim]))
    with pytest.raises(AssertionError):
        test_orders.test_mixture_over_orders()


def test_span_that_masks_the_rest_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is not given."""
    real = Scored.of.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Scored, "of", classmethod(lambda cls, model, rows, span, asked: real(cls, model, rows, None, asked))
    )
    with pytest.raises(AssertionError):
        test_spans.test_span_given_the_rest((True, False, True))
    with pytest.raises(AssertionError):
        test_spans.test_bound_of_a_span("absorbing", "denoiser", (True, False, True))


def test_rounds_that_share_their_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound's draws repeat the noise of the pilot that chose their number."""
    real = terms._replicates
    monkeypatch.setattr(terms, "_replicates", lambda part, draw, samples, first: real(part, draw, samples, 0))
    with pytest.raises(AssertionError):
        test_tolerance.test_nothing_of_the_pilot_is_kept()
