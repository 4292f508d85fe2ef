"""What likelihoods give back: nats per sequence, with their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


class _Nats:
    """Averages over tokens of what has a total, errors and a number of tokens for each row."""

    total: Tensor
    standard_errors: Tensor
    tokens: Tensor
    method: str

    @property
    def nats_per_token(self) -> float:
        """Sum of nats over sum of tokens."""
        return float(self.total.sum() / self.tokens.sum())

    @property
    def bits_per_token(self) -> float:
        """`nats_per_token` / ln 2."""
        return self.nats_per_token / math.log(2)

    @property
    def standard_error(self) -> float:
        """Monte Carlo standard error of `nats_per_token`, these sequences given."""
        return float(self.standard_errors.square().sum().sqrt() / self.tokens.sum())

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.nats_per_token:.4f} ± {self.standard_error:.4f} nats/token, "
            f"{self.bits_per_token:.4f} bits/token, {len(self.tokens)} sequences; {self.method})"
        )


@dataclass(frozen=True, repr=False)
class Bound(_Nats):
    """An upper bound on −log p(x0), estimated; all in nats, float64.

    Attributes:
        diffusion: `[B]`, the integral over noise levels.
        prior: `[B]`, KL(q(x_1 | x0) ‖ π).
        reconstruction: `[B]`, E −log p(x0 | x at t_min).
        standard_errors: `[B]`, Monte Carlo standard error of each row's total. Noise levels are stratified, which
            puts it on the safe side, up to twice too large; but of 8 samples 1 row in 10 may be 2 errors off, mostly
            below the truth. Infinite where the total is.
        tokens: int64 `[B]`, tokens that were scored, learned end tokens included.
        method: how the bound was computed, in one sentence.
        per_token: `[B, L]`, what each position adds to the total, 0 where nothing was scored; None if not asked for.
        samples: noise levels per row that were drawn.
        tolerance_met: whether the standard error asked for was reached; None if none was asked for.
        claim: what the total is, in a few words.
    """

    diffusion: Tensor
    prior: Tensor
    reconstruction: Tensor
    standard_errors: Tensor
    tokens: Tensor
    method: str
    per_token: Tensor | None = None
    samples: int = 0
    tolerance_met: bool | None = None

    claim: ClassVar[str] = "upper bound"

    @property
    def total(self) -> Tensor:  # type: ignore[override]
        """`[B]` nats per sequence."""
        return self.diffusion + self.prior + self.reconstruction


@dataclass(frozen=True, repr=False)
class Likelihood(_Nats):
    """−log p(x0) under orders of revealing; all in nats, float64.

    Attributes:
        total: `[B]` nats per sequence.
        standard_errors: `[B]`, Monte Carlo standard error of each row's total; 0 where the value is exact.
        tokens: int64 `[B]`, tokens that were scored, learned end tokens included.
        method: what was computed, in one sentence.
        calls: int64 `[B]`, network evaluations spent on each row.
        per_token: `[B, L]`, −log p of each token given those revealed before it, 0 where nothing was scored; None for
            a mixture over orders, which is no sum over tokens.
        orders: `[K, B]`, the total of each order.
    """

    total: Tensor
    standard_errors: Tensor
    tokens: Tensor
    method: str
    calls: Tensor
    per_token: Tensor | None
    orders: Tensor

    @property
    def claim(self) -> str:
        """What the total is: exact in its order, or an estimate that is a bound in expectation."""
        return "exact in order" if len(self.orders) == 1 else "mixture upper bound"
