"""Parameterisations: what the network's logits mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.logits import LazyLogits
from discdiff.prediction import DenoiserPrediction, Positions, Prediction, ScorePrediction
from discdiff.processes.base import Process


class Parameterization(ABC):
    """Turns logits into a `Prediction`, and says what a network must offer for it.

    Attributes:
        time_conditioned: whether the network is shown σ.
    """

    time_conditioned: bool = True

    def check(self, process: Process) -> None:
        """Refuse a process that the parameterisation cannot serve."""
        return

    @abstractmethod
    def num_outputs(self, process: Process) -> int:
        """Columns of the network's head."""

    @abstractmethod
    def predict(
        self, process: Process, tokens: Tensor, sigma: Tensor, frozen: Tensor | None, logits: LazyLogits
    ) -> Prediction:
        """What the logits say."""

    @abstractmethod
    def encode(self, prediction: Prediction) -> Tensor:
        """The inverse of `predict`: the logits `[B, L, outputs]` of a network that would say exactly this."""

    def encode_denoiser(
        self, process: Process, tokens: Tensor, sigma: Tensor, frozen: Tensor | None, log_denoiser: Tensor
    ) -> Tensor:
        """The logits `[B, L, outputs]` of a network that knows log p(x0 | xt), `[B, L, V]`."""
        return self.encode(
            DenoiserPrediction(
                process,
                tokens,
                sigma,
                frozen,
                log_p=lambda where: log_denoiser if where is None else log_denoiser[where],
                calls=lambda: torch.zeros(len(tokens), dtype=torch.int64),
            )
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Score(Parameterization):
    """log s_θ(x, σ)[i, y] = logits + log s₀(σ), 0 at y = x_i; the head has S columns.

    s₀ is the score of knowing nothing (`Process.log_score_scale`), so that logits start and stay of order one at any
    noise: on the absorbing process 1/(V (e^σ − 1)), as in Lou et al. 2024, appendix C.2; π_y / π_x elsewhere but for
    a mask, which is rare at small σ.
    """

    def num_outputs(self, process: Process) -> int:
        return process.num_states

    def predict(
        self, process: Process, tokens: Tensor, sigma: Tensor, frozen: Tensor | None, logits: LazyLogits
    ) -> Prediction:
        levels = sigma.expand(tokens.shape)

        def log_s(where: Positions | None) -> Tensor:
            x, level = (tokens, levels) if where is None else (tokens[where], levels[where])
            return logits(where) + process.log_score_scale(x, level)

        def offset(where: Positions) -> Tensor:
            return process.log_score_scale(tokens[where], levels[where])[:, 0]

        return ScorePrediction(
            process,
            tokens,
            sigma,
            frozen,
            log_s=log_s,
            calls=lambda: logits.evaluated.long(),
            logits=logits,
            offset=offset,
        )

    def encode(self, prediction: Prediction) -> Tensor:
        return prediction.log_score() - prediction.process.log_score_scale(prediction.tokens, prediction.sigma)


class Denoiser(Parameterization):
    """log p_θ(x0_i | xt, σ) = log softmax(logits): the posterior denoiser, shown σ; the head has V columns.

    Austin et al. 2021, section 3.3; Sahoo et al. 2024 (zero mask probability and carry-over on the absorbing process).
    """

    def num_outputs(self, process: Process) -> int:
        return process.vocab_size

    def predict(
        self, process: Process, tokens: Tensor, sigma: Tensor, frozen: Tensor | None, logits: LazyLogits
    ) -> Prediction:
        return DenoiserPrediction(
            process, tokens, sigma, frozen, log_p=logits, calls=lambda: logits.evaluated.long(), logits=logits
        )

    def encode(self, prediction: Prediction) -> Tensor:
        return prediction.log_denoiser()


class Conditional(Denoiser):
    """p_θ(x0_i | x_UM), never shown σ: on the absorbing process the denoiser is time-free (Ou et al. 2024, theorem 1).

    Raises:
        IncompatibleError: the process does not reveal its noise, so that its denoiser depends on σ.
    """

    time_conditioned = False

    def check(self, process: Process) -> None:
        if not process.reveals_noise:
            raise IncompatibleError(
                "Conditional (time-free) parameterisation",
                got=type(process).__name__,
                expected="a process whose tokens show if they are noise, such as Absorbing",
                remedy="Use Denoiser or Score with this process.",
            )


class LeaveOneOutPrediction(Prediction):
    """Native form: the leave-one-out law; the posterior is ∝ p(x0_i | xt_{−i}) · P_σ[xt_i, x0].

    No `DenoiserPrediction`: what takes a posterior does not take this. Schiff et al. 2024 (UDLM).

    Args:
        log_loo: gives `[N, V]` (or `[B, L, V]`) unnormalised log probabilities for positions.
        calls: gives the evaluations of each row so far.
    """

    leaves_out = True

    def __init__(
        self,
        process: Process,
        tokens: Tensor,
        sigma: Tensor,
        frozen: Tensor | None,
        *,
        log_loo: Callable[[Positions | None], Tensor],
        calls: Callable[[], Tensor],
    ) -> None:
        super().__init__(process, tokens, sigma, frozen)
        self._log_loo, self._calls = log_loo, calls

    @property
    def calls(self) -> Tensor:
        return self._calls()

    def _normalized(self, where: Positions | None) -> Tensor:
        """log p(x0_i | xt) before frozen positions are settled."""
        x, sigma = self._at(where)
        log_loo = self._log_loo(where)
        log_like = self.process.content(self.process.log_likelihood(x, sigma.to(log_loo.dtype)))
        return self.process.restrict(log_loo + log_like, x).log_softmax(-1)

    def log_denoiser(self, where: Positions | None = None) -> Tensor:
        return self._settle(self._normalized(where), where, log=True)

    def _leave_one_out(self, where: Positions | None) -> Tensor:
        return self._log_loo(where).log_softmax(-1)

    def log_score(self, where: Positions | None = None) -> Tensor:
        x, sigma = self._at(where)
        log_loo = self._leave_one_out(where)
        log_s = self.process.score_from_leave_one_out(log_loo, x, sigma.to(log_loo.dtype))
        return self._settle(self._convention(log_s, x), where, log=True)

    def posterior(self, sigma_next: Tensor, where: Positions | None = None) -> Tensor:
        x, sigma = self._at(where)
        p = self.process.posterior_from_denoiser(self._normalized(where), x, sigma, self._level(sigma_next, where))
        return self._settle(p, where, log=False)

    def elbo_rate(self, x0: Tensor, where: Positions) -> Tensor:
        x, sigma = self._at(where)
        log_loo = self._leave_one_out(where)
        return self.process.elbo_rate(log_loo, x, x0[where], sigma.to(log_loo.dtype))


class LeaveOneOut(Parameterization):
    """log p_θ(x0_i | xt without position i) = log softmax(logits), shown σ; the head has V columns.

    The posterior ∝ leave-one-out · P_σ[xt_i, x0] is formed here, at the border. What a network
    learns when its softmax is put in the place of x0 in q(x_s | xt, x0): D3PM's and UDLM's plug-in, Austin et al. 2021,
    equation 4; Schiff et al. 2024. At an unmasked position of the absorbing process the logits have no effect.
    """

    def num_outputs(self, process: Process) -> int:
        return process.vocab_size

    def predict(
        self, process: Process, tokens: Tensor, sigma: Tensor, frozen: Tensor | None, logits: LazyLogits
    ) -> Prediction:
        return LeaveOneOutPrediction(
            process, tokens, sigma, frozen, log_loo=logits, calls=lambda: logits.evaluated.long()
        )

    def encode(self, prediction: Prediction) -> Tensor:
        log_p = prediction.log_denoiser()
        process = prediction.process
        log_like = process.content(process.log_likelihood(prediction.tokens, prediction.sigma.to(log_p.dtype)))
        # Where xt_i rules out some x0 the posterior is all that is known, and all that `predict` will need.
        known = log_like.isfinite().all(-1, keepdim=True)
        return torch.where(known, log_p - log_like, log_p)
