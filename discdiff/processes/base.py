"""The base of every forward process: one position's continuous-time Markov chain, as linear maps of exp(σQ).

`x`, `x0` are int64 of any shape `[...]`, usually `[B, L]`; `sigma` broadcasts against them; states come last.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discdiff.errors import IncompatibleError
from discdiff.randomness import Randomness, categorical, uniform


def check_vocab_size(vocab_size: int) -> int:
    """A usable number of content tokens, or an error."""
    if vocab_size < 2:
        raise IncompatibleError(
            "Process",
            got=f"vocab_size={vocab_size!r}",
            expected="an integer of at least 2",
            remedy="Pass the domain's vocab_size.",
        )
    return vocab_size


def exp_excess(d: Tensor) -> Tensor:
    """e^d − 1 − d ≥ 0, with all its digits where d is small: there the difference of `expm1` and d has none left."""
    near = d.abs() < 0.1
    small = torch.where(near, d, torch.zeros_like(d))
    series = torch.ones_like(d)
    for n in range(9, 2, -1):
        series = 1 + small / n * series
    return torch.where(near, small.square() / 2 * series, torch.expm1(d) - d)


class Process(nn.Module, ABC):
    """dp/dσ = Q p for each position independently; `P_σ = exp(σQ)`, columns sum to 1.

    Attributes:
        vocab_size: V content tokens.
        num_states: S states of one position: V, plus the mask as the last state where there is one.
        mask_id: the mask's state, or None.
        reveals_noise: whether a token shows if it is noise (absorbing). Then the denoiser is time-free, and frozen
            positions need no mark.
        irreducible: whether every state can be reached from every other, so that no token rules out any x0.
        fastest_rate: largest |eigenvalue| of Q; exp(−ΔσQ) magnifies errors by exp(Δσ · fastest_rate).
    """

    vocab_size: int
    num_states: int
    mask_id: int | None = None
    reveals_noise: bool = False

    @property
    def irreducible(self) -> bool:
        return True

    @property
    def fastest_rate(self) -> float:
        return 1.0

    def fit(
        self, *, rate_matrix: Callable[..., Tensor] | None = None, counts: Callable[[], Tensor] | None = None
    ) -> None:
        """Fill in, once, what a process takes from its surroundings; most need nothing.

        Args:
            rate_matrix: the domain's named matrices, `Domain.rate_matrix`.
            counts: gives how often each token occurs in the training set, `[V]`.
        """
        return

    # ---- the linear maps --------------------------------------------------------------------------------------------
    @abstractmethod
    def rates_into(self, x: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Row `Q[x, ·]`, `[..., S]`: the rate of every state's jump into x. The reverse rate needs it."""

    @abstractmethod
    def rates_from(self, x: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Column `Q[·, x]`, `[..., S]`: the forward rates out of x."""

    @abstractmethod
    def transition(self, x0: Tensor, sigma: Tensor) -> Tensor:
        """q(· | x0) = column x0 of exp(σQ), `[..., S]`."""

    @abstractmethod
    def likelihood(self, x: Tensor, sigma: Tensor) -> Tensor:
        """q(x | ·) = row x of exp(σQ), `[..., S]`."""

    def log_likelihood(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log q(x | ·), `[..., S]`, in σ's dtype: −∞ only where that state cannot become x."""
        return self.likelihood(x, sigma).log()

    @abstractmethod
    def propagate(self, p: Tensor, sigma: Tensor) -> Tensor:
        """exp(σQ) p for `p` `[..., S]` and either sign of σ."""

    @abstractmethod
    def restrict(self, logits: Tensor, x: Tensor) -> Tensor:
        """Denoiser logits `[..., V]` with −∞ where x0 cannot have produced x."""

    @abstractmethod
    def stationary(self, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
        """π = lim exp(σQ) p, `[S]`."""

    @abstractmethod
    def sample_prior(
        self, shape: tuple[int, int], *, generator: Randomness, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Draw from π: int64 `[B, L]`."""

    def log_score_scale(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log s_y when nothing is known of x0, `[..., S]` or `[..., 1]`: the natural zero of a score head.

        Here x0 ~ π, so that xt ~ π at any σ, and s_y = π_y / π_x; states that π leaves out count as its rarest one.
        """
        pi = self.stationary(dtype=torch.float64, device=x.device)
        rarest = torch.where(pi > 1e-12, pi, 1.0).amin()
        log_pi = pi.clamp(min=float(rarest)).log().to(sigma.dtype)
        return log_pi - log_pi[x][..., None]

    def active(self, x: Tensor) -> Tensor:
        """bool `[...]`: positions that the reverse process can move, those with some `Q[x, y] > 0`."""
        return torch.ones_like(x, dtype=torch.bool)

    def comparable(self, x: Tensor) -> Tensor:
        """bool `[..., S]` or `[..., 1]`: the y that can become x; other scores no posterior tells."""
        return self.active(x)[..., None]

    # ---- derived ----------------------------------------------------------------------------------------------------
    def content(self, p: Tensor) -> Tensor:
        """The V content columns of `[..., S]`."""
        return p[..., : self.vocab_size]

    def states(self, p: Tensor, value: float = 0.0) -> Tensor:
        """Widen V content columns to S states, the others holding `value`."""
        return F.pad(p, (0, self.num_states - self.vocab_size), value=value)

    def corrupt(self, x0: Tensor, sigma: Tensor, *, generator: Randomness) -> Tensor:
        """Draw xt ~ q(· | x0): int64 `[B, L]`."""
        u = uniform(tuple(x0.shape), generator=generator, purpose="corrupt", dtype=torch.float64, device=x0.device)
        return categorical(self.transition(x0, sigma), u)

    def staying(self, x: Tensor, sigma: Tensor) -> Tensor:
        """P_σ[x, x], `[...]`: the probability that a token is what it was."""
        return self.transition(x, sigma).gather(-1, x[..., None])[..., 0]

    def conditional_ratio(self, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        """r_y = P_σ[y, x0] / P_σ[x, x0], `[..., S]`: the score's denoising target."""
        column = self.transition(x0, sigma)
        return column / column.gather(-1, x[..., None])

    def bridge(self, x: Tensor, x0: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """q(x_s = · | x_t = x, x0) ∝ P_Δσ[x, ·] P_σs[·, x0], `[..., S]`."""
        joint = self.likelihood(x, sigma - sigma_next) * self.transition(x0, sigma_next)
        return joint / joint.sum(-1, keepdim=True)

    def may_move(self, x: Tensor, sigma: Tensor, sigma_next: Tensor, u: Tensor) -> Tensor:
        """First half of a posterior step, independent of x0: bool, the positions that need a draw of x0."""
        return torch.ones_like(x, dtype=torch.bool)

    def move(self, x: Tensor, x0: Tensor, sigma: Tensor, sigma_next: Tensor, u: Tensor) -> Tensor:
        """Second half: x_s ~ q(· | x_t = x, x0, it may move) for the positions that `may_move` chose."""
        return categorical(self.bridge(x, x0, sigma, sigma_next), u)

    def log_jump_rate(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log Σ_{y≠x} Q[x,y] P_σ[y,x0] / P_σ[x,x0] for each x0: `[..., V]`, or `[..., 1]` if it is the same for all.

        The total reverse rate out of x given x0, per unit of σ.
        """
        rates = self.rates_into(x, dtype=sigma.dtype).scatter(-1, x[..., None], 0.0)
        every = torch.arange(self.vocab_size, device=x.device)
        columns = self.transition(every.expand(*x.shape, -1), sigma[..., None])
        into = torch.einsum("...y,...vy->...v", rates, columns)
        like = self.content(self.likelihood(x, sigma))
        return torch.where(like > 0, into / like, 0.0).log()

    def max_jump_rate(self, sigma: Tensor) -> Tensor:
        """The largest of these rates over all x and x0, same shape as `sigma`: no state of any denoiser exceeds it."""
        x = torch.arange(self.num_states, device=sigma.device)
        rates = [self.log_jump_rate(x, level.expand(x.shape)) for level in sigma.flatten()]
        return torch.stack([rate.max().exp() for rate in rates]).reshape(sigma.shape)

    def jump(self, x: Tensor, x0: Tensor, sigma: Tensor, u: Tensor) -> Tensor:
        """The destination y ≠ x of a reverse jump given x0, y ∝ Q[x,y] P_σ[y,x0]: int64."""
        rates = self.rates_into(x, dtype=sigma.dtype) * self.transition(x0, sigma)
        return categorical(rates.scatter(-1, x[..., None], 0.0), u)

    # ---- score, denoiser, posterior
    def _weights(self, log_p: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """p(x0 | xt) / P_σ[x, x0] over S states; 0 where the denoiser is 0."""
        p = log_p.exp()
        return self.states(torch.where(p > 0, p / self.content(self.likelihood(x, sigma)), torch.zeros_like(p)))

    def score_from_denoiser(self, log_p: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """log s_y = log Σ_x0 p(x0|xt) P_σ[y,x0] / P_σ[x,x0], `[..., S]`, exactly 0 at y = x."""
        log_s = self.propagate(self._weights(log_p, x, sigma), sigma).log()
        return log_s.scatter(-1, x[..., None], 0.0)

    def score_from_leave_one_out(self, log_loo: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """log s_y = log Σ_x0 loo(x0) P_σ[y,x0] − log Σ_x0 loo(x0) P_σ[x,x0], `[..., S]`, exactly 0 at y = x.

        Args:
            log_loo: log p(x0_i | xt without position i), `[..., V]`.
        """
        log_q = self.propagate(self.states(log_loo.exp()), sigma).log()
        return (log_q - log_q.gather(-1, x[..., None])).scatter(-1, x[..., None], 0.0)

    def denoiser_from_score(self, log_s: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(x0|xt) = log of (exp(−σQ) s)[x0] P_σ[x,x0], negative parts cut: `[..., V]`.

        Ill-conditioned at large σ.
        """
        return self.content(self.posterior_from_score(log_s, x, sigma, torch.zeros_like(sigma))).log()

    def posterior_from_score(self, log_s: Tensor, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """p(x_s = y | xt) = (exp(−ΔσQ) s)[y] P_Δσ[x, y], `[..., S]` (Lou et al. 2024, Tweedie step).

        An imperfect score can make entries negative; they are cut and the rest is normalised. So is what it leaves on
        a mask at σ_next = 0, where there is none. The inverse magnifies the score's errors by e^Δσ: many short steps
        are safe, one long step is not.

        Raises:
            IncompatibleError: Δσ is so large that not two digits of the score would be left in its own precision.
        """
        step = (sigma - sigma_next).double()
        longest = -math.log(100 * torch.finfo(log_s.dtype).eps) / self.fastest_rate
        if not self.reveals_noise and step.numel() and float(step.max()) > longest:
            raise IncompatibleError(
                "Step from a score",
                got=f"a difference of total noise of {float(step.max()):.1f}",
                expected=f"at most {longest:.1f} in {log_s.dtype}, where exp(−ΔσQ) can still be applied to it",
                remedy="Take more steps, use the LogLinear schedule, or train with Denoiser.",
            )
        p = (self.propagate(log_s.double().exp(), -step) * self.likelihood(x, step)).clamp(min=0)
        if not self.reveals_noise and self.num_states > self.vocab_size:
            p = torch.where((sigma_next == 0)[..., None], self.states(self.content(p)), p)
        return (p / p.sum(-1, keepdim=True)).to(log_s.dtype)

    def posterior_from_denoiser(self, log_p: Tensor, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """p(x_s = y | xt) = Σ_x0 p(x0|xt) q(y | x, x0), `[..., S]`."""
        p = self.likelihood(x, sigma - sigma_next) * self.propagate(self._weights(log_p, x, sigma), sigma_next)
        return p / p.sum(-1, keepdim=True)

    def reverse_rate(self, log_s: Tensor, x: Tensor) -> Tensor:
        """R(x → y) = Q[x,y] s_y per unit of σ, `[..., S]`; the diagonal makes the row sum to 0."""
        rates = self.rates_into(x, dtype=log_s.dtype)
        rates = torch.where(rates > 0, rates * log_s.exp(), torch.zeros_like(rates)).scatter(-1, x[..., None], 0.0)
        return rates.scatter(-1, x[..., None], -rates.sum(-1, keepdim=True))

    def score_entropy(self, log_s: Tensor, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        """Σ_{y≠x} Q[x,y] (s_y − r_y log s_y + K(r_y)), K(a) = a (log a − 1): `[...]` nats per unit of σ, ≥ 0.

        Denoising score entropy with the conditional ratio r (Lou et al. 2024, theorem 3.4).
        """
        rates = self.rates_into(x, dtype=log_s.dtype).scatter(-1, x[..., None], 0.0)
        ratio = self.conditional_ratio(x, x0, sigma)
        # Only where something jumps: elsewhere e^d may leave float32's range, and 0 · ∞ is a gradient of NaN.
        jumps = rates > 0
        log_s, positive = torch.where(jumps, log_s, 0.0), jumps & (ratio > 0)
        # r (e^d − 1 − d) with d = log s − log r: at large σ, s and r are nearly 1, and their difference is the loss.
        excess = torch.where(positive, log_s - torch.where(positive, ratio, 1.0).log(), 0.0)
        terms = torch.where(positive, ratio * exp_excess(excess), log_s.exp())
        return torch.where(jumps, rates * terms, torch.zeros_like(terms)).sum(-1)

    def elbo_rate(self, log_loo: Tensor, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        """The score entropy, read from the leave-one-out law `[..., V]` at positions that can move: `[...]` nats.

        The continuous-time evidence bound's integrand per unit of σ.
        """
        return self.score_entropy(self.score_from_leave_one_out(log_loo, x, sigma), x, x0, sigma)

    def prior_kl(self, x0: Tensor, sigma: Tensor) -> Tensor:
        """KL(q(· | x0) at σ ‖ π) per position, `[...]` nats; infinite on the absorbing process short of σ = ∞."""
        q = self.transition(x0, sigma)
        pi = self.stationary(dtype=q.dtype, device=q.device)
        return (torch.xlogy(q, q) - torch.xlogy(q, pi.expand_as(q))).sum(-1)

    def extra_repr(self) -> str:
        return f"vocab_size={self.vocab_size}"
