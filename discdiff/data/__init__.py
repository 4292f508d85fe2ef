"""Data sets, loaders and readers of files."""

from discdiff.data.base import Dataset
from discdiff.data.batches import Batch, BatchLoader, LengthBuckets, evaluation_batches
from discdiff.data.dataset import SequenceDataset
from discdiff.data.lengths import LengthModel

__all__ = ["Batch", "BatchLoader", "Dataset", "LengthBuckets", "LengthModel", "SequenceDataset", "evaluation_batches"]
