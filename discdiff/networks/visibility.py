"""Which keys each query of a batch sees."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from discdiff.networks.packing import Packing


class Visibility:
    """Which keys each query sees. Build it once per forward pass: every layer shares what it caches.

    Args:
        padding: bool `[B, L]`, True where a position is not attended to; None where all are.
        segments: int64 `[B, L]`: a query sees the keys of its own segment; None where there is one segment.
        packing: of a batch that is one row `[1, T]` of real tokens: a query sees the keys of its own sequence. Then
            there are neither padding nor segments.

    No query is left without a key: in a row that is all padding every key is seen, and with segments each
    position sees itself. What such positions hold is never read, but their gradients must stay finite.
    """

    def __init__(
        self, padding: Tensor | None = None, segments: Tensor | None = None, packing: Packing | None = None
    ) -> None:
        assert packing is None or (padding is None and segments is None), "packed tokens have no padding"
        self.padding, self.segments, self.packing = padding, segments, packing
        self._mask: Tensor | None = None
        self._block_mask: Any = None
        self._runs: tuple[Tensor, Tensor, Tensor] | None = None
        self._rows: Visibility | None = None
        self._gaps: dict[int, Tensor] = {}

    @property
    def everywhere(self) -> bool:
        """Every query sees every key."""
        return self.padding is None and self.segments is None and self.packing is None

    def hides(self) -> dict[str, bool]:
        """What hides keys from queries, as `Request` has it."""
        return {
            "padded": self.padding is not None,
            "segmented": self.segments is not None,
            "packed": self.packing is not None,
        }

    def mask(self) -> Tensor | None:
        """bool, True where the key is seen: `[B, 1, 1, L]`, with segments `[B, 1, L, L]`, None if everywhere."""
        if self._mask is None and not self.everywhere:
            self._mask = self._build()
        return self._mask

    def _build(self) -> Tensor:
        if self.segments is None and self.packing is None:
            assert self.padding is not None
            return (~self.padding | self.padding.all(-1, keepdim=True))[:, None, None, :]
        ids = self._ids()
        seen = ids[:, :, None] == ids[:, None, :]
        if self.padding is not None:
            itself = torch.eye(seen.shape[-1], dtype=torch.bool, device=seen.device)
            seen = (seen & ~self.padding[:, None, :]) | itself
        return seen[:, None]

    def _ids(self) -> Tensor:
        if self.packing is not None:
            return self.packing.rows[None]
        assert self.segments is not None
        return self.segments

    def block_mask(self, rows: int, length: int, device: torch.device) -> Any:
        """The same for flex-attention: a `BlockMask` of `rows` × `length` × `length`, None if everywhere."""
        if self._block_mask is None and not self.everywhere:
            from torch.nn.attention.flex_attention import create_block_mask

            self._block_mask = create_block_mask(self._rule(), rows, None, length, length, device=device)
        return self._block_mask

    def _rule(self) -> Any:
        """`(row, head, query, key) -> bool` over index tensors, what `mask` says entry by entry.

        A further rule (block-causal order, say) is one more factor here and in `_build`.
        """
        padding = self.padding
        if self.segments is None and self.packing is None:
            assert padding is not None
            shown = ~padding | padding.all(-1, keepdim=True)
            return lambda b, h, q, k: shown[b, k]
        ids = self._ids()
        if padding is None:
            return lambda b, h, q, k: ids[b, q] == ids[b, k]
        return lambda b, h, q, k: ((ids[b, q] == ids[b, k]) & ~padding[b, k]) | (q == k)

    def runs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Padded rows as 2B sequences, a row's real tokens and then its padding, for kernels of variable length.

        So nothing needs to know how many tokens are real, which a GPU tells only to who waits.

        Returns:
            The order of the flattened batch in which real tokens come first in each row, and its inverse, both int64
            `[B L]`; and cu_seqlens, int32 `[2 B + 1]`.
        """
        if self._runs is None:
            padding = self.padding
            assert padding is not None
            rows, length = padding.shape
            start = length * torch.arange(rows, device=padding.device)[:, None]
            order = padding.to(torch.uint8).argsort(dim=-1, stable=True) + start
            inverse = order.flatten().argsort()
            real = (~padding).sum(-1, keepdim=True)
            ends = torch.cat((real, torch.full_like(real, length)), 1) + start
            cu_seqlens = torch.nn.functional.pad(ends.flatten(), (1, 0)).to(torch.int32)
            self._runs = order.flatten(), inverse, cu_seqlens
        return self._runs

    def padded(self) -> Visibility:
        """The visibility of a packed batch's rows with their padding."""
        assert self.packing is not None
        if self._rows is None:
            self._rows = Visibility(self.packing.padding)
        return self._rows

    def prepare(self, gap: int) -> None:
        """Compute what `gapped` keeps."""
        if self.packing is not None:
            self.gapped(gap)

    def gapped(self, gap: int) -> Tensor:
        """`Packing.gapped` of a packed batch, computed once."""
        assert self.packing is not None
        if gap not in self._gaps:
            self._gaps[gap] = self.packing.gapped(gap)
        return self._gaps[gap]

    def spread(self, condition: Tensor) -> Tensor:
        """What holds for rows or positions, `[B, 1 or L, C]`, so that it broadcasts to the tokens."""
        return condition if self.packing is None else self.packing.spread(condition)
