"""What `fit` returns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


def throughput(tokens_per_second: float, padding: float) -> str:
    """In words: tokens that are no padding, and the share of what the network is shown that is."""
    return f"{tokens_per_second:,.0f} tokens/s, {padding:.1%} padding"


@dataclass(frozen=True)
class Validation:
    """A bound on held-out sequences, with the averaged weights.

    Attributes:
        nats_per_token: sum of nats over sum of tokens.
        bits_per_token: the same over ln 2.
        standard_error: Monte Carlo standard error of `nats_per_token`, the sequences given.
        sequences: how many were used.
        step: when.
    """

    nats_per_token: float
    bits_per_token: float
    standard_error: float
    sequences: int
    step: int

    def __str__(self) -> str:
        return f"{self.nats_per_token:.4f} ± {self.standard_error:.4f} nats/token"


@dataclass(frozen=True)
class FitResult:
    """The outcome of a run.

    Attributes:
        steps: training steps taken, those before a resumption included.
        seconds: time taken, likewise.
        tokens_per_second: training throughput of all processes, validation and samples aside.
        padding: share of padding in what the network was shown, which the throughput does not count.
        loss: training loss, nats per token, mean over the last 100 steps; nan where a resumed run had all its steps.
        validation: the last bound, or None without validation data.
        stopped: whether steps or time ran out.
        folder: the run folder, or None.
    """

    steps: int
    seconds: float
    tokens_per_second: float
    padding: float
    loss: float
    validation: Validation | None
    stopped: Literal["steps", "time"]
    folder: Path | None

    def __str__(self) -> str:
        if math.isnan(self.loss):
            return f"already has {self.steps:,} steps, nothing to do: go on with a larger training.max_steps"
        bound = "" if self.validation is None else f", bound {self.validation}"
        return (
            f"{self.steps:,} steps in {self.seconds:,.0f} s ({throughput(self.tokens_per_second, self.padding)}): "
            f"loss {self.loss:.4f} nats/token{bound}"
        )
