"""Block-causal attention and mixing: a position sees its own block and earlier ones, clean; never later ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_TOGETHER = {"cpu": 128, "cuda": 1024}
"""Positions, of whole blocks, whose queries meet their keys at once: fewer waste less on keys that are not seen."""


class Piece(NamedTuple):
    """Queries that meet their keys at once.

    Attributes:
        queries, keys: positions, as slices one after another.
        mask: bool, True where a key is seen, broadcastable to `[B, 1, queries, keys]`; None where all are.
    """

    queries: tuple[slice, ...]
    keys: tuple[slice, ...]
    mask: Tensor | None


@dataclass(frozen=True)
class Blocks:
    """Which positions one forward pass covers, in blocks of `size` counted from position 0.

    Clean positions see clean ones of their own block and earlier ones. With `noised`, the noised sequence follows the
    clean one, and its positions see noised ones of their own block and clean ones of earlier blocks (Arriola et al.
    2025, "Block diffusion", section 3).

    Attributes:
        size: positions of a block.
        stop: keys are positions 0 .. stop − 1.
        start: queries are positions start .. stop − 1; a multiple of `size`. Keys before it come from a cache.
        noised: whether the noised sequence comes after the clean one: 2 · stop positions.
    """

    size: int
    stop: int
    start: int = 0
    noised: bool = False

    def pieces(self, padding: Tensor | None, device: torch.device) -> list[Piece]:
        """All queries, some blocks at a time, each with the keys that any of them sees.

        Args:
            padding: bool `[B, stop]`, True where a key is not attended to. In a row that is all padding every key is.
            device: of the masks.
        """
        real = None if padding is None else (~padding | padding.all(-1, keepdim=True))[:, None, None]
        return list(self._pieces(real, device))

    def _pieces(self, real: Tensor | None, device: torch.device) -> Iterator[Piece]:
        block = torch.arange(self.stop, device=device) // self.size
        together = max(_TOGETHER.get(device.type, 1024) // self.size, 1) * self.size
        for first in range(self.start, self.stop, together):
            last = min(first + together, self.stop)
            own, earlier = block[first:last, None] == block[first:last], block[first:last, None] > block[:last]
            queries: tuple[slice, ...] = (slice(first - self.start, last - self.start),)
            keys: tuple[slice, ...] = (slice(0, last),)
            seen = earlier.clone()
            seen[:, first:] |= own
            if self.noised:
                queries, keys = (
                    (*queries, _later(queries[0], self.stop)),
                    (*keys, _later(slice(first, last), self.stop)),
                )
                seen = torch.cat((torch.cat((seen, torch.zeros_like(own)), 1), torch.cat((earlier, own), 1)))
            alone = not self.noised and first // self.size == (last - 1) // self.size
            mask = None if alone else seen
            if real is not None:
                here = real[..., :last]
                here = torch.cat((here, real[..., first:last]), -1) if self.noised else here
                mask = here if mask is None else here & mask
            yield Piece(queries, keys, mask)

    def mixed(self, x: Tensor, weight: Tensor, left: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The depthwise convolution over the positions that each one sees: `[B, M, D]`.

        Args:
            x: `[B, M, D]`, 0 where nothing is to be seen.
            weight: `[D, 1, 1, width]`.
            left: what lies before the first position, given x: `[B, width // 2, D]`; None where nothing does.
        """
        batch, total, dim = x.shape
        reach, streams = weight.shape[-1] // 2, 1 + self.noised
        length = total // streams
        count = -(-length // self.size)
        apart = F.pad(x.view(batch, streams, length, dim), (0, 0, 0, count * self.size - length))
        clean = apart[:, 0]
        before = F.pad(clean, (0, 0, reach, 0)) if left is None else torch.cat((left(x), clean), 1)
        edges = windows(before, reach, self.size)[:, :count]
        each = apart.view(batch, streams, count, self.size, dim)
        edges = edges[:, None].expand(-1, streams, -1, -1, -1)
        whole = torch.cat((edges, each, each.new_zeros(()).expand_as(edges)), 3).flatten(0, 2)
        image = whole.transpose(1, 2).unsqueeze(2).contiguous(memory_format=torch.channels_last)
        out = F.conv2d(image, weight, groups=dim).squeeze(2).transpose(1, 2)
        return out.reshape(batch, streams, count * self.size, dim)[:, :, :length].reshape(x.shape)


def windows(x: Tensor, reach: int, size: int) -> Tensor:
    """What lies before each multiple of `size`: positions k·size .. k·size + reach − 1 of x `[B, M, D]`.

    Returns `[B, K, reach, D]`.
    """
    count = (x.shape[1] - reach) // size + 1
    place = torch.arange(count, device=x.device)[:, None] * size + torch.arange(reach, device=x.device)
    return x[:, place]


def attend(q: Tensor, k: Tensor, v: Tensor, pieces: list[Piece]) -> Tensor:
    """softmax(q kᵀ / √D) v, piece by piece: `[B, H, queries, D]` of v's dtype.

    Args:
        q: `[B, H, queries, D]`.
        k: `[B, H, keys, D]`.
        v: like k.
        pieces: from `Blocks.pieces`.
    """
    streams: list[list[Tensor]] = [[] for _ in pieces[0].queries]
    for piece in pieces:
        out, start = _attend(_some(q, piece.queries), _some(k, piece.keys), _some(v, piece.keys), piece.mask), 0
        for stream, part in zip(streams, piece.queries, strict=True):
            stream.append(out[:, :, start : start + part.stop - part.start])
            start += part.stop - part.start
    whole = [part for stream in streams for part in stream]
    return whole[0] if len(whole) == 1 else torch.cat(whole, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # As in `attention`: the CPU kernel's bf16 backward takes eight times as long as its float32 one.
    with torch.autocast("cpu", enabled=False):
        wide = torch.promote_types(q.dtype, torch.float32)
        return F.scaled_dot_product_attention(q.to(wide), k.to(wide), v.to(wide), attn_mask=mask).to(v.dtype)


def _some(x: Tensor, where: tuple[slice, ...]) -> Tensor:
    parts = [x[:, :, part] for part in where]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _later(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
