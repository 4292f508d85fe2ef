"""Cross-entropies on masked positions: t-DCE and λ-DCE."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.losses.base import Loss, absorbing, context_of
from discdiff.losses.timed import TimedLoss
from discdiff.losses.times import Noised
from discdiff.model import Model
from discdiff.prediction import positions_of
from discdiff.randomness import Randomness, time_points
from discdiff.sequences import Sequences


def masked_cross_entropy(
    model: Model,
    sequences: Sequences,
    xt: Tensor,
    sigma: Tensor,
    weights: Tensor | None = None,
    *,
    count: int | None = None,
) -> Tensor:
    """weights · Σ_masked −log p(x0_i | xt): nats per sequence, `[B]`.

    Of an unnormalised score, whose scale must be learned too: Σ_y p̃_y − log p̃_x0 − 1 (`Prediction.reveal_loss`), so
    that the losses stay equal to its score entropy and to its bound.

    Args:
        xt: sequences with masks, int64 `[B, L]`.
        sigma: the noise that a time-conditioned network is shown, `[B, 1]`.
        weights: of the rows, `[B]`; ones by default. A loss gives them here and not to the result, whose gradient is
            made beforehand where an objective weighs its rows alike.
        count: how many positions are masked, if the caller knows; else a GPU is waited for.
    """
    prediction = model.predict(xt, sigma, context_of(sequences))
    where = positions_of(model.process.active(xt) & sequences.unknown, count)
    weights = sigma.new_ones(len(sequences)) if weights is None else weights
    return prediction.reveal_totals(sequences.tokens, where, weights[where[0]])


class TimeCrossEntropy(TimedLoss):
    """t-DCE: ∫dt E_xt σ'(t) / (e^σ(t) − 1) Σ_masked −log p(x0_i | xt).

    Sample by sample equal to the score entropy of a normalised denoiser. Ou et al. 2024 (RADD), t-DCE;
    Sahoo et al. 2024 (MDLM), continuous-time NELBO; Shi et al. 2024 (MD4), proposition 1.
    """

    def check(self, model: Model) -> None:
        absorbing(model, self)

    def integrand(self, model: Model, sequences: Sequences, draw: Noised, *, generator: Randomness) -> Tensor:
        weight = draw.dsigma / torch.expm1(model.schedule.total_noise(draw.t))[:, 0]
        return masked_cross_entropy(model, sequences, draw.tokens, draw.sigma, weight)


class MaskFractionCrossEntropy(Loss):
    """λ-DCE: E_{λ~U(0,1)} (1/λ) Σ_masked −log p(x0_i | x_λ), each position masked with probability λ.

    Covers all of (0, 1], so it needs no prior or reconstruction term, and no schedule. Its second moment diverges with
    log(1/λ): `AnyOrder` has the same expectation and finite variance. Ou et al. 2024 (RADD), λ-DCE.
    """

    def check(self, model: Model) -> None:
        absorbing(model, self)

    def __call__(self, model: Model, sequences: Sequences, *, generator: Randomness) -> Tensor:
        process = absorbing(model, self)
        # 1 − u lies in (0, 1]: no division by zero, and λ = 1 shows the network the fully masked sequence.
        fraction = 1 - time_points(len(sequences), generator=generator, device=sequences.device)[:, None]
        xt = process.corrupt(sequences.tokens, -torch.log1p(-fraction), generator=generator)
        return masked_cross_entropy(model, sequences, xt, noise_of_fraction(fraction, model), 1 / fraction[:, 0])


def noise_of_fraction(fraction: Tensor, model: Model) -> Tensor:
    """σ = −log(1 − λ), clipped to the schedule's ends, in the model's dtype; same shape as `fraction`."""
    low, high = model.schedule.ends()
    return (-torch.log1p(-fraction)).clamp(low, high).to(model.dtype)
