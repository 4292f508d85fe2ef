"""Denoising score entropy, the loss for every process."""

from __future__ import annotations

from torch import Tensor

from discdiff.losses.base import Loss, context_of, sum_rows
from discdiff.model import Model
from discdiff.prediction import positions_of
from discdiff.randomness import Randomness, time_points
from discdiff.sequences import Sequences


class ScoreEntropy(Loss):
    """∫dt E_xt σ'(t) Σ_i Σ_{y≠xt_i} Q[xt_i,y] (s_y − r_y log s_y + K(r_y)), r_y = P_σ[y,x0_i] / P_σ[xt_i,x0_i].

    t ~ U[t_min, 1], so the integrand is multiplied by 1 − t_min. Non-negative term by term; with prior and
    reconstruction terms it bounds −log p(x0). Any parameterisation: a denoiser is read as a score.

    Lou, Meng and Ermon 2024 (SEDD), theorems 3.4 and 3.6.
    """

    def __call__(self, model: Model, sequences: Sequences, *, generator: Randomness) -> Tensor:
        points = time_points(len(sequences), generator=generator, device=sequences.device)
        t = model.schedule.t_min + (1 - model.schedule.t_min) * points[:, None]
        return (1 - model.schedule.t_min) * score_entropy_at(model, sequences, t, generator=generator)


def score_entropy_at(model: Model, sequences: Sequences, t: Tensor, *, generator: Randomness) -> Tensor:
    """The integrand at times `t` (float64 `[B, 1]`) for one draw of the noise: `[B]` nats per unit of t."""
    process = model.process
    sigma = model.schedule.total_noise(t).to(model.dtype)
    xt = process.corrupt(sequences.tokens, sigma, generator=generator)
    prediction = model.predict(xt, sigma, context_of(sequences))
    where = positions_of(process.active(xt) & ~sequences.padding)
    entropy = prediction.score_entropy(sequences.tokens, where)
    total = sum_rows(entropy, where[0], len(sequences))
    return model.schedule.noise_rate(t)[:, 0].to(total.dtype) * total
