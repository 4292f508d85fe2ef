"""Toy distributions over V^L sequences, and the truth about them by enumeration in NumPy and SciPy.

Nothing here calls what it serves to test. Axes as in the library: states last, `P[y, x0] = p(xt = y | x0)`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
import scipy.stats
import torch

Array = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]


def every_sequence(size: int, length: int) -> Integers:
    """All sequences over `size` states, the last position running fastest: `[size^L, L]`."""
    return np.array(list(itertools.product(range(size), repeat=length)), dtype=np.int64)


def index_of(tokens: torch.Tensor, size: int) -> torch.Tensor:
    """The rows of `every_sequence` that equal `tokens` `[..., L]`."""
    powers = size ** torch.arange(tokens.shape[-1] - 1, -1, -1)
    return (tokens * powers).sum(-1)


def absorbing_rates(vocab_size: int) -> Array:
    """Q[y, x]: every state jumps to the last one at rate 1."""
    rates = -np.eye(vocab_size + 1)
    rates[-1] += 1
    return rates


def uniform_rates(vocab_size: int) -> Array:
    """Q[y, x]: at rate 1, a token is replaced by any of the V, itself included."""
    return np.full((vocab_size, vocab_size), 1 / vocab_size) - np.eye(vocab_size)


def rank_one_rates(pi: Array) -> Array:
    """Q[y, x] = π_y − 1[x = y]."""
    return np.tile(pi[:, None], (1, len(pi))) - np.eye(len(pi))


def frequencies(vocab_size: int) -> Array:
    """Unequal, all positive: token v has weight 2v + 1."""
    weights = 2.0 * np.arange(vocab_size) + 1
    return weights / weights.sum()


def hybrid_law(vocab_size: int, mask_share: float) -> Array:
    """κ on the mask, the rest spread over the tokens."""
    return np.append(np.full(vocab_size, (1 - mask_share) / vocab_size), mask_share)


def reversible_rates(vocab_size: int) -> Array:
    """Exchangeabilities 1 + |x − y| times unequal frequencies: detailed balance holds."""
    every = np.arange(vocab_size)
    return _one_jump((1.0 + np.abs(every[:, None] - every)) * frequencies(vocab_size)[:, None])


def circular_rates(vocab_size: int) -> Array:
    """Each token to the next at rate x + 1, to the one before at 0.3, to any other at 0.1: no detailed balance."""
    every = np.arange(vocab_size)
    rates = np.full((vocab_size, vocab_size), 0.1)
    rates[(every - 1) % vocab_size, every] = 0.3
    rates[(every + 1) % vocab_size, every] = every + 1.0
    return _one_jump(rates)


def banded_rates(vocab_size: int) -> Array:
    """Each token to its neighbours at rate 1: far ones are reached through all between."""
    rates = np.eye(vocab_size, k=1) + np.eye(vocab_size, k=-1)
    return _one_jump(rates)


def transient_rates(vocab_size: int) -> Array:
    """The same, but that no token jumps back to token 0."""
    rates = np.eye(vocab_size, k=1) + np.eye(vocab_size, k=-1)
    rates[0] = 0
    return _one_jump(rates)


def _one_jump(rates: Array) -> Array:
    """A generator with these off-diagonal rates and one expected jump per unit of σ where Qπ = 0."""
    rates = rates * (1 - np.eye(len(rates)))
    rates = rates - np.diag(rates.sum(0))
    pi = scipy.linalg.null_space(rates)[:, 0]
    return np.asarray(rates / -(rates.diagonal() @ (pi / pi.sum())))


def transition_matrix(rates: Array, sigma: float) -> Array:
    """P_σ = exp(σQ)."""
    return np.asarray(scipy.linalg.expm(sigma * rates))


@dataclass(frozen=True)
class Toy:
    """A joint table over sequences.

    Attributes:
        name: what it is called in test ids.
        joint: `[V] * L`, sums to 1.
    """

    name: str
    joint: Array

    @property
    def vocab_size(self) -> int:
        return self.joint.shape[0]

    @property
    def length(self) -> int:
        return self.joint.ndim

    @cached_property
    def sequences(self) -> Integers:
        """`[V^L, L]`."""
        return every_sequence(self.vocab_size, self.length)

    @property
    def probabilities(self) -> Array:
        """p0 of `sequences`, `[V^L]`."""
        return self.joint.reshape(-1)

    @property
    def support(self) -> Integers:
        """Sequences of positive probability, `[N, L]`."""
        return self.sequences[self.probabilities > 0]

    def noised(self, transition: Array) -> Array:
        """p_t of all S^L sequences, `[S^L]`."""
        p = self.joint
        for axis in range(self.length):
            p = np.moveaxis(np.tensordot(transition[:, : self.vocab_size], p, axes=(1, axis)), 0, axis)
        return p.reshape(-1)

    def likelihoods(self, transition: Array) -> Array:
        """p(xt | x0) for all pairs, `[S^L, V^L]`."""
        noised = every_sequence(len(transition), self.length)
        return np.prod([transition[noised[:, i][:, None], self.sequences[:, i]] for i in range(self.length)], axis=0)

    def denoiser(self, transition: Array) -> Array:
        """p(x0_i | xt), `[S^L, L, V]`; NaN where xt cannot occur."""
        weights = self.likelihoods(transition) * self.probabilities
        onehot = np.eye(self.vocab_size)[self.sequences]
        with np.errstate(invalid="ignore"):
            return np.einsum("xk,kiv->xiv", weights, onehot) / weights.sum(-1)[:, None, None]

    def score(self, transition: Array) -> Array:
        """p_t(x with x_i := y) / p_t(x), `[S^L, L, S]`; NaN or inf where xt cannot occur."""
        size = len(transition)
        p = self.noised(transition)
        noised = every_sequence(size, self.length)
        out = np.empty((len(noised), self.length, size))
        for i, y in itertools.product(range(self.length), range(size)):
            neighbor = noised.copy()
            neighbor[:, i] = y
            index = np.ravel_multi_index(tuple(neighbor.T), (size,) * self.length)
            with np.errstate(divide="ignore", invalid="ignore"):
                out[:, i, y] = p[index] / p
        return out

    def given(self, frozen: dict[int, int]) -> Array:
        """p0(· | x_C), `[V^L]`, for positions and their tokens."""
        keep = np.all([self.sequences[:, i] == token for i, token in frozen.items()], axis=0)
        p = np.where(keep, self.probabilities, 0)
        return p / p.sum()


def dense(vocab_size: int, length: int, seed: int = 0) -> Toy:
    """A random joint, everything depending on everything; no zeros."""
    shape = (vocab_size,) * length
    joint = np.random.default_rng(seed).gamma(1.0, size=shape) + 0.02
    return Toy(f"dense{vocab_size}x{length}", joint / joint.sum())


def near_independent(vocab_size: int, length: int, strength: float = 0.1, seed: int = 1) -> Toy:
    """Independent positions, then every entry changed by up to `strength`, relatively."""
    draw = np.random.default_rng(seed)
    joint: Array = np.ones(())
    for _ in range(length):
        joint = np.multiply.outer(joint, draw.dirichlet(np.full(vocab_size, 3.0)))
    joint = joint * (1 + strength * draw.uniform(-1, 1, joint.shape))
    return Toy(f"near-independent{vocab_size}x{length}", joint / joint.sum())


def repeat(vocab_size: int, length: int) -> Toy:
    """All positions equal; token v has weight v + 1."""
    joint = np.zeros((vocab_size,) * length)
    for token in range(vocab_size):
        joint[(token,) * length] = token + 1
    return Toy(f"repeat{vocab_size}x{length}", joint / joint.sum())


def parity(vocab_size: int, length: int) -> Toy:
    """Uniform over sequences of even sum: any L − 1 positions say nothing about one another."""
    even = (every_sequence(vocab_size, length).sum(-1) % 2 == 0).astype(np.float64)
    return Toy(f"parity{vocab_size}x{length}", (even / even.sum()).reshape((vocab_size,) * length))


TOYS: dict[str, Toy] = {
    toy.name: toy
    for toy in (
        dense(3, 3),
        near_independent(3, 3),
        repeat(3, 3),
        parity(2, 4),
        dense(2, 4),
        dense(4, 2),
        dense(3, 2),
        near_independent(3, 2),
    )
}
DENSE = TOYS["dense3x3"]


# ---- statistics ------------------------------------------------------------------------------------------------------
P_VALUE = 1e-4
"""Below this a statistical test fails; all use fixed seeds."""


def chi_square(counts: Array | Integers, law: Array) -> float:
    """The p-value of `counts` under `law` (Pearson); sequences of law 0 must not occur. Rare cells are pooled."""
    counts = np.asarray(counts, dtype=np.float64)
    if counts[law <= 0].sum() > 0:
        return 0.0
    counts, law = counts[law > 0], law[law > 0]
    order = np.argsort(law)
    counts, law = counts[order], law[order] / law.sum()
    rare = law * counts.sum() < 5
    if rare.any():
        pooled = int(rare.sum())
        counts = np.concatenate([[counts[:pooled].sum()], counts[pooled:]])
        law = np.concatenate([[law[:pooled].sum()], law[pooled:]])
    statistic = ((counts - counts.sum() * law) ** 2 / (counts.sum() * law)).sum()
    return float(scipy.stats.chi2.sf(statistic, max(len(law) - 1, 1)))


def caught_error(draws: int, cells: int, power: float = 0.99) -> float:
    """The smallest total variation that `chi_square` catches with this power, whatever its shape.

    An error of total variation δ gives the statistic a noncentrality of at least 4 n δ² (Cauchy-Schwarz).
    """
    freedom = cells - 1
    threshold = scipy.stats.chi2.isf(P_VALUE, freedom)
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if scipy.stats.ncx2.sf(threshold, freedom, middle) < power else (low, middle)
    return float(np.sqrt(high / (4 * draws)))


def counts_of(tokens: torch.Tensor, size: int) -> Integers:
    """How often each sequence occurs in `tokens` `[N, L]`: `[size^L]`."""
    return np.bincount(index_of(tokens, size).numpy(), minlength=size ** tokens.shape[-1])


def total_variation(p: Array, q: Array) -> float:
    """½ Σ |p − q|."""
    return float(0.5 * np.abs(p - q).sum())


def z_score(values: Array, mean: float) -> float:
    """How many standard errors the average of independent `values` lies from `mean`."""
    return float((values.mean() - mean) / (values.std(ddof=1) / np.sqrt(len(values))))


Z_LIMIT = float(scipy.stats.norm.isf(P_VALUE / 2))


def legendre(points: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(points)
    return (x + 1) / 2, w / 2
