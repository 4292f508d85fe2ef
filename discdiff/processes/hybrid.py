"""The hybrid process: a jump event masks a token, or replaces it by any content token."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.processes.base import check_vocab_size
from discdiff.processes.rank_one import RankOne


class Hybrid(RankOne):
    """Q = π1ᵀ − I with π = κ δ_mask + (1 − κ)/V over the content tokens; the mask is the last state.

    A mask shows that its token is lost, but a token may be noise too: the denoiser depends on σ, and given positions
    must be marked as frozen. The clean sequence holds no mask: the last step, to σ = 0, draws content tokens only.

    Austin et al. 2021 (D3PM), appendix A.2.6 (absorbing and uniform together); von Rütte et al. 2025 (GIDD).

    Args:
        vocab_size: V content tokens; the mask is state V.
        mask_share: κ in (0, 1), the share of events that mask.

    Raises:
        IncompatibleError: κ is 0 (that is Uniform), 1 (Absorbing), or no share.
    """

    def __init__(self, vocab_size: int, mask_share: float = 0.5) -> None:
        super().__init__()
        self.vocab_size = check_vocab_size(vocab_size)
        self.num_states = vocab_size + 1
        self.mask_id: int = vocab_size
        if not 0 < mask_share < 1:
            raise IncompatibleError(
                "Hybrid",
                got=f"mask_share={mask_share}",
                expected="a number between 0 and 1, both excluded",
                remedy="Use Uniform for 0 and Absorbing for 1.",
            )
        self.mask_share = float(mask_share)

    def stationary(self, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
        every = torch.arange(self.num_states, device=device)
        return self.base_mass(every, dtype=dtype)

    def base_mass(self, x: Tensor, *, dtype: torch.dtype) -> Tensor:
        pi = torch.full(x.shape, (1 - self.mask_share) / self.vocab_size, dtype=dtype, device=x.device)
        return pi.masked_fill(x == self.mask_id, self.mask_share)

    def log_score_scale(self, x: Tensor, sigma: Tensor) -> Tensor:
        # x0 uniform over the tokens: xt is each of them with (1 − (1 − α) κ)/V, and the mask with (1 − α) κ
        log_mask = torch.log(-torch.expm1(-sigma) * self.mask_share)
        log_token = torch.log1p(-log_mask.exp()) - math.log(self.vocab_size)
        log_q = torch.cat([log_token[..., None].expand(*sigma.shape, self.vocab_size), log_mask[..., None]], -1)
        return log_q - torch.where(x == self.mask_id, log_mask, log_token)[..., None]

    def draw_base(self, u: Tensor) -> Tensor:
        token = (u.double() / (1 - self.mask_share) * self.vocab_size).long()
        return token.clamp(max=self.mask_id)  # beyond the share of tokens lies that of the mask

    def draw_base_except(self, x: Tensor, u: Tensor) -> Tensor:
        # Tokens but x, then the mask; where x is the mask, tokens alone.
        size, u = self.vocab_size, u.double()
        others = torch.where(x == self.mask_id, size, size - 1)
        mass = others * (1 - self.mask_share) / size
        mask = torch.where(x == self.mask_id, 0.0, self.mask_share).double()
        token = (u * (mass + mask) / mass * others).long()
        hidden = (token >= others) & (x != self.mask_id)
        token = token.clamp(max=size - 1).minimum(others - 1)
        return torch.where(hidden, self.mask_id, token + (token >= x))
