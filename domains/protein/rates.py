"""Amino-acid substitution rates from Biopython's scoring matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from discdiff.errors import ConfigError, require
from domains.rates import named_rates, unknown_rates

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

# Frequencies of the twenty amino acids in proteins, in alphabetical order of their letters:
# Robinson and Robinson, Proc. Natl. Acad. Sci. USA 88:8880 (1991), as alignment statistics use them.
BACKGROUND = (
    0.07805, 0.01925, 0.05364, 0.06295, 0.03856, 0.07377, 0.02199, 0.05142, 0.05744, 0.09019,
    0.02243, 0.04487, 0.05203, 0.04264, 0.05129, 0.07120, 0.05841, 0.06441, 0.01330, 0.03216,
)  # fmt: skip


def substitution_rates(letters: str, name: str, options: dict[str, Any]) -> Tensor:
    """Q[y, x] = e^(λ s(x, y)) π_y of the scoring matrix called `name`: reversible, with the background π as its limit.

    A score is a log-odds, s(x, y) = log(q_xy / π_x π_y) / λ, so that this is the chance of y aligned with x. The scale
    λ (half bits, third bits, tenths) need not be known: it is the one at which Σ π_x π_y e^(λ s(x, y)) = 1 (Karlin and
    Altschul, Proc. Natl. Acad. Sci. USA 87:2264, 1990).

    Args:
        letters: the states in order.
        name: of Biopython's, such as "BLOSUM62" or "PAM250".
        options: `frequencies`, π in the order of `letters`, in place of the background.

    Raises:
        ConfigError: no such matrix, or one that has no such scale: it does not score all letters, is not symmetric, or
            its scores are no log-odds.
    """
    available = require("Bio.Align.substitution_matrices")
    if name not in available.load():
        raise unknown_rates("protein", matrices(letters), name)

    def maker(frequencies: Sequence[float] = BACKGROUND) -> Tensor:
        import torch

        from discdiff.processes.constructions import reversible

        pi = np.asarray(frequencies, dtype=np.float64)
        if pi.shape != (len(letters),) or not (pi > 0).all():
            raise ConfigError(f"frequencies: expected {len(letters)} positive numbers in the order {letters}")
        pi = pi / pi.sum()
        scores = _scores(letters, name)
        scale = None if scores is None else log_odds_scale(scores, pi)
        if scores is None or scale is None:
            raise unknown_rates("protein", matrices(letters), f"{name} (no log-odds of all letters)")
        return reversible(torch.from_numpy(np.exp(scale * scores)), torch.from_numpy(pi))

    return named_rates("protein", {name: maker}, name, options)


def matrices(letters: str) -> list[str]:
    """Names of Biopython's matrices that give rates between all these letters, at the background frequencies."""
    pi = np.asarray(BACKGROUND)[: len(letters)]
    names: list[str] = require("Bio.Align.substitution_matrices").load()
    found = {name: _scores(letters, name) for name in names}
    return [name for name, scores in found.items() if scores is not None and log_odds_scale(scores, pi) is not None]


def log_odds_scale(scores: NDArray[np.float64], pi: NDArray[np.float64]) -> float | None:
    """λ > 0 with Σ π_x π_y e^(λ s(x, y)) = 1; None unless scores are negative on average, and positive somewhere."""
    pairs = np.outer(pi, pi)
    if (pairs * scores).sum() >= 0 or scores.max() <= 0:
        return None

    def excess(scale: float) -> float:
        return float((pairs * np.exp(scale * scores)).sum()) - pairs.sum()

    # The sum falls from 1 at λ = 0, then rises for good: it passes 1 once.
    high = 1.0 / scores.max()
    while excess(high) < 0:
        high *= 2
    low = 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return high if math.isfinite(high) else None


def _scores(letters: str, name: str) -> NDArray[np.float64] | None:
    """Scores `[S, S]` in the order of `letters`; None if some are missing or they are not symmetric."""
    matrix = require("Bio.Align.substitution_matrices").load(name)
    if not set(letters) <= set(map(str, matrix.alphabet)):
        return None
    scores = np.array([[matrix[a, b] for b in letters] for a in letters], dtype=np.float64)
    return scores if np.array_equal(scores, scores.T) else None
