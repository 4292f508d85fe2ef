"""Guidance by labels, without a classifier."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.guidance.base import Guided
from discdiff.model import Model
from discdiff.networks.base import Context
from discdiff.prediction import DenoiserPrediction, Positions, Prediction


class Labels(Guided):
    """p(x0_i | xt, label)^γ p(x0_i | xt)^(1−γ), normalised: γ = 1 is the conditional model, γ = 0 the free one.

    Above 1 the label is stressed. Two evaluations a prediction, unless γ is 0 or 1. Position by position this is not
    guidance of the sequence's law, and a bias stays however many steps; with `sample(particles=)` on the absorbing
    process an exact sampler's law tends to p0(x | label)^γ p0(x)^(1−γ), normalised. Off it
    particles have no weights for it, and `sample` warns.

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
            with_label, without = self._unnormalised(labelled, where), self._unnormalised(free, where)
            # What the label allows the free model allows too; where rounding says otherwise it may not win by that.
            without = torch.maximum(without, with_label - 50)
            mixed = self.gamma * with_label + (1 - self.gamma) * without
            return torch.where(torch.isneginf(with_label), -torch.inf, mixed)

        place = (free.process, tokens, sigma, free.frozen)
        return DenoiserPrediction(*place, log_p=log_p, calls=lambda: free.calls + labelled.calls, weighed=True)


__all__ = ["Labels"]
