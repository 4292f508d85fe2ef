"""The generalised KL divergence between jump rates of the mixture path."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.losses.base import context_of
from discdiff.losses.timed import TimedLoss, needs_denoiser
from discdiff.losses.times import Noised
from discdiff.model import Model
from discdiff.prediction import Positions, positions_of
from discdiff.processes.rank_one import RankOne
from discdiff.randomness import Randomness
from discdiff.sequences import Sequences


class GeneralizedKL(TimedLoss):
    """∫dt E_xt σ'(t)/(e^σ(t) − 1) Σ_i ( 1[x0_i≠xt_i] (−log p(x0_i|xt)) + 1[x0_i=xt_i] − p(x0_i=xt_i | xt) ).

    Σ_{y≠x} u log(u/û) − u + û for the mixture path κ δ_x0 + (1−κ) π with κ = e^−σ, whose rates towards the data are
    û(y|x) = κ'/(1−κ) (p(x0_i=y | xt) − δ_x(y)). Non-negative; the minimiser is the posterior. The chain with these
    rates has the forward marginals p_t, but is not the time reversal that `ScoreEntropy` trains: with prior and
    reconstruction terms the loss bounds −log p(x0), and stays above it even for the exact network, except on the
    absorbing process, where it is t-DCE. For the rank-one family.

    Gat et al. 2024; Shaul et al. 2025, "Flow matching with general discrete paths".
    """

    def check(self, model: Model) -> None:
        if not isinstance(model.process, RankOne):
            raise IncompatibleError(
                "GeneralizedKL loss",
                got=type(model.process).__name__,
                expected="a process of the rank-one family, whose noising is a mixture of x0 and π",
                remedy="Use ScoreEntropy, which serves every process.",
            )
        needs_denoiser(model, self)

    def integrand(self, model: Model, sequences: Sequences, draw: Noised, *, generator: Randomness) -> Tensor:
        prediction = model.predict(draw.tokens, draw.sigma, context_of(sequences))
        where = positions_of(model.process.active(draw.tokens) & sequences.unknown)

        def terms(some: Positions) -> Tensor:
            log_p = prediction.log_denoiser(some)
            x, x0 = draw.tokens[some], sequences.tokens[some]
            # Where xt is no content token its probability as x0 is 0.
            stay = model.process.states(log_p, -torch.inf).gather(-1, x[:, None])[:, 0]
            said = log_p.gather(-1, x0[:, None])[:, 0]
            return torch.where(x == x0, -torch.expm1(said), -said - stay.exp())

        weight = draw.dsigma / torch.expm1(model.schedule.total_noise(draw.t))[:, 0]
        return prediction.totals(terms, where, weight[where[0]])
