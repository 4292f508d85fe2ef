"""k-DCE, the any-order autoregressive loss."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.losses.base import Loss, absorbing
from discdiff.losses.masked import masked_cross_entropy, noise_of_fraction
from discdiff.model import Model
from discdiff.randomness import Randomness, time_points, uniform
from discdiff.sequences import Sequences


class AnyOrder(Loss):
    """k-DCE: E_{k~U{1..L}} (L/k) Σ_masked −log p(x0_i | x_k), exactly k of the row's L tokens masked.

    Equal in expectation to λ-DCE and to the mean over all orders of the autoregressive loss, with less variance: the
    number of masks is not random given k. A row's L is its own length; padding is never masked.

    Uria, Murray and Larochelle 2014; Hoogeboom et al. 2022 (ARDM), equation 4; Ou et al. 2024 (RADD), equation 3.7.
    """

    def check(self, model: Model) -> None:
        absorbing(model, self)

    def __call__(self, model: Model, sequences: Sequences, *, generator: Randomness) -> Tensor:
        self.check(model)
        points = time_points(len(sequences), generator=generator, device=sequences.device)
        return any_order_at(model, sequences, points, generator=generator)


def any_order_at(model: Model, sequences: Sequences, points: Tensor, *, generator: Randomness) -> Tensor:
    """(L/k) Σ_masked −log p(x0_i | x_k) for one draw of k = 1 + ⌊points · L⌋ masks: nats per sequence, `[B]`."""
    lengths = sequences.lengths
    k = 1 + (points * lengths).long().clamp(max=lengths - 1)
    shape = tuple(sequences.tokens.shape)
    u = uniform(shape, generator=generator, purpose="mask", dtype=torch.float64, device=sequences.device)
    # The k smallest numbers of a row are a uniform k-subset; padding comes last.
    rank = u.masked_fill(sequences.padding, 2.0).argsort(dim=-1, stable=True).argsort(-1)
    xt = torch.where(rank < k[:, None], model.process.num_states - 1, sequences.tokens)
    fraction = (k.double() / lengths.clamp(min=1))[:, None]
    values = masked_cross_entropy(model, sequences, xt, noise_of_fraction(fraction, model))
    return values / fraction[:, 0].to(values.dtype)
