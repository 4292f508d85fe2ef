"""Noised sequences in which noise is never rare, and their weights."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.processes.base import Process
from discdiff.randomness import Randomness, categorical, uniform

MOST_CLEAN = 0.5
"""The largest share of draws without any noise."""


def noised(
    process: Process, x0: Tensor, where: Tensor, sigma: Tensor, coin: Tensor, *, generator: Randomness
) -> tuple[Tensor, Tensor]:
    """Draw xt by a law that has noise in at least half of its draws; weighted means are those of q(xt | x0).

    At small σ nearly all draws from q leave x0 as it is, and a term that is 1/σ where they do not has a mean that few
    samples ever see. Here x0 itself is drawn with probability min(q(x0 | x0), ½), and xt ~ q(· | x0, xt ≠ x0) else:
    importance sampling (Owen 2013, chapter 9). Where q(x0 | x0) ≤ ½, as in long sequences, it is q and weights are 1.

    Args:
        process: the forward process.
        x0: clean tokens, int64 `[B, L]`.
        where: bool `[B, L]`, positions that are noised; the others stay.
        sigma: total noise, `[B, 1]`.
        coin: float64 `[B]`, each uniform on [0, 1): whether there is noise at all.
        generator: purposes "corrupt" (the process's own), "first noise" and "first noisy token".

    Returns:
        xt int64 `[B, L]`, and q(xt | x0) over the law it was drawn by: float64 `[B]`, at most 2.
    """
    rows = len(x0)
    sigma = sigma.double()
    kept = torch.where(where, process.staying(x0, sigma), 1.0).clamp(0.0, 1.0)
    upto = kept.cumprod(-1)
    first = torch.cat([torch.ones_like(upto[:, :1]), upto[:, :-1]], -1) * (1 - kept)  # p(position i is the first noisy)
    still, noisy = upto[:, -1], first.sum(-1)
    place, token = (
        uniform((rows,), generator=generator, purpose=purpose, dtype=torch.float64, device=x0.device)
        for purpose in ("first noise", "first noisy token")
    )
    share = torch.where(noisy > 0, still.clamp(max=MOST_CLEAN), 1.0)
    clean = coin < share
    # Given the first noisy position: what is before it is clean, it has another token, what follows is free.
    at = categorical(first, place)[:, None]
    here = x0.gather(-1, at)
    other = process.transition(here, sigma)[:, 0].scatter(-1, here, 0.0)
    free = torch.where(where, process.corrupt(x0, sigma, generator=generator), x0)
    every = torch.arange(x0.shape[1], device=x0.device)
    xt = torch.where(every > at, free, x0).scatter(-1, at, categorical(other, token)[:, None])
    weight = torch.where(clean, still / share, noisy / (1 - share))
    return torch.where(clean[:, None], x0, xt), weight
