"""`Prediction`: what a network has said about `(xt, σ)`, in its native form, readable in any other.

It is lazy: the network runs on first use, only for the rows asked for, and the head only at the positions asked for.
It lives for one step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from discdiff.errors import IncompatibleError
from discdiff.logits import LazyLogits
from discdiff.networks.linear_head import Targets, cross_entropy_, score_entropy_
from discdiff.processes.base import Process

Positions = tuple[Tensor, Tensor]
"""`(rows, positions)`, int64 `[N]` each, as `mask.nonzero(as_tuple=True)` gives them."""

# The inverse of exp(σQ) magnifies a score's errors by e^σ; past this σ its denoiser reading means nothing.
INVERSION_LIMIT = 3.0


def positions_of(mask: Tensor, count: int | None = None) -> Positions:
    """Where a bool `[B, L]` mask is True; a GPU is not waited for if the number of such places is given."""
    if count is None or mask.device.type == "cpu":
        rows, positions = mask.nonzero(as_tuple=True)
        return rows, positions
    places = (~mask).flatten().to(torch.uint8).argsort(stable=True)[:count]
    return places // mask.shape[1], places % mask.shape[1]


HELD = 1 << 23
"""Probabilities held at once for a gradient: a position of a large vocabulary has many, and a dozen copies of them."""


def in_pieces(read: Callable[[Positions], Tensor], where: Positions, states: int) -> Tensor:
    """`read(where)`, `[N]`, some positions at a time; with gradients each piece is read again for its gradient.

    Chen et al. 2016, "Training deep nets with sublinear memory cost".
    """
    size = max(1, HELD // states)
    if len(where[0]) <= size:
        return read(where)
    pieces = list(zip(where[0].split(size), where[1].split(size), strict=True))
    if not torch.is_grad_enabled():
        return torch.cat([read(piece) for piece in pieces])
    read((where[0][:0], where[1][:0]))  # the network runs here, not in what is done again
    return torch.cat([checkpoint(read, piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces])


def sum_rows(values: Tensor, rows: Tensor, batch: int) -> Tensor:
    """Add `[N]` values to their rows: `[batch]`."""
    return torch.zeros(batch, dtype=values.dtype, device=values.device).index_add(0, rows, values)


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

    def reveal_totals(self, x0: Tensor, where: Positions, weights: Tensor) -> Tensor:
        """Σ weights · `reveal_loss` over each row's masked positions `where`: `[B]` nats.

        Where it can be had straight from hidden states, no logits are held; else some positions at a time are read, and
        read again for the gradient.
        """
        return self.totals(lambda some: self.reveal_loss(x0, some), where, weights)

    def totals(self, read: Callable[[Positions], Tensor], where: Positions, weights: Tensor | None = None) -> Tensor:
        """Σ weights · read over each row's positions: `[B]`; no more than some positions' laws are held at once.

        Args:
            read: gives `[n]` values of n positions.
            where: N positions.
            weights: `[N]`, or None for ones.
        """
        values = in_pieces(read, where, self.process.num_states)
        if weights is not None:
            values = weights.to(values.dtype) * values
        return sum_rows(values, where[0], len(self.tokens))

    def score_entropy(self, x0: Tensor, where: Positions) -> Tensor:
        """The denoising score entropy at `where`, per unit of σ: `[N]` nats."""
        x, sigma = self._at(where)
        return self.process.score_entropy(self.log_score(where), x, x0[where], sigma)

    def score_entropy_totals(self, x0: Tensor, where: Positions, weights: Tensor) -> Tensor:
        """Σ weights · `score_entropy` over each row's positions `where`, which can move: `[B]` nats."""
        return self._rate_totals(self.score_entropy, x0, where, weights)

    def elbo_totals(self, x0: Tensor, where: Positions, weights: Tensor) -> Tensor:
        """Σ weights · `elbo_rate` over each row's positions `where`, which can move: `[B]` nats."""
        return self._rate_totals(self.elbo_rate, x0, where, weights)

    def _rate_totals(
        self, rate: Callable[[Tensor, Positions], Tensor], x0: Tensor, where: Positions, weights: Tensor
    ) -> Tensor:
        if self.process.reveals_noise:  # masked positions: both rates are the loss of revealing them, over e^σ − 1
            return self.reveal_totals(x0, where, weights / torch.expm1(self.sigma[where].double()))
        return self.totals(lambda some: rate(x0, some), where, weights)

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
        logits: where log_p are these, losses may be had of them without holding them.
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
        logits: LazyLogits | None = None,
    ) -> None:
        super().__init__(process, tokens, sigma, frozen)
        self._log_p, self._calls, self.guided, self._logits = log_p, calls, weighed, logits

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

    def reveal_totals(self, x0: Tensor, where: Positions, weights: Tensor) -> Tensor:
        made = None
        if self._logits is not None:  # at masked positions `restrict` takes nothing away
            targets = Targets(x0[where], self.process.vocab_size)
            made = self._logits.totals(cross_entropy_, targets, where, weights)
        return super().reveal_totals(x0, where, weights) if made is None else made

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
        logits, offset: where log_s is these logits and `offset(where)` `[N]` added to them at masked positions, losses
            may be had without holding the logits.
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
        logits: LazyLogits | None = None,
        offset: Callable[[Positions], Tensor] | None = None,
    ) -> None:
        super().__init__(process, tokens, sigma, frozen)
        self._log_s, self._calls, self._logits, self._offset = log_s, calls, logits, offset
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

    def reveal_totals(self, x0: Tensor, where: Positions, weights: Tensor) -> Tensor:
        made = None
        if self._logits is not None and self._offset is not None:
            offset = self._offset(where) + torch.log(torch.expm1(self.sigma[where]))
            targets = Targets(x0[where], self.process.vocab_size, offset)
            made = self._logits.totals(score_entropy_, targets, where, weights)
        return super().reveal_totals(x0, where, weights) if made is None else made

    def reveal_loss(self, x0: Tensor, where: Positions) -> Tensor:
        sigma = self.sigma[where]
        log_p = self.process.content(self.log_score(where)) + torch.log(torch.expm1(sigma))[:, None]
        return log_p.exp().sum(-1) - log_p.gather(-1, x0[where][:, None])[:, 0] - 1

    def posterior(self, sigma_next: Tensor, where: Positions | None = None) -> Tensor:
        x, sigma = self._at(where)
        p = self.process.posterior_from_score(self.log_score(where), x, sigma, self._level(sigma_next, where))
        return self._settle(p, where, log=False)
