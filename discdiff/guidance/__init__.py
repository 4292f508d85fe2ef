"""Guidance: wrappers round a model that change what its prediction says."""

from discdiff.guidance.base import Guided
from discdiff.guidance.classifier import Classifier, FirstOrderClassifier
from discdiff.guidance.labels import Labels
from discdiff.guidance.predictor import Predictor, fit_predictor
from discdiff.guidance.temperature import Temperature

__all__ = ["Classifier", "FirstOrderClassifier", "Guided", "Labels", "Predictor", "Temperature", "fit_predictor"]
