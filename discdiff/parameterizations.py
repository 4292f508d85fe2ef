"""Parameterisations: what the network's logits mean."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.prediction import DenoiserPrediction, LazyLogits, Positions, Prediction, ScorePrediction
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
    noise: on the absorbing process 1/(V (e^σ − 1)), as in Lou et al. 2024, appendix C.2.
    """

    def num_outputs(self, process: Process) -> int:
        return process.num_states

    def predict(
        self, process: Process, tokens: Tensor, sigma: Tensor, frozen: Tensor | None, logits: LazyLogits
    ) -> Prediction:
        scale = process.log_score_scale(sigma).expand(tokens.shape)

        def log_s(where: Positions | None) -> Tensor:
            return logits(where) + (scale if where is None else scale[where])[..., None]

        return ScorePrediction(process, tokens, sigma, frozen, log_s=log_s, calls=lambda: logits.evaluated.long())

    def encode(self, prediction: Prediction) -> Tensor:
        return prediction.log_score() - prediction.process.log_score_scale(prediction.sigma)[..., None]


class Denoiser(Parameterization):
    """log p_θ(x0_i | xt, σ) = log softmax(logits): the posterior denoiser, shown σ; the head has V columns.

    Austin et al. 2021, section 3.3; Sahoo et al. 2024 (zero mask probability and carry-over on the absorbing process).
    """

    def num_outputs(self, process: Process) -> int:
        return process.vocab_size

    def predict(
        self, process: Process, tokens: Tensor, sigma: Tensor, frozen: Tensor | None, logits: LazyLogits
    ) -> Prediction:
        return DenoiserPrediction(process, tokens, sigma, frozen, log_p=logits, calls=lambda: logits.evaluated.long())

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
