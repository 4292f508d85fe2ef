"""How sure a model is of each hidden position."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.prediction import Positions, Prediction

CHUNK = 1 << 24
"""Probabilities held at once: those of all masked positions of a batch, over a large vocabulary, are gigabytes."""


def read_marginals(
    constraint: Constraint, prediction: Prediction, where: Positions, read: Callable[[Tensor, Positions], Tensor]
) -> Tensor:
    """`read(log p(x0_i | xt, constraint), i)` at all of `where`, some positions at a time: `[N]`.

    The law is the constrained one before truncation, under which the surest tokens of all positions may look alike;
    where runs are weighed, the plain sampler's.
    """
    size = max(CHUNK // prediction.process.vocab_size, 1)
    parts = zip(where[0].split(size), where[1].split(size), strict=True)
    law = constraint.untruncated.aside
    values = [read(law.log_marginals(prediction, part), part) for part in parts]
    return torch.cat(values)


def entropy(log_p: Tensor) -> Tensor:
    """−Σ p log p of `[N, V]` log probabilities: `[N]` nats, float64."""
    return torch.special.entr(log_p.double().exp()).sum(-1)


def log_margin(log_p: Tensor) -> Tensor:
    """log(p of the first token − p of the second), of `[N, V]`: `[N]`, float64."""
    first, second = log_p.double().topk(2, dim=-1).values.unbind(-1)
    return first + torch.log1p(-torch.exp(second - first))
