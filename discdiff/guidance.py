"""Guidance: wrappers round a model that change what its prediction says. Samplers cannot tell the difference."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.networks.base import Context
from discdiff.prediction import DenoiserPrediction, Positions, Prediction
from discdiff.processes.base import Process
from discdiff.schedules import Schedule


class Temperature:
    """p(x0_i | xt)^(1/τ), normalised: τ < 1 sharpens, τ > 1 flattens.

    Each draw is tempered, not the sequence's law. At τ < 1 samples grow alike: report their entropy beside any
    quality figure.

    Args:
        model: a model with a denoiser.
        tau: τ > 0.

    Raises:
        IncompatibleError: τ is not positive and finite.
    """

    def __init__(self, model: Model, tau: float) -> None:
        if not 0 < tau < math.inf:
            raise IncompatibleError("Temperature", got=tau, expected="a positive number", remedy="1 changes nothing.")
        self.model, self.tau = model, tau

    @property
    def process(self) -> Process:
        return self.model.process

    @property
    def schedule(self) -> Schedule:
        return self.model.schedule

    @property
    def time_conditioned(self) -> bool:
        return self.model.time_conditioned

    @property
    def exact_clamps(self) -> bool:
        return self.model.exact_clamps

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        return self.model.device

    def predict(self, tokens: Tensor, sigma: Tensor, context: Context | None = None) -> Prediction:
        inner = self.model.predict(tokens, sigma, context)
        if not inner.has_denoiser:
            raise IncompatibleError(
                "Temperature",
                got="a score network off the absorbing process",
                expected="a model with a denoiser",
                remedy="Train with the Denoiser parameterisation.",
            )

        def log_p(where: Positions | None) -> Tensor:
            return inner.log_denoiser(where) / self.tau

        return DenoiserPrediction(inner.process, tokens, sigma, inner.frozen, log_p=log_p, calls=lambda: inner.calls)
