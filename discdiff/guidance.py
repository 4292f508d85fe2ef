"""Guidance: wrappers round a model that change what its prediction says. Samplers cannot tell the difference."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.networks.base import Context
from discdiff.prediction import DenoiserPrediction, Positions, Prediction
from discdiff.processes.base import Process
from discdiff.schedules import Schedule


class Guided(ABC):
    """A model in all that samplers and likelihoods ask, with another prediction."""

    def __init__(self, model: Model) -> None:
        self.model = model

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

    @abstractmethod
    def predict(self, tokens: Tensor, sigma: Tensor, context: Context | None = None) -> Prediction:
        """What the guided model says; see `Diffusion.predict`."""

    def _readable(self, prediction: Prediction) -> Prediction:
        if not prediction.has_denoiser:
            raise IncompatibleError(
                type(self).__name__,
                got="a score network off the absorbing process",
                expected="a model with a denoiser",
                remedy="Train with the Denoiser parameterisation.",
            )
        return prediction


class Temperature(Guided):
    """p(x0_i | xt)^(1/τ), normalised: τ < 1 sharpens, τ > 1 flattens.

    Each draw is tempered, not the sequence's law; with `sample(particles=)` on the absorbing process the law tends to
    p0(x)^(1/τ), normalised. At τ < 1 samples grow alike: report their entropy beside any quality figure.

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
            return inner.log_denoiser(where) / self.tau

        place = (inner.process, tokens, sigma, inner.frozen)
        return DenoiserPrediction(*place, log_p=log_p, calls=lambda: inner.calls, weighed=True)


class Labels(Guided):
    """p(x0_i | xt, label)^γ p(x0_i | xt)^(1−γ), normalised: γ = 1 is the conditional model, γ = 0 the free one.

    Above 1 the label is stressed. Two evaluations a prediction, unless γ is 0 or 1. Position by position this is not
    guidance of the sequence's law, and a bias stays however many steps; with `sample(particles=)` on the absorbing
    process an exact sampler's law tends to p0(x | label)^γ p0(x)^(1−γ), normalised.

    Ho and Salimans 2022; for discrete diffusion Nisonoff et al. 2024 and Schiff et al. 2024.

    Args:
        model: of a network with labels, trained with `losses.LabelDropout`.
        gamma: γ ≥ 0.

    Raises:
        IncompatibleError: γ is negative or not finite.
    """

    def __init__(self, model: Model, gamma: float) -> None:
        if not 0 <= gamma < math.inf:
            raise IncompatibleError(
                "Label guidance", got=f"gamma={gamma}", expected="0 or more", remedy="1 is the conditional model."
            )
        super().__init__(model)
        self.gamma = gamma

    def predict(self, tokens: Tensor, sigma: Tensor, context: Context | None = None) -> Prediction:
        if context is None or context.labels is None:
            raise IncompatibleError(
                "Label guidance", got="no labels", expected="a label for each row", remedy="Give labels to sample."
            )
        if self.gamma == 1:
            return self.model.predict(tokens, sigma, context)
        free = self._readable(self.model.predict(tokens, sigma, replace(context, labels=None)))
        if self.gamma == 0:
            return free
        labelled = self._readable(self.model.predict(tokens, sigma, context))

        def log_p(where: Positions | None) -> Tensor:
            with_label, without = labelled.log_denoiser(where), free.log_denoiser(where)
            # What the label allows the free model allows too; where rounding says otherwise it may not win by that.
            without = torch.maximum(without, with_label - 50)
            mixed = self.gamma * with_label + (1 - self.gamma) * without
            return torch.where(torch.isneginf(with_label), -torch.inf, mixed)

        place = (free.process, tokens, sigma, free.frozen)
        return DenoiserPrediction(*place, log_p=log_p, calls=lambda: free.calls + labelled.calls, weighed=True)


__all__ = ["Guided", "Labels", "Temperature"]
