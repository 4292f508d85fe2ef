"""Concrete score matching: squared errors of the score."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.losses.base import context_of
from discdiff.losses.timed import TimedLoss
from discdiff.losses.times import Noised
from discdiff.model import Model
from discdiff.prediction import Positions, positions_of
from discdiff.randomness import Randomness
from discdiff.sequences import Sequences


class ConcreteScoreMatching(TimedLoss):
    """E_{t~U[t_min,1]} E_xt (1−e^−σ)² Σ_i Σ_{y: Q[xt_i,y]>0} (s_y − r_y)², r_y = P_σ[y,x0_i] / P_σ[xt_i,x0_i].

    No bound, and no nats: a baseline. The minimiser is the score of p_t, the mean of r given xt. The weight (1−e^−σ)²
    keeps values finite as σ → 0, where ratios grow like 1/σ; on the absorbing process the loss is e^−2σ times the Brier
    score of the posterior. Only neighbours y from which the chain jumps into xt_i are compared: those scores are all
    that the reverse process uses, and at an unmasked absorbing position, where the score is no function of what a
    denoiser says, there is none.

    Meng et al. 2022, "Concrete score matching"; with the denoising target of Lou et al. 2024, section 3.
    """

    def integrand(self, model: Model, sequences: Sequences, draw: Noised, *, generator: Randomness) -> Tensor:
        process = model.process
        prediction = model.predict(draw.tokens, draw.sigma, context_of(sequences))
        where = positions_of(process.active(draw.tokens) & sequences.unknown)

        def squares(some: Positions) -> Tensor:
            log_s = prediction.log_score(some)
            x, x0, sigma = draw.tokens[some], sequences.tokens[some], prediction.sigma[some].to(log_s.dtype)
            lost = -torch.expm1(-sigma)[:, None]
            compared = process.rates_into(x, dtype=log_s.dtype) > 0  # the diagonal of Q is negative
            # Scaled before they are squared: at σ = 1e-6 a ratio is 1e6 V.
            said = (torch.where(compared, log_s, 0.0) + lost.log()).exp()
            error = said - lost * process.conditional_ratio(x, x0, sigma)
            return torch.where(compared, error, torch.zeros_like(error)).square().sum(-1)

        weight = draw.weight / (1 - model.schedule.t_min)
        return prediction.totals(squares, where, weight[where[0]])
