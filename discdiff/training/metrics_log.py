"""Figures of a run over its steps: gathered without waiting for the device, kept as `metrics.csv`."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

COLUMNS = (
    "step",
    "epoch",
    "seconds",
    "loss",
    "learning_rate",
    "gradient_norm",
    "tokens_per_second",
    "padding",
    "val/nats_per_token",
    "val/bits_per_token",
    "val/standard_error",
)


@dataclass(frozen=True)
class Counted:
    """What one step, or a part of it, has gone through.

    Attributes:
        nats: the sum over its rows, on its device.
        tokens: how many they had.
        positions: how many the network was shown, padding included.
    """

    nats: Tensor = field(default_factory=lambda: torch.zeros(()))
    tokens: int = 0
    positions: int = 0

    def __add__(self, other: Counted) -> Counted:
        nats = other.nats if not self.tokens else self.nats + other.nats
        return Counted(nats, self.tokens + other.tokens, self.positions + other.positions)


class Meter:
    """Losses of the last steps, left on their device until somebody reads them."""

    def __init__(self, window: int = 100) -> None:
        self._recent: deque[tuple[Tensor, int]] = deque(maxlen=window)
        self._since: list[tuple[Tensor, int]] = []
        self.tokens = self.positions = 0

    def add(self, loss: Tensor, tokens: int, positions: int) -> None:
        """Take in one step: its loss in nats per token, its number of tokens, and of positions with padding."""
        self._recent.append((loss, tokens))
        self._since.append((loss, tokens))
        self.tokens += tokens
        self.positions += positions

    @property
    def padding(self) -> float:
        """Share of padding in all positions."""
        return 1 - self.tokens / self.positions if self.positions else 0.0

    def recent(self) -> float:
        """Nats per token over the window; NaN before the first step."""
        return _mean(list(self._recent))

    def take(self) -> float:
        """Nats per token since the last call."""
        since, self._since = self._since, []
        return _mean(since)


def _mean(steps: list[tuple[Tensor, int]]) -> float:
    if not steps:
        return float("nan")
    losses = torch.stack([loss for loss, _ in steps]).double().cpu()
    tokens = torch.tensor([count for _, count in steps], dtype=torch.float64)
    return float((losses * tokens).sum() / tokens.sum())


class MetricsFile:
    """`metrics.csv`: one line a logged step, complete after each; a resumed run goes on in the same file.

    Args:
        path: the file.
        after_step: lines of later steps are dropped: the run that wrote them was cut short and repeats them.
    """

    def __init__(self, path: Path, after_step: int) -> None:
        kept = []
        if after_step and path.exists():
            with path.open(newline="", encoding="utf-8") as stream:
                kept = [row for row in csv.DictReader(stream) if str(row.get("step")).isdecimal()]
        self._stream = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._stream, COLUMNS, extrasaction="ignore", restval="")
        self._writer.writeheader()
        self._writer.writerows(row for row in kept if int(row["step"]) <= after_step)
        self._stream.flush()

    def write(self, row: Mapping[str, float]) -> None:
        """Append a line."""
        self._writer.writerow({name: f"{value:.9g}" for name, value in row.items()})
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
