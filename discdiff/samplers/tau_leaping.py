"""Tau-leaping: Poisson numbers of jumps."""

from __future__ import annotations

from torch import Tensor

from discdiff.samplers.rates import RateSampler


class TauLeaping(RateSampler):
    """Each destination y of a position receives Poisson(σ'(t) (t − s) R(x → y)) jumps; conflicting jumps are rejected.

    Tokens have no order in which jumps could add up, so a position of more than one jump stays as it is; it moves with
    probability n e^(−n), n its expected number of jumps. The last interval, to σ = 0, is a draw of x0.

    Gillespie 2001; Campbell et al. 2022, section 4.3.
    """

    law = "first order in the step"

    def chance(self, expected: Tensor) -> Tensor:
        return expected * (-expected).exp()
