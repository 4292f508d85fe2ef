"""Expectations of losses by walking through every outcome: the loss's own code under scripted randomness.

The probabilities of outcomes come from NumPy and SciPy; integrals over time or mask fraction by Gauss-Legendre.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from discdiff.losses import D3PM, Loss
from discdiff.model import Diffusion
from discdiff.sequences import Sequences
from tests.cases import LossCase, ProcessCase
from tests.scripted import ALMOST_ONE, scripted
from tests.toys import Array, every_sequence, legendre

Grid = Callable[[int], tuple[Array, Array]]
"""Nodes in (0, 1) and weights for the loss's own uniform number, given how many."""

CHUNK = 1 << 15


def expected_losses(
    loss: Loss,
    case: LossCase,
    process: ProcessCase,
    model: Diffusion,
    x0: Tensor,
    *,
    points: int = 24,
    grid: Grid = legendre,
) -> Array:
    """E loss for each row of `x0` `[N, L]`, in nats: exact up to quadrature."""
    if case.over == "count":
        return _over_counts(loss, model, x0, *grid(points))
    nodes, weights = grid(points)
    if isinstance(loss, D3PM):  # one point a step, all alike
        nodes, weights = (np.arange(loss.steps) + 0.5) / loss.steps, np.full(loss.steps, 1 / loss.steps)
        sigmas = loss.levels(model.schedule)[1:].numpy()
    elif case.over == "time":
        t = torch.from_numpy(model.schedule.t_min + (1 - model.schedule.t_min) * nodes)
        sigmas = model.schedule.total_noise(t).numpy()
    else:  # the mask fraction is 1 − u
        sigmas = -np.log(nodes)
    vocab_size, count = model.process.vocab_size, len(nodes)
    xt = all_noised(x0, vocab_size if process.masked else model.process.num_states, masked=process.masked)
    transitions = np.stack([process.transition(vocab_size, sigma) for sigma in sigmas])
    chance = transitions[:, xt.numpy(), x0[:, None].numpy()].prod(-1)  # [nodes, N, noised]
    rows = xt.flatten(0, 1).repeat(count, 1)
    clean = x0.repeat_interleave(xt.shape[1], 0).repeat(count, 1)
    time = torch.from_numpy(nodes).repeat_interleave(xt.shape[0] * xt.shape[1])
    script = process.script(rows, clean, transitions.repeat(xt.shape[0] * xt.shape[1], axis=0))
    values = call(loss, model, clean, time=time, **script).reshape(chance.shape)
    return np.asarray(np.einsum("g,gnx,gnx->n", weights, chance, values))


def all_noised(x0: Tensor, size: int, *, masked: bool) -> Tensor:
    """Every xt that each row of `x0` `[N, L]` can become, of `size` states, or by the mask `size`: `[N, M, L]`."""
    length = x0.shape[1]
    if not masked:
        return torch.from_numpy(every_sequence(size, length)).expand(len(x0), -1, -1)
    hidden = torch.from_numpy(every_sequence(2, length)).bool()
    return torch.where(hidden, torch.tensor(size), x0[:, None])


def call(loss: Loss, model: Diffusion, x0: Tensor, **script: Tensor) -> Array:
    """The loss of each row of `x0` under a script of one row each: `[N]`."""
    parts = []
    for start in range(0, len(x0), CHUNK):
        rows = slice(start, start + CHUNK)
        keys = scripted(len(x0[rows]), **{name: value[rows] for name, value in script.items()})
        with torch.no_grad():
            parts.append(loss(model, Sequences.full(x0[rows]), generator=keys).double().numpy())
    return np.concatenate(parts)


def _over_counts(loss: Loss, model: Diffusion, x0: Tensor, nodes: Array, weights: Array) -> Array:
    """k uniform, the subset uniform, the k-th smallest of L uniform numbers Beta(k, L − k + 1)."""
    length = x0.shape[1]
    numbers, times, chances = [], [], []
    for k in range(1, length + 1):
        beta = length * math.comb(length - 1, k - 1) * nodes ** (k - 1) * (1 - nodes) ** (length - k)
        for chosen in itertools.combinations(range(length), k):
            u = torch.full((len(nodes), length), ALMOST_ONE, dtype=torch.float64)
            for place, position in enumerate(chosen):  # ascending, the last being the k-th smallest
                u[:, position] = torch.from_numpy(nodes) * (place + 1) / k
            numbers.append(u)
            times.append(torch.full((len(nodes),), (k - 0.5) / length, dtype=torch.float64))
            chances.append(weights * beta / (length * math.comb(length, k)))
    mask, time, chance = torch.cat(numbers), torch.cat(times), np.concatenate(chances)
    values = call(
        loss, model, x0.repeat_interleave(len(mask), 0), time=time.repeat(len(x0)), mask=mask.repeat(len(x0), 1)
    )
    return np.asarray(values.reshape(len(x0), -1) @ chance)
