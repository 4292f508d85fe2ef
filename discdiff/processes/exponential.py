"""exp(σQ) of a dense generator in float64, entry by entry."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SMALLEST = 1e-100
"""What a transition probability that is positive in truth, but lost in rounding, is set to."""
ROUNDED = 1e-8
"""Entries of a decomposition below this have lost more than half of their digits."""
TERMS = 20
"""Of the series at σ·q ≤ 1, beyond an entry's first: the next one is below 1/20! = 4e-19 of it."""
FARTHEST = 50
"""Jumps between two states that the series follows; what takes more has a probability of σ^50/50!, 3e-65, at most."""
REMEMBERED = 8
ENTRIES = 1 << 24
"""Matrices of one set of noise levels that are remembered, at most 128 MiB; larger sets are worked through in parts."""


class Exponential:
    """exp(σQ) for one generator Q `[S, S]`, columns summing to 0.

    Two routes. *Uniformization with squaring*, for any Q: A = I + Q/q ≥ 0 with q the largest exit rate, and
    exp(σQ) = (e^(−x) Σ_k x^k/k! A^k)^(2^m), x = σq/2^m ≤ 1. Every term is positive, so nothing cancels: each entry,
    however small, keeps its relative accuracy (2^m roundings), which a decomposition or a Padé form cannot promise at
    σ = 1e-6. *Eigendecomposition*, where Q is reversible, for σq > 1: D^(-1/2) Q D^(1/2) is symmetric (D = diag π), so
    one `eigh` serves all noise levels; I + U expm1(σΛ) U⁻¹ is right to rounding in absolute terms. A level at which it
    leaves an entry below `ROUNDED`, where ratios of entries would be noise, takes the first route after all. What is
    positive in truth and not in rounding is raised to `SMALLEST`, so that no ratio divides by zero.

    Jensen 1953 (uniformization); Moler and Van Loan 2003, methods 3 and 14.

    Args:
        generator: Q, float64 `[S, S]`.
        stationary: π, float64 `[S]`.
        reachable: bool `[S, S]`: whether y can be reached from x, `[y, x]`.
    """

    def __init__(self, generator: Tensor, stationary: Tensor, reachable: Tensor) -> None:
        self.generator, self.reachable = generator, reachable
        self.exit_rate = float(-generator.diagonal().min())
        self.terms = TERMS + min(_farthest(generator), FARTHEST)
        self.eigen = _symmetrized(generator, stationary)
        values = self.eigen[1] if self.eigen else torch.linalg.eigvals(generator)
        self.fastest_rate = float(values.abs().max())
        self._cache: dict[tuple[float, ...], Tensor] = {}

    def __call__(self, sigma: Tensor) -> Tensor:
        """`[U, S, S]` for noise levels `[U]` ≥ 0, float64; the last few sets are remembered."""
        key = tuple(sigma.tolist())
        if key in self._cache:
            self._cache[key] = self._cache.pop(key)
            return self._cache[key]
        p = torch.where(self.reachable, self._compute(sigma).clamp(min=SMALLEST), 0.0)
        p = torch.where((sigma == 0)[:, None, None], torch.eye(p.shape[-1], dtype=p.dtype, device=p.device), p)
        if p.numel() <= ENTRIES:
            self._cache[key] = p
            while len(self._cache) > REMEMBERED:
                del self._cache[next(iter(self._cache))]
        return p

    def inverse(self, sigma: Tensor) -> Tensor:
        """exp(−σQ), `[U, S, S]` for noise levels `[U]`: not a stochastic matrix; its entries grow with σ."""
        if self.eigen is not None:
            return self._decomposed(-sigma)
        # Of a well-conditioned root, then squared. (torch.linalg.matrix_exp errs by 6e-12 where ‖σQ‖ is about 0.04.)
        halvings = self._halvings(sigma)
        return _powers(torch.linalg.inv(self._squared(sigma / 2.0**halvings)), halvings)

    def _halvings(self, sigma: Tensor) -> Tensor:
        """How often each σq must be halved until it is at most 1: int64 `[U]`; a level's own, whatever the others."""
        return (sigma * self.exit_rate).clamp(min=1).log2().ceil().long()

    def _compute(self, sigma: Tensor) -> Tensor:
        near = sigma * self.exit_rate <= 1
        if self.eigen is None or bool(near.all()):
            return self._squared(sigma)
        p = self._decomposed(sigma)
        lost = near | ((p < ROUNDED) & self.reachable).flatten(1).any(-1)
        return p.index_copy(0, lost.nonzero()[:, 0], self._squared(sigma[lost])) if bool(lost.any()) else p

    def _decomposed(self, sigma: Tensor) -> Tensor:
        assert self.eigen is not None
        left, values, right = self.eigen
        size = len(values)
        p = (left * torch.expm1(sigma[:, None, None] * values)) @ right
        return p + torch.eye(size, dtype=p.dtype, device=p.device)

    def _squared(self, sigma: Tensor) -> Tensor:
        halvings = self._halvings(sigma)
        x = (sigma * self.exit_rate / 2.0**halvings)[:, None, None]
        eye = torch.eye(len(self.generator), dtype=x.dtype, device=x.device)
        step = (self.generator / self.exit_rate).fill_diagonal_(0.0)
        step = step + torch.diag(1 + self.generator.diagonal() / self.exit_rate)
        p = eye.expand(len(sigma), -1, -1)
        for k in range(self.terms, 0, -1):  # Horner: I + xA/1 (I + xA/2 (I + …))
            p = eye + (x / k) * (step @ p)
        return _powers(torch.exp(-x) * p, halvings)


def _powers(roots: Tensor, halvings: Tensor) -> Tensor:
    """Each matrix squared as often as its level was halved, `[U, S, S]`."""
    for k in range(int(halvings.max()) if len(halvings) else 0):
        rows = (halvings > k).nonzero()[:, 0]
        roots = roots.index_copy(0, rows, roots[rows] @ roots[rows])
    return roots


def _farthest(generator: Tensor) -> int:
    """The jumps, at most twice as many as are needed, in which each state reaches all that it can reach."""
    linked = ((generator > 0) | torch.eye(len(generator), dtype=torch.bool, device=generator.device)).float()
    jumps = 1
    while jumps < FARTHEST:
        further = ((linked @ linked) > 0).float()
        if torch.equal(further, linked):
            break
        linked, jumps = further, 2 * jumps
    return jumps


def _symmetrized(generator: Tensor, pi: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """(D^(1/2) W, Λ, Wᵀ D^(-1/2)) with Q = D^(1/2) W Λ Wᵀ D^(-1/2), if Q is reversible: π_x Q[y, x] = π_y Q[x, y]."""
    flow = generator * pi
    if not bool((pi > 0).all()) or not torch.allclose(flow, flow.T, rtol=1e-11, atol=1e-13 * float(flow.abs().max())):
        return None
    root = pi.sqrt()
    symmetric = (flow + flow.T) / 2 / (root[:, None] * root)
    values, vectors = torch.linalg.eigh(symmetric)
    return root[:, None] * vectors, values.clamp(max=0.0), vectors.T / root


def stationary_of(generator: Tensor) -> Tensor:
    """π with Qπ = 0 and Σπ = 1, float64 `[S]`; Q has one closed class."""
    size = len(generator)
    system = generator.clone()
    system[-1] = 1.0
    right = torch.zeros(size, dtype=generator.dtype, device=generator.device)
    right[-1] = 1.0
    pi = torch.linalg.solve(system, right)
    pi = pi - torch.linalg.solve(system, system @ pi - right)
    pi = pi.clamp(min=0.0)
    return pi / pi.sum()


def reachable_of(generator: Tensor) -> Tensor:
    """bool `[S, S]`: y can be reached from x, `[y, x]`, by any number of jumps."""
    linked = ((generator > 0) | torch.eye(len(generator), dtype=torch.bool, device=generator.device)).float()
    for _ in range(max(1, math.ceil(math.log2(len(generator))))):
        linked = ((linked @ linked) > 0).float()
    return linked > 0
