"""Training objectives, one file each: estimates of a bound on −log p(x0), in nats per sequence, and their relatives."""

from discdiff.losses.any_order import AnyOrder
from discdiff.losses.base import Loss
from discdiff.losses.blockwise import Blockwise
from discdiff.losses.concrete_score import ConcreteScoreMatching
from discdiff.losses.continuous_elbo import ContinuousELBO
from discdiff.losses.cross_entropy import CrossEntropy
from discdiff.losses.discrete_elbo import D3PM
from discdiff.losses.generalized_kl import GeneralizedKL
from discdiff.losses.given import Given
from discdiff.losses.implicit_score_entropy import ImplicitScoreEntropy
from discdiff.losses.label_dropout import LabelDropout
from discdiff.losses.masked import MaskFractionCrossEntropy, TimeCrossEntropy
from discdiff.losses.score_entropy import ScoreEntropy
from discdiff.losses.timed import TimedLoss, adapted_times
from discdiff.losses.times import PiecewiseTimes, TimeSampling, UniformTimes, fit_times

__all__ = [
    "D3PM",
    "AnyOrder",
    "Blockwise",
    "ConcreteScoreMatching",
    "ContinuousELBO",
    "CrossEntropy",
    "GeneralizedKL",
    "Given",
    "ImplicitScoreEntropy",
    "LabelDropout",
    "Loss",
    "MaskFractionCrossEntropy",
    "PiecewiseTimes",
    "ScoreEntropy",
    "TimeCrossEntropy",
    "TimeSampling",
    "TimedLoss",
    "UniformTimes",
    "adapted_times",
    "fit_times",
]
