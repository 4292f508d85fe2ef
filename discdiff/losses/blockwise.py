"""k-DCE block by block: the bound of block-causal models."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.losses.base import Loss, absorbing, context_of
from discdiff.losses.masked import noise_of_fraction
from discdiff.model import Model
from discdiff.prediction import positions_of
from discdiff.randomness import Randomness, time_points, uniform
from discdiff.sequences import Sequences, onto

GOLDEN = (math.sqrt(5) - 1) / 2


class Blockwise(Loss):
    """Σ_b E_{k~U{1..n_b}} (n_b/k) Σ_masked −log p(x0_i | x_k^b, x0^(<b)), exactly k of block b's n_b tokens masked.

    `AnyOrder` of each block given the clean ones before it, for a block-causal network, which is shown the noised
    sequence and the clean one together: a bound on −log p(x0) = Σ_b −log p(x0^b | x0^(<b)). Blocks of one token make it
    the autoregressive likelihood, one block `AnyOrder` itself. One pass over twice the positions serves all blocks,
    each with a k of its own.

    Arriola et al. 2025, "Block diffusion", equation 8.
    """

    by_blocks = True

    def check(self, model: Model) -> None:
        absorbing(model, self)
        if model.block_size is None:
            raise IncompatibleError(
                "Blockwise loss",
                got="a network that sees every position",
                expected="a block-causal one",
                remedy="Build it with block_size=..., or use AnyOrder.",
            )

    def __call__(self, model: Model, sequences: Sequences, *, generator: Randomness) -> Tensor:
        self.check(model)
        assert model.block_size is not None, "checked"
        mask, tokens, device = absorbing(model, self).mask_id, sequences.tokens, sequences.device
        known = sequences.known_lengths if sequences.given is None else None
        # On the host where it can be, as in `AnyOrder`: what is masked is then counted without waiting for a GPU.
        points = time_points(len(sequences), generator=generator, device=device if known is None else "cpu")
        count = None if known is None else _masked_in_all(points, known, tokens.shape[1], model.block_size)
        u = uniform(tuple(tokens.shape), generator=generator, purpose="mask", dtype=torch.float64, device=device)
        real = ~sequences.padding
        spread = spread_points(onto(points, device), blocks_of(model, tokens.shape[1]))
        masked = mask_blocks(model, real, real, spread, u)
        xt = torch.where(masked.hidden, mask, tokens)
        sigma = noise_of_fraction(masked.fraction, model)
        prediction = model.predict(xt, sigma, replace(context_of(sequences), clean=tokens))
        where = positions_of(masked.hidden & sequences.unknown, count)
        return prediction.reveal_totals(tokens, where, masked.weight[where])


@dataclass(frozen=True)
class Masked:
    """One draw of masks for each block of each row.

    Attributes:
        hidden: bool `[B, L]`.
        weight: float64 `[B, L]`: n/k of the position's block, n of it scored and k of those masked.
        fraction: float64 `[B, L]`: the mask fraction of the position's block.
    """

    hidden: Tensor
    weight: Tensor
    fraction: Tensor


def blocks_of(model: Model, length: int) -> int:
    """How many blocks a row of some length has."""
    assert model.block_size is not None, "callers ask for a block-causal model"
    return -(-length // min(model.block_size, length))


def spread_points(points: Tensor, blocks: int) -> Tensor:
    """Points for the blocks of rows, `[B, blocks]`, from one for each row, float64 `[B]`.

    Block b takes the row's, plus b golden ratios, modulo 1: each is uniform, and those of a row are spread.
    """
    return (points[:, None] + torch.arange(blocks, dtype=torch.float64, device=points.device) * GOLDEN) % 1.0


def masks(points: Tensor, n: Tensor) -> Tensor:
    """k = 1 + ⌊point · n⌋ of each block's n positions, int64 `[B, blocks]`; 1 in an empty block: nothing is masked."""
    return 1 + (points * n).long().clamp(max=(n - 1).clamp(min=0))


def _masked_in_all(points: Tensor, lengths: Tensor, width: int, size: int) -> int:
    """How many positions a batch of these lengths has masked, all on the host."""
    size = min(size, width)
    n = (lengths[:, None] - torch.arange(0, width, size)).clamp(0, size)
    return int(masks(spread_points(points, n.shape[1]), n).where(n > 0, 0).sum())


def mask_blocks(model: Model, scored: Tensor, real: Tensor, points: Tensor, u: Tensor) -> Masked:
    """Mask k = 1 + ⌊point · n⌋ of each block's n scored positions, uniformly chosen; see `any_order.mask_exactly`.

    Args:
        scored: bool `[B, L]`.
        real: bool `[B, L]`, what is no padding.
        points: float64 `[B, blocks]` in [0, 1).
        u: uniform numbers, float64 `[B, L]`.
    """
    assert model.block_size is not None, "callers ask for a block-causal model"
    batch, length = u.shape
    size, count = min(model.block_size, length), blocks_of(model, length)

    def apart(values: Tensor, value: float) -> Tensor:
        return torch.nn.functional.pad(values, (0, count * size - length), value=value).view(batch, count, size)

    def whole(values: Tensor) -> Tensor:
        return values.expand(batch, count, size).reshape(batch, -1)[:, :length]

    counted, present = apart(scored, False), apart(real, False)
    n = counted.sum(-1)
    k = masks(points, n)
    numbers = apart(u, 2.0)
    order = numbers.masked_fill(~counted, 2.0).argsort(dim=-1, stable=True)
    fraction = numbers.gather(-1, order.gather(-1, k[..., None] - 1))
    fraction = (fraction * (n / present.sum(-1).clamp(min=1).double())[..., None]).clamp(max=1)
    hidden = (order.argsort(-1) < k[..., None]) & counted
    return Masked(whole(hidden), whole((n / k.double())[..., None]), whole(fraction))
