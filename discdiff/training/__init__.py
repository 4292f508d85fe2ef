"""Training: `fit`. Lightning is imported when it is called, not before."""

from discdiff.training.fit import fit
from discdiff.training.result import FitResult, Validation

__all__ = ["FitResult", "Validation", "fit"]
