"""The sparse sums of a trellis against the dense table that they are made of."""

from __future__ import annotations

import pytest
import torch

from discdiff.constraints.moves import Moves


def dense(following: torch.Tensor, size: int) -> torch.Tensor:
    """One for each move: `[n, C, m]`."""
    return torch.nn.functional.one_hot(following, size + 1)[:, :, :size].double()


@pytest.mark.parametrize(("n", "m", "classes"), [(1, 1, 1), (7, 5, 3), (40, 60, 9), (3, 0, 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_moves_are_the_table(n: int, m: int, classes: int, dtype: torch.dtype, tolerance: float) -> None:
    draw = torch.Generator().manual_seed(n)
    following = torch.randint(0, m + 1, (n, classes), generator=draw)
    following[0] = m  # a state from which nothing goes on
    alpha, beta = torch.rand(n + 1, 4, generator=draw, dtype=dtype), torch.rand(m + 1, 4, generator=draw, dtype=dtype)
    weights = torch.rand(classes, 4, generator=draw, dtype=dtype)
    beta[-1] = alpha[-1] = 0
    moves, table = Moves.of(following, m), dense(following, m)
    onward = torch.einsum("scm,mb,cb->sb", table, beta[:-1].double(), weights.double())
    torch.testing.assert_close(moves.onward(beta, weights).double(), onward, rtol=tolerance, atol=0)
    through, arrived = moves.through(alpha, beta, weights)
    joint = torch.einsum("scm,sb,cb->cmb", table, alpha[:-1].double(), weights.double())
    torch.testing.assert_close(arrived[:-1].double(), joint.sum(0), rtol=tolerance, atol=0)
    assert not arrived[-1].any()
    expected = torch.einsum("cmb,mb->cb", joint, beta[:-1].double())
    torch.testing.assert_close(through.double(), expected, rtol=tolerance, atol=0)


def test_sums_of_many_moves_keep_their_digits() -> None:
    """A hundred thousand states in float32, all of one class: to 1e-4 of the sum in float64."""
    draw = torch.Generator().manual_seed(0)
    size = 100_000
    following = torch.randint(0, size, (size, 1), generator=draw)
    alpha, beta = torch.rand(size + 1, 2, generator=draw), torch.rand(size + 1, 2, generator=draw)
    moves, weights = Moves.of(following, size), torch.full((1, 2), 0.25)
    expected = (alpha[:-1].double() * beta[following[:, 0]].double()).sum(0) / 4
    torch.testing.assert_close(moves.through(alpha, beta, weights)[0][0].double(), expected, rtol=1e-4, atol=0)
