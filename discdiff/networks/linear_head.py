"""Losses straight from hidden states through a linear head, without ever holding the logits of all positions.

Both losses of a position have a derivative that needs its own logits only: softmax minus one-hot for the cross-entropy,
p̃ minus one-hot for the score entropy. So a piece of the positions at a time gets its logits, which are turned into
their derivative in place and multiplied back into the gradients of hidden states and weights while the cache is warm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from discdiff.networks.layers import full_precision, wide

_FLOATS = {"cpu": 1 << 23, "cuda": 1 << 27}
"""Logits held at once: in the processor's cache and its neighbourhood, or enough to fill a GPU."""


class LinearHead(NamedTuple):
    """logits = hidden · weightᵀ + bias; weight `[outputs, D]`, bias `[outputs]`."""

    weight: Tensor
    bias: Tensor


class Targets(NamedTuple):
    """What N positions should have said.

    Attributes:
        tokens: x0, int64 `[N]`.
        columns: V, the outputs that are content tokens; they come first.
        offset: `[N]` added to all logits, or None.
    """

    tokens: Tensor
    columns: int
    offset: Tensor | None = None

    def some(self, piece: slice) -> Targets:
        """Those of a piece of the positions."""
        return Targets(self.tokens[piece], self.columns, None if self.offset is None else self.offset[piece])


class Pointwise(Protocol):
    """A loss of one position's logits."""

    def __call__(self, logits: Tensor, targets: Targets, weights: Tensor | None) -> Tensor:
        """The loss `[N]` of logits `[N, outputs]`, which are overwritten.

        With `weights` `[N]` they become the derivative of Σ weights · loss.
        """


def cross_entropy_(logits: Tensor, targets: Targets, weights: Tensor | None) -> Tensor:
    """−log softmax(logits)[x0]; see `Pointwise`."""
    at = targets.tokens[:, None]
    said = logits.gather(1, at)[:, 0]
    top = logits.amax(1, keepdim=True)
    mass = logits.sub_(top).exp_().sum(1)
    if weights is not None:
        logits.mul_((weights / mass)[:, None]).scatter_add_(1, at, -weights[:, None])
    return mass.log() + top[:, 0] - said


def score_entropy_(logits: Tensor, targets: Targets, weights: Tensor | None) -> Tensor:
    """Σ_y p̃_y − log p̃_x0 − 1 over content tokens y, log p̃ = logits + offset; see `Pointwise`."""
    at, content = targets.tokens[:, None], logits[:, : targets.columns]
    if targets.offset is not None:
        content.add_(targets.offset[:, None].to(logits.dtype))
    said = content.gather(1, at)[:, 0]
    mass = content.exp_().sum(1)
    if weights is not None:
        content.mul_(weights[:, None]).scatter_add_(1, at, -weights[:, None])
        logits[:, targets.columns :].zero_()
    return mass - said - 1


def row_totals(
    hidden: Tensor,
    head: LinearHead,
    pointwise: Pointwise,
    targets: Targets,
    *,
    weights: Tensor,
    rows: Tensor,
    batch: int,
) -> Tensor:
    """Σ weights · loss over each row's positions: `[batch]`, differentiable once.

    Where the objective weighs all rows alike (a sum or a mean of what is returned), gradients are made while the logits
    are there, three products in all, as in the loss's own forward pass; else the logits are computed again.

    Args:
        hidden: `[N, D]`; the products are in float32 at least.
        head: the linear map.
        pointwise: `cross_entropy_` or `score_entropy_`.
        targets: of the N positions.
        weights: `[N]`, constants.
        rows: int64 `[N]` in [0, batch).
        batch: B.
    """
    total: Tensor = _RowTotals.apply(hidden, head.weight, head.bias, pointwise, targets, weights, rows, batch)
    return total


class _RowTotals(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        pointwise: Pointwise,
        targets: Targets,
        weights: Tensor,
        rows: Tensor,
        batch: int,
    ) -> Tensor:
        ctx.args = pointwise, targets, weights, rows
        ctx.save_for_backward(hidden, weight, bias)
        ctx.ready = None
        dtype = wide(hidden.dtype)
        weights = weights.to(dtype)
        if any(ctx.needs_input_grad):
            values, ctx.ready = _value_and_gradients(hidden, weight, bias, pointwise, targets, weights)
        else:
            made = [pointwise(logits, targets.some(at), None) for at, logits in _pieces(hidden, weight, bias)]
            values = torch.cat(made) if made else hidden.new_zeros(0, dtype=dtype)
        return torch.zeros(batch, dtype=dtype, device=hidden.device).index_add_(0, rows, weights * values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        pointwise, targets, weights, rows = ctx.args
        ready, ctx.ready = ctx.ready, None
        # An expanded number, as sums and means give it, is the same for all rows: told without reading it.
        if ready is not None and all(stride == 0 for stride in gradient.stride()):
            parts = [part.mul_(gradient[0]) for part in ready]
        else:
            weights = weights.to(gradient.dtype) * gradient[rows]
            parts = list(_value_and_gradients(hidden, weight, bias, pointwise, targets, weights)[1])
        made = (part.to(of.dtype) for part, of in zip(parts, (hidden, weight, bias), strict=True))
        return *made, None, None, None, None, None


def _pieces(hidden: Tensor, weight: Tensor, bias: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the positions and their logits, all in one buffer."""
    dtype = wide(hidden.dtype)
    size = max(1, _FLOATS.get(hidden.device.type, 1 << 23) // len(weight))
    buffer = torch.empty(min(size, len(hidden)), len(weight), dtype=dtype, device=hidden.device)
    weight, bias = weight.to(dtype), bias.to(dtype)
    with full_precision(hidden):
        for start in range(0, len(hidden), size):
            at = slice(start, start + size)
            some = hidden[at].to(dtype)
            yield at, torch.addmm(bias, some, weight.t(), out=buffer[: len(some)])


def _value_and_gradients(
    hidden: Tensor, weight: Tensor, bias: Tensor, pointwise: Pointwise, targets: Targets, weights: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """The loss of each position `[N]`, and the gradients of Σ weights · loss."""
    dtype = wide(hidden.dtype)
    d_hidden, d_weight, d_bias = (torch.zeros(of.shape, dtype=dtype, device=of.device) for of in (hidden, weight, bias))
    values = torch.empty(len(hidden), dtype=dtype, device=hidden.device)
    wider = weight.to(dtype)
    with full_precision(hidden):
        for at, logits in _pieces(hidden, weight, bias):
            values[at] = pointwise(logits, targets.some(at), weights[at])
            torch.mm(logits, wider, out=d_hidden[at])
            d_weight.addmm_(logits.t(), hidden[at].to(dtype))
            d_bias.add_(logits.sum(0))
    return values, (d_hidden, d_weight, d_bias)
