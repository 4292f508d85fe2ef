"""Attention: every backend against the explicit softmax, masks, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.networks.attention import attention
from discdiff.networks.layers import rotary_tables, rotate
from discdiff.networks.visibility import Visibility


def qkv(
    generator: torch.Generator, shape: tuple[int, ...] = (3, 2, 7, 8), dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for _ in range(3)]


PADDING = torch.arange(7) >= torch.tensor([[7], [4], [0]])  # full, padded, nothing but padding
SEGMENTS = torch.tensor([[0, 0, 0, 1, 1, 2, 2], [5, 5, 5, 5, 3, 3, 3], [0] * 7])
MASKS: dict[str, dict[str, Any]] = {
    "everywhere": {},
    "padding": {"padding": PADDING},
    "segments": {"segments": SEGMENTS},
    "both": {"padding": PADDING, "segments": SEGMENTS},
}


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_sdpa_equals_the_reference(
    generator: torch.Generator, masks: dict[str, Any], dtype: torch.dtype, atol: float
) -> None:
    tensors = qkv(generator, dtype=dtype)
    results = []
    for backend in ("sdpa", "reference"):
        out = attention(*tensors, **masks, backend=backend)
        assert out.dtype == dtype
        assert out.shape == (3, 2, 7, 8)
        results.append([out, *torch.autograd.grad(out.float().square().sum(), tensors)])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, atol=atol, rtol=atol)


def test_reference_by_hand(generator: torch.Generator) -> None:
    q, k, v = (x.detach() for x in qkv(generator, (1, 1, 3, 4)))
    by_hand = []
    for i in range(3):
        weights = [math.exp(float(q[0, 0, i] @ k[0, 0, j]) / 2) for j in range(3)]
        by_hand.append(torch.stack([w * v[0, 0, j] for j, w in enumerate(weights)]).sum(0) / sum(weights))
    torch.testing.assert_close(attention(q, k, v, backend="reference")[0, 0], torch.stack(by_hand))


def test_float32_reference_serves_low_precision(generator: torch.Generator) -> None:
    tensors = qkv(generator, dtype=torch.bfloat16)
    exact = attention(*(x.double() for x in tensors), backend="reference")
    ours = attention(*tensors, backend="reference")
    assert ours.dtype == torch.bfloat16
    assert (ours - exact).abs().max() < 2**-8 * exact.abs().max()  # one rounding, of the result


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_nobody_attends_to_padding(generator: torch.Generator, masks: dict[str, Any]) -> None:
    q, k, v = qkv(generator)
    padding = masks.get("padding", torch.zeros(3, 7, dtype=torch.bool))
    out = attention(q, k, v, **masks)
    noise = torch.randn(k.shape, generator=generator, dtype=k.dtype) * padding[:, None, :, None]
    again = attention(q, k + noise, v + noise, **masks)
    real = (~padding)[:, None, :, None].expand_as(out)
    torch.testing.assert_close(out[real], again[real], atol=0, rtol=0)


@pytest.mark.parametrize("backend", ["sdpa", "reference"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("segments", [None, SEGMENTS])
def test_rows_of_padding_stay_finite(
    generator: torch.Generator, backend: str, dtype: torch.dtype, segments: Tensor | None
) -> None:
    tensors = qkv(generator, dtype=dtype)
    out = attention(*tensors, padding=torch.ones(3, 7, dtype=torch.bool), segments=segments, backend=backend)
    assert out.isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), tensors))


def test_segments_equal_separate_sequences(generator: torch.Generator) -> None:
    q, k, v = qkv(generator)
    out = attention(q, k, v, segments=SEGMENTS)
    for row, ids in enumerate(SEGMENTS):
        for segment in ids.unique():
            own = ids == segment
            alone = attention(*(x[row : row + 1, :, own] for x in (q, k, v)))
            torch.testing.assert_close(out[row : row + 1, :, own], alone, atol=1e-12, rtol=0)


def test_no_mask_is_built_where_everything_is_seen() -> None:
    assert Visibility().mask() is None
    assert Visibility(padding=PADDING).mask().shape == (3, 1, 1, 7)  # type: ignore[union-attr]
    assert Visibility(segments=SEGMENTS).mask().shape == (3, 1, 7, 7)  # type: ignore[union-attr]


def test_the_mask_is_built_once() -> None:
    visibility = Visibility(PADDING, SEGMENTS)
    assert visibility.mask() is visibility.mask()


def test_unknown_backend(generator: torch.Generator) -> None:
    names = "'auto', 'sdpa', 'varlen', 'flash', 'flex', 'reference'"
    with pytest.raises(IncompatibleError, match=rf"'xformers'.*{names}.*Choose"):
        attention(*qkv(generator), backend="xformers")


@pytest.mark.parametrize("shift", [1, 5, 1000])
def test_rotary_positions_are_relative(generator: torch.Generator, shift: int) -> None:
    q, k, _ = qkv(generator)
    positions = torch.arange(7)
    scores = []
    for start in (0, shift):
        tables = rotary_tables(positions + start, 8, torch.float64)
        scores.append(rotate(q, tables) @ rotate(k, tables).transpose(-1, -2))
    torch.testing.assert_close(*scores, atol=1e-11, rtol=0)


def test_rotation_by_hand(generator: torch.Generator) -> None:
    x = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    out = rotate(x, rotary_tables(torch.tensor([0, 1, 9]), 6, torch.float64))
    for row, position in enumerate((0, 1, 9)):
        for j in range(3):
            angle = position * 10_000 ** (-2 * j / 6)
            turned = torch.complex(x[row, j], x[row, j + 3]) * torch.polar(
                torch.tensor(1.0).double(), torch.tensor(angle).double()
            )
            torch.testing.assert_close(torch.complex(out[row, j], out[row, j + 3]), turned)


def test_low_precision_keeps_far_positions_apart() -> None:
    tables = rotary_tables(torch.tensor([4000, 4001]), 8, torch.float32)
    one, two = rotate(torch.ones(2, 8, dtype=torch.bfloat16), tables)
    assert one.dtype == torch.bfloat16
    assert (one - two).abs().max() > 0.1
