"""Losses that are an integral over time, estimated at one time a row."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.losses.base import Loss
from discdiff.losses.times import Noised, PiecewiseTimes, TimeSampling, UniformTimes, fit_times, noised
from discdiff.model import Model
from discdiff.randomness import Randomness
from discdiff.sequences import Sequences


class TimedLoss(Loss):
    """∫_{t_min}^1 dt E_xt f(x0, xt, t); a subclass says what f is.

    Args:
        times: how t is drawn; uniformly, if None. Whatever it is, the expectation is the same.
    """

    def __init__(self, times: TimeSampling | None = None) -> None:
        self.times = times or UniformTimes()

    @abstractmethod
    def integrand(self, model: Model, sequences: Sequences, draw: Noised, *, generator: Randomness) -> Tensor:
        """f dt for one draw of noise, `draw.weight` being dt: `[B]`, differentiable."""

    def __call__(self, model: Model, sequences: Sequences, *, generator: Randomness) -> Tensor:
        self.check(model)
        draw = noised(model, sequences, self.times, generator=generator)
        return self.integrand(model, sequences, draw, generator=generator)

    def __repr__(self) -> str:
        given = "" if isinstance(self.times, UniformTimes) else f"times={self.times!r}"
        return f"{type(self).__name__}({given})"


def needs_denoiser(model: Model, loss: object) -> None:
    """Refuse a model whose posterior denoiser cannot be read at every noise.

    Raises:
        IncompatibleError: a score off the absorbing process.
    """
    # A prediction runs no network until it is read.
    probe = model.predict(
        torch.zeros(1, 1, dtype=torch.int64, device=model.device),
        torch.ones(1, 1, dtype=model.dtype, device=model.device),
    )
    if not probe.has_denoiser:
        raise IncompatibleError(
            f"{type(loss).__name__} loss",
            got=f"a score on {type(model.process).__name__}, whose denoiser cannot be read at high noise",
            expected="a model with a denoiser",
            remedy="Use the Denoiser parameterisation, or ScoreEntropy, which serves every model.",
        )


@torch.no_grad()
def adapted_times(
    loss: TimedLoss, model: Model, sequences: Sequences, *, generator: Randomness, pieces: int = 32, floor: float = 0.1
) -> PiecewiseTimes:
    """The density of t at which a loss's variance is least, measured on `sequences` with the model as it stands.

    Give some hundred rows for each piece; a trained model's is the one that counts. See `fit_times` for the rest.
    """
    draw = noised(model, sequences, UniformTimes(), generator=generator)
    draw = replace(draw, weight=torch.ones_like(draw.weight))  # f itself
    values = loss.integrand(model, sequences, draw, generator=generator)
    return fit_times(values, draw.t[:, 0], model.schedule, pieces=pieces, floor=floor)
