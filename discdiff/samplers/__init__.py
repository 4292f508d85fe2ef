"""Samplers, one file each. A sampler decides which positions may move, and when; constraints act in the draw of x0."""

from discdiff.samplers.ancestral import Ancestral
from discdiff.samplers.any_order import AnyOrder
from discdiff.samplers.base import (
    DEFAULT_STEPS,
    EventSampler,
    GridSampler,
    Level,
    Sampler,
    State,
    noise_levels,
)
from discdiff.samplers.bisection import Bisection
from discdiff.samplers.block_schedule import block_cost, information_curve, optimal_blocks
from discdiff.samplers.confidence import Confidence
from discdiff.samplers.entropy_bounded import EntropyBounded
from discdiff.samplers.euler import Euler
from discdiff.samplers.first_hitting import FirstHitting
from discdiff.samplers.gibbs import Gibbs
from discdiff.samplers.ordered import Ordered
from discdiff.samplers.predictor_corrector import Corrector, PredictorCorrector

__all__ = [
    "DEFAULT_STEPS",
    "Ancestral",
    "AnyOrder",
    "Bisection",
    "Confidence",
    "Corrector",
    "EntropyBounded",
    "Euler",
    "EventSampler",
    "FirstHitting",
    "Gibbs",
    "GridSampler",
    "Level",
    "Ordered",
    "PredictorCorrector",
    "Sampler",
    "State",
    "block_cost",
    "information_curve",
    "noise_levels",
    "optimal_blocks",
]
