"""Samplers whose order is settled before the first call: each position has its turn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.model import Model
from discdiff.samplers.base import EventSampler, Level, State, fraction_hidden, hidden_in


class PlannedSampler(EventSampler):
    """x_i ~ p(· | what earlier turns revealed), independently for all positions i of one turn; one call a turn."""

    def unweighable(self, model: Model) -> None:
        return None

    @abstractmethod
    def turns(self, state: State, hidden: Tensor, steps: int | None) -> Tensor:
        """The call, from 0, in which each hidden position is revealed: int64 `[B, L]`, without gaps in any row.

        Args:
            state: before the first step.
            hidden: bool `[B, L]`, the positions to plan; what is said of others is ignored.
            steps: the number of calls that was asked for, or None.
        """

    def plan(self, model: Model, state: State, steps: int | None) -> tuple[State, Sequence[Level]]:
        state, levels = super().plan(model, state, steps)
        hidden = hidden_in(model, state)
        turns = self.turns(state, hidden, steps)
        calls = int(turns.masked_fill(~hidden, -1).max()) + 1
        return replace(state, extras={"turn": turns}), levels[:calls]

    def step(self, model: Model, constraint: Constraint, state: State, level: Level) -> State:
        hidden = hidden_in(model, state)
        turn = state.extras["turn"].masked_fill(~hidden, state.tokens.shape[1])
        chosen = hidden & (turn == turn.amin(-1, keepdim=True))
        return self.reveal(model, constraint, state, chosen, fraction_hidden(state, hidden))
