"""The uniform process: a jump event replaces a token by any content token, all equally likely."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.processes.base import check_vocab_size
from discdiff.processes.rank_one import RankOne


class Uniform(RankOne):
    """Q = 11ᵀ/V − I over the content tokens; no mask.

    Austin et al. 2021 (D3PM), section 3.1; Lou et al. 2024, equation 15.

    Args:
        vocab_size: V content tokens, which are all the states.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = self.num_states = check_vocab_size(vocab_size)

    def stationary(self, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
        return torch.full((self.num_states,), 1 / self.num_states, dtype=dtype, device=device)

    def base_mass(self, x: Tensor, *, dtype: torch.dtype) -> Tensor:
        return torch.full(x.shape, 1 / self.num_states, dtype=dtype, device=x.device)

    def log_score_scale(self, x: Tensor, sigma: Tensor) -> Tensor:
        return torch.zeros_like(sigma)[..., None]

    def draw_base(self, u: Tensor) -> Tensor:
        return (u * self.num_states).long().clamp(max=self.num_states - 1)

    def draw_base_except(self, x: Tensor, u: Tensor) -> Tensor:
        y = (u * (self.num_states - 1)).long().clamp(max=self.num_states - 2)
        return y + (y >= x)
