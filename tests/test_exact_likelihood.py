"""Ordered likelihoods, mixtures over orders, spans, attributions and tolerances against enumeration in NumPy."""

from __future__ import annotations

import itertools
import math
import warnings
from importlib import import_module

import numpy as np
import pytest
import torch

from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.likelihood import (
    any_order_likelihood,
    conditional_likelihood,
    nelbo,
    ordered_likelihood,
)
from discdiff.likelihood.scored import Scored
from discdiff.model import Diffusion, Model
from discdiff.networks import Context
from discdiff.randomness import Keys, Randomness
from discdiff.schedules import LogLinear
from discdiff.sequences import Sequences
from tests.cases import MODELS, PROCESSES, build
from tests.test_likelihood import mixed
from tests.toy_networks import Single, Wrong
from tests.toys import TOYS, Z_LIMIT, Array, z_score

TOY = TOYS["dense3x3"]
X0 = torch.from_numpy(TOY.sequences)
CLEAN = Sequences.full(X0)
MASKED = [pair for pair in MODELS if PROCESSES[pair[0]].masked]
ORDERS = list(itertools.permutations(range(TOY.length)))
SPANS = [span for span in itertools.product([False, True], repeat=TOY.length) if any(span)]


def wrong(process: str = "absorbing", parameterization: str = "conditional") -> Diffusion:
    return build(process, parameterization, toy=TOY, network=lambda t, s: Wrong(t, s, 0.5))


def path(model: Diffusion, parameterization: str, order: tuple[int, ...]) -> Array:
    """−log p of each token, when it is revealed in this order (others given): `[V^L, L]`, read from raw logits."""
    tokens, mask, out = TOY.sequences, TOY.vocab_size, np.zeros(TOY.sequences.shape)
    low, high = model.schedule.ends()
    for step, position in enumerate(order):
        xt = tokens.copy()
        xt[:, list(order[step:])] = mask
        fraction = (len(order) - step) / TOY.length
        sigma = high if fraction == 1 else float(np.clip(-np.log1p(-fraction), low, high))
        shown = torch.full((len(xt), 1), sigma, dtype=torch.float64) if model.time_conditioned else None
        said = model.network.hidden(torch.from_numpy(xt), shown, Context()).numpy()[:, position, :mask]
        p = np.exp(said) / np.exp(said).sum(-1, keepdims=True)
        out[:, position] = -np.log(p[np.arange(len(xt)), tokens[:, position]])
    return out


def conditional_truth(span: tuple[bool, ...]) -> Array:
    """−log p0(x_S | x_rest) of every sequence, from the joint table."""
    marginal = TOY.joint.sum(axis=tuple(np.flatnonzero(span)), keepdims=True)
    return np.asarray(-np.log(TOY.joint / marginal).reshape(-1))


def keys(rows: int = len(X0), seed: int = 3) -> Keys:
    return Keys(seed, torch.arange(rows))


# ---- in order -------------------------------------------------------------------------------------------------------
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


# ---- spans ----------------------------------------------------------------------------------------------------------
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


# ---- attributions, rows, dtypes -------------------------------------------------------------------------------------
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


# ---- tolerance ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("process", ["absorbing", "uniform"])
def test_tolerance_is_met_and_honest(process: str) -> None:
    """25 repetitions: met in nine of ten, 97% within 3 tolerances of the truth, average unbiased, spread not above it.

    The truth is a bound of 1024 noise levels a sequence.
    """
    model = build(process, "denoiser", toy=TOY, schedule=LogLinear(t_min=0.05), network=lambda t, s: Wrong(t, s, 0.3))
    truth = nelbo(model, CLEAN, generator=keys(seed=99), samples=1024)
    bounds = [nelbo(model, CLEAN, generator=keys(seed=s), samples=4, tolerance=0.06) for s in range(25)]
    values = np.array([bound.nats_per_token for bound in bounds])
    assert np.mean([bound.tolerance_met for bound in bounds]) >= 0.9
    assert (np.abs(values - truth.nats_per_token) < 3 * 0.06).mean() >= 0.97
    assert values.std(ddof=1) < 0.06 * 1.25
    spread = math.hypot(values.std(ddof=1) / math.sqrt(25), truth.standard_error)
    assert abs(values.mean() - truth.nats_per_token) < Z_LIMIT * spread
    assert "met with" in bounds[0].method


def test_stopping_does_not_lower_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heavy-tailed terms of known mean in place of a model's: 3,000 bounds to a tolerance average to that mean.

    Lognormal, s = 1.2: a bound that stops on its own error comes out 15 per cent too low, one that only adds rounds of
    new draws until they meet it 7 per cent. The average's own error is 0.5 per cent; p > 1e-4 is asked for.
    """
    spread, seen = 1.2, torch.Generator().manual_seed(8)

    def drawn(model: Model, part: Scored, generator: Randomness, more: int, step: int) -> tuple[torch.Tensor, ...]:
        shape = (more, *part.where.shape)
        values = torch.randn(shape, generator=seen, dtype=torch.float64).mul(spread).sub(spread**2 / 2).exp()
        return values, torch.zeros(shape[1:], dtype=torch.float64), torch.zeros_like(values)

    monkeypatch.setattr(import_module("discdiff.likelihood.nelbo"), "estimator", lambda model: (drawn, "drawn"))
    model = wrong()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tolerance is not always met
        bounds = [
            nelbo(model, CLEAN[:1], generator=Keys(1, torch.arange(1)), samples=4, tolerance=0.2) for _ in range(3000)
        ]
    values = np.array([bound.nats_per_token for bound in bounds])
    assert all(bound.tolerance_met == (bound.standard_error <= 0.2) for bound in bounds)
    assert abs(z_score(values, 1.0)) < Z_LIMIT


def test_tolerance_not_met() -> None:
    """The cap holds, the result and a warning say so; without a tolerance nothing is said."""
    with pytest.warns(UserWarning, match="NOT met with 10 noise levels"):
        bound = nelbo(wrong(), CLEAN, generator=keys(), samples=4, tolerance=1e-6, max_samples=10)
    assert bound.samples == 10
    assert bound.tolerance_met is False
    assert "NOT met" in bound.method
    assert nelbo(wrong(), CLEAN, generator=keys(), samples=4).tolerance_met is None


def test_nothing_of_the_pilot_is_kept() -> None:
    """After a pilot of 8 and 8 levels, the 16 of the bound are drawn anew: of another noise, of the same error."""
    with pytest.warns(UserWarning, match="NOT met"):
        two = nelbo(wrong(), CLEAN, generator=keys(), samples=8, tolerance=1e-9, max_samples=16)
    one = nelbo(wrong(), CLEAN, generator=keys(), samples=16)
    assert two.samples == 16
    assert not torch.isclose(two.total, one.total).any()
    assert 0.7 < two.standard_error / one.standard_error < 1.4


# ---- refusals -------------------------------------------------------------------------------------------------------
def test_refusals() -> None:
    ones = torch.ones_like(X0, dtype=torch.bool)
    with pytest.raises(IncompatibleError, match="absorbing process"):
        ordered_likelihood(build("uniform", "denoiser", toy=TOY), CLEAN)
    with pytest.raises(IncompatibleError, match="absorbing process"):
        any_order_likelihood(build("uniform", "denoiser", toy=TOY), CLEAN, generator=keys())
    with pytest.raises(IncompatibleError, match="permutations"):
        ordered_likelihood(wrong(), CLEAN, order=torch.tensor([0, 0, 1]))
    with pytest.raises(IncompatibleError, match="left_to_right"):
        ordered_likelihood(wrong(), CLEAN, order="backwards")  # type: ignore[arg-type]
    with pytest.raises(IncompatibleError, match="span"):
        conditional_likelihood(wrong(), CLEAN, ones[:, :2], generator=keys())
    with pytest.raises(DiscdiffError, match="at least one token"):
        conditional_likelihood(wrong(), CLEAN, ~ones, generator=keys())
    with pytest.raises(DiscdiffError, match="generator"):
        ordered_likelihood(wrong(), CLEAN, order="random")
    with pytest.raises(DiscdiffError, match="orders=1"):
        any_order_likelihood(wrong(), CLEAN, generator=keys(), orders=1)
    with pytest.raises(DiscdiffError, match="tolerance"):
        nelbo(wrong(), CLEAN, generator=keys(), tolerance=0.0)
    with pytest.raises(DiscdiffError, match="max_samples"):
        nelbo(wrong(), CLEAN, generator=keys(), tolerance=0.1, max_samples=4)


def test_span_needs_a_network_that_knows_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off the absorbing process a network that is not told what is frozen would score something else: refused."""
    monkeypatch.setattr(Wrong, "conditions_on_frozen", property(lambda self: False))
    span = torch.tensor([True, False, True]).expand(len(X0), -1)
    with pytest.raises(IncompatibleError, match="which positions are given"):
        conditional_likelihood(wrong("uniform", "denoiser"), CLEAN, span, generator=keys())
    conditional_likelihood(wrong("absorbing", "denoiser"), CLEAN, span, generator=keys())
