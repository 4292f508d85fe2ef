"""The network of a Markov chain: it is the enumerated one, at any length."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from discdiff.errors import DiscdiffError
from discdiff.model import Diffusion
from discdiff.networks import Context
from discdiff.networks.exact import Exact
from discdiff.networks.markov import MarkovChain, sparse_chain
from discdiff.schedules import LogLinear
from tests.cases import MODELS, PARAMETERIZATIONS, PROCESSES
from tests.toys import Array, every_sequence


def chain(num_states: int, zeros: bool = False) -> MarkovChain:
    """Three tokens; with `zeros`, none follows itself."""
    draw = np.random.default_rng(3)
    transition = draw.dirichlet(np.ones(3), size=3)
    if zeros:
        np.fill_diagonal(transition, 0.0)
        transition /= transition.sum(-1, keepdims=True)
    return MarkovChain(torch.from_numpy(draw.dirichlet(np.ones(3))), torch.from_numpy(transition), num_states)


def table(network: MarkovChain, length: int) -> Array:
    """p0 of all sequences, written out: `[V] * L`."""
    initial, transition = network.initial.numpy(), network.transition.numpy()
    joint = np.zeros((len(initial),) * length)
    for x in itertools.product(range(len(initial)), repeat=length):
        joint[x] = initial[x[0]] * np.prod([transition[a, b] for a, b in itertools.pairwise(x)])
    return joint


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_against_enumeration(process: str, parameterization: str, zeros: bool) -> None:
    """Denoisers of every noised sequence, frozen positions or not: 1e-10.

    The enumerated network of the same joint answers; a sequence that cannot occur has no answer in either.
    """
    made = PROCESSES[process].make(3)
    network = chain(made.num_states, zeros)
    xt = torch.from_numpy(every_sequence(made.num_states, 4))
    exact = Exact(torch.from_numpy(table(network, 4)), made.num_states)
    frozen = torch.zeros_like(xt, dtype=torch.bool)
    frozen[:, 2] = xt[:, 2] < 3
    for sigma, given in itertools.product((0.1, 1.5 / max(made.fastest_rate, 1.0)), (None, frozen)):
        noise, context = torch.full((len(xt), 1), sigma, dtype=torch.float64), Context(frozen=given)
        laws = []
        for each in (network, exact):
            model = Diffusion(each, made, LogLinear(), PARAMETERIZATIONS[parameterization]())
            with torch.no_grad():
                prediction = model.predict(xt, noise, context)
                laws.append(prediction.log_denoiser())
        torch.testing.assert_close(laws[0].exp(), laws[1].exp(), rtol=1e-10, atol=1e-12)


def test_what_it_says_of_itself() -> None:
    """log p0, marginals, entropy and bigrams against the table."""
    network = chain(4)
    joint = table(network, 4)
    p = joint.reshape(-1)
    tokens = torch.from_numpy(every_sequence(3, 4))
    np.testing.assert_allclose(network.log_prob(tokens).exp(), p, rtol=1e-12)
    assert network.entropy(4) == pytest.approx(-(p * np.log(p)).sum(), rel=1e-12)
    for i in range(4):
        others = tuple(j for j in range(4) if j != i)
        np.testing.assert_allclose(network.marginals(4)[i], joint.sum(others), rtol=1e-12)
    pairs = [joint.sum(tuple(j for j in range(4) if j not in (i, i + 1))) for i in range(3)]
    np.testing.assert_allclose(network.bigrams(4), np.mean(pairs, axis=0), rtol=1e-12)


def test_its_own_samples() -> None:
    """40,000 sequences: the average of −log p0 is the entropy, to 5 standard errors (1%)."""
    network = sparse_chain(16, 17)
    tokens = network.sample(40_000, 32, generator=torch.Generator().manual_seed(0))
    nll = -network.log_prob(tokens)
    error = float(nll.std()) / 200
    assert network.entropy(32) / 32 == pytest.approx(1.59, abs=0.005)
    assert error < 0.002 * network.entropy(32)
    assert float(nll.mean()) == pytest.approx(network.entropy(32), abs=5 * error)


def test_long_chains_do_not_underflow() -> None:
    """10,000 positions: the messages keep a sum of 1, and the posterior is that of a short stretch around."""
    network = chain(4)
    model = Diffusion(network, PROCESSES["absorbing"].make(3), LogLinear(), PARAMETERIZATIONS["conditional"]())
    xt = torch.full((1, 10_000), 1)
    xt[0, 5_000] = 3
    noise = torch.ones(1, 1, dtype=torch.float64)
    far = model.predict(xt, noise).log_denoiser()[0, 5_000]
    near = model.predict(xt[:, 4_998:5_003], noise).log_denoiser()[0, 2]
    torch.testing.assert_close(far, near, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("initial", "transition"),
    [
        (torch.tensor([0.5, 0.6]), torch.full((2, 2), 0.5)),
        (torch.tensor([0.5, 0.5]), torch.tensor([[1.5, -0.5], [0.5, 0.5]])),
        (torch.tensor([0.5, 0.5]), torch.full((2, 3), 1 / 3)),
    ],
)
def test_no_distributions(initial: torch.Tensor, transition: torch.Tensor) -> None:
    with pytest.raises(DiscdiffError, match="MarkovChain: got"):
        MarkovChain(initial, transition, 3)
