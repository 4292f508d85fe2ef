"""Ordered likelihoods and mixtures over orders against enumeration in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from discdiff.likelihood import any_order_likelihood, ordered_likelihood
from discdiff.sequences import Sequences
from tests.cases import build
from tests.likelihood.truths import CLEAN, MASKED, ORDERS, TOY, X0, keys, path, wrong
from tests.toys import Z_LIMIT, z_score


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize(("process", "parameterization"), MASKED)
def test_ordered_is_the_product_of_conditionals(process: str, parameterization: str, order: tuple[int, ...]) -> None:
    """A wrong network, every order, token by token; the exact one gives −log p0 in every order. 1e-10."""
    model = wrong(process, parameterization)
    found = ordered_likelihood(model, CLEAN, order=torch.tensor(order), batch_size=10)
    want = path(model, parameterization, order)
    assert found.per_token is not None
    np.testing.assert_allclose(found.per_token.numpy(), want, rtol=1e-10)
    np.testing.assert_allclose(found.total.numpy(), want.sum(-1), rtol=1e-10)
    assert (found.calls == TOY.length).all()
    assert (found.standard_errors == 0).all()
    exact = ordered_likelihood(build(process, parameterization, toy=TOY), CLEAN, order=torch.tensor(order))
    np.testing.assert_allclose(exact.total.numpy(), -np.log(TOY.probabilities), rtol=1e-9)


def test_random_orders_are_uniform() -> None:
    """Each of the 6 orders' values occurs as often as it should among 3000 rows: within 5 deviations."""
    model = wrong()
    rows = Sequences.full(X0[5:6].repeat(3000, 1))
    found = ordered_likelihood(model, rows, order="random", generator=keys(3000), batch_size=4000).total.numpy()
    want = np.array([path(model, "conditional", order)[5].sum() for order in ORDERS])
    nearest = np.abs(found[:, None] - want).argmin(-1)
    assert np.abs(found - want[nearest]).max() < 1e-10
    counts = np.bincount(nearest, minlength=6)
    assert np.abs(counts - 500).max() < 5 * math.sqrt(3000 * 5 / 36)


def test_mixture_over_orders() -> None:
    """exp(−total) is unbiased for the mean likelihood over all orders; the total lies above it and below the mean.

    900 copies of each sequence, K = 4: an error of 1% in the mean weight is caught.
    """
    model, copies = wrong(), 900
    nats = np.stack([path(model, "conditional", order).sum(-1) for order in ORDERS])
    truth = -np.log(np.exp(-nats).mean(0))
    rows = Sequences.full(X0.repeat(copies, 1))
    found = any_order_likelihood(model, rows, generator=keys(len(rows)), orders=4, batch_size=1 << 16)
    each = found.total.reshape(copies, -1).numpy()
    ratio = np.exp(truth - each).mean(-1)
    assert abs(z_score(ratio, 1.0)) < Z_LIMIT
    assert ratio.std() / math.sqrt(copies) < 0.01 / Z_LIMIT
    assert truth.mean() < each.mean() < nats.mean()
    # bias of half the variance, to first order
    bias = each.mean() - truth.mean()
    assert bias == pytest.approx(float(found.standard_errors.square().mean()) / 2, rel=0.3)
    stated, true = float(found.standard_errors.square().mean()), each.var(0, ddof=1).mean()
    assert 0.7 < stated / true < 1.3
    assert (found.calls == 4 * TOY.length).all()
    assert found.orders.shape == (4, len(rows))
