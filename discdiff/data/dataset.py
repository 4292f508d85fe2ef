"""`SequenceDataset`: a file's sequences, encoded, in memory or mapped from a cache."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discdiff.data.base import Dataset, Indices, as_indices
from discdiff.data.cache import Cache, cache_folder, cached
from discdiff.data.columns import Columns, checksum_of
from discdiff.data.encoding import Encoded, OnLong, check_reading, encode_records
from discdiff.data.faults import Faults, OnError
from discdiff.data.streams import watching
from discdiff.errors import DataError, DiscdiffError
from discdiff.progress import progress as show_progress
from discdiff.records import Record
from discdiff.sequences import Sequences

if TYPE_CHECKING:
    from discdiff.domain import Domain

_BLOCK = 1 << 20


class SequenceDataset(Dataset):
    """Encoded sequences with their labels: one flat array of tokens, and where each sequence starts in it.

    Make one with `read`, `from_sequences` or `Domain.dataset`. A large file's arrays are mapped from files in a cache
    (see `read`): they take no memory that other programs could not have, and workers share them.

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
        notes: what was left out or cut, and where the cache is, in sentences for the user.
        skipped: the records that were left out, each with its place and the reason.
    """

    def __init__(
        self, domain: Domain | None, encoded: Encoded, *, length: int | None = None, end_token: bool = False
    ) -> None:
        self.domain, self.notes, self.label_names = domain, encoded.notes, encoded.label_names
        self.skipped = encoded.skipped
        self.length = int(encoded.sizes.max()) if length is None else length
        self.end_token = domain.vocab_size if end_token and domain is not None else None
        self._encoded = encoded
        # the rows of `encoded` that are in this set, or None for all; they are the sequences' ids
        self._rows: npt.NDArray[np.int64] | None = None

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
        on_error: OnError = "raise",
        cache: Cache = None,
        progress: bool = False,
        keep: Callable[[Record], bool] | None = None,
        **options: Any,
    ) -> SequenceDataset:
        """Read and encode a file, or open what was encoded before.

        Args:
            domain: reads the file and encodes its sequences.
            path: the file.
            length: the longest sequence to take, or a stream's block. Without it, any.
            on_long: what to do with a longer sequence: refuse the file, leave the sequence out, or take its
                beginning.
            label_names: classes in the order of their numbers (those of the training set, when this is a
                validation set). Without it, the classes found, sorted.
            end_token: learn an end token instead of padding.
            on_error: what to do with records that cannot be used: stop at the first (`"raise"`), leave them out and
                list them in `skipped` (`"skip"`), or read everything and then refuse, with their number and the first
                of them (`"report"`). A file that is damaged as a whole is refused in any case.
            cache: where the encoded form is kept. None: files from 32 MB on (8 MB compressed) in `$DISCDIFF_CACHE`, or
                `~/.cache/discdiff`; smaller ones in memory. True: there in any case. False: in memory. Or a folder.
            progress: show progress on standard error while a file is encoded into the cache.
            keep: which records to take; without it, all. What is chosen so is kept in memory.
            options: what `domain.read` takes, such as `where`, `sequence_column`, `label_column`.

        Raises:
            DataError: nothing in the file, a record that is empty or too long, an unknown label; a cache that cannot be
                written.
            UnknownTokenError: a symbol outside the domain's alphabet, with file, record and position.
        """
        check_reading(domain, length=length, on_long=on_long, end_token=end_token)

        folder = None if keep is not None else cache_folder(cache, path)  # which records it takes has no name

        def make(columns: Columns | None) -> Encoded:
            faults = Faults(path, on_error)
            records = domain.read(path, faults=faults, **options)
            shown = progress and folder is not None
            with show_progress(f"encoding {Path(path).name}", enabled=shown) as report, watching(report):
                return encode_records(
                    domain,
                    records if keep is None else filter(keep, records),
                    path=path,
                    length=length,
                    on_long=on_long,
                    label_names=label_names,
                    columns=columns,
                    faults=faults,
                )

        if folder is None:
            return cls(domain, make(None), length=length, end_token=end_token)
        reading = {"length": length, "on_long": on_long, "label_names": label_names, "options": options}
        reading["on_error"] = on_error
        return cls(domain, cached(folder, path, domain, reading, make), length=length, end_token=end_token)

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
        check_reading(domain, length=length, on_long=on_long, end_token=end_token)
        sequences = list(sequences)
        classes = [None] * len(sequences) if labels is None else list(labels)
        if len(classes) != len(sequences):
            raise DataError(f"{len(classes)} labels for {len(sequences)} sequences")
        records = (
            Record(sequence, label=None if label is None else str(label), place=i + 1)
            for i, (sequence, label) in enumerate(zip(sequences, classes, strict=True))
        )
        encoded = encode_records(domain, records, path=None, length=length, on_long=on_long, label_names=label_names)
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
        return len(self._encoded.sizes) if self._rows is None else len(self._rows)

    @property
    def vocab_size(self) -> int:
        """The model's vocabulary: the domain's, and the end token where there is one; of bare tokens, what occurs."""
        if self.domain is None:
            return int(self._encoded.tokens.max()) + 1
        return self.domain.vocab_size + (self.end_token is not None)

    @property
    def folder(self) -> Path | None:
        """The folder that the arrays are mapped from, or None where they are in memory."""
        return self._encoded.folder

    @cached_property
    def lengths(self) -> Tensor:
        """Content tokens of each sequence, end tokens not counted: int64 `[n]`."""
        return torch.from_numpy(self._of_rows(self._encoded.sizes))

    @property
    def model_lengths(self) -> Tensor:
        """Tokens of each sequence as the model sees it, end tokens counted: int64 `[n]`."""
        return self.lengths if self.end_token is None else torch.tensor(self.length).expand(len(self))

    @property
    def tokens(self) -> int:
        """Content tokens in all."""
        return int(self.lengths.sum())

    def token_counts(self) -> Tensor:
        """How often the model sees each of its tokens, end tokens counted: int64 `[vocab_size]`."""
        counts = np.zeros(self.vocab_size, dtype=np.int64)
        for tokens in self._blocks():
            counts += np.bincount(tokens, minlength=len(counts))
        if self.end_token is not None:
            counts[self.end_token] += int(self.model_lengths.sum()) - self.tokens
        return torch.from_numpy(counts)

    def _blocks(self) -> Iterator[npt.NDArray[Any]]:
        """All tokens, some at a time."""
        if self._rows is None:
            for start in range(0, len(self._encoded.tokens), _BLOCK):
                yield self._encoded.tokens[start : start + _BLOCK]
            return
        ends = self.lengths.numpy().cumsum()
        first = 0
        while first < len(ends):
            done = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, done + _BLOCK, side="right")))
            rows = self._rows[first:last]
            sizes = self._encoded.sizes[rows]
            within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            yield self._encoded.tokens[np.repeat(self._encoded.starts[rows], sizes) + within]
            first = last

    @property
    def labels(self) -> Tensor | None:
        """Class numbers, -1 where a sequence has none: int64 `[n]`, or None where nothing is labelled."""
        return None if self._encoded.labels is None else torch.from_numpy(self._of_rows(self._encoded.labels))

    def _of_rows(self, column: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return column if self._rows is None else column[self._rows]

    def _numbers(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The rows of `encoded` that some indices mean; negative ones count from the end."""
        if self._rows is not None:
            return self._rows[indices]
        count = len(self)
        if len(indices) and not -count <= indices.min() <= indices.max() < count:
            raise IndexError(f"indices {indices.min()} .. {indices.max()} of {count} sequences")
        return np.where(indices < 0, indices + count, indices)

    def row(self, index: int) -> npt.NDArray[Any]:
        """The content tokens of one sequence, `[length]`, not copied."""
        return self._row(index if self._rows is None else int(self._rows[index]))

    def _row(self, number: int) -> npt.NDArray[Any]:
        start = self._encoded.starts[number]
        row: npt.NDArray[Any] = self._encoded.tokens[start : start + self._encoded.sizes[number]]
        return row

    def texts(self, indices: Iterable[int] | None = None) -> list[str]:
        """The sequences as strings again: all of them, or those at `indices`."""
        return [self._decode(self.row(i).tolist()) for i in (range(len(self)) if indices is None else indices)]

    @property
    def names(self) -> list[str] | None:
        """The records' names, "" where one has none; None where no record has a name, or the data are a stream."""
        if self._encoded.names is None:
            return None
        return [self._encoded.names[number] for number in self._numbers(np.arange(len(self))).tolist()]

    def titles(self, ids: Iterable[int]) -> list[str]:
        """How a person finds sequences again, by the ids that batches carry: a record's name, or its place."""
        return [self._title(int(identity)) for identity in ids]

    def _title(self, number: int) -> str:
        if self._encoded.places is None:
            start = self._encoded.starts[number]
            return f"tokens {start + 1} to {start + self._encoded.sizes[number]}"
        name = self._encoded.names[number] if self._encoded.names else ""
        return name or f"record {self._encoded.places[number]}"

    def batch(self, indices: Indices, *, epoch: int = 0) -> Sequences:
        """The sequences at `indices` (0 .. len - 1), padded to the longest of them, with their ids and labels.

        They are the same in every epoch.
        """
        rows = self._numbers(as_indices(indices))
        sizes = self._encoded.sizes[rows]
        width = self.length if self.end_token is not None else int(sizes.max(initial=0))
        column = np.arange(width)
        inside = column < sizes[:, None]
        places = np.where(inside, self._encoded.starts[rows][:, None] + column, 0)
        tokens = np.where(inside, self._encoded.tokens[places].astype(np.int64), self.end_token or 0)
        labels = self._encoded.labels
        return Sequences(
            torch.from_numpy(tokens),
            torch.from_numpy(np.full_like(sizes, self.length) if self.end_token is not None else sizes),
            labels=None if labels is None else torch.from_numpy(labels[rows]),
            ids=torch.from_numpy(rows),
        )

    # ---- parts of it ----
    def subset(self, indices: Indices) -> SequenceDataset:
        """The sequences at `indices`, as a data set that shares the tokens. Ids stay those of the whole."""
        chosen = SequenceDataset(self.domain, self._encoded, length=self.length, end_token=self.end_token is not None)
        chosen._rows = self._numbers(as_indices(indices))
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
            rank = np.fromiter((_hash(self.row(i), seed) for i in range(len(self))), np.float64, len(self))
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
        encoded = self._encoded
        if encoded.crc is None:
            encoded.crc = checksum_of(encoded.tokens)
        total = zlib.crc32(encoded.crc.to_bytes(4, "little"), checksum_of(encoded.sizes))
        return total if self._rows is None else zlib.crc32(checksum_of(self._rows).to_bytes(4, "little"), total)

    def __repr__(self) -> str:
        lengths = f"{self.lengths.min()} to {self.lengths.max()}"
        counts = f"{len(self):,} sequences, {self.tokens:,} tokens"
        return f"SequenceDataset({self.domain}, {counts}, lengths {lengths})"


def _hash(row: npt.NDArray[Any], seed: int) -> float:
    """A number in [0, 1) from a sequence's tokens and a seed."""
    digest = hashlib.blake2b(row.astype("<i4").tobytes(), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest, "little") / 2**64
