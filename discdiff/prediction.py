"""`Prediction`: what a network has said about `(xt, σ)`, in its native form, readable in any other.

It is lazy: the network runs on first use, only for the rows asked for, and the head only at the positions asked for.
It lives for one step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.networks.base import Context, Network
from discdiff.networks.evaluation import Evaluation, Readings
from discdiff.processes.base import Process

Positions = tuple[Tensor, Tensor]
"""`(rows, positions)`, int64 `[N]` each, as `mask.nonzero(as_tuple=True)` gives them."""

# The inverse of exp(σQ) magnifies a score's errors by e^σ; past this σ its denoiser reading means nothing.
INVERSION_LIMIT = 3.0


def positions_of(mask: Tensor) -> Positions:
    """Where a bool `[B, L]` mask is True."""
    rows, positions = mask.nonzero(as_tuple=True)
    return rows, positions


class LazyLogits:
    """The network's logits, computed for rows on first use; counts the evaluations of each row.

    Where gradients are on, all hidden states of a row are computed. Else those that are read, and none of a row that
    the evaluation's memory knows.

    Args:
        network: hidden states and head.
        tokens: int64 `[B, L]`.
        sigma: `[B, 1]` or `[B, L]`, or None for a time-free network.
        context: what else the network may see.
        evaluation: how the network is run where no gradients are.
    """

    def __init__(
        self,
        network: Network,
        tokens: Tensor,
        sigma: Tensor | None,
        context: Context,
        evaluation: Evaluation | None = None,
    ) -> None:
        self._network, self._tokens, self._sigma, self._context = network, tokens, sigma, context
        self._evaluation = evaluation
        self._hidden: Tensor | None = None
        self._read: Readings | None = None
        self._slot = torch.full((len(tokens),), -1, dtype=torch.int64, device=tokens.device)

    @property
    def evaluated(self) -> Tensor:
        """bool `[B]`: rows that the network has seen."""
        seen = self._slot >= 0
        return seen if self._read is None else seen | self._read.evaluated

    def _evaluate(self, needed: Tensor) -> None:
        rows = (needed & (self._slot < 0)).nonzero()[:, 0]
        if len(rows) == 0:
            return
        sigma = None if self._sigma is None else self._sigma[rows]
        every = len(rows) == len(self._tokens)
        tokens, context = (self._tokens, self._context) if every else (self._tokens[rows], self._context.index(rows))
        hidden = self._network.hidden(tokens, self._sigma if every else sigma, context)
        start = 0 if self._hidden is None else len(self._hidden)
        self._hidden = hidden if self._hidden is None else torch.cat([self._hidden, hidden])
        self._slot[rows] = torch.arange(start, start + len(rows), device=rows.device)

    def __call__(self, where: Positions | None) -> Tensor:
        """Logits `[N, outputs]` at `where`, or `[B, L, outputs]` everywhere."""
        if not torch.is_grad_enabled() and self._hidden is None and (where is None or len(where[0])):
            if self._read is None:
                place = (self._network, self._tokens, self._sigma, self._context)
                self._read = Readings(*place, self._evaluation or Evaluation())
            return self._network.head(self._read(where))
        needed = torch.ones_like(self._slot, dtype=torch.bool)
        if where is not None:
            needed = torch.zeros_like(needed).index_fill(0, where[0], True)
            if torch.is_grad_enabled():
                needed[0] = True  # a batch without a masked position still has its (zero) gradient
        self._evaluate(needed)
        if self._hidden is None:  # no position was asked for
            dtype = next((p.dtype for p in self._network.parameters()), torch.float64)
            return torch.empty(0, self._network.num_outputs, dtype=dtype, device=self._tokens.device)
        if where is None:
            return self._network.head(self._hidden[self._slot])
        return self._network.head(self._hidden[self._slot[where[0]], where[1]])


class Prediction(ABC):
    """What is known about x0 and about neighbours of xt.

    Args:
        process: the forward process.
        tokens: xt, int64 `[B, L]`.
        sigma: total noise, `[B, 1]` or `[B, L]`.
        frozen: bool `[B, L]` or None: given positions; their denoiser is certain and they have no score.

    Attributes:
        has_denoiser: whether `log_denoiser` may be read at any noise level.
        guided: whether `log_mass` says something.
        leaves_out: whether it is the leave-one-out law or a score, not a posterior to be divided by P_σ[xt_i, x0].
    """

    has_denoiser: bool = True
    guided: bool = False
    leaves_out: bool = False

    def __init__(self, process: Process, tokens: Tensor, sigma: Tensor, frozen: Tensor | None) -> None:
        self.process, self.tokens, self.frozen = process, tokens, frozen
        self.sigma = sigma.expand(tokens.shape)

    @property
    @abstractmethod
    def calls(self) -> Tensor:
        """int64 `[B]`: network evaluations so far, a row."""

    @abstractmethod
    def log_denoiser(self, where: Positions | None = None) -> Tensor:
        """log p(x0_i | xt), normalised: `[N, V]` at `where`, or `[B, L, V]`."""

    def log_weights(self, where: Positions) -> Tensor:
        """log p(x0_i | xt) plus any number for each position, `[N, V]`: what a draw needs, a pass or two cheaper."""
        return self.log_denoiser(where)

    @abstractmethod
    def log_score(self, where: Positions | None = None) -> Tensor:
        """log of the concrete score, 0 at y = xt_i: `[N, S]` at `where`, or `[B, L, S]`."""

    @abstractmethod
    def posterior(self, sigma_next: Tensor, where: Positions | None = None) -> Tensor:
        """p(x_s,i = · | xt), `[N, S]` or `[B, L, S]`, for the noise level `sigma_next` (`[B, 1]` or `[B, L]`)."""

    def beside(self, tokens: Tensor, frozen: Tensor | None = None) -> Prediction:
        """What was said of the open positions, where others show `tokens` `[B, L]`, and `frozen` ones are given too."""
        given = [each for each in (self.frozen, frozen) if each is not None]
        return DenoiserPrediction(
            self.process,
            tokens,
            self.sigma,
            torch.stack(given).any(0) if given else None,
            log_p=self.log_denoiser,
            calls=lambda: self.calls,
        )

    def log_mass(self, where: Positions) -> Tensor | None:
        """log of what a guided law sums to before it is normalised, `[N]`, which particles are weighed by; None: 1."""
        return None

    def log_leave_one_out(self, where: Positions | None = None) -> Tensor:
        """log p(x0_i | xt without position i), normalised: `[N, V]` at `where`, or `[B, L, V]`.

        ∝ the posterior over P_σ[xt_i, x0]. Equal to the denoiser at a masked position. Where x0 can be read off xt_i,
        as at an unmasked position of the absorbing process, it is no function of the posterior.

        Raises:
            IncompatibleError: a position asked for, not frozen, could not have come from every token.
        """
        x, sigma = self._at(where)
        impossible = self.process.content(self.process.log_likelihood(x, sigma)).isneginf().any(-1)
        if self.frozen is not None:
            impossible = impossible & ~(self.frozen if where is None else self.frozen[where])
        if bool(impossible.any()):
            raise IncompatibleError(
                "Leave-one-out reading",
                got=f"{int(impossible.sum())} positions whose own token rules out some x0",
                expected="positions that could have come from any token: on Absorbing, masked ones",
                remedy="Mask the positions again and predict anew.",
            )
        return self._settle(self._leave_one_out(where), where, log=True)

    def _leave_one_out(self, where: Positions | None) -> Tensor:
        # Of the x0 that can become xt_i; all that the rates and the bound need where xt_i rules some out.
        x, sigma = self._at(where)
        log_p = self.log_denoiser(where)
        log_like = self.process.content(self.process.log_likelihood(x, sigma.to(log_p.dtype)))
        return torch.where(log_like.isneginf(), -torch.inf, log_p - log_like).log_softmax(-1)

    def _convention(self, log_s: Tensor, x: Tensor) -> Tensor:
        """log s with −∞ at the states that cannot become x: all others, where no reverse rate moves it."""
        still = torch.full_like(log_s, -torch.inf).scatter(-1, x[..., None], 0.0)
        return torch.where(self.process.comparable(x), log_s, still)

    def nll(self, x0: Tensor, where: Positions) -> Tensor:
        """−log p(x0_i | xt) at `where`: `[N]` nats. `x0` is int64 `[B, L]`."""
        return -self.log_denoiser(where).gather(-1, x0[where][:, None])[:, 0]

    def reveal_loss(self, x0: Tensor, where: Positions) -> Tensor:
        """The denoising score entropy of masked positions over its weight 1/(e^σ − 1): `[N]` nats (absorbing).

        A cross-entropy for a normalised denoiser; Σ_y p̃_y − log p̃_x0 − 1 for p̃ = s (e^σ − 1) of an unnormalised
        score.
        """
        return self.nll(x0, where)

    def score_entropy(self, x0: Tensor, where: Positions) -> Tensor:
        """The denoising score entropy at `where`, per unit of σ: `[N]` nats."""
        x, sigma = self._at(where)
        return self.process.score_entropy(self.log_score(where), x, x0[where], sigma)

    def elbo_rate(self, x0: Tensor, where: Positions) -> Tensor:
        """The bound's integrand at positions that can move, per unit of σ: `[N]` nats.

        Equal to `score_entropy`; in closed form where the prediction is a denoiser.
        """
        return self.score_entropy(x0, where)

    def _at(self, where: Positions | None) -> tuple[Tensor, Tensor]:
        return (self.tokens, self.sigma) if where is None else (self.tokens[where], self.sigma[where])

    def _level(self, sigma: Tensor, where: Positions | None) -> Tensor:
        full = sigma.expand(self.tokens.shape)
        return full if where is None else full[where]

    def _settle(self, values: Tensor, where: Positions | None, log: bool) -> Tensor:
        """At frozen positions put all mass on the token that is there."""
        if self.frozen is None:
            return values
        frozen = self.frozen if where is None else self.frozen[where]
        if not torch.is_grad_enabled() and not bool(frozen.any()):
            return values  # as where a sampler reads what it may move: no pass over the vocabulary
        x = (self.tokens if where is None else self.tokens[where]).clamp(max=values.shape[-1] - 1)
        sure = torch.full_like(values, -torch.inf if log else 0.0).scatter(-1, x[..., None], 0.0 if log else 1.0)
        return torch.where(frozen[..., None], sure, values)


class DenoiserPrediction(Prediction):
    """Native form: the posterior denoiser p(x0_i | xt).

    Args:
        log_p: gives `[N, V]` (or `[B, L, V]`) unnormalised log probabilities for positions.
        calls: gives the evaluations of each row so far.
        weighed: whether what the probabilities sum to says something: see `log_mass`.
    """

    def __init__(
        self,
        process: Process,
        tokens: Tensor,
        sigma: Tensor,
        frozen: Tensor | None,
        *,
        log_p: Callable[[Positions | None], Tensor],
        calls: Callable[[], Tensor],
        weighed: bool = False,
    ) -> None:
        super().__init__(process, tokens, sigma, frozen)
        self._log_p, self._calls, self.guided = log_p, calls, weighed

    @property
    def calls(self) -> Tensor:
        return self._calls()

    def log_denoiser(self, where: Positions | None = None) -> Tensor:
        return self._settle(self._normalized(where), where, log=True)

    def log_weights(self, where: Positions) -> Tensor:
        return self._settle(self.process.restrict(self._log_p(where), self._at(where)[0]), where, log=True)

    def _normalized(self, where: Positions | None) -> Tensor:
        """log p(x0_i | xt) before frozen positions are settled."""
        return self.process.restrict(self._log_p(where), self._at(where)[0]).log_softmax(-1)

    def log_mass(self, where: Positions) -> Tensor | None:
        if not self.guided:
            return None
        return self.process.restrict(self._log_p(where), self._at(where)[0]).logsumexp(-1)

    def log_score(self, where: Positions | None = None) -> Tensor:
        x, sigma = self._at(where)
        log_p = self._normalized(where)
        return self._settle(self.process.score_from_denoiser(log_p, x, sigma.to(log_p.dtype)), where, log=True)

    def posterior(self, sigma_next: Tensor, where: Positions | None = None) -> Tensor:
        x, sigma = self._at(where)
        log_p = self._normalized(where)
        p = self.process.posterior_from_denoiser(log_p, x, sigma, self._level(sigma_next, where))
        return self._settle(p, where, log=False)

    def elbo_rate(self, x0: Tensor, where: Positions) -> Tensor:
        x, sigma = self._at(where)
        log_loo = self._leave_one_out(where)
        return self.process.elbo_rate(log_loo, x, x0[where], sigma.to(log_loo.dtype))


class ScorePrediction(Prediction):
    """Native form: the log concrete score.

    Args:
        log_s: gives `[N, S]` (or `[B, L, S]`) log scores for positions; the entry at xt_i is ignored.
        calls: gives the evaluations of each row so far.
    """

    def __init__(
        self,
        process: Process,
        tokens: Tensor,
        sigma: Tensor,
        frozen: Tensor | None,
        *,
        log_s: Callable[[Positions | None], Tensor],
        calls: Callable[[], Tensor],
    ) -> None:
        super().__init__(process, tokens, sigma, frozen)
        self._log_s, self._calls = log_s, calls
        self.has_denoiser, self.leaves_out = process.reveals_noise, True

    @property
    def calls(self) -> Tensor:
        return self._calls()

    def log_score(self, where: Positions | None = None) -> Tensor:
        x = self._at(where)[0]
        log_s = self._log_s(where).scatter(-1, x[..., None], 0.0)
        return self._settle(self._convention(log_s, x), where, log=True)

    def log_denoiser(self, where: Positions | None = None) -> Tensor:
        x, sigma = self._at(where)
        if self.process.reveals_noise:
            # s = p / (e^σ − 1) at a masked position: normalising removes the factor, at any σ.
            return self._settle(
                self.process.restrict(self.process.content(self.log_score(where)), x).log_softmax(-1),
                where,
                log=True,
            )
        if sigma.numel() and float(sigma.max()) * self.process.fastest_rate > INVERSION_LIMIT:
            limit = INVERSION_LIMIT / self.process.fastest_rate
            raise IncompatibleError(
                "Denoiser reading of a score",
                got=f"total noise {float(sigma.max()):.2f}",
                expected=f"at most {limit:.1f}, where inverting exp(σQ) does not yet magnify errors",
                remedy="Train with the Denoiser parameterisation, or use a sampler that steps from the score.",
            )
        log_p = self.process.denoiser_from_score(self.log_score(where), x, sigma)
        return self._settle(log_p, where, log=True)

    def reveal_loss(self, x0: Tensor, where: Positions) -> Tensor:
        sigma = self.sigma[where]
        log_p = self.process.content(self.log_score(where)) + torch.log(torch.expm1(sigma))[:, None]
        return log_p.exp().sum(-1) - log_p.gather(-1, x0[where][:, None])[:, 0] - 1

    def posterior(self, sigma_next: Tensor, where: Positions | None = None) -> Tensor:
        x, sigma = self._at(where)
        p = self.process.posterior_from_score(self.log_score(where), x, sigma, self._level(sigma_next, where))
        return self._settle(p, where, log=False)
