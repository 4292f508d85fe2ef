"""O14: on Markov data bisection is exact in ceil(log2(L + 1)) calls; orders that look at marginals alone are exact too.

At 32 positions of the sparse chain of 16 tokens there are 16^32 sequences: the law is compared pointwise, by forcing
the sampler to draw given ones (see `tests.forced`).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.model import Diffusion
from discdiff.networks.markov import MarkovChain, sparse_chain
from discdiff.parameterizations import Conditional
from discdiff.processes import Absorbing
from discdiff.samplers import AnyOrder, Bisection, Confidence, EntropyBounded, FirstHitting, Ordered, Sampler
from discdiff.sampling import sample
from discdiff.schedules import LogLinear
from tests.cases import build
from tests.forced import Course, forced, law
from tests.networks.test_markov import chain
from tests.toys import TOYS, total_variation

LENGTH = 32


def model_of(network: MarkovChain) -> Diffusion:
    return Diffusion(network, Absorbing(network.num_states - 1), LogLinear(), Conditional())


SPARSE = sparse_chain(16, 17)
MODEL = model_of(SPARSE)


def trials(length: int = LENGTH) -> Tensor:
    """100 likely sequences, 100 arbitrary ones."""
    draw = torch.Generator().manual_seed(4)
    return torch.cat([SPARSE.sample(100, length, generator=draw), torch.randint(16, (100, length), generator=draw)])


def pointwise_error(sampler: Sampler) -> tuple[float, Course]:
    """The largest difference of log p at 200 sequences of 32 tokens, and what the run was."""
    tokens = trials()
    course = forced(MODEL, sampler, tokens)
    return float(np.abs(course.log_p - SPARSE.log_prob(tokens).numpy()).max()), course


def test_bisection_in_six_calls() -> None:
    error, course = pointwise_error(Bisection())
    assert error < 1e-10
    assert (course.calls == 6).all()
    assert len(course.tokens) == 6
    revealed = [int((tokens[0] < 16).sum()) for tokens in course.tokens]
    assert revealed == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize("length", range(1, 8))
def test_bisection_by_enumeration(length: int) -> None:
    """Every sequence of three tokens, zeros in the transitions: the whole law, 1e-12."""
    network = chain(4, zeros=True)
    tokens = torch.cartesian_prod(*[torch.arange(3)] * length).view(-1, length)
    course = forced(model_of(network), Bisection(), tokens)
    np.testing.assert_allclose(np.exp(course.log_p), network.log_prob(tokens).exp(), atol=1e-12)
    assert (course.calls == math.ceil(math.log2(length + 1))).all()


def test_bisection_of_rows_that_differ() -> None:
    """Lengths 1 to 32, one batch: each row its own number of calls, and its own law; 1e-10."""
    lengths = torch.arange(1, LENGTH + 1)
    padding = torch.arange(LENGTH) >= lengths[:, None]
    tokens = trials()[:LENGTH].masked_fill(padding, 0)
    course = forced(MODEL, Bisection(), tokens, lengths=lengths)
    assert course.calls.tolist() == [math.ceil(math.log2(n + 1)) for n in range(1, LENGTH + 1)]
    for row, n in enumerate(lengths.tolist()):
        assert course.log_p[row] == pytest.approx(float(SPARSE.log_prob(tokens[row : row + 1, :n])), abs=1e-10)


def test_bisection_between_given_positions() -> None:
    """Some positions given: −log p(x | x_C) to 1e-10, in calls that count the others alone."""
    tokens, draw = trials(), torch.Generator().manual_seed(6)
    known = torch.rand(tokens.shape, generator=draw) < torch.rand(len(tokens), 1, generator=draw)
    course = forced(MODEL, Bisection(), tokens, known=known)
    want = np.array([conditional(x, given) for x, given in zip(tokens.numpy(), known.numpy(), strict=True)])
    np.testing.assert_allclose(course.log_p, want, atol=1e-10)
    assert course.calls.tolist() == [math.ceil(math.log2(n + 1)) for n in (~known).sum(-1).tolist()]


def conditional(x: np.ndarray, given: np.ndarray) -> float:
    """log p0(x | x_C), by a forward pass over what is consistent with x_C."""
    initial, transition = SPARSE.initial.numpy(), SPARSE.transition.numpy()
    message = np.where(~given[0] | (np.arange(16) == x[0]), initial, 0)
    for i in range(1, len(x)):
        message = np.where(~given[i] | (np.arange(16) == x[i]), message @ transition, 0)
    whole = np.log(initial[x[0]]) + np.log(transition[x[:-1], x[1:]]).sum()
    return float(whole - np.log(message.sum()))


def test_bisection_elsewhere_is_an_approximation() -> None:
    """Not Markov: off, but less than drawing as many positions together at random, on average."""
    toy = TOYS["parity2x4"]
    model = build("absorbing", "conditional", toy=toy)
    assert total_variation(law(model, Bisection(), toy), toy.probabilities) > 0.4


@pytest.mark.parametrize(
    "sampler",
    [
        Ordered(),
        FirstHitting(),
        AnyOrder(),
        AnyOrder("cosine"),
        Confidence(),
        Confidence("margin"),
        Confidence("entropy"),
        Confidence(noise=1.0),
        EntropyBounded(0.0),
    ],
    ids=lambda sampler: f"{type(sampler).__name__} {' '.join(map(str, vars(sampler).values()))}".strip(),
)
def test_one_position_a_call_is_exact(sampler: Sampler) -> None:
    """Whatever the order, and whatever it is chosen by, so long as the choice does not see the draw: 1e-10."""
    error, course = pointwise_error(sampler)
    assert error < 1e-10
    assert (course.calls == LENGTH).all()


def test_real_bisection() -> None:
    """Real draws: −log p0 averages to the entropy, to 4 standard errors (0.5% of it), in 6 calls."""
    drawn = sample(MODEL, 5_000, length=LENGTH, sampler=Bisection(), generator=torch.Generator().manual_seed(1))
    nll = -SPARSE.log_prob(drawn.tokens).numpy()
    error = nll.std() / math.sqrt(len(nll))
    assert error < 0.005 * SPARSE.entropy(LENGTH)
    assert nll.mean() == pytest.approx(SPARSE.entropy(LENGTH), abs=4 * error)
    assert drawn.calls is not None
    assert (drawn.calls == 6).all()
