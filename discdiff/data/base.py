"""`Dataset`: what training and validation ask of sequences, wherever these are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discdiff.data.faults import Fault
from discdiff.data.lengths import LengthModel
from discdiff.sequences import Sequences

if TYPE_CHECKING:
    from discdiff.domain import Domain

Indices = Sequence[int] | npt.NDArray[np.int64] | Tensor


class Dataset(ABC):
    """Sequences numbered 0 .. n - 1, for `fit` and its loader.

    `SequenceDataset` holds them encoded, in memory or mapped from a cache; `domains.dna` has windows of a genome, which
    are cut out when they are asked for.

    Attributes:
        domain: turns tokens into strings, or None for bare tokens.
        length: the longest sequence.
        label_names: the classes in the order of their numbers, or None where nothing is labelled.
        notes: what was left out, in sentences for the user.
        skipped: the records that were left out, each with its place and the reason.
        end_token: id of the token that fills each sequence up to `length`, or None.
    """

    domain: Domain | None
    length: int
    label_names: list[str] | None = None
    notes: list[str]
    skipped: Sequence[Fault] = ()
    end_token: int | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """The model's vocabulary."""

    @property
    @abstractmethod
    def model_lengths(self) -> Tensor:
        """Tokens of each sequence as the model sees it: int64 `[n]`."""

    @property
    def labels(self) -> Tensor | None:
        """Class numbers, -1 where a sequence has none: int64 `[n]`, or None where nothing is labelled."""
        return None

    @abstractmethod
    def batch(self, indices: Indices, *, epoch: int = 0) -> Sequences:
        """The sequences at `indices` (0 .. n - 1), padded to the longest, with ids and labels.

        Args:
            indices: which.
            epoch: how many times the data have been gone through. A set whose sequences are drawn at random gives
                others in each; the same ones always for the same epoch.
        """

    @abstractmethod
    def titles(self, ids: Iterable[int]) -> list[str]:
        """How a person finds sequences again, by the ids that batches carry."""

    @abstractmethod
    def token_counts(self) -> Tensor:
        """How often the model sees each of its tokens: int64 `[vocab_size]`."""

    @abstractmethod
    def split(self, fraction: float = 0.05, *, seed: int = 0) -> tuple[Dataset, Dataset]:
        """A training and a validation part: about `fraction` of the sequences go to the second."""

    @abstractmethod
    def checksum(self) -> int:
        """32 bits that tell one data set from another when a run is resumed."""

    @property
    def length_model(self) -> LengthModel:
        """The lengths that samples should have."""
        return LengthModel.of(self.model_lengths, end=self.end_token)

    def decode(self, sequences: Sequences) -> list[str]:
        """Strings of sequences like those of this data set, end tokens cut off."""
        return [self._decode(row) for row in self.length_model.cut(sequences).lists()]

    def _decode(self, tokens: list[int]) -> str:
        return " ".join(map(str, tokens)) if self.domain is None else self.domain.decode(tokens)


def as_indices(indices: Indices) -> npt.NDArray[np.int64]:
    """Indices as an array."""
    return np.asarray(indices.numpy() if isinstance(indices, torch.Tensor) else indices, dtype=np.int64)
