"""Block-causal attention and mixing: a position sees its own block and earlier ones, clean; never later ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Blocks:
    """Which positions one forward pass covers, in blocks of `size` counted from position 0.

    Clean positions see clean ones of their own block and earlier ones. With `noised`, the noised sequence follows the
    clean one, and its positions see noised ones of their own block and clean ones of earlier blocks (Arriola et al.
    2025, "Block diffusion", section 3).

    Attributes:
        size: positions of a block.
        stop: keys are positions 0 .. stop − 1.
        device: where they are.
        start: queries are positions start .. stop − 1; a multiple of `size`. Keys before it come from a cache.
        noised: whether the noised sequence comes after the clean one: 2 · stop positions.
    """

    size: int
    stop: int
    device: torch.device
    start: int = 0
    noised: bool = False

    @property
    def everywhere(self) -> bool:
        """Every query sees every key."""
        return not self.noised and self.start // self.size == (self.stop - 1) // self.size

    def visible(self) -> Tensor:
        """bool `[queries, keys]`."""
        block = torch.arange(self.stop, device=self.device) // self.size
        ahead, own = block[self.start :, None] > block, block[self.start :, None] == block
        if not self.noised:
            return ahead | own
        clean = torch.cat((ahead | own, torch.zeros_like(own)), 1)
        return torch.cat((clean, torch.cat((ahead, own), 1)))

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
