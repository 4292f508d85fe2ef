"""Spans given the rest of their sequence, against the joint table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.errors import IncompatibleError
from discdiff.likelihood import conditional_likelihood, nelbo
from discdiff.sequences import Sequences
from tests.cases import MODELS, build
from tests.likelihood.truths import CLEAN, SPANS, TOY, X0, conditional_truth, keys, path, wrong
from tests.toy_networks import Wrong


@pytest.mark.parametrize("span", SPANS, ids=lambda s: "".join("x" if v else "." for v in s))
def test_span_given_the_rest(span: tuple[bool, ...]) -> None:
    """Ordered within the span: log ratio of joint and marginal for the exact network, the conditionals for a wrong."""
    marks = torch.tensor(span).expand(len(X0), -1)
    for order in ("left_to_right", "random"):
        found = conditional_likelihood(
            build("absorbing", "denoiser", toy=TOY), CLEAN, marks, order=order, generator=keys()
        )
        np.testing.assert_allclose(found.total.numpy(), conditional_truth(span), rtol=1e-9, atol=1e-12)
        assert (found.tokens == sum(span)).all()
    chosen = tuple(int(i) for i in np.flatnonzero(span))
    model = wrong("absorbing", "denoiser")
    found = conditional_likelihood(model, CLEAN, marks, order="left_to_right")
    np.testing.assert_allclose(found.total.numpy(), path(model, "denoiser", chosen).sum(-1), rtol=1e-10)
    assert found.per_token is not None
    assert (found.per_token[:, ~torch.tensor(span)] == 0).all()


@pytest.mark.parametrize("span", [(True, False, True), (False, True, False)], ids=["x.x", ".x."])
@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_bound_of_a_span(process: str, parameterization: str, span: tuple[bool, ...]) -> None:
    """The exact network: the bound of a span given the rest is its conditional −log p, within the ends' share.

    Averages over the data; 4 deviations plus 0.06 nats, what t_min and the prior's misfit cost.
    """
    model = build(process, parameterization, toy=TOY)
    rows = Sequences.full(X0.repeat(20, 1))
    marks = torch.tensor(span).expand(len(rows), -1)
    bound = conditional_likelihood(model, rows, marks, generator=keys(len(rows)), samples=8, per_token=True)
    weights = torch.from_numpy(np.tile(TOY.probabilities, 20) / 20)
    want = float((conditional_truth(span) * TOY.probabilities).sum())
    error = float((weights * bound.standard_errors).square().sum().sqrt())
    assert abs(float((weights * bound.total).sum()) - want) < 4 * error + 0.06
    assert bound.per_token is not None
    assert (bound.per_token[:, ~torch.tensor(span)] == 0).all()


def test_span_that_is_everything() -> None:
    """Scoring all tokens given nothing is scoring the sequence: digit by digit."""
    model = wrong("absorbing", "denoiser")
    whole = nelbo(model, CLEAN, generator=keys())
    span = nelbo(model, CLEAN, generator=keys(), span=torch.ones_like(X0, dtype=torch.bool))
    assert torch.equal(whole.total, span.total)


def test_span_needs_a_network_that_knows_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off the absorbing process a network that is not told what is frozen would score something else: refused."""
    monkeypatch.setattr(Wrong, "conditions_on_frozen", property(lambda self: False))
    span = torch.tensor([True, False, True]).expand(len(X0), -1)
    with pytest.raises(IncompatibleError, match="which positions are given"):
        conditional_likelihood(wrong("uniform", "denoiser"), CLEAN, span, generator=keys())
    conditional_likelihood(wrong("absorbing", "denoiser"), CLEAN, span, generator=keys())
