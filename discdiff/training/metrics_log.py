"""Figures of a run over its steps: gathered without waiting for the device, kept as `metrics.csv`."""

from __future__ import annotations

import csv
import io
import os
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from discdiff.writing import write_whole

METRICS_FILE = "metrics.csv"
COLUMNS = (
    "step",
    "epoch",
    "seconds",
    "loss",
    "learning_rate",
    "gradient_norm",
    "tokens_per_second",
    "padding",
    "skipped_steps",
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

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on as if it had not stopped."""
        return {
            "recent": _packed(list(self._recent)),
            "since": _packed(self._since),
            "tokens": self.tokens,
            "positions": self.positions,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from a saved state, with losses on the device of those to come."""
        self._recent.extend(_unpacked(state["recent"], device))
        self._since = _unpacked(state["since"], device)
        self.tokens, self.positions = state["tokens"], state["positions"]


def _packed(steps: Sequence[tuple[Tensor, int]]) -> dict[str, Any]:
    losses = torch.stack([loss for loss, _ in steps]).cpu() if steps else torch.empty(0)
    return {"losses": losses, "tokens": [count for _, count in steps]}


def _unpacked(state: dict[str, Any], device: torch.device) -> list[tuple[Tensor, int]]:
    return list(zip(state["losses"].to(device), state["tokens"], strict=True))


def _mean(steps: Sequence[tuple[Tensor, int]]) -> float:
    """Over the steps whose loss is a number: others were skipped."""
    if not steps:
        return float("nan")
    losses = torch.stack([loss for loss, _ in steps]).double().cpu()
    tokens = torch.tensor([count for _, count in steps], dtype=torch.float64)
    counted = losses.isfinite()
    return float((losses[counted] * tokens[counted]).sum() / tokens[counted].sum())


class MetricsFile:
    """`metrics.csv`: one line a logged step, complete after each; a resumed run goes on in the same file.

    A line that cannot be written, since the disk is full, say, waits for the next one.

    Args:
        path: the file.
        after_step: lines of later steps are dropped: the run that wrote them was cut short and repeats them. So is a
            line that was cut in two.

    Attributes:
        trouble: why lines wait, or None.
    """

    def __init__(self, path: Path, after_step: int) -> None:
        self.trouble: str | None = None
        self._path = path
        write_whole(path, _lines([dict(zip(COLUMNS, COLUMNS, strict=True)), *_rows(path, after_step)]))
        self._handle: int | None = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._waiting = b""

    def write(self, row: Mapping[str, float]) -> None:
        """Append a line."""
        self._waiting += _lines([{name: f"{value:.9g}" for name, value in row.items()}]).encode()
        self._empty()

    def sync(self) -> None:
        """Force what is written onto the disk, before a checkpoint that counts on it."""
        if self._handle is not None:
            with suppress(OSError):
                os.fsync(self._handle)

    def close(self) -> None:
        """Close the file."""
        self._empty()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _empty(self) -> None:
        assert self._handle is not None, "nothing is written after closing"
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._handle, self._waiting) :]
            self.trouble = None
        except OSError as error:
            self.trouble = f"{self._path}: {error.strerror}; its lines wait until they can be written"


def _rows(path: Path, after_step: int) -> list[dict[str, str]]:
    """The whole lines of steps up to `after_step`."""
    if not (after_step and path.exists()):
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))  # a kill may have cut the last line in two
    whole = (row for row in rows if None not in row and None not in row.values() and row.get("step", "").isdecimal())
    return [row for row in whole if int(row["step"]) <= after_step]


def _lines(rows: Sequence[Mapping[str, str]]) -> str:
    stream = io.StringIO(newline="")
    csv.DictWriter(stream, COLUMNS, extrasaction="ignore", restval="").writerows(rows)
    return stream.getvalue()
