"""The rank-one family Q = π1ᵀ − I: at each event of a unit-rate clock, a position's token is drawn anew from π.

`P_σ = αI + (1 − α) π1ᵀ` with α = e^(−σ). All is closed-form in O(V) a position; no V×V matrix is ever built. The
odds g = α / (1 − α) = 1 / (e^σ − 1) are formed by `expm1`, so nothing cancels from σ = 1e-6 to 20.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from discdiff.processes.base import Process, exp_excess
from discdiff.randomness import Randomness, categorical, uniform


def one_hot(x: Tensor, size: int, value: Tensor) -> Tensor:
    """`[..., size]` with `value` at x and 0 elsewhere."""
    shape = torch.broadcast_shapes(x.shape, value.shape)
    zeros = torch.zeros(*shape, size, dtype=value.dtype, device=x.device)
    return zeros.scatter(-1, x.expand(shape)[..., None], value.expand(shape)[..., None])


class RankOne(Process):
    """Q = π1ᵀ − I. A member says what π is and how to draw from it."""

    @abstractmethod
    def base_mass(self, x: Tensor, *, dtype: torch.dtype) -> Tensor:
        """π[x], `[...]`."""

    @abstractmethod
    def draw_base(self, u: Tensor) -> Tensor:
        """Draw from π by uniform numbers (float64) `[...]`: int64 `[...]`."""

    def draw_base_except(self, x: Tensor, u: Tensor) -> Tensor:
        """Draw y ~ π given y ≠ x: int64 `[...]`."""
        weights = self.stationary(dtype=torch.float64, device=x.device).expand(*x.shape, -1)
        return categorical(weights.scatter(-1, x[..., None], 0.0), u)

    def _pi(self, like: Tensor) -> Tensor:
        return self.stationary(dtype=like.dtype, device=like.device)

    def rates_into(self, x: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        pi = self.base_mass(x, dtype=dtype)
        return pi[..., None].expand(*x.shape, self.num_states) - one_hot(x, self.num_states, torch.ones_like(pi))

    def rates_from(self, x: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        pi = self.stationary(dtype=dtype, device=x.device)
        return pi - one_hot(x, self.num_states, torch.ones((), dtype=dtype, device=x.device))

    def transition(self, x0: Tensor, sigma: Tensor) -> Tensor:
        return -torch.expm1(-sigma)[..., None] * self._pi(sigma) + one_hot(x0, self.num_states, torch.exp(-sigma))

    def likelihood(self, x: Tensor, sigma: Tensor) -> Tensor:
        lost = -torch.expm1(-sigma) * self.base_mass(x, dtype=sigma.dtype)
        return lost[..., None] + one_hot(x, self.num_states, torch.exp(-sigma))

    def propagate(self, p: Tensor, sigma: Tensor) -> Tensor:
        kept, lost = torch.exp(-sigma)[..., None], -torch.expm1(-sigma)[..., None]
        return kept * p + lost * self._pi(p) * p.sum(-1, keepdim=True)

    def restrict(self, logits: Tensor, x: Tensor) -> Tensor:
        return logits

    def sample_prior(
        self, shape: tuple[int, int], *, generator: Randomness, device: torch.device | str = "cpu"
    ) -> Tensor:
        return self.draw_base(uniform(shape, generator=generator, purpose="prior", dtype=torch.float64, device=device))

    def corrupt(self, x0: Tensor, sigma: Tensor, *, generator: Randomness) -> Tensor:
        shape = tuple(x0.shape)
        event = uniform(shape, generator=generator, purpose="corrupt", dtype=torch.float64, device=x0.device)
        token = uniform(shape, generator=generator, purpose="corrupt token", dtype=torch.float64, device=x0.device)
        return torch.where(event < -torch.expm1(-sigma.double()), self.draw_base(token), x0)

    def staying(self, x: Tensor, sigma: Tensor) -> Tensor:
        return torch.exp(-sigma) - torch.expm1(-sigma) * self.base_mass(x, dtype=sigma.dtype)

    def conditional_ratio(self, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        odds = 1 / torch.expm1(sigma)
        numerator = self._pi(sigma) + one_hot(x0, self.num_states, odds)
        denominator = self.base_mass(x, dtype=sigma.dtype) + torch.where(x == x0, odds, torch.zeros_like(odds))
        return numerator / denominator[..., None]

    def move(self, x: Tensor, x0: Tensor, sigma: Tensor, sigma_next: Tensor, u: Tensor) -> Tensor:
        # The bridge is a mixture of staying at x, going to x0, and a fresh draw from π.
        u = u.double()
        sigma, sigma_next = sigma.double(), sigma_next.double()
        pi = self.base_mass(x, dtype=torch.float64)
        still, kept = torch.exp(sigma_next - sigma), torch.exp(-sigma_next)
        moved, lost = -torch.expm1(sigma_next - sigma), -torch.expm1(-sigma_next)
        stay = still * (lost * pi + torch.where(x == x0, kept, torch.zeros_like(kept)))
        clean, fresh = moved * pi * kept, moved * pi * lost
        point = u * (stay + clean + fresh)
        rest = ((point - stay - clean) / fresh).clamp(0, 1 - 2.0**-53)
        drawn = self.draw_base(torch.where(fresh > 0, rest, torch.zeros_like(rest)))
        drawn = torch.where((point < stay + clean) | (fresh == 0), x0, drawn)
        return torch.where(point < stay, x, drawn)

    def log_jump_rate(self, x: Tensor, sigma: Tensor) -> Tensor:
        odds, pi = 1 / torch.expm1(sigma), self.base_mass(x, dtype=sigma.dtype)
        moved = (odds + 1 - pi).log()[..., None].expand(*x.shape, self.vocab_size)
        kept = (pi * (1 - pi) / (odds + pi)).log()
        here = torch.arange(self.vocab_size, device=x.device) == x[..., None]
        return torch.where(here, kept[..., None], moved)

    def max_jump_rate(self, sigma: Tensor) -> Tensor:
        return 1 / torch.expm1(sigma) + 1 - self._pi(sigma).min()

    def jump(self, x: Tensor, x0: Tensor, sigma: Tensor, u: Tensor) -> Tensor:
        odds, pi = 1 / torch.expm1(sigma.double()), self.base_mass(x, dtype=torch.float64)
        clean = torch.where(x != x0, odds / (odds + 1 - pi), torch.zeros_like(odds))
        u = u.double()
        rest = ((u - clean) / (1 - clean)).clamp(0, 1 - 2.0**-53)
        return torch.where(u < clean, x0, self.draw_base_except(x, rest))

    def score_from_denoiser(self, log_p: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        # With v = p scaled by P_σ[x, x0'] / P_σ[x, x0] for x0' ≠ x:  s_y = (g v_y + π_y Σv) / π_x, positive terms only.
        pi_x, odds = self.base_mass(x, dtype=log_p.dtype), 1 / torch.expm1(sigma)
        shrink = (pi_x / (odds + pi_x)).log()
        here = torch.arange(self.vocab_size, device=x.device) == x[..., None]
        log_v = self.states(torch.where(here, log_p + shrink[..., None], log_p), -torch.inf)
        spread = self._pi(log_p).log() + log_v.logsumexp(-1, keepdim=True)
        log_s = torch.logaddexp(odds.log()[..., None] + log_v, spread) - pi_x.log()[..., None]
        return log_s.scatter(-1, x[..., None], 0.0)

    def score_from_leave_one_out(self, log_loo: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        # s_y = (g loo_y + π_y) / (g loo_x + π_x): positive terms only.
        log_odds = -torch.expm1(sigma).log()[..., None]
        log_q = torch.logaddexp(log_odds + self.states(log_loo, -torch.inf), self._pi(log_loo).log())
        return (log_q - log_q.gather(-1, x[..., None])).scatter(-1, x[..., None], 0.0)

    def elbo_rate(self, log_loo: Tensor, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        # log s_y − log r_y = a_y − a_x with a_y = log (g loo_y + π_y) / (g δ_{y,x0} + π_y), formed without subtracting
        # two scores that are nearly alike: at large σ they differ by g, and their difference is all that is left.
        log_odds = -torch.expm1(sigma).log()[..., None]
        log_pi, g = self._pi(log_loo).log(), log_odds.exp()
        log_loo = self.states(log_loo, -torch.inf)
        elsewhere = torch.nn.functional.softplus(log_odds + log_loo - log_pi)
        missing = -torch.expm1(log_loo.gather(-1, x0[..., None]))  # 1 − loo at x0
        pi_0 = self.base_mass(x0, dtype=log_loo.dtype)[..., None]
        fall = g * missing / (g + pi_0)
        log_0 = torch.logaddexp(log_odds + log_loo.gather(-1, x0[..., None]), pi_0.log()) - (g + pi_0).log()
        # Near 1 it has no digits left to say how little loo keeps at x0, and log1p would be −∞.
        at_x0 = torch.where(fall < 0.5, torch.log1p(-fall.clamp(max=0.5)), log_0)
        a = elsewhere.scatter(-1, x0[..., None], at_x0)
        excess = a - a.gather(-1, x[..., None])
        pi_x = self.base_mass(x, dtype=log_loo.dtype)
        terms = self.conditional_ratio(x, x0, sigma) * exp_excess(excess)
        return pi_x * terms.scatter(-1, x[..., None], 0.0).sum(-1)

    def prior_kl(self, x0: Tensor, sigma: Tensor) -> Tensor:
        # q(x0) = π (1 + d) with d = α (1 − π)/π, and q(y) = π_y (1 − α) elsewhere; log1p keeps the digits of small α.
        pi, alpha = self.base_mass(x0, dtype=sigma.dtype), torch.exp(-sigma)
        high = alpha * (1 - pi) / pi
        rest = (1 - pi) * torch.special.xlog1py(1 - alpha, -alpha)
        return torch.where(pi > 0, pi * (1 + high) * torch.log1p(high) + rest, torch.inf)
