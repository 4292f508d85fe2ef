"""Padded rows without their padding: all real tokens of a batch, one sequence after the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where the T real tokens of a padded batch `[B, L]` lie. Made by `of` without waiting for the device.

    Attributes:
        rows: int64 `[T]`, the row of each token, ascending.
        places: int64 `[T]`, where each is in the flattened batch: row · L + position.
        cu_seqlens: int32 `[B + 1]`, where each sequence begins among the T, and T: what attention kernels ask for.
        width: L, no less than the longest sequence.
    """

    rows: Tensor
    places: Tensor
    cu_seqlens: Tensor
    width: int

    @classmethod
    def of(cls, lengths: Tensor, width: int, total: int) -> Packing:
        """Rows that begin with their real tokens.

        Args:
            lengths: int64 `[B]`, real tokens per row, on any device.
            width: L.
            total: T, the sum of `lengths`. It is asked for since to read it off a GPU would stop the host until all
                work before is done.
        """
        ends = lengths.cumsum(0)
        every = torch.arange(len(lengths), device=lengths.device)
        rows = torch.repeat_interleave(every, lengths, output_size=total)
        # a row's tokens lie `row · L - (tokens of the rows before)` further on than among the T
        shift = every * width - (ends - lengths)
        places = torch.arange(total, device=lengths.device) + shift[rows]
        return cls(rows, places, torch.nn.functional.pad(ends, (1, 0)).to(torch.int32), width)

    @property
    def positions(self) -> Tensor:
        """int64 `[1, T]`: the position of each token in its row."""
        return (self.places - self.rows * self.width)[None]

    @property
    def padding(self) -> Tensor:
        """bool `[B, L]`, True where a position is padding."""
        lengths = self.cu_seqlens.diff()
        return torch.arange(self.width, device=lengths.device) >= lengths[:, None]

    def pack(self, x: Tensor) -> Tensor:
        """`[B, L, ...]` → `[1, T, ...]`."""
        return x.flatten(0, 1).index_select(0, self.places)[None]

    def unpack(self, x: Tensor) -> Tensor:
        """`[1, T, ...]` → `[B, L, ...]`, zero where there is padding."""
        rows = self.cu_seqlens.shape[0] - 1
        padded = x.new_zeros(rows * self.width, *x.shape[2:]).index_copy(0, self.places, x[0])
        return padded.unflatten(0, (rows, self.width))

    def spread(self, condition: Tensor) -> Tensor:
        """`[B, 1 or L, C]` → `[1, T, C]`: what holds for a row or a position, for each of its tokens."""
        if condition.shape[1] == 1:
            return condition[:, 0].index_select(0, self.rows)[None]
        return self.pack(condition)

    def gapped(self, gap: int) -> Tensor:
        """int64 `[T]`: where each token lies when every sequence is followed by `gap` empty places."""
        return torch.arange(self.rows.shape[0], device=self.rows.device) + gap * self.rows
