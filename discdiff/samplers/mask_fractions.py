"""What steps of a time grid lose on the absorbing process, where each position is revealed on its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from discdiff.samplers.block_table import BlockTable

CELLS = 512
"""Mask fractions 1 − i / 512, i = 0 .. 511, at which a step may begin."""

Price = Callable[[Sequence[int]], tuple[float, float]]

Weighted = Sequence[tuple[int, float, Tensor]]
"""Lengths, their shares of the rows, and their information curves `[G, L]`."""


def masked_curves(curves: Tensor) -> Tensor:
    """F(m) = E f[n], n ~ Bin(L − 1, 1 − m), at the fractions m where a step may begin: float64 `[G, CELLS]`.

    Of n revealed positions, each open one is looked at given the n of its L − 1 others.
    """
    others = curves.shape[1] - 1
    known = torch.arange(CELLS, dtype=torch.float64)[:, None] / CELLS
    n = torch.arange(others + 1, dtype=torch.float64)
    choose = math.lgamma(others + 1) - torch.lgamma(n + 1) - torch.lgamma(others - n + 1)
    weights = (choose + torch.xlogy(n, known) + torch.xlogy(others - n, 1 - known)).exp()
    return curves @ weights.T


def time_table(choosing: Weighted, judging: Weighted, latest: int) -> tuple[BlockTable, Price]:
    """The table of the best times, in cells, and the price of some: mean and standard error, nats a sequence.

    Nothing is won in the table by a step that begins after the cell `latest`.
    """
    curve = sum(share * length / CELLS * masked_curves(half).mean(0) for length, share, half in choosing)
    assert isinstance(curve, Tensor)
    shares = [(share, length / CELLS * masked_curves(half), half.sum(-1)) for length, share, half in judging]

    def price(sizes: Sequence[int]) -> tuple[float, float]:
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0).repeat_interleave(torch.tensor(sizes))
        found = [(share, cells[:, starts].sum(-1) - total) for share, cells, total in shares]
        mean = math.fsum(share * float(cost.mean()) for share, cost in found)
        # the groups of different lengths are different sequences; their errors are added, which never says too little
        error = math.fsum(share * float(cost.std()) / math.sqrt(len(cost)) for share, cost in found)
        return mean, error

    curve = curve.cummin(-1).values  # no rise by rounding
    curve[latest:] = curve[latest].clone()
    return BlockTable(curve), price


__all__ = ["CELLS", "masked_curves", "time_table"]
