"""Likelihoods of rows: padding and batches, averages, what each position adds, precision."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from discdiff.likelihood import Bound, any_order_likelihood, nelbo, ordered_likelihood
from discdiff.randomness import Keys
from discdiff.sequences import Sequences
from tests.cases import MODELS, build
from tests.likelihood.truths import CLEAN, TOY, keys, mixed, wrong
from tests.toy_networks import Single, Wrong
from tests.toys import TOYS


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_padding_is_never_scored(process: str, parameterization: str) -> None:
    """A padded row has the bound of its unpadded self, digit by digit, in whatever batch; NaN waits in the padding."""
    model = mixed(process, parameterization)
    rows = [[0, 1, 2], [2], [1, 1], [2, 0, 1], [0], [2, 2]]
    whole = nelbo(model, Sequences.from_lists(rows), generator=Keys(1, torch.arange(6)), samples=4)
    for i, row in enumerate(rows):
        alone = nelbo(model, Sequences.from_lists([row]), generator=Keys(1, torch.tensor([i])), samples=4)
        for name in ("diffusion", "prior", "reconstruction", "standard_errors"):
            torch.testing.assert_close(getattr(whole, name)[i], getattr(alone, name)[0], rtol=1e-12, atol=1e-13)
        assert whole.tokens[i] == len(row)
    garbage = Sequences.from_lists(rows)
    garbage.tokens[garbage.padding] = 1
    again = nelbo(model, garbage, generator=Keys(1, torch.arange(6)), samples=4, batch_size=2)
    torch.testing.assert_close(again.total, whole.total, rtol=1e-12, atol=1e-13)


def test_averages_are_over_tokens() -> None:
    """Sum of nats over sum of tokens; bits are nats / ln 2; the error likewise."""
    bound = Bound(
        diffusion=torch.tensor([3.0, 10.0]),
        prior=torch.tensor([0.5, 0.5]),
        reconstruction=torch.tensor([0.5, 1.5]),
        standard_errors=torch.tensor([0.3, 0.4]),
        tokens=torch.tensor([2, 6]),
        method="by hand",
    )
    assert bound.total.tolist() == [4.0, 12.0]
    assert bound.nats_per_token == 2.0
    assert bound.bits_per_token == pytest.approx(2 / np.log(2))
    assert bound.standard_error == pytest.approx(0.5 / 8)
    assert repr(bound).startswith("Bound(2.0000 ± 0.0625 nats/token, 2.8854 bits/token, 2 sequences; by hand)")


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_attributions_sum_to_the_bound(process: str, parameterization: str) -> None:
    """Per token they add to the total, also over rounds; padding adds nothing; asking for them changes nothing."""
    rows = Sequences.from_lists([[0, 1, 2], [2], [1, 1], [2, 0, 1]])
    model = mixed(process, parameterization)
    for tolerance in (None, 0.2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bound = nelbo(model, rows, generator=keys(4), per_token=True, tolerance=tolerance, max_samples=64)
            plain = nelbo(model, rows, generator=keys(4), tolerance=tolerance, max_samples=64)
        assert bound.per_token is not None
        torch.testing.assert_close(bound.per_token.sum(-1), bound.total, rtol=1e-10, atol=1e-12)
        assert (bound.per_token[rows.padding] == 0).all()
        assert torch.equal(plain.total, bound.total)
        assert plain.per_token is None


def test_attributions_of_independent_tokens() -> None:
    """Where tokens are independent, each costs −log of its own probability, in expectation: within 4 errors."""
    toy = TOYS["parity2x4"]
    model = build("absorbing", "conditional", toy=toy)
    rows = Sequences.full(torch.from_numpy(toy.support[:1]).repeat(4000, 1))
    bound = nelbo(model, rows, generator=keys(4000), per_token=True, samples=2, batch_size=4000)
    assert bound.per_token is not None
    mean, error = bound.per_token.mean(0), bound.per_token.std(0) / math.sqrt(4000)
    # by symmetry each of the 4 tokens of 3 log 2 nats
    assert ((mean - 0.75 * math.log(2)).abs() < 4 * error).all()
    assert float(error.max()) < 0.02


@pytest.mark.parametrize("parameterization", ["score", "denoiser", "conditional"])
def test_rows_do_not_depend_on_their_batch(parameterization: str) -> None:
    """Padding, batch and order of rows change no digit; NaN waits in the padding."""
    model = mixed("absorbing", parameterization)
    lists = [[0, 1, 2], [2], [1, 1], [2, 0, 1], [0]]
    rows = Sequences.from_lists(lists)
    whole = ordered_likelihood(model, rows, order="random", generator=keys(5), batch_size=2)
    mixture = any_order_likelihood(model, rows, generator=keys(5), orders=3)
    for i, row in enumerate(lists):
        alone, key = Sequences.from_lists([row]), Keys(3, torch.tensor([i]))
        single = ordered_likelihood(model, alone, order="random", generator=key)
        torch.testing.assert_close(single.total[0], whole.total[i], rtol=1e-12, atol=0)
        same = any_order_likelihood(model, alone, generator=key, orders=3)
        torch.testing.assert_close(same.total[0], mixture.total[i], rtol=1e-12, atol=0)
        assert int(whole.calls[i]) == len(row)


def test_float32() -> None:
    """A model in float32 agrees with float64 to 1e-5."""
    model = wrong()
    single = build("absorbing", "conditional", toy=TOY, network=lambda t, s: Single(Wrong(t, s, 0.5)))
    for order in ("left_to_right", "random"):
        one = ordered_likelihood(model, CLEAN, order=order, generator=keys()).total
        other = ordered_likelihood(single, CLEAN, order=order, generator=keys()).total
        assert other.dtype == torch.float64
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
