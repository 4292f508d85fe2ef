"""Forward processes. They know σ, never t."""

from discdiff.processes.absorbing import Absorbing
from discdiff.processes.base import Process
from discdiff.processes.hybrid import Hybrid
from discdiff.processes.marginal import Marginal
from discdiff.processes.rank_one import RankOne
from discdiff.processes.rate_matrix import RateMatrix
from discdiff.processes.uniform import Uniform

__all__ = ["Absorbing", "Hybrid", "Marginal", "Process", "RankOne", "RateMatrix", "Uniform"]
