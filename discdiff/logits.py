"""`LazyLogits`: a network's logits, worked out where they are read."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from discdiff.networks.base import Context, Network
from discdiff.networks.evaluation import Evaluation, Positions, Readings
from discdiff.networks.linear_head import Pointwise, Targets, row_totals


class LazyLogits:
    """The network's logits, computed for rows on first use; counts the evaluations of each row.

    Where gradients are on, all hidden states of all rows are computed: a row without a masked position still has its
    (zero) gradient, and a GPU isn't waited for. Else those that are read, and none of a row that the evaluation's
    memory knows.

    Args:
        network: hidden states and head.
        tokens: int64 `[B, L]`.
        sigma: `[B, 1]` or `[B, L]`, or None for a time-free network.
        context: what else the network may see.
        evaluation: how the network is run where no gradients are.
    """

    def __init__(
        self,
        network: Network,
        tokens: Tensor,
        sigma: Tensor | None,
        context: Context,
        evaluation: Evaluation | None = None,
    ) -> None:
        self._network, self._tokens, self._sigma, self._context = network, tokens, sigma, context
        self._evaluation = evaluation
        self._hidden: Tensor | None = None
        self._read: Readings | None = None

    @property
    def evaluated(self) -> Tensor:
        """bool `[B]`: rows that the network has seen."""
        seen = torch.full_like(self._tokens[:, 0], self._hidden is not None, dtype=torch.bool)
        return seen if self._read is None else seen | self._read.evaluated

    def __call__(self, where: Positions | None) -> Tensor:
        """Logits `[N, outputs]` at `where`, or `[B, L, outputs]` everywhere.

        With a cache the network answers for one block; elsewhere, where nothing is said, they are 0.
        """
        cache = self._context.cache
        if cache is None:
            return self._logits_at(where)
        if where is None:
            (batch, length), width = self._tokens.shape, cache.stop - cache.start
            every = torch.arange(batch * width, device=self._tokens.device)
            mine = self._logits_at((every // width, every % width)).view(batch, width, -1)
            return F.pad(mine, (0, 0, cache.start, length - cache.stop))
        rows, place = where
        inside = (place >= cache.start) & (place < cache.stop)
        if bool(inside.all()):
            return self._logits_at((rows, place - cache.start))
        mine = self._logits_at((rows[inside], place[inside] - cache.start))
        return mine.new_zeros(len(rows), mine.shape[-1]).index_put((inside,), mine)

    def _logits_at(self, where: Positions | None) -> Tensor:
        states = self._states(where)
        if states is None:
            dtype = next((p.dtype for p in self._network.parameters()), torch.float64)
            return torch.empty(0, self._network.num_outputs, dtype=dtype, device=self._tokens.device)
        return self._network.head(states)

    def _states(self, where: Positions | None) -> Tensor | None:
        """Hidden states `[N, D]` or `[B, L, D]`; None if no position is asked for, and nothing needs to be run."""
        if torch.is_grad_enabled() or self._hidden is not None:
            if self._hidden is None:
                self._hidden = self._network.hidden(self._tokens, self._sigma, self._context)
            if where is None:
                return self._hidden
            # One index: the gradient of two is added up one position at a time.
            return self._hidden.flatten(0, 1).index_select(0, where[0] * self._hidden.shape[1] + where[1])
        if where is not None and not len(where[0]):
            return None
        if self._read is None:
            place = (self._network, self._tokens, self._sigma, self._context)
            self._read = Readings(*place, self._evaluation or Evaluation())
        return self._read(where)

    def totals(self, pointwise: Pointwise, targets: Targets, where: Positions, weights: Tensor) -> Tensor | None:
        """Σ weights · loss over each row's positions, `[B]`, never holding the logits; None if the head isn't linear.

        Args:
            pointwise: the loss.
            targets: of the N positions `where`.
            weights: `[N]`.
        """
        head, batch = self._network.linear_head(), len(self._tokens)
        hidden = None if head is None else self._states(where)
        if head is None or hidden is None:
            return None
        return row_totals(hidden, head, pointwise, targets, weights=weights, rows=where[0], batch=batch)
