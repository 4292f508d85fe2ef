"""First-hitting sampling: the absorbing reverse process, simulated event by event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from discdiff.constraints.base import Constraint
from discdiff.model import Model
from discdiff.samplers.base import EventSampler, Level, State, fraction_hidden, hidden_in


class FirstHitting(EventSampler):
    """λ ← λ u^(1/n) with n masks left: the mask fraction at which the next one is revealed, at random.

    λ starts at the share of the row that is masked: 1, or less where positions are given. So it is what other samplers
    by events show the network too, the share of the row's positions that are masked (here its expectation at the time
    of the event). No time discretisation: with the exact denoiser its law is the data's. One network call a token; rows
    that are done are not evaluated.

    Zheng et al. 2024, "Masked diffusion models are secretly time-agnostic masked models", section 4.
    """

    law = "exact"

    def unweighable(self, model: Model) -> None:
        return None

    def plan(self, model: Model, state: State, steps: int | None) -> tuple[State, Sequence[Level]]:
        state, levels = super().plan(model, state, steps)
        return replace(state, extras={"mask_fraction": fraction_hidden(state, hidden_in(model, state))}), levels

    def step(self, model: Model, constraint: Constraint, state: State, level: Level) -> State:
        hidden = hidden_in(model, state)
        left = hidden.sum(-1)
        fraction = state.extras["mask_fraction"] * state.uniform("time", per_row=True) ** (1 / left.clamp(min=1))
        # The position: the r-th mask of the row, r uniform among those left.
        rank = (state.uniform("who", per_row=True) * left).long()
        chosen = hidden & (hidden.cumsum(-1) - 1 == rank[:, None])
        return self.reveal(model, constraint, state, chosen, fraction, mask_fraction=fraction)
