"""Temperature of the denoiser."""

from __future__ import annotations

import math

from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.guidance.base import Guided
from discdiff.model import Model
from discdiff.networks.base import Context
from discdiff.prediction import DenoiserPrediction, Positions, Prediction


class Temperature(Guided):
    """p(x0_i | xt)^(1/τ), normalised: τ < 1 sharpens, τ > 1 flattens.

    Each draw is tempered, not the sequence's law; with `sample(particles=)` on the absorbing process the law tends to
    p0(x)^(1/τ), normalised; off it particles have no weights for it, and `sample` warns. At τ < 1 samples grow alike:
    report their entropy beside any quality figure.

    Args:
        model: a model with a denoiser.
        tau: τ > 0.

    Raises:
        IncompatibleError: τ is not positive and finite.
    """

    def __init__(self, model: Model, tau: float) -> None:
        if not 0 < tau < math.inf:
            raise IncompatibleError("Temperature", got=tau, expected="a positive number", remedy="1 changes nothing.")
        super().__init__(model)
        self.tau = tau

    def predict(self, tokens: Tensor, sigma: Tensor, context: Context | None = None) -> Prediction:
        inner = self._readable(self.model.predict(tokens, sigma, context))

        def log_p(where: Positions | None) -> Tensor:
            return self._unnormalised(inner, where) / self.tau

        place = (inner.process, tokens, sigma, inner.frozen)
        return DenoiserPrediction(*place, log_p=log_p, calls=lambda: inner.calls, weighed=True)


__all__ = ["Temperature"]
