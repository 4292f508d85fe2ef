"""Forward processes. They know σ, never t."""

from discdiff.processes.absorbing import Absorbing
from discdiff.processes.base import Process
from discdiff.processes.rank_one import RankOne
from discdiff.processes.uniform import Uniform

__all__ = ["Absorbing", "Process", "RankOne", "Uniform"]
