"""Samplers, one file each. A sampler decides which positions may move, and when; constraints act in the draw of x0."""

from discdiff.samplers.ancestral import Ancestral
from discdiff.samplers.any_order import AnyOrder
from discdiff.samplers.argmax import Argmax
from discdiff.samplers.base import (
    DEFAULT_STEPS,
    EventSampler,
    Gridded,
    GridSampler,
    Level,
    Sampler,
    State,
    noise_levels,
)
from discdiff.samplers.bisection import Bisection
from discdiff.samplers.block_schedule import block_cost, information_curve, optimal_blocks
from discdiff.samplers.blockwise import Blockwise
from discdiff.samplers.confidence import Confidence
from discdiff.samplers.entropy_bounded import EntropyBounded
from discdiff.samplers.euler import Euler
from discdiff.samplers.first_hitting import FirstHitting
from discdiff.samplers.forward_backward import ForwardBackward
from discdiff.samplers.gibbs import Gibbs
from discdiff.samplers.ordered import Ordered
from discdiff.samplers.predictor_corrector import Corrector, PredictorCorrector
from discdiff.samplers.remasking import Remasking
from discdiff.samplers.runge_kutta import RungeKutta2
from discdiff.samplers.tau_leaping import TauLeaping
from discdiff.samplers.trapezoidal import Trapezoidal
from discdiff.samplers.uniformization import Uniformization

__all__ = [
    "DEFAULT_STEPS",
    "Ancestral",
    "AnyOrder",
    "Argmax",
    "Bisection",
    "Blockwise",
    "Confidence",
    "Corrector",
    "EntropyBounded",
    "Euler",
    "EventSampler",
    "FirstHitting",
    "ForwardBackward",
    "Gibbs",
    "GridSampler",
    "Gridded",
    "Level",
    "Ordered",
    "PredictorCorrector",
    "Remasking",
    "RungeKutta2",
    "Sampler",
    "State",
    "TauLeaping",
    "Trapezoidal",
    "Uniformization",
    "block_cost",
    "information_curve",
    "noise_levels",
    "optimal_blocks",
]
