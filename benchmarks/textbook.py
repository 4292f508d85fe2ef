"""Training and sampling as the published implementations do it, in plain words: what speed is compared with.

A diffusion transformer with adaLN, rotary positions by halves, dropout and tanh-GELU; logits of every state at every
position, as scores; the score entropy over all of them; an optimiser and an average that go tensor by tensor. Lou et
al. 2024 (SEDD), section 4 and appendix C; Peebles and Xie 2023, section 3.2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import discdiff as dd

DROPOUT = 0.1


class TextbookBlock(nn.Module):
    """Attention and MLP with a modulated norm before, a gate and dropout behind."""

    def __init__(self, dim: int, heads: int, cond_dim: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim, bias=False), nn.LayerNorm(dim, bias=False)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.modulation = nn.Linear(cond_dim, 6 * dim)

    def forward(self, x: Tensor, condition: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rows, length, dim = x.shape
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, -1)
        inner = self.norm1(x) * (1 + scale1) + shift1
        q, k, v = self.qkv(inner).view(rows, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k = turned(q, cos, sin), turned(k, cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(rows, length, dim)
        x = x + gate1 * F.dropout(self.out(mixed), self.dropout, self.training)
        inner = self.norm2(x) * (1 + scale2) + shift2
        inner = self.down(F.gelu(self.up(inner), approximate="tanh"))
        return x + gate2 * F.dropout(inner, self.dropout, self.training)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: the two halves of each head, rotated."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


class Textbook(nn.Module):
    """The network: log scores of all states at all positions."""

    def __init__(
        self, states: int, dim: int, depth: int, heads: int, cond_dim: int = 128, dropout: float = DROPOUT
    ) -> None:
        super().__init__()
        self.states, self.heads = states, heads
        self.tokens = nn.Embedding(states, dim)
        self.noise = nn.Sequential(nn.Linear(256, cond_dim), nn.SiLU(), nn.Linear(cond_dim, cond_dim))
        self.blocks = nn.ModuleList(TextbookBlock(dim, heads, cond_dim, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, bias=False)
        self.modulation = nn.Linear(cond_dim, 2 * dim)
        self.output = nn.Linear(dim, states)

    def forward(self, tokens: Tensor, sigma: Tensor) -> Tensor:
        """log s `[B, L, S]` of tokens int64 `[B, L]` at noise `[B]`; 0 at the token that is there."""
        x = self.tokens(tokens)
        frequencies = torch.exp(-math.log(10_000.0) / 128 * torch.arange(128))
        angles = sigma[:, None] * frequencies
        condition = F.silu(self.noise(torch.cat((angles.cos(), angles.sin()), -1)))
        half = x.shape[-1] // self.heads // 2
        places = torch.arange(tokens.shape[1])[:, None] * 10_000.0 ** (-torch.arange(half) / half)
        cos, sin = (torch.cat((part, part), -1) for part in (places.cos(), places.sin()))
        for block in self.blocks:
            x = block(x, condition, cos, sin)
        shift, scale = self.modulation(condition)[:, None].chunk(2, -1)
        logits = self.output(self.norm(x) * (1 + scale) + shift).float()
        log_score = logits - torch.log(torch.expm1(sigma))[:, None, None] - math.log(self.states - 1)
        return log_score.scatter(-1, tokens[..., None], 0.0)

    @torch.no_grad()
    def copy(self, network: dd.Transformer) -> None:
        """Take the weights of a network of the same shape."""
        pairs: list[tuple[nn.Module, nn.Module | None]] = [
            (self.tokens, network.tokens),
            (self.norm, network.norm),
            (self.modulation, network.modulation),
            (self.output, network.output),
            (self.noise[0], network.noise.up),  # type: ignore[union-attr]
            (self.noise[2], network.noise.down),  # type: ignore[union-attr]
        ]
        for block, theirs in zip(self.blocks, network.blocks, strict=True):
            pairs += [(part, getattr(theirs, name)) for name, part in block.named_children()]
        for mine, other in pairs:
            assert other is not None, "the network is conditioned on noise"
            for name, weight in mine.named_parameters():
                weight.copy_(dict(other.named_parameters())[name])


def score_entropy(log_score: Tensor, xt: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    """Of the absorbing process at every position, `[B, L]`; zero where there is no mask."""
    mask = log_score.shape[-1] - 1
    ratio = (1 / torch.expm1(sigma))[:, None]
    positive = log_score.exp()[..., :-1].sum(-1)
    negative = ratio * log_score.gather(-1, x0[..., None])[..., 0]
    constant = ratio * (ratio.log() - 1)
    return torch.where(xt == mask, positive - negative + constant, 0.0)


class TextbookStep:
    """One step of training, given noised tokens."""

    def __init__(self, network: Textbook, *, learning_rate: float, decay: float) -> None:
        self.network, self.decay = network.train(), decay
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=learning_rate, betas=(0.9, 0.98), foreach=False, fused=False
        )
        self.average = [weight.detach().clone() for weight in network.parameters()]

    def loss(self, x0: Tensor, xt: Tensor, sigma: Tensor, dsigma: Tensor, real: Tensor) -> Tensor:
        """Nats a token."""
        entropy = score_entropy(self.network(xt, sigma), xt, x0, sigma)
        return (dsigma[:, None] * torch.where(real, entropy, 0.0)).sum() / real.sum()

    def __call__(self, x0: Tensor, xt: Tensor, sigma: Tensor, dsigma: Tensor, real: Tensor) -> float:
        loss = self.loss(x0, xt, sigma, dsigma, real)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0, foreach=False)
        self.optimizer.step()
        with torch.no_grad():
            for mean, weight in zip(self.average, self.network.parameters(), strict=True):
                mean.sub_((1 - self.decay) * (mean - weight))
        return loss.item()
