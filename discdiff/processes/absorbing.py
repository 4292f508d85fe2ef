"""The absorbing process: a jump event turns a token into the mask, for good."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.processes.base import check_vocab_size
from discdiff.processes.rank_one import RankOne


class Absorbing(RankOne):
    """Q = δ_mask 1ᵀ − I; the mask is the last state.

    A masked position has lost its token (with probability 1 − α), an unmasked one shows it: the denoiser is time-free
    (Ou et al. 2024, theorem 1) and only masked positions ever move. `log s = log p − log(e^σ − 1)` there; elsewhere
    the score is no function of the denoiser and `log_score` is −∞ off the diagonal.

    Austin et al. 2021 (D3PM), section 3.1; Lou et al. 2024, equation 16.

    Args:
        vocab_size: V content tokens; the mask is state V.
    """

    reveals_noise = True
    irreducible = False

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = check_vocab_size(vocab_size)
        self.num_states = vocab_size + 1
        self.mask_id: int = vocab_size

    def stationary(self, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
        pi = torch.zeros(self.num_states, dtype=dtype, device=device)
        pi[self.mask_id] = 1.0
        return pi

    def base_mass(self, x: Tensor, *, dtype: torch.dtype) -> Tensor:
        return (x == self.mask_id).to(dtype)

    def draw_base(self, u: Tensor) -> Tensor:
        return torch.full(u.shape, self.mask_id, dtype=torch.int64, device=u.device)

    def active(self, x: Tensor) -> Tensor:
        return x == self.mask_id

    def log_score_scale(self, x: Tensor, sigma: Tensor) -> Tensor:
        # x0 uniform: of a masked position, which is all that has a score
        return -torch.log(torch.expm1(sigma) * self.vocab_size)[..., None]

    def restrict(self, logits: Tensor, x: Tensor) -> Tensor:
        masked = x == self.mask_id
        if bool(masked.all()):  # as where a step reads what it may reveal: no pass over the vocabulary
            return logits
        carried = torch.full_like(logits, -torch.inf).scatter(-1, x.clamp(max=self.vocab_size - 1)[..., None], 0.0)
        return torch.where(masked[..., None], logits, carried)

    # ---- fast forms, each equal to the generic one -------------------------------------------------------------------
    def may_move(self, x: Tensor, sigma: Tensor, sigma_next: Tensor, u: Tensor) -> Tensor:
        reveal = torch.exp(-sigma_next) * torch.expm1(sigma_next - sigma) / torch.expm1(-sigma)
        return (x == self.mask_id) & (u < reveal)

    def move(self, x: Tensor, x0: Tensor, sigma: Tensor, sigma_next: Tensor, u: Tensor) -> Tensor:
        return x0

    def log_jump_rate(self, x: Tensor, sigma: Tensor) -> Tensor:
        rate = -torch.log(torch.expm1(sigma))
        return torch.where(x == self.mask_id, rate, -torch.inf)[..., None]

    def max_jump_rate(self, sigma: Tensor) -> Tensor:
        return 1 / torch.expm1(sigma)

    def jump(self, x: Tensor, x0: Tensor, sigma: Tensor, u: Tensor) -> Tensor:
        return x0

    def score_from_denoiser(self, log_p: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        log_s = self.states(log_p - torch.log(torch.expm1(sigma))[..., None], 0.0)
        still = torch.full_like(log_s, -torch.inf).scatter(-1, x[..., None], 0.0)
        return torch.where((x == self.mask_id)[..., None], log_s, still)

    def score_entropy(self, log_s: Tensor, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        log_odds = -torch.log(torch.expm1(sigma))
        content = self.content(log_s)
        target = content.gather(-1, x0[..., None])[..., 0]
        entropy = content.exp().sum(-1) - log_odds.exp() * (target - log_odds + 1)
        return torch.where(x == self.mask_id, entropy, torch.zeros_like(entropy))

    def elbo_rate(self, log_loo: Tensor, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        nll = -log_loo.gather(-1, x0[..., None])[..., 0]
        return torch.where(x == self.mask_id, nll / torch.expm1(sigma), torch.zeros_like(nll))
