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
    where runs are weighed, the plain sampler's. A row's positions are read together: a constraint may draw all of a row
    at once, and differently the next time.
    """
    size, law = max(CHUNK // prediction.process.vocab_size, 1), constraint.untruncated.aside
    if len(where[0]) <= size:
        return read(law.log_marginals(prediction, where), where)
    parts, held = [0], 0
    for count in where[0].unique_consecutive(return_counts=True)[1].tolist():
        if held and held + count > size:
            parts, held = [*parts, 0], 0
        parts[-1], held = parts[-1] + count, held + count
    pairs = zip(where[0].split(parts), where[1].split(parts), strict=True)
    return torch.cat([read(law.log_marginals(prediction, part), part) for part in pairs])


def entropy(log_p: Tensor) -> Tensor:
    """−Σ p log p of `[N, V]` log probabilities: `[N]` nats, float64."""
    return torch.special.entr(log_p.double().exp()).sum(-1)


def log_margin(log_p: Tensor) -> Tensor:
    """log(p of the first token − p of the second), of `[N, V]`: `[N]`, float64."""
    first, second = log_p.double().topk(2, dim=-1).values.unbind(-1)
    return first + torch.log1p(-torch.exp(second - first))
