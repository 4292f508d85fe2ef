"""The layers of the transformer: norm, rotary positions, noise embedding, residual block."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from discdiff.networks.attention import attention
from discdiff.networks.visibility import Visibility

if TYPE_CHECKING:
    from discdiff.networks.block_pass import InBlocks

Gelu = Literal["exact", "tanh"]
# Asked once, here: torch 2.11's compiler cannot trace the question.
_AUTOCAST = frozenset(kind for kind in ("cpu", "cuda", "xpu", "mps") if torch.amp.is_autocast_available(kind))
_NO_SEGMENT = torch.iinfo(torch.int64).min
_FREQUENCIES = 256  # width of the sinusoidal embedding of σ
_MAX_PERIOD = 10_000.0


def wide(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for everything else."""
    return torch.promote_types(dtype, torch.float32)


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """A context in which autocast is off where `x` lives (some devices have none)."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if kind in _AUTOCAST else nullcontext()


def product_dtype(weight: Tensor, device: torch.device) -> torch.dtype:
    """What linear layers of such a weight return on a device: autocast's dtype where it is on."""
    if device.type in _AUTOCAST and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return weight.dtype


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer left uninitialised: torch's own initialisation draws from the global generator.

    `skip_init` would ask the meta device what to allocate, for which torch imports sympy: seconds at every load.
    """
    layer: nn.Linear = nn.Linear(inputs, outputs, bias=bias, device="meta")
    for name, parameter in list(layer.named_parameters()):
        setattr(layer, name, nn.Parameter(torch.empty(parameter.shape)))
    return layer


def embedding(rows: int, dim: int) -> nn.Embedding:
    """A look-up table left uninitialised, for the same reason; torch's own would draw on the meta device too."""
    table: nn.Embedding = nn.Embedding(rows, dim, _weight=torch.empty(rows, dim))
    return table


class Norm(nn.Module):
    """LayerNorm, at least in float32 and returned so. Under adaLN the bias comes from the modulation."""

    def __init__(self, dim: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(wide(x.dtype))
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.layer_norm(x, self.weight.shape, self.weight.to(x.dtype), bias, 1e-5)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(1 + scale) x + shift."""
    return torch.addcmul(shift, x, 1 + scale)


class NoiseEmbedding(nn.Module):
    """σ `[B, 1]` or `[B, L]` → `[B, 1 or L, cond_dim]`: an MLP on [cos σf | sin σf], f from 1 down to 1/10000."""

    def __init__(self, cond_dim: int) -> None:
        super().__init__()
        self.up = linear(_FREQUENCIES, cond_dim)
        self.down = linear(cond_dim, cond_dim)

    def forward(self, sigma: Tensor) -> Tensor:
        dtype = self.up.weight.dtype
        half = _FREQUENCIES // 2
        j = torch.arange(half, device=sigma.device, dtype=wide(dtype))
        angles = sigma[..., None].to(wide(dtype)) * torch.exp(-math.log(_MAX_PERIOD) / half * j)
        waves = torch.cat((angles.cos(), angles.sin()), -1).to(dtype)
        out: Tensor = self.down(F.silu(self.up(waves)))
        return out


class LocalMixing(nn.Module):
    """x_i + Σ_j w_j ⊙ x_{i+j}, |j| ≤ (width − 1) / 2: a depthwise convolution over positions, zero at the start.

    It tells a position its neighbours at next to no cost, which small networks otherwise need whole heads for (So et
    al. 2021, Primer; Allen-Zhu 2025, Canon layers). Padding and other segments are not seen.

    Args:
        dim: channels.
        width: positions that one sees, its own included; odd.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim, 1, 1, width))

    def forward(self, x: Tensor, visibility: Visibility) -> Tensor:
        """Args: x `[B, L, D]`, or `[1, T, D]` packed; who sees whom. Returns the same shape and dtype."""
        padding, segments = visibility.padding, visibility.segments
        seen = x if padding is None else x.masked_fill(padding[..., None], 0)
        with full_precision(x):
            weight = self.weight.to(x.dtype)
            if segments is not None:
                return x + _within_segments(seen, weight, segments)
            packing, gap = visibility.packing, weight.shape[-1] // 2
            if packing is not None:
                # Zeros between sequences keep them apart, as padding does.
                places = visibility.gapped(gap)
                length = x.shape[1] + gap * (packing.cu_seqlens.shape[0] - 1)
                seen = x.new_zeros(length, x.shape[2]).index_copy(0, places, x[0])[None]
            # As an image one pixel high, channels last, which is how [B, L, D] lies in memory: on CPU three times as
            # fast as conv1d.
            image = seen.transpose(1, 2).unsqueeze(2).contiguous(memory_format=torch.channels_last)
            mixed = F.conv2d(image, weight, padding=(0, weight.shape[-1] // 2), groups=x.shape[-1])
            mixed = mixed.squeeze(2).transpose(1, 2)
            return x + (mixed if packing is None else mixed[0].index_select(0, places)[None])


def _within_segments(x: Tensor, weight: Tensor, segments: Tensor) -> Tensor:
    """The convolution, shift by shift, over positions of equal segment ids."""
    length, reach = x.shape[1], weight.shape[-1] // 2
    values, ids = F.pad(x, (0, 0, reach, reach)), F.pad(segments, (reach, reach), value=_NO_SEGMENT)
    total = torch.zeros_like(x)
    for j in range(weight.shape[-1]):
        here = slice(j, j + length)
        same = (ids[:, here] == segments)[..., None]
        total = total + values[:, here] * weight[:, 0, 0, j] * same
    return total


class Block(nn.Module):
    """x + g·Attention(mix(norm x)), then x + g·MLP(mix(norm x)), mix a `LocalMixing` where `kernel` is not 0.

    Shift and scale of the norms and gate g come from the condition, if any.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        width: int,
        cond_dim: int | None,
        *,
        dropout: float,
        kernel: int,
        gelu: Gelu,
        backend: str,
    ) -> None:
        super().__init__()
        self.heads, self.dropout, self.backend = heads, dropout, backend
        self.approximate = "tanh" if gelu == "tanh" else "none"
        self.norm1 = Norm(dim, bias=cond_dim is None)
        self.qkv = linear(dim, 3 * dim, bias=False)
        self.out = linear(dim, dim, bias=False)
        self.norm2 = Norm(dim, bias=cond_dim is None)
        self.up = linear(dim, width)
        self.down = linear(width, dim)
        self.modulation = None if cond_dim is None else linear(cond_dim, 6 * dim)
        self.mix1 = LocalMixing(dim, kernel) if kernel else None
        self.mix2 = LocalMixing(dim, kernel) if kernel else None

    def forward(
        self,
        x: Tensor,
        condition: Tensor | None,
        tables: tuple[Tensor, Tensor],
        visibility: Visibility,
        within: InBlocks | None = None,
    ) -> Tensor:
        def mix(layer: LocalMixing | None, inner: Tensor) -> Tensor:
            if layer is not None and within is not None:
                with full_precision(inner):
                    inner = within.mixed(inner, layer.weight.to(inner.dtype), 1 + (layer is self.mix2))
            elif layer is not None:
                inner = layer(inner, visibility)
            return inner.to(x.dtype)

        if self.modulation is None:
            x = x + self._attend(mix(self.mix1, self.norm1(x)), tables, visibility, within)
            return x + self._mlp(mix(self.mix2, self.norm2(x)))
        modulations = visibility.spread(self.modulation(condition))
        shift1, scale1, gate1, shift2, scale2, gate2 = modulations.chunk(6, -1)
        inner = mix(self.mix1, modulate(self.norm1(x), shift1, scale1))
        x = torch.addcmul(x, gate1, self._attend(inner, tables, visibility, within))
        inner = mix(self.mix2, modulate(self.norm2(x), shift2, scale2))
        return torch.addcmul(x, gate2, self._mlp(inner))

    def _attend(
        self, x: Tensor, tables: tuple[Tensor, Tensor], visibility: Visibility, within: InBlocks | None
    ) -> Tensor:
        B, L, D = x.shape
        qkv = self.qkv(x).view(B, L, 3, self.heads, D // self.heads)
        pair, v = qkv.split((2, 1), dim=2)
        q, k = rotate(pair, tables).unbind(2)
        q, k, v = (y.transpose(1, 2) for y in (q, k, v.squeeze(2)))
        if within is not None:
            mixed = within.attend(q, k, v)
        else:
            mixed = attention(q, k, v, visibility=visibility, backend=self.backend)
        return self._drop(self.out(mixed.transpose(1, 2).reshape(B, L, D)))

    def _mlp(self, x: Tensor) -> Tensor:
        return self._drop(self.down(F.gelu(self.up(x), approximate=self.approximate)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


def recomputed(block: nn.Module, x: Tensor, *rest: object, dropout: bool) -> Tensor:
    """`block(x, *rest)`, of which the backward pass computes again what it needs, with the same dropout."""
    # dropout draws from the global generator, whose state must then be that of the first time
    out: Tensor = checkpoint(block, x, *rest, use_reentrant=False, preserve_rng_state=dropout)
    return out


def rotary_tables(positions: Tensor, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and signed sin of `position · 10000^(-2j / head_dim)`, j < head_dim / 2 (Su et al. 2021, eq. 15).

    Cheap enough to be computed once per forward pass, so no cache can fall out of step with device or dtype.

    Args:
        positions: int64 `[...]`.
        head_dim: D, even.
        dtype: float32, or float64 for a float64 network; never less (bf16 cannot tell positions apart).

    Returns:
        `[cos | cos]` and `[-sin | sin]`, each `[..., D]`.
    """
    j = torch.arange(0, head_dim, 2, device=positions.device, dtype=dtype)
    angles = positions[..., None].to(dtype) * 10_000.0 ** (-j / head_dim)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def rotate(x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the pairs (x_j, x_{j + D/2}) by the angles of `tables` (the GPT-NeoX halves layout).

    Args:
        x: `[..., D]`.
        tables: from `rotary_tables`, broadcastable to `x`.

    Returns:
        Like `x`, in its dtype; computed in that of the tables.
    """
    cos, sin = tables
    # rolling by half swaps the two members of each pair: on CPU 1.6 times faster than working on the halves
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin).to(x.dtype)
