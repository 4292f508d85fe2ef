"""Training with labels that are sometimes left out, for label guidance."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.losses.any_order import AnyOrder
from discdiff.losses.base import Loss
from discdiff.model import Model
from discdiff.randomness import Randomness, uniform
from discdiff.sequences import Sequences


class LabelDropout(Loss):
    """Another loss, a share of the rows having the null label (−1) instead of their own.

    The network then knows p(x0 | xt, label) and p(x0 | xt), which `guidance.Labels` combines. Ho and Salimans 2022,
    "Classifier-free diffusion guidance".

    Args:
        loss: of a network with `num_labels`; by default `AnyOrder()`, as an experiment's is.
        share: of rows without their label, in (0, 1).

    Raises:
        IncompatibleError: a share out of range.
    """

    def __init__(self, loss: Loss | None = None, share: float = 0.1) -> None:
        if not 0 < share < 1:
            raise IncompatibleError("LabelDropout", got=f"share={share}", expected="0 < share < 1", remedy="Try 0.1.")
        self.loss, self.share = AnyOrder() if loss is None else loss, share
        self.by_blocks = self.loss.by_blocks

    def check(self, model: Model) -> None:
        self.loss.check(model)

    def __call__(self, model: Model, sequences: Sequences, *, generator: Randomness) -> Tensor:
        if sequences.labels is None:
            raise IncompatibleError(
                "LabelDropout",
                got="sequences without labels",
                expected="labels",
                remedy=f"Name the column of classes (data.label_column), or use {self.loss!r} alone.",
            )
        shape = (len(sequences),)
        u = uniform(shape, generator=generator, purpose="label dropout", dtype=torch.float64, device=sequences.device)
        labels = sequences.labels.masked_fill(u < self.share, -1)
        return self.loss(model, replace(sequences, labels=labels), generator=generator)

    def __repr__(self) -> str:
        return f"LabelDropout({self.loss!r}, share={self.share:g})"
