"""Randomness that follows a script, so that a loss or sampler can be walked through every outcome it may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from discdiff.randomness import Keys

ALMOST_ONE = 1 - 2.0**-53


@dataclass(frozen=True)
class Scripted(Keys):
    """Keys whose numbers are given: `script[purpose]`, `[B]` or `[B, L]`, at every step.

    A purpose that the script lacks is an error: the test would not be in control.
    """

    script: Mapping[str, Tensor] = field(default_factory=dict)

    def uniform(self, shape: tuple[int, ...], purpose: str, dtype: torch.dtype) -> Tensor:
        return self.script[purpose].expand(shape).to(dtype)

    def index(self, rows: Tensor) -> Scripted:
        return replace(self, rows=self.rows[rows], script={name: value[rows] for name, value in self.script.items()})


def scripted(batch: int, **script: Tensor) -> Scripted:
    """A script for `batch` rows; underscores in names stand for spaces."""
    return Scripted(0, torch.arange(batch), script={name.replace("_", " "): value for name, value in script.items()})


def corruption(xt: Tensor, x0: Tensor, vocab_size: int, *, masked: bool) -> dict[str, Tensor]:
    """The script that makes `process.corrupt` turn x0 into xt, both `[B, L]`.

    On the absorbing process an event masks; on the uniform one it replaces the token by that of `corrupt token`.
    """
    if masked:
        assert bool(((xt == x0) | (xt == vocab_size)).all())
        return {"corrupt": torch.where(xt == vocab_size, 0.0, ALMOST_ONE).double(), "corrupt_token": 0.5 + 0.0 * xt}
    return {"corrupt": torch.zeros(xt.shape, dtype=torch.float64), "corrupt_token": (xt.double() + 0.5) / vocab_size}
