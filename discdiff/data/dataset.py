"""`SequenceDataset`: a file's sequences, encoded, in memory."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discdiff.data.encoding import Encoded, OnLong, encode_records
from discdiff.data.lengths import LengthModel
from discdiff.errors import DataError, DiscdiffError
from discdiff.records import Record
from discdiff.sequences import Sequences

if TYPE_CHECKING:
    from discdiff.domain import Domain


class SequenceDataset:
    """Encoded sequences with their labels: one flat array of tokens, and where each sequence starts in it.

    Make one with `read`, `from_sequences` or `Domain.dataset`.

    Where the domain's files are streams (`domain.streams`: one long text), records are joined end to end and
    cut into blocks of `length` tokens. Nothing is padded, and nothing is lost but the remainder after the
    last whole block.

    With `end_token`, the model learns where sequences stop: each is filled up to `length` with the token
    `domain.vocab_size`, so the model's vocabulary is one larger (`vocab_size`), and `length_model.cut` undoes
    it.

    Attributes:
        domain: the domain that encoded the sequences, or None for bare tokens.
        length: the longest length allowed, or a stream's block.
        label_names: the classes in the order of their numbers, or None where nothing is labelled.
        notes: what was left out or cut, in sentences for the user.
    """

    def __init__(
        self, domain: Domain | None, encoded: Encoded, *, length: int | None = None, end_token: bool = False
    ) -> None:
        self.domain, self.notes, self.label_names = domain, encoded.notes, encoded.label_names
        self.length = int(encoded.sizes.max()) if length is None else length
        self.end_token = domain.vocab_size if end_token and domain is not None else None
        self._encoded = encoded
        self._ids: npt.NDArray[np.int64] = np.arange(len(encoded.sizes))

    @classmethod
    def read(
        cls,
        domain: Domain,
        path: str | Path,
        *,
        length: int | None = None,
        on_long: OnLong = "error",
        label_names: Sequence[str] | None = None,
        end_token: bool = False,
        keep: Callable[[Record], bool] | None = None,
        **options: Any,
    ) -> SequenceDataset:
        """Read and encode a file.

        Args:
            domain: reads the file and encodes its sequences.
            path: the file.
            length: the longest sequence to take, or a stream's block. Without it, any.
            on_long: what to do with a longer sequence: refuse the file, leave the sequence out, or take its
                beginning.
            label_names: classes in the order of their numbers (those of the training set, when this is a
                validation set). Without it, the classes found, sorted.
            end_token: learn an end token instead of padding.
            keep: which records to take; without it, all.
            options: what `domain.read` takes, such as `where`, `sequence_column`, `label_column`.

        Raises:
            DataError: nothing in the file, a record that is empty or too long, an unknown label.
            UnknownTokenError: a symbol outside the domain's alphabet, with file, record and position.
        """
        records = domain.read(path, **options)
        if keep is not None:
            records = filter(keep, records)
        encoded = encode_records(
            domain,
            records,
            path=path,
            length=length,
            on_long=on_long,
            label_names=label_names,
            end_token=end_token,
        )
        return cls(domain, encoded, length=length, end_token=end_token)

    @classmethod
    def from_sequences(
        cls,
        domain: Domain,
        sequences: Iterable[str],
        *,
        labels: Iterable[str | int | None] | None = None,
        length: int | None = None,
        on_long: OnLong = "error",
        label_names: Sequence[str] | None = None,
        end_token: bool = False,
    ) -> SequenceDataset:
        """Encode strings. Arguments and errors are those of `read`; `labels` gives each sequence's class."""
        sequences = list(sequences)
        classes = [None] * len(sequences) if labels is None else list(labels)
        if len(classes) != len(sequences):
            raise DataError(f"{len(classes)} labels for {len(sequences)} sequences")
        records = (
            Record(sequence, label=None if label is None else str(label), place=i + 1)
            for i, (sequence, label) in enumerate(zip(sequences, classes, strict=True))
        )
        encoded = encode_records(
            domain,
            records,
            path=None,
            length=length,
            on_long=on_long,
            label_names=label_names,
            end_token=end_token,
        )
        return cls(domain, encoded, length=length, end_token=end_token)

    @classmethod
    def from_tokens(cls, sequences: Sequences, domain: Domain | None = None) -> SequenceDataset:
        """Sequences that are tokens already; a domain, if there is one, turns them into strings."""
        if not len(sequences):
            raise DataError("no sequences", remedy="give at least one")
        inside = ~sequences.padding.cpu().numpy()
        sizes = sequences.lengths.cpu().numpy()
        labels = None if sequences.labels is None else sequences.labels.cpu().numpy()
        names = None if labels is None else [str(label) for label in range(int(labels.max()) + 1)]
        encoded = Encoded(
            sequences.tokens.cpu().numpy()[inside].astype(np.int32),
            np.cumsum(sizes) - sizes,
            sizes,
            labels=labels,
            label_names=names,
            places=np.arange(1, len(sizes) + 1),
        )
        return cls(domain, encoded)

    # ---- what it holds ----
    def __len__(self) -> int:
        return len(self._ids)

    @property
    def vocab_size(self) -> int:
        """The model's vocabulary: the domain's, and the end token where there is one; of bare tokens, what occurs."""
        if self.domain is None:
            return int(self._encoded.tokens.max()) + 1
        return self.domain.vocab_size + (self.end_token is not None)

    @property
    def lengths(self) -> Tensor:
        """Content tokens of each sequence, end tokens not counted: int64 `[n]`."""
        return torch.from_numpy(self._encoded.sizes)

    @property
    def model_lengths(self) -> Tensor:
        """Tokens of each sequence as the model sees it, end tokens counted: int64 `[n]`."""
        return self.lengths if self.end_token is None else torch.full_like(self.lengths, self.length)

    @property
    def tokens(self) -> int:
        """Content tokens in all."""
        return int(self._encoded.sizes.sum())

    def token_counts(self) -> Tensor:
        """How often the model sees each of its tokens, end tokens counted: int64 `[vocab_size]`."""
        tokens, starts, sizes = self._encoded.tokens, self._encoded.starts, self._encoded.sizes
        if int(sizes.sum()) != len(tokens):  # a subset shares the tokens of the whole
            edges = np.bincount(starts, minlength=len(tokens) + 1) - np.bincount(
                starts + sizes, minlength=len(tokens) + 1
            )
            tokens = tokens[edges.cumsum()[:-1] > 0]
        counts = torch.from_numpy(np.bincount(tokens, minlength=self.vocab_size))
        if self.end_token is not None:
            counts[self.end_token] += int(self.model_lengths.sum()) - self.tokens
        return counts

    @property
    def labels(self) -> Tensor | None:
        """Class numbers, -1 where a sequence has none: int64 `[n]`, or None where nothing is labelled."""
        return None if self._encoded.labels is None else torch.from_numpy(self._encoded.labels)

    @property
    def length_model(self) -> LengthModel:
        """The lengths that samples should have."""
        return LengthModel.of(self.model_lengths, end=self.end_token)

    def row(self, index: int) -> npt.NDArray[Any]:
        """The content tokens of one sequence, `[length]`, not copied."""
        start = self._encoded.starts[index]
        row: npt.NDArray[Any] = self._encoded.tokens[start : start + self._encoded.sizes[index]]
        return row

    def texts(self, indices: Iterable[int] | None = None) -> list[str]:
        """The sequences as strings again: all of them, or those at `indices`."""
        return [self._decode(self.row(i).tolist()) for i in (range(len(self)) if indices is None else indices)]

    def decode(self, sequences: Sequences) -> list[str]:
        """Strings of sequences like those of this data set, end tokens cut off."""
        return [self._decode(row) for row in self.length_model.cut(sequences).lists()]

    def _decode(self, tokens: list[int]) -> str:
        return " ".join(map(str, tokens)) if self.domain is None else self.domain.decode(tokens)

    @property
    def names(self) -> list[str] | None:
        """The records' names, "" where one has none; None where no record has a name, or the data are a stream."""
        return None if self._encoded.names is None else list(self._encoded.names)

    def titles(self, ids: Iterable[int]) -> list[str]:
        """How a person finds sequences again, by the ids that batches carry: a record's name, or its place."""
        row_of = {identity: row for row, identity in enumerate(self._ids.tolist())}
        return [self._title(row_of[int(identity)]) for identity in ids]

    def _title(self, row: int) -> str:
        if self._encoded.places is None:
            start = self._encoded.starts[row]
            return f"tokens {start + 1} to {start + self._encoded.sizes[row]}"
        name = self._encoded.names[row] if self._encoded.names else ""
        return name or f"record {self._encoded.places[row]}"

    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64] | Tensor) -> Sequences:
        """The sequences at `indices` (0 .. len - 1), padded to the longest of them, with their ids and
        labels.
        """
        rows = np.asarray(indices, dtype=np.int64)
        sizes = self._encoded.sizes[rows]
        width = self.length if self.end_token is not None else int(sizes.max(initial=0))
        column = np.arange(width)
        inside = column < sizes[:, None]
        places = np.where(inside, self._encoded.starts[rows][:, None] + column, 0)
        tokens = np.where(inside, self._encoded.tokens[places].astype(np.int64), self.end_token or 0)
        return Sequences(
            torch.from_numpy(tokens),
            self.model_lengths[rows],
            labels=None if self.labels is None else self.labels[rows],
            ids=torch.from_numpy(self._ids[rows]),
        )

    # ---- parts of it ----
    def subset(self, indices: Sequence[int] | npt.NDArray[np.int64] | Tensor) -> SequenceDataset:
        """The sequences at `indices`, as a data set that shares the tokens. Ids stay those of the whole."""
        rows = np.asarray(indices, dtype=np.int64)
        whole = self._encoded
        part = replace(
            whole,
            starts=whole.starts[rows],
            sizes=whole.sizes[rows],
            labels=None if whole.labels is None else whole.labels[rows],
            names=None if whole.names is None else [whole.names[row] for row in rows],
            places=None if whole.places is None else whole.places[rows],
        )
        chosen = SequenceDataset(self.domain, part, length=self.length, end_token=self.end_token is not None)
        chosen._ids = self._ids[rows]
        return chosen

    def split(self, fraction: float = 0.05, *, seed: int = 0) -> tuple[SequenceDataset, SequenceDataset]:
        """A training and a validation part: about `fraction` of the sequences go to the second.

        Each sequence goes by a hash of its tokens and the seed: equal sequences land on the same side,
            whatever their
        order, and a sequence stays on its side when others are added to the file. Blocks of a stream are
        split in two runs, the last `fraction` of the stream for validation.

        Raises:
            DataError: fewer than two different sequences.
        """
        if not 0 < fraction < 1:
            raise DiscdiffError(f"fraction: got {fraction}, expected a number between 0 and 1")
        if self._encoded.places is None:
            rank = -np.arange(len(self), dtype=np.float64)
            limit = rank[-max(1, round(fraction * len(self)))]
        else:
            rank = np.array([_hash(self.row(i), seed) for i in range(len(self))])
            limit = max(fraction, rank.min())
        held_out = rank <= limit
        if held_out.all():
            alike = " (all of them the same)" if len(self) > 1 and rank.min() == rank.max() else ""
            raise DataError(
                f"{len(self)} sequences{alike} cannot be split into training and validation",
                remedy="give more different ones, or a validation file of their own",
            )
        return self.subset(np.flatnonzero(~held_out)), self.subset(np.flatnonzero(held_out))

    def checksum(self) -> int:
        """CRC-32 of all tokens and lengths: tells one data set from another when a run is resumed."""
        total = 0
        for part in (self._encoded.starts, self._encoded.sizes, self._encoded.tokens):
            total = zlib.crc32(np.ascontiguousarray(part).data, total)
        return total

    def __repr__(self) -> str:
        lengths = f"{self.lengths.min()} to {self.lengths.max()}"
        counts = f"{len(self):,} sequences, {self.tokens:,} tokens"
        return f"SequenceDataset({self.domain}, {counts}, lengths {lengths})"


def _hash(row: npt.NDArray[Any], seed: int) -> float:
    """A number in [0, 1) from a sequence's tokens and a seed."""
    digest = hashlib.blake2b(row.astype("<i4").tobytes(), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest, "little") / 2**64
