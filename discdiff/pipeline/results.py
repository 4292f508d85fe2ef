"""What pipelines give back for strings, and their defaults of sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from discdiff.description import build, describe
from discdiff.likelihood import Bound
from discdiff.samplers import Sampler


@dataclass(frozen=True)
class SequenceScore:
    """The bound on −log p of one string.

    Attributes:
        sequence: the string.
        nats: −log p(sequence | its length), or of a span given the rest: by default an upper bound, an estimate.
        standard_error: Monte Carlo standard error of `nats`.
        units: bases, residues, characters, … in it.
        tokens: tokens that were scored.
        per_token: nats of each of them, or None; a learned end token is in `nats` only.
        symbols: how each of them is shown.
    """

    sequence: str
    nats: float
    standard_error: float
    units: int
    tokens: int
    per_token: tuple[float, ...] | None = None
    symbols: tuple[str, ...] = ()

    @property
    def bits_per_unit(self) -> float:
        """`nats` in bits, over `units`."""
        return self.nats / math.log(2) / self.units


@dataclass(frozen=True)
class StringsBound:
    """The bound on −log p of a set of strings, per unit of the domain.

    Attributes:
        bound: per sequence (or per block of a stream), in nats.
        units: bases, residues, characters, … in all.
        unit: what one is called.
    """

    bound: Bound
    units: int
    unit: str

    @property
    def nats_per_unit(self) -> float:
        """Sum of nats over sum of units."""
        return float(self.bound.total.sum()) / self.units

    @property
    def bits_per_unit(self) -> float:
        """`nats_per_unit` / ln 2."""
        return self.nats_per_unit / math.log(2)

    @property
    def standard_error(self) -> float:
        """Monte Carlo standard error of `nats_per_unit`, these strings given."""
        return float(self.bound.standard_errors.square().sum().sqrt()) / self.units


@dataclass
class SamplingDefaults:
    """What `sample` and `infill` do when nothing else is asked for.

    Attributes:
        sampler: how to get from noise to data; None is `Ancestral()`.
        steps: network calls of samplers with a time grid; None is 128.
        temperature: below 1 sharpens the model's choices.
    """

    sampler: Sampler | None = None
    steps: int | None = None
    temperature: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        sampler = None if self.sampler is None else describe(self.sampler)
        return {"sampler": sampler, "steps": self.steps, "temperature": self.temperature}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> SamplingDefaults:
        """Read what `to_json` gave; keys may be missing."""
        sampler = saved.get("sampler")
        return cls(
            None if sampler is None else build(sampler, Sampler), saved.get("steps"), saved.get("temperature", 1.0)
        )


__all__ = ["SamplingDefaults", "SequenceScore", "StringsBound"]
