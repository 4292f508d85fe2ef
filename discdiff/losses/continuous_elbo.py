"""The continuous-time evidence bound, read from a denoiser."""

from __future__ import annotations

from torch import Tensor

from discdiff.losses.base import context_of
from discdiff.losses.timed import TimedLoss
from discdiff.losses.times import Noised
from discdiff.model import Model
from discdiff.prediction import positions_of
from discdiff.randomness import Randomness
from discdiff.sequences import Sequences


class ContinuousELBO(TimedLoss):
    """∫dt E_xt σ'(t) Σ_i Σ_{y≠xt_i} Q[xt_i,y] r_y (e^d_y − 1 − d_y), d_y = log s_y − log r_y, s read from a denoiser.

    A bound: with KL(q(x_1|x0) ‖ π) and the reconstruction term at t_min it is at least −log p(x0). Its minimiser is the
    posterior. Sample by sample equal to `ScoreEntropy`; the rank-one family has it in closed form from the
    leave-one-out law, whose rounding at large noise is that of d itself: on the uniform process the loss of Schiff et
    al. 2024 (UDLM) and Sahoo et al. 2025 (Duo), on the absorbing one t-DCE. Other rate matrices, and
    networks that say a score, go through the score.
    """

    def integrand(self, model: Model, sequences: Sequences, draw: Noised, *, generator: Randomness) -> Tensor:
        prediction = model.predict(draw.tokens, draw.sigma, context_of(sequences))
        where = positions_of(model.process.active(draw.tokens) & sequences.unknown)
        return prediction.elbo_totals(sequences.tokens, where, draw.dsigma[where[0]])
