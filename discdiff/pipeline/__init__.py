"""Strings in, strings out."""

from discdiff.pipeline.pipeline import Pipeline
from discdiff.pipeline.results import Samples, SamplingDefaults, SequenceScore, StringsBound

__all__ = ["Pipeline", "Samples", "SamplingDefaults", "SequenceScore", "StringsBound"]
