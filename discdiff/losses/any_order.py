"""k-DCE, the any-order autoregressive loss."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.losses.base import Loss, absorbing
from discdiff.losses.masked import masked_cross_entropy, noise_of_fraction
from discdiff.model import Model
from discdiff.randomness import Randomness, time_points, uniform
from discdiff.sequences import Sequences, onto


class AnyOrder(Loss):
    """k-DCE: E_{k~U{1..L}} (L/k) Σ_masked −log p(x0_i | x_k), exactly k of the row's L tokens masked.

    Equal in expectation to λ-DCE and to the mean over all orders of the autoregressive loss, with less variance: the
    number of masks is not random given k. A row's L is its own length; padding is never masked.

    Uria, Murray and Larochelle 2014; Hoogeboom et al. 2022 (ARDM), equation 4; Ou et al. 2024 (RADD), k-DCE.
    """

    def check(self, model: Model) -> None:
        absorbing(model, self)

    def __call__(self, model: Model, sequences: Sequences, *, generator: Randomness) -> Tensor:
        self.check(model)
        known = sequences.known_lengths if sequences.given is None else None
        # On the host where it can be: what is masked is then counted without waiting for a GPU.
        place = sequences.device if known is None else "cpu"
        points = time_points(len(sequences), generator=generator, device=place)
        chosen = None if known is None else int(masks(points, known).where(known > 0, 0).sum())
        k, xt, sigma = mask_exactly(model, sequences, onto(points, sequences.device), generator=generator)
        return masked_cross_entropy(model, sequences, xt, sigma, sequences.lengths.double() / k, count=chosen)


def masks(points: Tensor, lengths: Tensor) -> Tensor:
    """k = 1 + ⌊points · L⌋, int64 `[B]`; 1 in an empty row, whose loss is 0."""
    return 1 + (points * lengths).long().clamp(max=(lengths - 1).clamp(min=0))


def mask_exactly(
    model: Model, sequences: Sequences, points: Tensor, *, generator: Randomness
) -> tuple[Tensor, Tensor, Tensor]:
    """Mask k = 1 + ⌊points · L⌋ positions of each row, uniformly chosen.

    The mask fraction shown to a time-conditioned network is the k-th smallest of the row's L uniform numbers, which
    is Beta(k, L − k + 1): with k uniform and the weight L/k this is the integral of λ-DCE over λ exactly,
    ∫dλ/λ C(L,k) λ^k (1−λ)^(L−k) = 1/k, without that loss's large weights at small λ.

    Args:
        points: float64 `[B]` in [0, 1).

    Returns:
        k int64 `[B]`, xt int64 `[B, L]`, and σ of the mask fraction, clipped to the schedule's ends, `[B, 1]`.
    """
    k = masks(points, sequences.lengths)
    shape = tuple(sequences.tokens.shape)
    u = uniform(shape, generator=generator, purpose="mask", dtype=torch.float64, device=sequences.device)
    u = u.masked_fill(sequences.padding, 2.0)
    order = u.argsort(dim=-1, stable=True)
    # An empty row has none, and a NaN there would reach every gradient of a network that is shown the noise.
    fraction = u.gather(-1, order.gather(-1, k[:, None] - 1)).clamp(max=1)
    mask = model.process.mask_id
    assert mask is not None, "callers ask for a process with a mask"
    xt = torch.where(order.argsort(-1) < k[:, None], mask, sequences.tokens)
    return k, xt, noise_of_fraction(fraction, model)
