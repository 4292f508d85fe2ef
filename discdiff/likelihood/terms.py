"""The terms of the bound, position by position, for one draw of the noise in each replicate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from discdiff.likelihood.noised import noised
from discdiff.likelihood.scored import Scored
from discdiff.losses.blockwise import blocks_of, mask_blocks
from discdiff.losses.masked import noise_of_fraction
from discdiff.model import Model
from discdiff.prediction import Positions, in_pieces, positions_of
from discdiff.processes.absorbing import Absorbing
from discdiff.randomness import Randomness, at_step, uniform

Terms = tuple[Tensor, Tensor, Tensor]
"""Diffusion `[M, B, L]`, prior `[B, L]` and reconstruction `[M, B, L]`, float64 nats."""

Estimate = Callable[[Model, Scored, Randomness, int, int], Terms]


def estimator(model: Model) -> tuple[Estimate, str]:
    """The best form of the bound for a model, and how it is computed in words."""
    if not isinstance(model.process, Absorbing):
        return by_score_entropy, "score entropy over [t_min, 1], with prior and reconstruction terms"
    if model.block_size is not None:
        return by_blocks, f"exact mask counts in each block of {model.block_size}, earlier blocks clean"
    shown = ", the network shown noise clipped to the schedule's ends" if model.time_conditioned else ""
    return by_masking, f"mask fractions over all of (0, 1], by exact mask counts{shown}"


def _replicates(part: Scored, generator: Randomness, samples: int, first: int) -> list[tuple[Tensor, Randomness]]:
    """`samples` time points per row, one in each stratum of [0, 1), and the randomness of each replicate."""
    # A shift of its own for each row: rows that shared a lattice of times would err together, and no standard error
    # made of theirs would tell.
    rows = part.sequences
    shift = uniform(
        (len(rows),), generator=at_step(generator, first), purpose="time", dtype=torch.float64, device=rows.device
    )
    return [((shift + j / samples) % 1.0, at_step(generator, first + j + 1)) for j in range(samples)]


def _coins(part: Scored, generator: Randomness, samples: int, first: int) -> list[Tensor]:
    """A uniform number for each replicate, evenly spread as well: multiples of the golden ratio, shifted by row."""
    rows = part.sequences
    shift = uniform(
        (len(rows),), generator=at_step(generator, first), purpose="coin", dtype=torch.float64, device=rows.device
    )
    return [(shift + j * (math.sqrt(5) - 1) / 2) % 1.0 for j in range(samples)]


def steps_of(samples: int) -> int:
    """How many steps of counter-based keys a round of `samples` replicates uses."""
    return 2 * samples + 1


def _scatter(values: Tensor, where: Positions, like: Tensor) -> Tensor:
    return torch.zeros(like.shape, dtype=torch.float64, device=like.device).index_put(where, values.double())


def by_masking(model: Model, part: Scored, generator: Randomness, samples: int, first: int = 0) -> Terms:
    """(n/k) Σ_masked −log p(x0_i | x_k), k of the row's n scored positions masked: the integral over mask fractions.

    A time-conditioned network is shown the fraction of the whole row that is masked: λ n / L, λ ~ Beta(k, n − k + 1).
    """
    tokens, n = part.sequences.tokens, part.tokens
    mask = model.process.mask_id
    assert mask is not None, "the absorbing process has one"
    values = []
    for points, draw in _replicates(part, generator, samples, first):
        k = 1 + (points * n).long().clamp(max=n - 1)
        u = uniform(tuple(tokens.shape), generator=draw, purpose="mask", dtype=torch.float64, device=tokens.device)
        order = u.masked_fill(~part.where, 2.0).argsort(dim=-1, stable=True)
        fraction = u.gather(-1, order.gather(-1, k[:, None] - 1)) * (n / part.sequences.lengths.double())[:, None]
        hidden = order.argsort(-1) < k[:, None]
        xt = torch.where(hidden, mask, tokens)
        where = positions_of(hidden)
        prediction = model.predict(xt, noise_of_fraction(fraction, model), part.context())
        loss = in_pieces(partial(prediction.reveal_loss, tokens), where, model.process.num_states)
        values.append(_scatter(loss, where, tokens) * (n / k.double())[:, None])
    diffusion = torch.stack(values)
    return diffusion, torch.zeros_like(diffusion[0]), torch.zeros_like(diffusion)


def by_blocks(model: Model, part: Scored, generator: Randomness, samples: int, first: int = 0) -> Terms:
    """The same of each block given the clean ones before it: (n/k) Σ_masked −log p(x0_i | x_k^b, x0^(<b))."""
    tokens, real, mask = part.sequences.tokens, ~part.sequences.padding, model.process.mask_id
    assert mask is not None, "the absorbing process has one"
    context = replace(part.context(), clean=tokens)
    # A shift of its own for each block, as for each row: blocks at fixed distances, such as golden ratios, can fall in
    # step with the strata, and then err together in all replicates, which their spread does not tell.
    own = uniform(
        (len(tokens), blocks_of(model, tokens.shape[1])), generator=at_step(generator, first), purpose="block time",
        dtype=torch.float64, device=tokens.device,
    )  # fmt: skip
    values = []
    for point, draw in _replicates(part, generator, samples, first):
        points = (point[:, None] + own) % 1.0
        u = uniform(tuple(tokens.shape), generator=draw, purpose="mask", dtype=torch.float64, device=tokens.device)
        masked = mask_blocks(model, part.where, real, points, u)
        xt = torch.where(masked.hidden, mask, tokens)
        where = positions_of(masked.hidden)
        prediction = model.predict(xt, noise_of_fraction(masked.fraction, model), context)
        loss = in_pieces(partial(prediction.reveal_loss, tokens), where, model.process.num_states)
        values.append(_scatter(loss, where, tokens) * masked.weight)
    diffusion = torch.stack(values)
    return diffusion, torch.zeros_like(diffusion[0]), torch.zeros_like(diffusion)


def by_score_entropy(model: Model, part: Scored, generator: Randomness, samples: int, first: int = 0) -> Terms:
    """∫dσ E Σ_i (score entropy of position i), its prior and its reconstruction term; given tokens stay clean."""
    tokens, (low, high) = part.sequences.tokens, model.schedule.ends()
    diffusion, last = [], []
    coins = _coins(part, generator, samples, first)
    for j, ((points, draw), coin) in enumerate(zip(_replicates(part, generator, samples, first), coins, strict=True)):
        level, density = noise_levels(points, low, high)
        sigma = level[:, None].to(model.dtype)
        xt, weight = noised(model.process, tokens, part.where, sigma, coin, generator=draw)
        where = positions_of(model.process.active(xt) & part.where)
        prediction = model.predict(xt, sigma, part.context())
        entropy = in_pieces(partial(prediction.score_entropy, tokens), where, model.process.num_states)
        diffusion.append((weight / density)[:, None] * _scatter(entropy, where, tokens))
        # steps that no replicate above uses, one for each; and the coin's other side, so that the terms err apart
        last.append(reconstruction(model, part, (coin + 0.5) % 1.0, at_step(generator, first + samples + 1 + j)))
    one = torch.ones(len(tokens), 1, dtype=torch.float64, device=tokens.device)
    prior = model.process.prior_kl(tokens, model.schedule.total_noise(one))
    return torch.stack(diffusion), torch.where(part.where, prior, 0.0), torch.stack(last)


POWER = 1 / 8
"""σ^POWER is drawn uniformly: nearly as often in each decade of noise, and still at all where σ(t_min) is tiny."""


def noise_levels(points: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Total noise σ in [low, high] with density ∝ σ^(POWER − 1), and that density at σ.

    The integral is over σ, whatever the schedule. A position has noise with probability ~σ and then adds ~1/σ; draws
    uniform in t see that too seldom at small σ, and those uniform in σ spend themselves where nothing is left to say.
    `noised` takes the variance of the rare away, this density that of the sizes: among powers from 1/8 to 1 and the
    uniform t the least variance, or nearly so, for each process and schedule.

    Args:
        points: uniform in [0, 1), float64 `[B]`.
    """
    start, end = low**POWER, high**POWER
    sigma = (start + (end - start) * points) ** (1 / POWER)
    return sigma, POWER * sigma ** (POWER - 1) / (end - start)


def reconstruction(model: Model, part: Scored, coin: Tensor, generator: Randomness) -> Tensor:
    """−log p(x0 | x at t_min) for one draw, `[B, L]` nats: the last step of a sampler, at the smallest noise."""
    tokens = part.sequences.tokens
    sigma = torch.full((len(tokens), 1), model.schedule.ends()[0], dtype=torch.float64, device=tokens.device)
    sigma = sigma.to(model.dtype)
    xt, weight = noised(model.process, tokens, part.where, sigma, coin, generator=generator)
    where = positions_of(part.where)
    p = model.predict(xt, sigma, part.context()).posterior(torch.zeros_like(sigma), where)
    nats = -p.double().gather(-1, tokens[where][:, None])[:, 0].log()
    return weight[:, None] * _scatter(nats, where, tokens)
