"""Strings in, strings out."""

from discdiff.pipeline.generating import JobReport
from discdiff.pipeline.pipeline import Pipeline
from discdiff.pipeline.reading import read_parts
from discdiff.pipeline.results import Samples, SamplingDefaults, SequenceScore, StringsBound
from discdiff.pipeline.sample_rows import SampleRows

__all__ = [
    "JobReport", "Pipeline", "SampleRows", "Samples", "SamplingDefaults", "SequenceScore", "StringsBound", "read_parts",
]  # fmt: skip
