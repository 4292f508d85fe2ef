"""Training with given positions, so that clamps are exact off the absorbing process."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.losses.base import Loss
from discdiff.losses.score_entropy import ScoreEntropy
from discdiff.model import Model
from discdiff.randomness import Randomness, uniform
from discdiff.sequences import Sequences


class Given(Loss):
    """Another loss of what is left when a random subset of the positions is given.

    In a share of the rows each position is given with probability f ~ U(0, 1): it stays clean, is marked as known, and
    is not scored. The minimiser is that of the inner loss, given any subset: −log p(x_rest | x_given) is bounded where
    that bounds −log p(x). Without it, a process whose clean tokens look like noise cannot be clamped exactly.

    On the absorbing process tokens show by themselves whether they are noise: it is refused there.

    Args:
        loss: of a process without a mask; by default `ScoreEntropy()`, as `AnyOrder` needs a mask.
        share: of rows in which positions are given, in (0, 1]; the rest is the inner loss.

    Raises:
        IncompatibleError: a share out of range.
    """

    def __init__(self, loss: Loss | None = None, share: float = 0.5) -> None:
        if not 0 < share <= 1:
            raise IncompatibleError("Given loss", got=f"share={share}", expected="0 < share <= 1", remedy="Try 0.5.")
        self.loss, self.share = ScoreEntropy() if loss is None else loss, share

    def check(self, model: Model) -> None:
        if model.process.reveals_noise:
            raise IncompatibleError(
                "Given loss",
                got=type(model.process).__name__,
                expected="a process whose tokens do not show whether they are noise",
                remedy=f"Use {self.loss!r}: clamps are exact on this process.",
            )
        self.loss.check(model)

    def __call__(self, model: Model, sequences: Sequences, *, generator: Randomness) -> Tensor:
        self.check(model)
        rows, device = len(sequences), sequences.device
        shape = tuple(sequences.tokens.shape)
        u = uniform((rows,), generator=generator, purpose="given rows", dtype=torch.float64, device=device)
        # the same number decides whether and, rescaled to [0, 1), how many
        chance = torch.where(u < self.share, u / self.share, 0.0)
        each = uniform(shape, generator=generator, purpose="given", dtype=torch.float64, device=device)
        given = (each < chance[:, None]) & ~sequences.padding
        return self.loss(model, replace(sequences, given=given), generator=generator)

    def __repr__(self) -> str:
        return f"Given({self.loss!r}, share={self.share:g})"
