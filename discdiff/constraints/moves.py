"""Where the states of one layer of a trellis lead, as sparse sums: what is dead is never touched."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad


class Moves(NamedTuple):
    """The moves from n states alive after i tokens to m alive after i + 1.

    Few of all (class, state it leads to) occur, far fewer than moves; their weights are worked out once for each row
    of the batch, and then summed. `embedding_bag` does that without a copy of what it sums.

    Attributes:
        classes: int64 `[P]`: of each pair, in ascending order.
        targets: int64 `[P]`: the state that the pair leads to.
        pairs: int32 `[E]`: the pair of each move, moves in order of the state that they begin at.
        begins: int32 `[n]`: each state's first move.
        degrees: int64 `[n]`: how many moves each state has.
        sources: int32 `[E]`: the state that each move begins at, moves in order of their pairs.
        firsts: int32 `[P]`: each pair's first move in `sources`.
        spans: int32 `[C]`: each class's first pair.
        size: m.
    """

    classes: Tensor
    targets: Tensor
    pairs: Tensor
    begins: Tensor
    degrees: Tensor
    sources: Tensor
    firsts: Tensor
    spans: Tensor
    size: int

    @property
    def total(self) -> int:
        """E."""
        return len(self.pairs)

    @classmethod
    def of(cls, following: Tensor, size: int) -> Moves:
        """From a table int64 `[n, C]` of states 0 .. m − 1, or m where a class leads nowhere."""
        alive = following < size
        source, of_class = alive.nonzero(as_tuple=True)
        pairs, pair = (of_class * size + following[alive]).unique(return_inverse=True)
        classes = pairs.div(max(size, 1), rounding_mode="floor")
        return cls(
            classes,
            pairs - classes * size,
            pair.int(),
            _begins(alive.sum(1)),
            alive.sum(1),
            source[pair.argsort(stable=True)].int(),
            _begins(torch.bincount(pair, minlength=len(pairs))),
            _begins(torch.bincount(classes, minlength=following.shape[1])),
            size,
        )

    def onward(self, beta: Tensor, weights: Tensor) -> Tensor:
        """Σ_c w(c) β(s after c), `[n, B]`, of β `[m + 1, B]` and weights `[C, B]`."""
        return self._summed(self.pairs, self._pairs(beta, weights), self.begins)

    def through(self, alpha: Tensor, beta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """What goes through each class, and what arrives at each state.

        Args:
            alpha: `[n + 1, B]`, the weight of all ways to each state.
            beta: `[m + 1, B]`, that of all ways on from each state.
            weights: `[C, B]`.

        Returns:
            Σ_s α(s) w(c) β(s after c), `[C, B]`; and Σ α(s) w(c) over what leads to each state, `[m + 1, B]`.
        """
        moved = self._summed(self.sources, alpha, self.firsts).mul_(weights.index_select(0, self.classes))
        every = torch.arange(len(moved), device=moved.device, dtype=torch.int32)
        through = self._summed(every, moved * beta.index_select(0, self.targets), self.spans)
        return through, torch.zeros_like(beta).index_add_(0, self.targets, moved)

    def _pairs(self, beta: Tensor, weights: Tensor) -> Tensor:
        # index_select: four times as fast as an index in brackets
        return beta.index_select(0, self.targets).mul_(weights.index_select(0, self.classes))

    def _summed(self, index: Tensor, table: Tensor, begins: Tensor) -> Tensor:
        if not len(index):
            return table.new_zeros(len(begins), table.shape[1])
        return embedding_bag(index, table, begins, mode="sum")


def _begins(counts: Tensor) -> Tensor:
    return pad(counts.cumsum(0), (1, 0))[:-1].int()


__all__ = ["Moves"]
