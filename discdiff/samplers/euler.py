"""Euler steps of the reverse rates."""

from __future__ import annotations

from torch import Tensor

from discdiff.samplers.rates import RateSampler


class Euler(RateSampler):
    """One categorical jump per position: x → y with probability σ'(t) (t − s) R(x → y), evaluated at t.

    Where the total exceeds 1 it is cut to 1 and the destinations keep their proportions. The last interval, to σ = 0,
    is a draw of x0 (the rate there is unbounded). On log-linear absorbing noise this is `Ancestral`.

    Lou et al. 2024, equation 17.
    """

    law = "first order in the step"

    def chance(self, expected: Tensor) -> Tensor:
        return expected.clamp(max=1.0)
