"""Cross-entropy on the clean tokens, every time weighing the same."""

from __future__ import annotations

from torch import Tensor

from discdiff.losses.base import context_of
from discdiff.losses.timed import TimedLoss, needs_denoiser
from discdiff.losses.times import Noised
from discdiff.model import Model
from discdiff.prediction import positions_of
from discdiff.randomness import Randomness
from discdiff.sequences import Sequences


class CrossEntropy(TimedLoss):
    """E_{t~U[t_min,1]} E_xt Σ_i −log p(x0_i | xt): nats per sequence, but no bound on −log p(x0).

    The positions are those that can move; elsewhere x0 is certain. The minimiser is the posterior denoiser; the
    scale of a score (absorbing) is not trained. The
    reparameterised objective of multinomial diffusion (Hoogeboom et al. 2021; Zheng et al. 2023, with weights 1) and
    the objective of discrete flow matching on the mixture path (Campbell et al. 2024; Gat et al. 2024).
    """

    def check(self, model: Model) -> None:
        needs_denoiser(model, self)

    def integrand(self, model: Model, sequences: Sequences, draw: Noised, *, generator: Randomness) -> Tensor:
        prediction = model.predict(draw.tokens, draw.sigma, context_of(sequences))
        where = positions_of(model.process.active(draw.tokens) & sequences.unknown)
        weight = draw.weight / (1 - model.schedule.t_min)
        return prediction.totals(lambda some: prediction.nll(sequences.tokens, some), where, weight[where[0]])
