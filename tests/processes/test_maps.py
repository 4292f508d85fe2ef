"""Every process against exp(σQ) by SciPy: rates, columns, rows, propagation, conversions, losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from discdiff.errors import IncompatibleError
from discdiff.processes import Process, Uniform
from tests.cases import PROCESSES, ProcessCase
from tests.toys import Array

SIGMAS = [1e-6, 1e-4, 1e-2, 0.3, 1.0, 4.0, 20.0]
VOCAB = 3
TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-6}
CASES = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in PROCESSES.items()])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def levels(dtype: torch.dtype) -> list[float]:
    """The noise levels as the dtype holds them: SciPy must be asked about the same number."""
    return torch.tensor(SIGMAS, dtype=dtype).double().tolist()


def relative(got: torch.Tensor, want: Array) -> float:
    """The largest error of `got`, relative to each entry of `want` (absolute where that is 0)."""
    scale = np.where(want == 0, 1.0, np.abs(want))
    return float((np.abs(got.double().numpy() - want) / scale).max())


def states(process: Process) -> torch.Tensor:
    return torch.arange(process.num_states)


@CASES
@DTYPES
def test_rates(case: ProcessCase, dtype: torch.dtype) -> None:
    process, rates = case.make(VOCAB), case.rates(VOCAB)
    x = states(process)
    assert relative(process.rates_from(x, dtype=dtype), rates.T) < TOLERANCE[dtype]
    assert relative(process.rates_into(x, dtype=dtype), rates) < TOLERANCE[dtype]
    assert process.rates_from(x, dtype=dtype).dtype == dtype
    np.testing.assert_allclose(process.rates_from(x, dtype=torch.float64).sum(-1), 0, atol=1e-15)
    off_diagonal = rates * (1 - np.eye(len(rates)))
    assert process.active(x).tolist() == (off_diagonal > 0).any(-1).tolist()


@CASES
@DTYPES
def test_transition_and_likelihood(case: ProcessCase, dtype: torch.dtype) -> None:
    """Relative to each entry, so that the 1e-6 of a hardly noised position has all its digits."""
    process = case.make(VOCAB)
    x = states(process)
    for sigma in levels(dtype):
        truth = case.transition(VOCAB, sigma)
        noise = torch.full(x.shape, sigma, dtype=dtype)
        column, row = process.transition(x, noise), process.likelihood(x, noise)
        assert column.dtype == row.dtype == dtype
        assert relative(column, truth.T) < TOLERANCE[dtype], sigma
        assert relative(row, truth) < TOLERANCE[dtype], sigma
        np.testing.assert_allclose(column.sum(-1), 1, atol=TOLERANCE[dtype])


@CASES
def test_shapes_broadcast(case: ProcessCase) -> None:
    """`sigma` `[B, 1]` and `[B, L]` serve tokens `[B, L]`, row by row."""
    process = case.make(VOCAB)
    x = torch.tensor([[0, 1, 2], [2, 1, process.num_states - 1]])
    noise = torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    for method in (process.transition, process.likelihood):
        values = method(x, noise)
        assert values.shape == (2, 3, process.num_states)
        torch.testing.assert_close(values, method(x, noise.expand(2, 3).contiguous()))
        torch.testing.assert_close(values[1, 2], method(x[1:, 2], noise[1])[0])


@CASES
def test_propagate(case: ProcessCase) -> None:
    process = case.make(VOCAB)
    p = torch.rand(5, process.num_states, dtype=torch.float64)
    for sigma in SIGMAS[:-1]:
        noise = torch.full((5,), sigma, dtype=torch.float64)
        forward = process.propagate(p, noise)
        np.testing.assert_allclose(forward, p.numpy() @ case.transition(VOCAB, sigma).T, atol=1e-13)
        torch.testing.assert_close(process.propagate(forward, -noise), p, atol=1e-12 * math.exp(sigma), rtol=0)


@CASES
def test_stationary_and_prior(case: ProcessCase) -> None:
    process = case.make(VOCAB)
    pi = process.stationary(dtype=torch.float64)
    np.testing.assert_allclose(case.rates(VOCAB) @ pi.numpy(), 0, atol=1e-15)
    np.testing.assert_allclose(case.transition(VOCAB, 60.0), np.tile(pi.numpy()[:, None], (1, len(pi))), atol=1e-12)
    draw = process.sample_prior((100, 200), generator=torch.Generator().manual_seed(0))
    assert draw.shape == (100, 200)
    share = np.bincount(draw.flatten().numpy(), minlength=len(pi)) / draw.numel()
    # 20,000 draws: off by less than 5 standard errors of the widest cell.
    np.testing.assert_allclose(share, pi, atol=5 * 0.5 / math.sqrt(draw.numel()))


@CASES
@given(first=st.floats(1e-6, 10), second=st.floats(1e-6, 10))
def test_chapman_kolmogorov(case: ProcessCase, first: float, second: float) -> None:
    """exp(sQ) exp(uQ) = exp((s + u)Q), from `transition`, `likelihood` and `propagate` alike."""
    process = case.make(VOCAB)
    x = states(process)
    one, two = (torch.full(x.shape, value, dtype=torch.float64) for value in (first, second))
    whole = process.transition(x, one + two)
    torch.testing.assert_close(process.propagate(process.transition(x, one), two), whole, atol=1e-14, rtol=1e-11)
    product = process.likelihood(x, two) @ process.transition(x, one).T
    torch.testing.assert_close(product.T, whole, atol=1e-14, rtol=1e-11)


@CASES
def test_prior_kl(case: ProcessCase) -> None:
    process = case.make(VOCAB)
    pi = process.stationary(dtype=torch.float64).numpy()
    x0 = torch.arange(VOCAB)
    for sigma in (0.0, 0.01, 1.0, 6.0):
        got = process.prior_kl(x0, torch.tensor([sigma], dtype=torch.float64))
        q = case.transition(VOCAB, sigma)[:, :VOCAB].T
        with np.errstate(divide="ignore", invalid="ignore"):
            want = np.where(q > 0, q * np.log(q / pi), 0).sum(-1)
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=5e-15)  # the sum of q log(q/π) cancels to α²


@CASES
@DTYPES
def test_extremes_stay_finite(case: ProcessCase, dtype: torch.dtype) -> None:
    """σ from 1e-6 to 20 with a lopsided denoiser: every conversion is finite and every law sums to one."""
    process = case.make(VOCAB)
    x = states(process)
    p = torch.tensor([0.0, 1e-30, 1.0], dtype=dtype).expand(len(x), -1)
    for sigma in levels(dtype):
        noise = torch.full(x.shape, sigma, dtype=dtype)
        log_p = process.restrict(p.log(), x).log_softmax(-1)
        log_s = process.score_from_denoiser(log_p, x, noise)
        assert not log_s.isnan().any()
        assert not log_s.isposinf().any()
        assert (log_s.gather(-1, x[:, None]) == 0).all()
        for share in (0.0, 0.5, 1.0):
            posterior = process.posterior_from_denoiser(log_p, x, noise, noise * share)
            assert (posterior >= 0).all()
            np.testing.assert_allclose(posterior.sum(-1), 1, atol=1e-6)
        assert not process.log_jump_rate(x, noise).isnan().any()
        assert process.log_score_scale(x, noise).isfinite().all()


@CASES
@pytest.mark.parametrize("size", [1, 0, -3])
def test_vocabulary_too_small(case: ProcessCase, size: int) -> None:
    with pytest.raises(IncompatibleError, match=rf"got vocab_size={size}, expected an integer of at least 2"):
        case.make(size)


def test_prior_kl_of_uniform_keeps_its_digits() -> None:
    """At σ = 4 and 8 in float32 to 1e-4: α²(V − 1)/2 plus higher orders, which float32's own 1 + α would lose."""
    for sigma in (4.0, 8.0):
        alpha = np.exp(-np.float64(sigma))
        high, low = 1 + (VOCAB - 1) * alpha, 1 - alpha
        want = (high * np.log(high) + (VOCAB - 1) * low * np.log(low)) / VOCAB
        got = Uniform(VOCAB).prior_kl(torch.arange(VOCAB), torch.tensor([sigma]))
        np.testing.assert_allclose(got, want, rtol=4e-4)
