"""A wrapper round a model that changes what its prediction says. Samplers cannot tell the difference."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.networks.base import Context
from discdiff.prediction import Positions, Prediction
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
    def block_size(self) -> int | None:
        return self.model.block_size

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        return self.model.device

    @abstractmethod
    def predict(self, tokens: Tensor, sigma: Tensor, context: Context | None = None) -> Prediction:
        """What the guided model says; see `Diffusion.predict`."""

    @staticmethod
    def _unnormalised(prediction: Prediction, where: Positions | None) -> Tensor:
        """log p(x0_i | xt), with the mass that a guided model gave it before it was normalised: particles count it."""
        log_p = prediction.log_denoiser(where)
        if where is None or (mass := prediction.log_mass(where)) is None:
            return log_p
        return log_p + mass[:, None]

    def _readable(self, prediction: Prediction) -> Prediction:
        if not prediction.has_denoiser:
            raise IncompatibleError(
                type(self).__name__,
                got="a score network off the absorbing process",
                expected="a model with a denoiser",
                remedy="Train with the Denoiser parameterisation.",
            )
        return prediction


__all__ = ["Guided"]
