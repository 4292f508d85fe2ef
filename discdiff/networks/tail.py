"""The last block of a transformer where few positions are read: keys and values everywhere, all else for these few."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from discdiff.networks.attention import attention
from discdiff.networks.base import Context
from discdiff.networks.layers import Block, LocalMixing, modulate, rotary_tables, rotate, wide
from discdiff.networks.visibility import Visibility

if TYPE_CHECKING:
    from discdiff.networks.transformer import Transformer

WORTHWHILE = 0.25
"""The share of positions in the last attention up to which picking them out is quicker than computing them all."""

Positions = tuple[Tensor, Tensor]


def splits(network: Transformer, context: Context) -> bool:
    """Whether the last block can be left for later: one whole sequence a row, no dropout."""
    taken = {"frozen", "padding", "positions", "labels"}
    return (
        network.block_size is None
        and not network.training
        and all(getattr(context, f.name) is None for f in fields(context) if f.name not in taken)
    )


def before_last(network: Transformer, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
    """The stream `[B, L, dim]` that the last block is given."""
    x: Tensor = network.tokens(tokens)
    if context.frozen is not None:
        x = x + context.frozen[..., None].to(x.dtype) * network.frozen
    condition, tables, visibility = _surroundings(network, x, sigma, context)
    for block in network.blocks[:-1]:
        x = block(x, condition, tables, visibility)
    return x


def after_last(network: Transformer, x: Tensor, sigma: Tensor | None, context: Context, where: Positions) -> Tensor:
    """Hidden states `[N, dim]` at N positions: the last block, the last norm and its modulation."""
    block = network.blocks[-1]
    assert isinstance(block, Block)
    condition, tables, visibility = _surroundings(network, x, sigma, context)
    if len(where[0]) * _width(block.mix2) > WORTHWHILE * x.shape[0] * x.shape[1]:
        found = block(x, condition, tables, visibility)[where]
    else:
        found = last_block(block, x, condition, tables, visibility, where)
    out: Tensor = network.norm(found)
    if network.modulation is not None and condition is not None:
        shift, scale = network.modulation(condition).expand(len(x), -1, -1).chunk(2, -1)
        out = modulate(out, _of(shift, where), _of(scale, where))
    return out.to(x.dtype)


def _surroundings(
    network: Transformer, x: Tensor, sigma: Tensor | None, context: Context
) -> tuple[Tensor | None, tuple[Tensor, Tensor], Visibility]:
    """What all blocks are given beside the stream."""
    rows = torch.zeros(x.shape[:2], dtype=torch.int64, device=x.device)
    positions = torch.arange(x.shape[1], device=x.device) if context.positions is None else context.positions
    cos, sin = rotary_tables(positions, network.dim // network.heads, wide(x.dtype))
    tables = cos[..., None, None, :], sin[..., None, None, :]
    return network._condition(rows, sigma, context), tables, Visibility(context.padding)


class Neighbours(NamedTuple):
    """Positions that others are mixed from.

    Attributes:
        where: M positions, rows in order, each once: those asked for and what `LocalMixing` lets them see.
        slots: int64 `[N, kernel]`: where in `where` each of the N positions finds each neighbour; M where it sees none.
        own: int64 `[N]`: where it finds itself.
    """

    where: Positions
    slots: Tensor
    own: Tensor


def neighbours(where: Positions, shape: tuple[int, int], kernel: int, padding: Tensor | None) -> Neighbours:
    """What N positions of a `[B, L]` batch are mixed from by a kernel of odd width (1: themselves alone)."""
    rows, positions = where
    length = shape[1]
    at = positions[:, None] + torch.arange(kernel, device=rows.device) - kernel // 2
    seen, flat = (at >= 0) & (at < length), rows[:, None] * length + at.clamp(0, length - 1)
    if padding is not None:
        seen = seen & ~padding.reshape(-1)[flat]
    needed = torch.zeros(shape[0] * length, dtype=torch.bool, device=rows.device)
    needed[flat[seen]] = True
    needed[rows * length + positions] = True
    slot = needed.cumsum(0) - 1
    found = needed.nonzero()[:, 0]
    rest = torch.where(seen, slot[flat], len(found))
    return Neighbours((found // length, found % length), rest, slot[rows * length + positions])


def last_block(
    block: Block,
    x: Tensor,
    condition: Tensor | None,
    tables: tuple[Tensor, Tensor],
    visibility: Visibility,
    where: Positions,
) -> Tensor:
    """`block(x, ...)[where]`, up to rounding: `[N, D]`.

    Args:
        block: in evaluation, where it drops nothing.
        x: `[B, L, D]`.
        condition: `[B, 1 or L, C]` or None.
        tables: of the rotation, from `rotary_tables`, `[L or (B, L), 1, 1, D / H]`.
        visibility: without segments.
        where: N positions.
    """
    B, L, D = x.shape
    heads, (cos, sin) = block.heads, tables
    shift1, scale1, gate1, shift2, scale2, gate2 = _modulation(block, condition, x)
    inner = block.norm1(x) if shift1 is None or scale1 is None else modulate(block.norm1(x), shift1, scale1)
    inner = inner.to(x.dtype) if block.mix1 is None else block.mix1(inner, visibility).to(x.dtype)
    needed, slots, own = neighbours(where, (B, L), _width(block.mix2), visibility.padding)

    weight = block.qkv.weight
    k, v = F.linear(inner, weight[D:]).view(B, L, 2, heads, D // heads).unbind(2)
    k = rotate(k, (cos[..., 0, :, :], sin[..., 0, :, :]))
    q = F.linear(inner[needed], weight[:D]).view(-1, heads, D // heads)
    here = (needed[1],) if cos.ndim == 4 else needed
    q = rotate(q, (cos[here][:, 0], sin[here][:, 0]))
    mixed = _attend(q, k, v, needed, visibility, block.backend)
    stream = _gated(x[needed], gate1, needed, block.out(mixed.reshape(-1, D)))

    inner = block.norm2(stream)
    if scale2 is not None and shift2 is not None:
        inner = modulate(inner, _of(shift2, needed), _of(scale2, needed))
    inner = _mixed(block.mix2, inner, slots, own).to(x.dtype)
    up = F.gelu(block.up(inner), approximate=block.approximate)
    return _gated(stream[own], gate2, where, block.down(up))


def _modulation(block: Block, condition: Tensor | None, x: Tensor) -> tuple[Tensor | None, ...]:
    if block.modulation is None:
        return (None,) * 6
    found: Tensor = block.modulation(condition)
    return found.expand(len(x), -1, -1).chunk(6, -1)


def _of(values: Tensor, where: Positions) -> Tensor:
    """`[B, 1 or L, D]` at positions."""
    return values[where[0], where[1] if values.shape[1] > 1 else 0]


def _gated(x: Tensor, gate: Tensor | None, where: Positions, change: Tensor) -> Tensor:
    return x + change if gate is None else torch.addcmul(x, _of(gate, where), change)


def _width(layer: LocalMixing | None) -> int:
    return 1 if layer is None else layer.weight.shape[-1]


def _attend(q: Tensor, k: Tensor, v: Tensor, needed: Positions, visibility: Visibility, backend: str) -> Tensor:
    """Attention of M queries, `[M, H, d]`, to the keys of their rows, `[B, L, H, d]`."""
    rows = needed[0]
    counts = torch.bincount(rows, minlength=len(k))
    place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    padded = q.new_zeros(len(k), int(counts.max()), *q.shape[1:])
    padded[rows, place] = q
    queries, keys, values = (y.transpose(1, 2) for y in (padded, k, v))
    return attention(queries, keys, values, visibility=visibility, backend=backend).transpose(1, 2)[rows, place]


def _mixed(layer: LocalMixing | None, inner: Tensor, slots: Tensor, own: Tensor) -> Tensor:
    if layer is None:
        return inner[own]
    weight = layer.weight[:, 0, 0].to(inner.dtype).t()  # [kernel, D]
    seen = torch.cat([inner, inner.new_zeros(1, inner.shape[1])])[slots]
    return inner[own] + torch.einsum("nkd,kd->nd", seen, weight)


__all__ = ["WORTHWHILE", "after_last", "before_last", "last_block", "splits"]
