"""Training objectives, one file each: estimates of a bound on −log p(x0), in nats per sequence."""

from discdiff.losses.any_order import AnyOrder
from discdiff.losses.base import Loss
from discdiff.losses.masked import MaskFractionCrossEntropy, TimeCrossEntropy
from discdiff.losses.score_entropy import ScoreEntropy

__all__ = ["AnyOrder", "Loss", "MaskFractionCrossEntropy", "ScoreEntropy", "TimeCrossEntropy"]
