"""`Sequences`: the batch that goes into and comes out of training, likelihoods and samplers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from discdiff.errors import DiscdiffError


def onto(value: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on a device; a GPU is not waited for, as it would be by a copy from pageable memory."""
    if value.device.type == "cpu" and torch.device(device).type == "cuda":
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)


@dataclass(frozen=True)
class Sequences:
    """Token sequences of possibly different lengths, one per row.

    Attributes:
        tokens: int64 `[B, L]`. Positions at or past a row's length are padding: any tokens of the
            vocabulary, which change no result.
        lengths: int64 `[B]`, content tokens per row.
        labels: int64 `[B]` or None; -1 means unlabelled.
        ids: int64 `[B]` or None: a number that stays with a row (its index in a data set, say). Counter-based
            randomness is keyed by it.
        log_weights: float `[B]` or None: log importance weights of samples; of a sample drawn with particles, the log
            of its population's mean weight.
        given: bool `[B, L]` or None: positions that are known beforehand, which a loss shows clean and does not score.
        effective: float `[B]` or None: of a sample drawn with particles, the smallest effective size that its
            population had, out of the number of particles.
        calls: int64 `[B]` or None: network evaluations spent on each row.
        host_lengths: `lengths` on the host, kept where they are on a device that one would wait for; else None.
            Whoever changes lengths there drops it.
    """

    tokens: Tensor
    lengths: Tensor
    labels: Tensor | None = None
    ids: Tensor | None = None
    log_weights: Tensor | None = None
    calls: Tensor | None = None
    given: Tensor | None = None
    effective: Tensor | None = None
    host_lengths: Tensor | None = None

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or self.tokens.dtype != torch.int64:
            raise DiscdiffError(f"tokens: got {self.tokens.dtype} {list(self.tokens.shape)}, expected int64 [B, L]")
        for name, value in self.tensors().items():
            shape = self.tokens.shape if name in ("tokens", "given") else self.tokens.shape[:1]
            if value.shape != shape:
                raise DiscdiffError(f"{name}: got {list(value.shape)}, expected {list(shape)}")
        # on a GPU the check would wait for the device at each batch
        if len(self.lengths) and self.lengths.device.type == "cpu" and int(self.lengths.max()) > self.tokens.shape[1]:
            raise DiscdiffError(f"lengths: got {int(self.lengths.max())}, expected at most {self.tokens.shape[1]}")

    @classmethod
    def from_lists(
        cls,
        rows: Sequence[Sequence[int] | Tensor],
        *,
        labels: Iterable[int] | None = None,
        ids: Iterable[int] | None = None,
    ) -> Sequences:
        """Pad rows of tokens to the longest."""
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        tokens = torch.zeros(len(rows), int(lengths.max()) if len(rows) else 0, dtype=torch.int64)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.as_tensor(row, dtype=torch.int64)

        def column(values: Iterable[int] | None) -> Tensor | None:
            return None if values is None else torch.as_tensor(list(values), dtype=torch.int64)

        return cls(tokens, lengths, labels=column(labels), ids=column(ids))

    @classmethod
    def full(cls, tokens: Tensor, **rest: Any) -> Sequences:
        """Sequences without padding from int64 `[B, L]`."""
        return cls(tokens, torch.full((len(tokens),), tokens.shape[1], device=tokens.device), **rest)

    @property
    def padding(self) -> Tensor:
        """bool `[B, L]`, True where a position is padding."""
        return torch.arange(self.tokens.shape[1], device=self.tokens.device) >= self.lengths[:, None]

    @property
    def unknown(self) -> Tensor:
        """bool `[B, L]`, True where a position is neither padding nor given."""
        return ~self.padding if self.given is None else ~(self.padding | self.given)

    @property
    def device(self) -> torch.device:
        """Where the tokens live."""
        return self.tokens.device

    def lists(self) -> list[list[int]]:
        """The content tokens of each row."""
        lengths = self.lengths.tolist()
        return [row[:length] for row, length in zip(self.tokens.tolist(), lengths, strict=True)]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def known_lengths(self) -> Tensor | None:
        """`lengths` on the host, if they can be had without waiting for a device."""
        return self.lengths if self.lengths.device.type == "cpu" else self.host_lengths

    def tensors(self) -> dict[str, Tensor]:
        """The rows' fields that are set."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "host_lengths"}
        return {name: value for name, value in values.items() if value is not None}

    def _map(self, function: Callable[[Tensor], Tensor], host_lengths: Tensor | None) -> Sequences:
        changed: dict[str, Any] = {name: function(value) for name, value in self.tensors().items()}
        return replace(self, **changed, host_lengths=host_lengths)

    def __getitem__(self, rows: Tensor | slice) -> Sequences:
        """The chosen rows (a slice, an index tensor or a boolean mask)."""
        return self._map(lambda value: value[rows], None)

    def to(self, device: torch.device | str) -> Sequences:
        """The same rows on another device; a GPU is not waited for."""
        return self._map(lambda value: onto(value, device), self.known_lengths)

    def pin_memory(self) -> Sequences:
        """The same rows in memory from which a GPU copies without being waited for."""
        return self._map(Tensor.pin_memory, None)

    @staticmethod
    def concatenate(parts: Sequence[Sequences]) -> Sequences:
        """Stack batches of different widths; optional fields must be present in all or in none."""
        width = max(part.tokens.shape[1] for part in parts)

        def wide(value: Tensor) -> Tensor:
            return torch.nn.functional.pad(value, (0, width - value.shape[1])) if value.ndim == 2 else value

        rest: dict[str, Any] = {}
        for name in ("labels", "ids", "log_weights", "calls", "given", "effective"):
            values = [getattr(part, name) for part in parts]
            present = [value for value in values if value is not None]
            if present and len(present) < len(values):
                raise DiscdiffError(f"concatenate: {name} is set in {len(present)} of {len(values)} batches")
            rest[name] = torch.cat(list(map(wide, present))) if present else None
        tokens, lengths = torch.cat([wide(part.tokens) for part in parts]), torch.cat([part.lengths for part in parts])
        return Sequences(tokens, lengths, **rest)
