"""The terms of the bound, position by position, for one draw of the noise in each replicate."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from discdiff.likelihood.scored import Scored
from discdiff.losses.masked import noise_of_fraction
from discdiff.model import Model
from discdiff.prediction import Positions, positions_of
from discdiff.processes.absorbing import Absorbing
from discdiff.randomness import Randomness, at_step, uniform

Terms = tuple[Tensor, Tensor, Tensor]
"""Diffusion `[M, B, L]`, prior `[B, L]` and reconstruction `[M, B, L]`, float64 nats."""

Estimate = Callable[[Model, Scored, Randomness, int, int], Terms]


def estimator(model: Model) -> tuple[Estimate, str]:
    """The best form of the bound for a model, and how it is computed in words."""
    if not isinstance(model.process, Absorbing):
        return by_score_entropy, "score entropy over [t_min, 1], with prior and reconstruction terms"
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
        loss = model.predict(xt, noise_of_fraction(fraction, model), part.context()).reveal_loss(tokens, where)
        values.append(_scatter(loss, where, tokens) * (n / k.double())[:, None])
    diffusion = torch.stack(values)
    return diffusion, torch.zeros_like(diffusion[0]), torch.zeros_like(diffusion)


def by_score_entropy(model: Model, part: Scored, generator: Randomness, samples: int, first: int = 0) -> Terms:
    """∫dt σ' E Σ_i (score entropy of position i), its prior and its reconstruction term; given tokens stay clean."""
    schedule, tokens = model.schedule, part.sequences.tokens
    diffusion, last = [], []
    for j, (points, draw) in enumerate(_replicates(part, generator, samples, first)):
        t = schedule.t_min + (1 - schedule.t_min) * points[:, None]
        sigma = schedule.total_noise(t).to(model.dtype)
        xt = torch.where(part.where, model.process.corrupt(tokens, sigma, generator=draw), tokens)
        where = positions_of(model.process.active(xt) & part.where)
        entropy = model.predict(xt, sigma, part.context()).score_entropy(tokens, where)
        weight = (1 - schedule.t_min) * schedule.noise_rate(t)
        diffusion.append(weight * _scatter(entropy, where, tokens))
        # steps that no replicate above uses, one for each
        last.append(reconstruction(model, part, at_step(generator, first + samples + 1 + j)))
    one = torch.ones(len(tokens), 1, dtype=torch.float64, device=tokens.device)
    prior = model.process.prior_kl(tokens, schedule.total_noise(one))
    return torch.stack(diffusion), torch.where(part.where, prior, 0.0), torch.stack(last)


def reconstruction(model: Model, part: Scored, generator: Randomness) -> Tensor:
    """−log p(x0 | x at t_min) for one draw, `[B, L]` nats: the last step of a sampler, at the smallest noise."""
    tokens = part.sequences.tokens
    t = torch.full((len(tokens), 1), model.schedule.t_min, dtype=torch.float64, device=tokens.device)
    sigma = model.schedule.total_noise(t).to(model.dtype)
    xt = torch.where(part.where, model.process.corrupt(tokens, sigma, generator=generator), tokens)
    where = positions_of(part.where)
    p = model.predict(xt, sigma, part.context()).posterior(torch.zeros_like(sigma), where)
    return _scatter(-p.double().gather(-1, tokens[where][:, None])[:, 0].log(), where, tokens)
