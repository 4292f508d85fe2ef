"""`Certificate`: what a schedule loses, in nats, and how well that is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Certificate:
    """What a schedule loses: E_π KL(the sampler at one position a call ‖ the sampler in blocks), an estimate.

    Attributes:
        nats: a sequence, on average over the rows it is of.
        standard_error: of `nats`, over the sequences that were measured.
        calls: network calls of a row, on average.
        positions: calls that one position a call would take, on average.
        claim: what `nats` is: "KL" of what was profiled, or an "estimate" where something differs from that.
        notes: what differs.
        judges: groups of sequences that `standard_error` is of; 0 for many.
    """

    nats: float
    standard_error: float
    calls: float
    positions: float
    claim: str = "KL"
    notes: tuple[str, ...] = ()
    judges: int = 0

    @property
    def upper(self) -> float:
        """`nats` and two standard errors; more where few groups say how large one is, by Student's law."""
        return self.nats + _quantile(self.judges - 1) * self.standard_error

    def but(self, *notes: str) -> Certificate:
        """The same as an estimate, since what it is of differs from what was profiled; itself where nothing does."""
        more = tuple(note for note in notes if note not in self.notes)
        return replace(self, claim="estimate", notes=self.notes + more) if more else self

    @classmethod
    def mean(cls, each: Sequence[Certificate]) -> Certificate:
        """That of rows together, given their lengths. All are of one profile, so that their errors add up."""
        nats, errors, calls, positions = (
            math.fsum(getattr(one, name) for one in each) / len(each)
            for name in ("nats", "standard_error", "calls", "positions")
        )
        claim = next((one.claim for one in each if one.claim != "KL"), "KL")
        notes = tuple(dict.fromkeys(note for one in each for note in one.notes))
        return cls(nats, errors, calls, positions, claim, notes, min(one.judges for one in each))

    def to_json(self) -> dict[str, float | str]:
        """JSON values."""
        notes: dict[str, float | str] = {"notes": "; ".join(self.notes)} if self.notes else {}
        figures = {"nats": self.nats, "standard_error": self.standard_error, "calls": self.calls}
        return {"claim": self.claim, **figures, **notes}

    def __str__(self) -> str:
        error, nats = _round_up(self.standard_error), max(self.nats, 0.0)
        figure = "0 (exact)" if nats == error == 0 else f"{nats:.{_digits(error)}f} ± {error:.{_digits(error)}f}"
        lead = "KL ≤" if self.claim == "KL" else "KL about"
        notes = "".join(f"; {note}" for note in self.notes)
        return f"{lead} {figure} nats a sequence ({self.calls:.4g} calls instead of {self.positions:.4g}{notes})"


def _quantile(degrees: int) -> float:
    """What Student's t exceeds as seldom as a normal number exceeds 2: Abramowitz and Stegun 1964, equation 26.7.5."""
    if degrees < 1:
        return 2.0
    z, n = 2.0, float(degrees)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3


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
