"""Implicit score entropy: no denoising target, but the score at neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.losses.base import context_of
from discdiff.losses.timed import TimedLoss
from discdiff.losses.times import Noised, TimeSampling, UniformTimes
from discdiff.model import Model
from discdiff.prediction import Positions, in_pieces, positions_of, sum_rows
from discdiff.randomness import Randomness, categorical, uniform
from discdiff.sequences import Sequences


class ImplicitScoreEntropy(TimedLoss):
    """∫dt E_x Σ_i Σ_{y≠x_i} w_xy s(x)_y − w_yx log s(y)_x,  w_xy = σ'Q[x_i,y], w_yx = σ'Q[y,x_i]; y is x with y at i.

    No bound, and not non-negative: over the data it equals `ScoreEntropy` up to a constant that no model changes, so
    that its minimiser is the score of p_t. It asks nothing of x0 but a draw of x; the network is evaluated at every
    neighbour that x can jump to, up to L (S − 1) sequences a row, or at a few drawn ones.

    Lou, Meng and Ermon 2024 (SEDD), section 3.

    Args:
        neighbors: how many neighbours a row are drawn, in proportion to w_yx, unbiased; all are summed, if None.
        times: how t is drawn.

    Raises:
        IncompatibleError: fewer than one neighbour.
    """

    def __init__(self, neighbors: int | None = None, times: TimeSampling | None = None) -> None:
        super().__init__(times)
        if neighbors is not None and neighbors < 1:
            raise IncompatibleError(
                "ImplicitScoreEntropy loss",
                got=f"neighbors={neighbors}",
                expected="at least 1, or None for all",
                remedy="1 is unbiased; more lower the variance.",
            )
        self.neighbors = neighbors

    def integrand(self, model: Model, sequences: Sequences, draw: Noised, *, generator: Randomness) -> Tensor:
        process, x = model.process, draw.tokens
        where = positions_of(process.active(x) & sequences.unknown)
        prediction = model.predict(x, draw.sigma, context_of(sequences))

        def leave(some: Positions) -> Tensor:
            log_s = prediction.log_score(some)
            into = process.rates_into(x[some], dtype=log_s.dtype).clamp(min=0)  # the diagonal is negative
            # −∞ where nothing jumps: 0 · e^−∞ has a gradient of its own
            return (into * torch.where(into > 0, log_s, 0.0).exp()).sum(-1)

        total = prediction.totals(leave, where)
        out = process.rates_from(x, dtype=torch.float64).clamp(min=0) * sequences.unknown[..., None]
        pick = self._all if self.neighbors is None else self._some
        rows, positions, states, weights = pick(out, generator)
        if len(rows):
            tokens = x[rows].scatter(-1, positions[:, None], states[:, None])
            context = context_of(sequences).index(rows)
            at = (torch.arange(len(rows), device=x.device), positions)
            shown = x[rows, positions]
            there = model.predict(tokens, draw.sigma[rows], context)
            back = in_pieces(
                lambda some: there.log_score(some).gather(-1, shown[some[0]][:, None])[:, 0], at, process.num_states
            )
            total = total - sum_rows(weights.to(back.dtype) * back, rows, len(sequences))
        return draw.dsigma.to(total.dtype) * total

    @staticmethod
    def _all(out: Tensor, generator: Randomness) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows, positions, states and weights `[N]` of every neighbour, from the rates out of x `[B, L, S]`."""
        rows, positions, states = out.nonzero(as_tuple=True)
        return rows, positions, states, out[rows, positions, states]

    def _some(self, out: Tensor, generator: Randomness) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Neighbours drawn in proportion to their rates; each weighs the row's total rate over their number."""
        count = self.neighbors or 0
        u, v = (
            uniform((len(out), count), generator=generator, purpose=name, dtype=torch.float64, device=out.device)
            for name in ("neighbor position", "neighbor state")
        )
        leaving = out.sum(-1)
        rows = (leaving.sum(-1) > 0).nonzero()[:, 0].repeat_interleave(count)
        slots = torch.arange(count, device=out.device).repeat(len(rows) // count)
        positions = categorical(leaving[rows], u[rows, slots])
        states = categorical(out[rows, positions], v[rows, slots])
        return rows, positions, states, leaving.sum(-1)[rows] / count

    def __repr__(self) -> str:
        given = [] if self.neighbors is None else [f"neighbors={self.neighbors}"]
        given += [] if isinstance(self.times, UniformTimes) else [f"times={self.times!r}"]
        return f"ImplicitScoreEntropy({', '.join(given)})"
