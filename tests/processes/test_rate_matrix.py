"""`RateMatrix`: what it refuses, small entries, large matrices, many noise levels; and the named constructions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.linalg
import torch

import discdiff as dd
from discdiff.description import build, describe
from discdiff.errors import IncompatibleError
from discdiff.processes import Hybrid, Marginal, RateMatrix, rate_matrix
from discdiff.processes.constructions import banded, nearest_neighbors, reversible
from discdiff.processes.exponential import Exponential, reachable_of, stationary_of
from tests.toys import Array, circular_rates, reversible_rates

GOOD = circular_rates(3)


def changed(y: int, x: int, value: float) -> Array:
    rates = GOOD.copy()
    rates[y, x] = value
    return rates


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (np.zeros((2, 3)), r"got shape \[2, 3\], expected a square matrix"),
        (changed(2, 1, np.nan), r"got Q\[2, 1\] = nan"),
        (changed(0, 1, -0.5), r"got Q\[0, 1\] = -0\.5, expected off-diagonal rates of at least 0"),
        (changed(1, 2, 5.0), r"got column 2, which sums to .*transpose"),
        (GOOD.T, r"got column 0, which sums to .*transpose"),
        (circular_rates(4), r"rates of 4 states for a vocabulary of 3.*end token"),
        (scipy.linalg.block_diag([[-1.0, 1.0], [1.0, -1.0]], [[0.0]]), "states that cannot reach one another"),
    ],
)
def test_no_generator(rates: Array, message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        RateMatrix(3, rates.tolist())


def test_too_many_states() -> None:
    with pytest.raises(IncompatibleError, match="2049 states, expected at most 2048"):
        RateMatrix(2049)


def test_one_jump_per_unit_of_noise() -> None:
    process = RateMatrix(3, (7 * GOOD).tolist())
    np.testing.assert_allclose(process.rates_from(torch.arange(3), dtype=torch.float64).T, GOOD, rtol=1e-14)


@pytest.mark.parametrize("sigma", [1e-6, 1e-3, 0.5])
def test_entries_far_apart_keep_their_digits(sigma: float) -> None:
    """Banded, 6 states: P[5, 0] is about σ⁵/5!, 1e-32 at σ = 1e-6; 1e-12 relative.

    The truth is the power series in fractions, exact for its first eight terms.
    """
    process = RateMatrix(6, banded(6).tolist())
    exact = [[Fraction(float(v)) * Fraction(sigma) for v in row] for row in process.table]
    want = [[Fraction(int(i == j)) for j in range(6)] for i in range(6)]
    term = [row[:] for row in want]
    for k in range(1, 25):
        product = [[sum(term[i][m] * exact[m][j] for m in range(6)) / k for j in range(6)] for i in range(6)]
        term = [[Fraction(float(v)) if k > 8 else Fraction(v) for v in row] for row in product]
        want = [[a + b for a, b in zip(one, two, strict=True)] for one, two in zip(want, term, strict=True)]
    truth = np.array([[float(v) for v in row] for row in want])
    got = process.likelihood(torch.arange(6), torch.full((6,), sigma, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(got, truth, rtol=1e-12)


@pytest.mark.parametrize("reversible_one", [True, False])
def test_both_routes_agree(reversible_one: bool) -> None:
    """Decomposition, series with squaring, and SciPy: 12 states, σ from 1e-3 to 20, 1e-12 absolute."""
    rates = torch.from_numpy((reversible_rates if reversible_one else circular_rates)(12))
    exponential = Exponential(rates, stationary_of(rates), reachable_of(rates))
    assert (exponential.eigen is not None) == reversible_one
    sigma = torch.tensor([1e-3, 0.3, 2.0, 20.0], dtype=torch.float64)
    want = np.stack([scipy.linalg.expm(s * rates.numpy()) for s in sigma.tolist()])
    np.testing.assert_allclose(exponential(sigma), want, atol=1e-12)
    np.testing.assert_allclose(exponential._squared(sigma), want, atol=1e-12)
    back = exponential.inverse(sigma[:3]) @ exponential(sigma[:3])
    np.testing.assert_allclose(back, np.broadcast_to(np.eye(12), back.shape), atol=1e-9)


def test_many_states_many_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 states in a ring and memory for 4 matrices: 14 levels in parts give what one at a time gives."""
    angle = torch.arange(300.0) / 300 * 2 * math.pi
    process = RateMatrix(300, nearest_neighbors(torch.stack([angle.cos(), angle.sin()], -1), 4))
    x0 = torch.arange(0, 280, 20)[:, None]
    sigma = torch.linspace(0.5, 3, 14, dtype=torch.float64)[:, None]
    whole = process.transition(x0, sigma)
    monkeypatch.setattr(rate_matrix, "ENTRIES", 4 * 300**2)
    assert torch.equal(process.transition(x0, sigma), whole)
    np.testing.assert_allclose(whole.sum(-1), 1, atol=1e-12)
    assert (whole > 0).all()  # the far side too, though rounding leaves nothing of it
    point = torch.eye(300, dtype=torch.float64)[x0]
    np.testing.assert_allclose(process.propagate(point, sigma), whole, atol=1e-13)
    np.testing.assert_allclose(process.stationary(dtype=torch.float64), 1 / 300, rtol=1e-10)


def test_gradients_pass_through_propagation() -> None:
    process = RateMatrix(3, GOOD.tolist())
    p = torch.rand(2, 3, 3, dtype=torch.float64, requires_grad=True)
    for sigma in (torch.tensor([[0.3], [0.9]]), torch.tensor([[-0.2], [-0.2]])):
        assert torch.autograd.gradcheck(lambda q, s=sigma: process.propagate(q, s.double()), (p,))
    log_p = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    x, noise = torch.tensor([[0, 1, 2], [2, 2, 0]]), torch.tensor([[0.3], [4.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda q: process.score_entropy(process.score_from_denoiser(q.log_softmax(-1), x, noise), x, x, noise),
        (log_p,),
    )


# ---- named constructions ---------------------------------------------------------------------------------------------
def test_banded() -> None:
    rates = banded(5, width=2, decay=math.log(2))
    assert rates[:, 2].tolist() == [0.5, 1.0, -3.0, 1.0, 0.5]
    assert (rates.sum(0) == 0).all()
    with pytest.raises(IncompatibleError, match="expected a width from 1 to 4"):
        banded(5, width=5)


def test_nearest_neighbors() -> None:
    """On a line at 0, 1, 3, 3.5: each one's nearest; 1 is nearest to 0 and nobody else's but 0's."""
    rates = nearest_neighbors(torch.tensor([[0.0], [1.0], [3.0], [3.5]]), 1)
    linked = (rates > 0).int()
    assert linked.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    with pytest.raises(IncompatibleError, match="cannot reach one another"):
        RateMatrix(4, rates.tolist())
    RateMatrix(4, nearest_neighbors(torch.tensor([[0.0], [1.0], [3.0], [3.5]]), 1, background=0.01).tolist())


def test_reversible_refuses() -> None:
    with pytest.raises(IncompatibleError, match=r"R\[0, 1\] = 1 and R\[1, 0\] = 2"):
        reversible(torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([0.5, 0.5]))
    with pytest.raises(IncompatibleError, match=r"frequencies\[1\] = 0"):
        reversible(torch.ones(2, 2), torch.tensor([1.0, 0.0]))


# ---- marginal and hybrid ---------------------------------------------------------------------------------------------
def test_marginal_frequencies() -> None:
    np.testing.assert_allclose(Marginal(3, counts=[7, 1, 0]).stationary(dtype=torch.float64), [8 / 11, 2 / 11, 1 / 11])
    with pytest.raises(IncompatibleError, match="a frequency of 0 for token 2"):
        Marginal(3, probabilities=[0.5, 0.5, 0.0])
    with pytest.raises(IncompatibleError, match="a frequency of -1 for token 0"):
        Marginal(3, counts=[-1, 2, 3])
    with pytest.raises(IncompatibleError, match=r"\[2\] frequencies"):
        Marginal(3, counts=[1, 2])
    with pytest.raises(IncompatibleError, match="counts and probabilities"):
        Marginal(2, counts=[1, 2], probabilities=[0.5, 0.5])
    with pytest.raises(IncompatibleError, match="without its numbers"):
        Marginal(3).stationary()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_hybrid_share(share: float) -> None:
    with pytest.raises(IncompatibleError, match="between 0 and 1"):
        Hybrid(3, share)


def test_a_large_vocabulary_needs_no_table() -> None:
    """V = 50,258: σ from 1e-6 to 20, float32: finite, summing to one; draws by the frequencies."""
    size = 50_258
    weights = 1 / torch.arange(1, size + 1).double()
    for process in (Marginal(size, probabilities=weights.tolist()), Hybrid(size, 0.3)):
        x = torch.tensor([0, 17, process.num_states - 1])
        log_p = torch.zeros(3, size).log_softmax(-1)
        for sigma in (1e-6, 1e-2, 1.0, 20.0):
            noise = torch.full((3,), sigma)
            log_s = process.score_from_denoiser(log_p, x, noise)
            assert log_s.isfinite().all()
            assert process.score_entropy(log_s, x, x.clamp(max=size - 1), noise).isfinite().all()
            posterior = process.posterior_from_denoiser(log_p, x, noise, noise / 2)
            np.testing.assert_allclose(posterior.sum(-1), 1, atol=1e-4)
        u = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        first = torch.zeros(20_000, dtype=torch.int64)
        other = process.draw_base_except(first, u)
        assert (other != 0).all()
        pi = process.stationary(dtype=torch.float64)
        share = float(pi[1] / (1 - pi[0]))
        assert abs(float((other == 1).double().mean()) - share) < 5 * math.sqrt(share / 20_000)


# ---- stored, cast, loaded --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "made",
    [RateMatrix(3, GOOD.tolist()), Marginal(3, counts=[5, 3, 1]), Hybrid(3, 0.25)],
    ids=lambda p: type(p).__name__,
)
def test_stored_and_loaded(made: dd.Process) -> None:
    """The description rebuilds the process, the state dict its numbers, in float64 whatever the model's dtype."""
    made = made.float()
    rebuilt = build(describe(made))
    sigma = torch.tensor([0.4], dtype=torch.float64)
    if made.state_dict():
        with pytest.raises(IncompatibleError, match="without its numbers"):
            rebuilt.transition(torch.tensor([0]), sigma)
    rebuilt.load_state_dict(made.state_dict())
    assert all(value.dtype == torch.float64 for value in rebuilt.state_dict().values())
    assert torch.equal(rebuilt.transition(torch.tensor([0]), sigma), made.transition(torch.tensor([0]), sigma))


def test_loading_forgets_what_was_computed() -> None:
    process, x, sigma = RateMatrix(3, GOOD.tolist()), torch.arange(3), torch.ones(1, dtype=torch.float64)
    process.transition(x, sigma)
    other = RateMatrix(3, reversible_rates(3).tolist())
    process.load_state_dict(other.state_dict())
    assert torch.equal(process.transition(x, sigma), other.transition(x, sigma))
