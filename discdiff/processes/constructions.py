"""Rate matrices with a meaning: ordinal values, neighbours in an embedding, exchangeabilities with frequencies.

Each gives a generator Q, float64 `[S, S]`, `Q[y, x]` the rate of x → y, columns summing to 0, for `RateMatrix`, which
normalises it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError


def generator_of(rates: Tensor) -> Tensor:
    """Off-diagonal rates `[S, S]` with the diagonal that makes columns sum to 0."""
    off = rates.double().clone().fill_diagonal_(0.0)
    return off - torch.diag(off.sum(0))


def banded(size: int, width: int = 1, decay: float = 0.0) -> Tensor:
    """Jumps to values at most `width` away, at rate e^(−decay·(d − 1)) for distance d: for ordinal tokens.

    The limit is uniform. Austin et al. 2021 (D3PM), appendix A.2.5 (band-diagonal, with decay 0).

    Raises:
        IncompatibleError: no width between 1 and size − 1, or a negative decay.
    """
    if not 1 <= width < size or not 0 <= decay < math.inf:
        raise IncompatibleError(
            "banded",
            got=f"width={width}, decay={decay}",
            expected=f"a width from 1 to {size - 1}, a decay of at least 0",
            remedy="Width 1 is the nearest neighbours alone.",
        )
    distance = (torch.arange(size)[:, None] - torch.arange(size)).abs().double()
    return generator_of(torch.where(distance <= width, torch.exp(-decay * (distance - 1)), 0.0))


def nearest_neighbors(embedding: Tensor, neighbors: int, *, background: float = 0.0) -> Tensor:
    """Jumps between tokens of which one is among the k nearest of the other, in Euclidean distance; symmetric.

    The limit is uniform. Austin et al. 2021 (D3PM), appendix A.2.4.

    Args:
        embedding: a vector for each token, `[S, D]`.
        neighbors: k.
        background: rate between all other pairs, relative to that of neighbours; it connects separate groups.

    Raises:
        IncompatibleError: k is no number of neighbours, or the embedding is not finite.
    """
    size = len(embedding)
    if embedding.ndim != 2 or not bool(embedding.isfinite().all()):
        raise IncompatibleError(
            "nearest_neighbors", got=f"an embedding of shape {list(embedding.shape)}", expected="finite [S, D]",
            remedy="Give one vector a token.",
        )  # fmt: skip
    if not 1 <= neighbors < size or not background >= 0:
        raise IncompatibleError(
            "nearest_neighbors", got=f"neighbors={neighbors}, background={background}",
            expected=f"1 to {size - 1} neighbours and a background of at least 0", remedy="Ask for fewer neighbours.",
        )  # fmt: skip
    points = embedding.detach().double()
    distance = torch.cdist(points, points).fill_diagonal_(torch.inf)
    nearest = distance.argsort(dim=-1, stable=True)[:, :neighbors]
    linked = torch.zeros(size, size, dtype=torch.bool).scatter(-1, nearest.cpu(), True)
    return generator_of(torch.where(linked | linked.T, 1.0, float(background)))


def reversible(exchangeabilities: Tensor, frequencies: Tensor) -> Tensor:
    """Q[y, x] = R[y, x] π_y for symmetric R ≥ 0: reversible, with limit π (the general time-reversible model).

    Tavaré 1986.

    Args:
        exchangeabilities: R `[S, S]`; its diagonal does not matter.
        frequencies: π `[S]`, positive; normalised.

    Raises:
        IncompatibleError: R is not symmetric or negative somewhere, or π not positive, naming the entry.
    """
    exchange, pi = exchangeabilities.double(), frequencies.double()
    size = len(pi)
    if exchange.shape != (size, size):
        raise IncompatibleError(
            "reversible", got=f"exchangeabilities of shape {list(exchange.shape)}", expected=f"[{size}, {size}]",
            remedy="One row and column for each frequency.",
        )  # fmt: skip
    bad = ~((pi > 0) & pi.isfinite())
    if bool(bad.any()):
        state = int(bad.nonzero()[0])
        raise IncompatibleError(
            "reversible", got=f"frequencies[{state}] = {float(pi[state]):g}", expected="positive frequencies",
            remedy="Add a pseudocount.",
        )  # fmt: skip
    off = exchange.clone().fill_diagonal_(0.0)
    bad = ~((off >= 0) & off.isfinite() & ((off - off.T).abs() <= 1e-9 * (off + off.T)))
    if bool(bad.any()):
        y, x = bad.nonzero()[0].tolist()
        raise IncompatibleError(
            "reversible", got=f"R[{y}, {x}] = {float(off[y, x]):g} and R[{x}, {y}] = {float(off[x, y]):g}",
            expected="equal, finite and at least 0", remedy="Exchangeabilities are symmetric; π gives the direction.",
        )  # fmt: skip
    return generator_of((off + off.T) / 2 * (pi / pi.sum())[:, None])
