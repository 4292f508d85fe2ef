"""Entropy-bounded sampling: as many positions a call as can be drawn together at a bounded error."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.prediction import positions_of
from discdiff.samplers.base import EventSampler, Level, State, fraction_hidden, hidden_in
from discdiff.samplers.certainty import entropy, read_marginals


class EntropyBounded(EventSampler):
    """Each call reveals the largest set U of the most certain positions with Σ_U H(p_i) − max_U H(p_i) ≤ γ.

    Positions come in order of entropy, each row at its own pace; rows that are done are not evaluated. The left-hand
    side bounds the total correlation of U given what is known, so KL(p0 ‖ sampler) ≤ γ · E[calls] for the exact
    network; at γ = 0 the law is exact, and positions that are certain still come together.

    Ben-Hamu et al. 2025, "Accelerated sampling from masked diffusion models via entropy bounded unmasking" (EB-Sampler,
    equation 2, with entropy as the order).

    Args:
        gamma: γ ≥ 0, nats a call.

    Raises:
        IncompatibleError: γ is negative or no number.
    """

    law = "greedy; within γ nats a call of exact"
    pace = "the bound says how many positions a call reveals"

    def __init__(self, gamma: float = 0.1) -> None:
        if not 0 <= gamma < torch.inf:
            raise IncompatibleError(
                "EntropyBounded sampler", got=f"gamma={gamma}", expected="0 nats or more", remedy="0 is exact."
            )
        self.gamma = gamma

    def unweighable(self, model: Model) -> None:
        return None

    def step(self, model: Model, constraint: Constraint, state: State, level: Level) -> State:
        hidden = hidden_in(model, state)
        prediction, where = self.look(model, state, fraction_hidden(state, hidden)), positions_of(hidden)
        entropies = read_marginals(constraint, prediction, where, lambda log_p, part: entropy(log_p))
        table = torch.full(hidden.shape, torch.inf, dtype=torch.float64, device=hidden.device)
        chosen = hidden & within_bound(table.index_put(where, entropies), self.gamma)
        where = positions_of(chosen)
        x0 = constraint.draw(prediction, where, state.uniform("token"))
        moved = state.moved(where, x0, prediction, x0=x0)
        constraint.settle(prediction, moved.tokens)
        return moved


def within_bound(entropies: Tensor, gamma: float) -> Tensor:
    """bool `[B, L]`: the longest run of positions, by ascending entropy, whose sum less its largest is at most γ.

    Args:
        entropies: float64 `[B, L]` nats; infinite where a position is not to be chosen.
        gamma: γ.
    """
    ascending, order = entropies.sort(dim=-1, stable=True)
    # Ascending, the largest of a run is its last: the sum of those before it counts. The first is always in.
    before = ascending.cumsum(-1).roll(1, -1)
    before[:, 0] = 0.0
    return torch.zeros_like(entropies, dtype=torch.bool).scatter(-1, order, before <= gamma)
