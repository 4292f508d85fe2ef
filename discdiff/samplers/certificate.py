"""`Certificate`: what a schedule loses, in nats, and how well that is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Certificate:
    """What a schedule loses: E_π KL(the sampler at one position a call ‖ the sampler in blocks), an estimate.

    Attributes:
        nats: a sequence, on average over the rows it is of.
        standard_error: of `nats`, over the sequences that were measured.
        calls: network calls of a row, on average.
        positions: calls that one position a call would take, on average.
        claim: what `nats` is: "KL" for free sequences, "estimate" where positions are given.
    """

    nats: float
    standard_error: float
    calls: float
    positions: float
    claim: str = "KL"

    @property
    def upper(self) -> float:
        """`nats` and two standard errors."""
        return self.nats + 2 * self.standard_error

    @classmethod
    def mean(cls, each: Sequence[Certificate]) -> Certificate:
        """That of rows together, given their lengths. All are of one profile, so that their errors add up."""
        nats, errors, calls, positions = (
            math.fsum(getattr(one, name) for one in each) / len(each)
            for name in ("nats", "standard_error", "calls", "positions")
        )
        claim = next((one.claim for one in each if one.claim != "KL"), "KL")
        return cls(nats, errors, calls, positions, claim)

    def to_json(self) -> dict[str, float | str]:
        """JSON values."""
        return {"claim": self.claim, "nats": self.nats, "standard_error": self.standard_error, "calls": self.calls}

    def __str__(self) -> str:
        error, nats = _round_up(self.standard_error), max(self.nats, 0.0)
        figure = "0 (exact)" if nats == error == 0 else f"{nats:.{_digits(error)}f} ± {error:.{_digits(error)}f}"
        lead = "KL ≤" if self.claim == "KL" else "KL about"
        note = "" if self.claim == "KL" else "; given positions count as if revealed at random"
        return f"{lead} {figure} nats a sequence ({self.calls:.4g} calls instead of {self.positions:.4g}{note})"


def _round_up(error: float) -> float:
    """A standard error to one digit, never smaller than it is."""
    if error <= 0:
        return 0.0
    unit = 10.0 ** math.floor(math.log10(error))
    return math.ceil(error / unit - 1e-9) * unit


def _digits(error: float) -> int:
    return 4 if error <= 0 else max(0, -math.floor(math.log10(error) + 1e-9))


@dataclass(frozen=True)
class Plan:
    """A schedule of blocks, and what it loses.

    Attributes:
        sizes: positions revealed in each call.
        certificate: an estimate.
    """

    sizes: tuple[int, ...]
    certificate: Certificate


__all__ = ["Certificate", "Plan"]
