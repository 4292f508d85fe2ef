"""Strings in, strings out."""

from discdiff.pipeline.pipeline import Pipeline
from discdiff.pipeline.results import SamplingDefaults, SequenceScore, StringsBound

__all__ = ["Pipeline", "SamplingDefaults", "SequenceScore", "StringsBound"]
