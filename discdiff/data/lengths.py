"""`LengthModel`: how long samples are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from discdiff.errors import CheckpointError, DiscdiffError
from discdiff.randomness import Randomness, uniform
from discdiff.sequences import Sequences


@dataclass(frozen=True)
class LengthModel:
    """The empirical law of the training set's lengths, `p(L) = counts[L] / sum(counts)`.

    A model of sequences is conditional on their lengths, and so are its bounds: `-log p(L)` is in none of
        them.

    Attributes:
        lengths: the lengths that occur, increasing.
        counts: how often each occurs.
        end: None where shorter sequences are padded. A token id, the first past the domain's vocabulary,
            where the
            model learned an end token instead: every sequence then has one and the same length to the model,
                and its
            content stops before the first end token.

    Example:
        >>> model = LengthModel.of([3, 5, 5])
        >>> model.sample(12, torch.Generator().manual_seed(0)).bincount()
        tensor([0, 0, 0, 3, 0, 9])
    """

    lengths: tuple[int, ...]
    counts: tuple[int, ...]
    end: int | None = None

    def __post_init__(self) -> None:
        ordered = list(self.lengths) == sorted(set(self.lengths))
        if not self.lengths or not ordered or min(self.lengths) < 1:
            raise DiscdiffError(
                f"lengths: got {self.lengths[:8]}, expected positive integers, increasing, at least one"
            )
        if len(self.counts) != len(self.lengths) or min(self.counts) < 1:
            raise DiscdiffError(f"counts: got {self.counts[:8]}, expected {len(self.lengths)} positive integers")

    @classmethod
    def of(cls, lengths: Iterable[int] | Tensor, *, end: int | None = None) -> LengthModel:
        """The empirical law of some lengths."""
        values = torch.as_tensor(lengths, dtype=torch.int64)
        if values.ndim == 1 and values.stride() == (0,) and len(values):  # one length for all, in no memory
            return cls((int(values[0]),), (len(values),), end)
        values, counts = torch.unique(values, return_counts=True)
        return cls(tuple(values.tolist()), tuple(counts.tolist()), end)

    @property
    def shortest(self) -> int:
        """The shortest length that can be drawn."""
        return self.lengths[0]

    @property
    def longest(self) -> int:
        """The longest length that can be drawn."""
        return self.lengths[-1]

    def among(self, possible: Tensor) -> LengthModel:
        """The law given that the length is one of `possible` (int64); all of these alike where the law has none."""
        chosen = set(possible.tolist())
        kept = [(length, count) for length, count in zip(self.lengths, self.counts, strict=True) if length in chosen]
        pairs = kept or [(length, 1) for length in sorted(chosen)]
        lengths, counts = zip(*pairs, strict=True)
        return LengthModel(lengths, counts, self.end)

    def sample(self, n: int, generator: Randomness) -> Tensor:
        """Draw `n` lengths: int64 `[n]` on the CPU."""
        u = uniform((n,), generator=generator, purpose="length", dtype=torch.float64).cpu()
        cumulative = torch.tensor(self.counts, dtype=torch.float64).cumsum(0)
        return torch.tensor(self.lengths)[torch.searchsorted(cumulative, u * cumulative[-1], right=True)]

    def cut(self, sequences: Sequences) -> Sequences:
        """Shorten each row to what stands before its first end token; without an end token, the rows as they
        are.
        """
        if self.end is None:
            return sequences
        ends = (sequences.tokens == self.end) | sequences.padding
        # a column of True past the last position, so that a row without an end keeps its full length
        first = torch.nn.functional.pad(ends, (0, 1), value=True).to(torch.uint8).argmax(-1)
        return replace(sequences, lengths=first, host_lengths=None)

    def fill(self, sequences: Sequences) -> Sequences:
        """Fill each row with end tokens up to the model's one length; without an end token, the rows as they are.

        Raises:
            DiscdiffError: a row is longer than that.
        """
        if self.end is None:
            return sequences
        longest = int(sequences.lengths.max()) if len(sequences) else 0
        if longest > self.longest:
            raise DiscdiffError(f"sequence of {longest} tokens: the model takes at most {self.longest}")
        width = sequences.tokens.shape[1]
        tokens = sequences.tokens.masked_fill(sequences.padding, self.end)[:, : self.longest]
        tokens = torch.nn.functional.pad(tokens, (0, max(0, self.longest - width)), value=self.end)
        lengths = torch.full_like(sequences.lengths, self.longest)
        return replace(sequences, tokens=tokens, lengths=lengths, host_lengths=None)

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        return {"lengths": list(self.lengths), "counts": list(self.counts), "end": self.end}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> LengthModel:
        """Read what `to_json` gave.

        Raises:
            CheckpointError: keys or values are not those of a length model.
        """
        try:
            end = saved["end"]
            lengths, counts = (tuple(int(value) for value in saved[key]) for key in ("lengths", "counts"))
            return cls(lengths, counts, None if end is None else int(end))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"length model: cannot be read ({type(error).__name__}: {error})") from error
