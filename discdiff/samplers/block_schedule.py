"""How many positions to reveal in each call, and what revealing several at once costs.

The information curve is `f[j] = E H(x_π(j+1) | x_π(1..j))`, j = 0 .. L − 1, over random orders π. Revealing a block of
positions independently loses their total correlation given what is known, so a schedule 0 = n_0 < … < n_T = L is off by

    E_π KL(p0 ‖ sampler) = Σ_t Σ_{n_t ≤ j < n_{t+1}} (f[n_t] − f[j])     nats a sequence

(Chen, Cong and Li 2025, "Optimal inference schedules for masked diffusion models"). The law of the mixture over orders
is at least as near.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.networks.base import Context
from discdiff.prediction import positions_of
from discdiff.processes.absorbing import Absorbing
from discdiff.randomness import Randomness, at_step, index_rows, random_order
from discdiff.samplers.profile import Profile
from discdiff.sequences import Sequences

Blocks = Literal["uniform", "cosine"] | Sequence[int] | Sequence[Sequence[int]] | Profile


def check_blocks(blocks: Blocks, error: float | None = None) -> None:
    """Refuse what is no schedule of blocks.

    Raises:
        IncompatibleError: an unknown name, no sizes, or a size below 1; an error that no profile can keep.
    """
    if isinstance(blocks, Profile):
        if error is not None:
            blocks.blocks(1, error=error)  # refuses a negative one
        return
    if error is not None:
        raise IncompatibleError(
            "error", got=f"{error:g}", expected="a profile to choose blocks by", remedy="See measure_profile."
        )
    if isinstance(blocks, str):
        wrong = blocks not in FRACTIONS
    else:
        wrong = not blocks or any(not sizes or min(sizes) < 1 for sizes in _alternatives(blocks))
    if wrong:
        raise IncompatibleError(
            "blocks",
            got=repr(blocks),
            expected=f"{' or '.join(map(repr, FRACTIONS))}, or sizes of at least 1",
            remedy="Name a schedule, or list how many positions each call reveals.",
        )


def _alternatives(blocks: Sequence[int] | Sequence[Sequence[int]]) -> list[list[int]]:
    """The schedules that are given: one, or several for rows that differ."""
    nested = [list(sizes) for sizes in blocks if isinstance(sizes, Sequence)]
    flat = [size for size in blocks if not isinstance(size, Sequence)]
    return nested if not flat else [flat, *nested]


def block_ends(
    counts: Tensor,
    blocks: Blocks,
    steps: int | None,
    *,
    lengths: Tensor | None = None,
    error: float | None = None,
) -> Tensor:
    """How many positions are revealed after each call: int64 `[B, T]`, increasing up to each row's count.

    A row of n < T positions takes n calls, and stays at n from there.

    Args:
        counts: int64 `[B]`, positions to reveal in each row.
        blocks: "uniform" (sizes that differ by one at most), "cosine" (the fraction still masked after k of T calls is
            cos(πk / 2T): few positions at first; Chang et al. 2022, MaskGIT, section 3.3), or the sizes. Or several
            lists of sizes, of which each row takes the first that adds up to its count; or a profile.
        steps: T; by default one position a call, or the number of sizes.
        lengths: int64 `[B]`, positions of each row, given ones among them; a profile asks. By default the counts.
        error: what a row may lose by a profile's blocks, instead of steps.

    Raises:
        IncompatibleError: sizes that do not add up to every row's count, or to another number of calls.
    """
    if isinstance(blocks, Profile):
        asked = zip((counts if lengths is None else lengths).tolist(), counts.tolist(), strict=True)
        most = None if error is not None else steps or max(1, int(counts.max()))
        plans = [blocks.blocks(length, error=error, steps=most, hidden=count) for length, count in asked]
        return _stacked([torch.tensor(plan.sizes or (0,)).cumsum(0) for plan in plans]).to(counts.device)
    if not isinstance(blocks, str):
        return _given_ends(counts, _alternatives(blocks), steps)
    calls = counts.clamp(max=int(counts.max()) if steps is None else steps)
    k = torch.arange(1, int(calls.max()) + 1, device=counts.device).expand(len(counts), -1)
    fraction = FRACTIONS[blocks](k.double() / calls[:, None].clamp(min=1))
    # Each call has one position at least: no fewer than k are revealed, and one is left for each call to come.
    latest = counts[:, None] - (calls[:, None] - k)
    ends = (counts[:, None] * fraction + 1e-9).floor().long().clamp(min=k, max=latest)
    return torch.where(k < calls[:, None], ends, counts[:, None])


FRACTIONS = {"uniform": lambda x: x, "cosine": lambda x: 1 - torch.cos(x * (math.pi / 2))}
"""Revealed fraction after a fraction of the calls."""


def _given_ends(counts: Tensor, schedules: list[list[int]], steps: int | None) -> Tensor:
    calls = {len(sizes) for sizes in schedules}
    if steps is not None and calls != {steps}:
        raise IncompatibleError(
            "blocks",
            got=f"{' or '.join(map(str, sorted(calls)))} sizes",
            expected=f"steps={steps} of them",
            remedy="Leave steps out.",
        )
    ends = {sum(sizes): torch.tensor(sizes).cumsum(0) for sizes in reversed(schedules)}  # the first of a sum counts
    if len(schedules) > 1:
        ends.setdefault(0, torch.zeros(1, dtype=torch.int64))  # a row without open positions takes no call
    other = [count for count in counts.tolist() if count not in ends]
    if other:
        raise IncompatibleError(
            "blocks",
            got=f"sizes that add up to {' or '.join(map(str, sorted(set(ends) - {0})))}",
            expected=f"{other[0]}, the positions to reveal in a row",
            remedy='Use "uniform" or "cosine" where rows differ, or give sizes for each number of positions.',
        )
    return _stacked([ends[count] for count in counts.tolist()]).to(counts.device)


def _stacked(rows: list[Tensor]) -> Tensor:
    """Ends of rows, `[B, T]`; rows that are done stay where they are."""
    longest = max(map(len, rows))
    return torch.stack([torch.cat([row, row[-1:].expand(longest - len(row))]) for row in rows])


def block_cost(curve: Tensor, sizes: Sequence[int]) -> float:
    """What a schedule of block sizes loses: E_π KL(p0 ‖ sampler), nats a sequence.

    Args:
        curve: f, float `[L]` nats.
        sizes: positions revealed in each call; they add up to L.

    Raises:
        IncompatibleError: they do not.
    """
    if sum(sizes) != len(curve) or min(sizes) < 1:
        raise IncompatibleError(
            "blocks",
            got=list(sizes),
            expected=f"sizes that add up to {len(curve)}",
            remedy="Count every position once.",
        )
    cost, start = 0.0, 0
    for size in sizes:
        cost += float((curve[start] - curve[start : start + size]).double().sum())
        start += size
    return cost


@torch.no_grad()
def information_curve(
    model: Model, sequences: Sequences, *, generator: Randomness, orders: int = 1, batch_size: int = 128
) -> Tensor:
    """An estimate of the information curve from a model and data: the model's cross-entropy given j random positions.

    With the exact denoiser it is the curve itself; else it lies above, by what the model is off. Each evaluation
    counts all masked positions, not the next one alone.

    Args:
        model: on the absorbing process.
        sequences: clean, all of one length L; L · orders evaluations each.
        generator: `Keys` need one row id a sequence.
        orders: random orders of each sequence.
        batch_size: rows evaluated at once.

    Returns:
        f, float64 `[L]` nats.

    Raises:
        IncompatibleError: another process, no sequences, or sequences of several lengths.
    """
    length = int(sequences.lengths.max()) if len(sequences) else 0
    if not isinstance(model.process, Absorbing) or not length or bool((sequences.lengths != length).any()):
        raise IncompatibleError(
            "Information curve",
            got=f"{len(sequences)} sequences of up to {length} tokens under {type(model.process).__name__}",
            expected="sequences of one length under the absorbing process",
            remedy="Choose sequences of one length.",
        )
    total = torch.zeros(length, dtype=torch.float64)
    for rows in torch.arange(len(sequences)).split(batch_size):
        tokens, keys = sequences[rows].tokens[:, :length].to(model.device), index_rows(generator, rows)
        labels = None if sequences.labels is None else sequences.labels[rows].to(model.device)
        for k in range(orders):
            shape = (len(rows), length)
            order = random_order(shape, generator=at_step(keys, k), purpose="order", device=model.device)
            ranks = order.argsort(-1)
            for j in range(length):
                hidden = ranks >= j
                xt = tokens.masked_fill(hidden, model.process.mask_id)
                fraction = torch.full((len(rows), 1), (length - j) / length, dtype=torch.float64)
                sigma = (-torch.log1p(-fraction)).clamp(*model.schedule.ends()).to(model.device, model.dtype)
                prediction = model.predict(xt, sigma, Context(labels=labels))
                total[j] += float(prediction.nll(tokens, positions_of(hidden)).double().sum()) / (length - j)
    return total / (len(sequences) * orders)


__all__ = ["Blocks", "block_cost", "block_ends", "check_blocks", "information_curve"]
