"""The depthwise convolution: against its sum written out, padding and other segments unseen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.networks.layers import LocalMixing
from discdiff.networks.visibility import Visibility

PADDING = torch.arange(7) >= torch.tensor([[7], [4], [1]])
SEGMENTS = torch.tensor([[0, 0, 0, 1, 1, 2, 2], [5, 5, 5, 5, 3, 3, 3], [-1] * 7])


def layer(width: int, dtype: torch.dtype = torch.float64) -> LocalMixing:
    made = LocalMixing(3, width)
    generator = torch.Generator().manual_seed(width)
    with torch.no_grad():
        made.weight.copy_(torch.randn(made.weight.shape, generator=generator))
    return made.to(dtype)


def by_hand(mixing: LocalMixing, x: Tensor, padding: Tensor | None, segments: Tensor | None) -> Tensor:
    """x_i + Σ_j w_j x_{i+j}, one number at a time."""
    values, weight = x.numpy(), mixing.weight.detach().numpy()[:, 0, 0]
    out, reach = values.copy(), weight.shape[1] // 2
    for b, i, c in np.ndindex(*x.shape):
        for j in range(-reach, reach + 1):
            k = i + j
            if not 0 <= k < x.shape[1] or (padding is not None and padding[b, k]):
                continue
            if segments is None or segments[b, k] == segments[b, i]:
                out[b, i, c] += weight[c, j + reach] * values[b, k, c]
    return torch.from_numpy(out)


@pytest.mark.parametrize("width", [1, 3, 9, 17])
@pytest.mark.parametrize("padding", [None, PADDING], ids=["full", "padded"])
@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["whole", "segments"])
def test_is_its_formula(
    generator: torch.Generator, width: int, padding: Tensor | None, segments: Tensor | None
) -> None:
    mixing = layer(width)
    x = torch.randn(3, 7, 3, generator=generator, dtype=torch.float64)
    got = mixing(x, Visibility(padding, segments))
    want = by_hand(mixing, x, padding, segments)
    real = torch.ones(3, 7, dtype=torch.bool) if padding is None else ~padding
    torch.testing.assert_close(got[real], want[real], atol=1e-12, rtol=0)


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["whole", "segments"])
def test_gradients(generator: torch.Generator, segments: Tensor | None) -> None:
    mixing = layer(5)
    x = torch.randn(3, 7, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: mixing(y, Visibility(PADDING, segments)), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_stays_and_autocast_does_not_round(generator: torch.Generator, dtype: torch.dtype) -> None:
    mixing = layer(5, dtype)
    x = torch.randn(3, 7, 3, generator=generator).to(dtype)
    plain = mixing(x, Visibility())
    with torch.autocast("cpu", torch.bfloat16):
        inside = mixing(x, Visibility())
    assert plain.dtype == inside.dtype == dtype
    assert torch.equal(plain, inside)


def test_starts_as_the_identity(generator: torch.Generator) -> None:
    x = torch.randn(2, 5, 4, generator=generator)
    assert torch.equal(LocalMixing(4, 9)(x, Visibility()), x)
