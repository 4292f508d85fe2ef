"""One YAML file = one constructor call."""

from discdiff.experiment.experiment import Experiment
from discdiff.experiment.settings import Data, Training

__all__ = ["Data", "Experiment", "Training"]
