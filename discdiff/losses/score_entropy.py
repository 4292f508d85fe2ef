"""Denoising score entropy, the loss for every process."""

from __future__ import annotations

from torch import Tensor

from discdiff.losses.base import context_of
from discdiff.losses.timed import TimedLoss
from discdiff.losses.times import Noised, corrupted
from discdiff.model import Model
from discdiff.prediction import positions_of
from discdiff.randomness import Randomness
from discdiff.sequences import Sequences


class ScoreEntropy(TimedLoss):
    """∫dt E_xt σ'(t) Σ_i Σ_{y≠xt_i} Q[xt_i,y] (s_y − r_y log s_y + K(r_y)), r_y = P_σ[y,x0_i] / P_σ[xt_i,x0_i].

    t ~ U[t_min, 1], so the integrand is multiplied by 1 − t_min. Non-negative term by term; with prior and
    reconstruction terms it bounds −log p(x0). Its minimiser is the score of p_t. Any parameterisation: a denoiser is
    read as a score.

    Lou, Meng and Ermon 2024 (SEDD), theorems 3.4 and 3.6.
    """

    def integrand(self, model: Model, sequences: Sequences, draw: Noised, *, generator: Randomness) -> Tensor:
        return score_entropy_of(model, sequences, draw.tokens, draw.sigma, draw.dsigma)


def score_entropy_at(model: Model, sequences: Sequences, t: Tensor, *, generator: Randomness) -> Tensor:
    """The integrand at times `t` (float64 `[B, 1]`) for one draw of the noise: `[B]` nats per unit of t."""
    sigma = model.schedule.total_noise(t).to(model.dtype)
    xt = corrupted(model, sequences, sigma, generator=generator)
    return score_entropy_of(model, sequences, xt, sigma, model.schedule.noise_rate(t)[:, 0])


def score_entropy_of(model: Model, sequences: Sequences, xt: Tensor, sigma: Tensor, rate: Tensor) -> Tensor:
    """`rate` `[B]` times the score entropy of `xt` `[B, L]` at `sigma` `[B, 1]`: `[B]`."""
    prediction = model.predict(xt, sigma, context_of(sequences))
    where = positions_of(model.process.active(xt) & sequences.unknown)
    return prediction.score_entropy_totals(sequences.tokens, where, rate[where[0]])
