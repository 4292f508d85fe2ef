"""The bound by quadrature in NumPy, every formula written out once more, and models to hold it against."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import torch

from discdiff.likelihood import Bound, nelbo
from discdiff.model import Diffusion
from discdiff.networks import Context
from discdiff.randomness import Keys
from discdiff.schedules import Cosine, CosineSquared, Geometric, Linear, LogLinear, Polynomial, Schedule
from discdiff.sequences import Sequences
from tests.cases import PROCESSES, build
from tests.toy_networks import Wrong
from tests.toys import TOYS, Array, every_sequence, index_of, legendre

TOY = TOYS["dense3x2"]
X0 = torch.from_numpy(TOY.sequences)
COPIES = 300


def logits(model: Diffusion, sigma: float) -> Array:
    """What the network says in every state when shown this noise: `[S^L, L, outputs]`."""
    states = torch.from_numpy(every_sequence(model.process.num_states, TOY.length))
    shown = torch.full((len(states), 1), sigma, dtype=torch.float64) if model.time_conditioned else None
    return model.network.head(model.network.hidden(states, shown, Context())).numpy()


def normalised(values: Array) -> Array:
    p = np.exp(values)
    return np.asarray(p / p.sum(-1, keepdims=True))


def masked_bound(model: Diffusion, parameterization: str) -> Array:
    """Absorbing: ∫ dλ/λ E Σ_masked (Σ p̃ − log p̃_x0 − 1), the network shown the noise clipped to the ends: `[V^L]`."""
    low, high = model.schedule.ends()
    edges = [0.0, -np.expm1(-low), -np.expm1(-high), 1.0]  # pieces: clipping has kinks
    x, mask, total = TOY.sequences, TOY.vocab_size, np.zeros(len(X0))
    hidden = every_sequence(2, TOY.length).astype(bool)
    for start, end in itertools.pairwise(edges):
        # u⁵ resolves a network that changes with log σ over the whole range of a geometric schedule
        u, w = legendre(40)
        for fraction, weight in zip(start + (end - start) * u**5, (end - start) * 5 * u**4 * w, strict=True):
            sigma = float(np.clip(-np.log1p(-fraction), low, high))
            said = logits(model, sigma)
            if parameterization == "score":
                p = np.exp(said[..., :mask]) / mask  # the head's zero is s₀ = 1/(V (e^σ − 1)), and p̃ = s (e^σ − 1)
            else:
                p = normalised(said)
            for pattern in hidden:
                xt = index_of(torch.from_numpy(np.where(pattern, mask, x)), mask + 1).numpy()
                here = p[xt]
                nll = -np.log(np.take_along_axis(here, x[..., None], -1)[..., 0]) + here.sum(-1) - 1
                chance = fraction ** (pattern.sum() - 1) * (1 - fraction) ** (~pattern).sum() if pattern.any() else 0
                total += weight * chance * (nll * pattern).sum(-1)
    return total


def score_terms(model: Diffusion, process: str, parameterization: str, points: int = 60) -> tuple[Array, Array, Array]:
    """A process known by its rates alone; the three terms of the bound, each `[V^L]`.

    ∫ dt σ' E Σ_i Σ_y Q (s − r log s + K(r)); KL(q(x_1|x0) ‖ π); E −log p(x0 | x at t_min).
    """
    case, size, schedule = PROCESSES[process], TOY.vocab_size, model.schedule
    every = case.rates(size)
    states = len(every)
    x0, xt = TOY.sequences, every_sequence(states, TOY.length)
    same = np.eye(states)
    rates = every * (1 - same)

    def at(sigma: float) -> tuple[Array, Array, Array]:
        transition, said = case.transition(size, sigma), logits(model, sigma)
        chance = transition[xt[:, None], x0[None]].prod(-1)  # [xt, x0]
        content = transition[:, :size]
        if parameterization == "score":
            level = torch.full(xt.shape, sigma, dtype=torch.float64)
            score = np.exp(said + model.process.log_score_scale(torch.from_numpy(xt), level).numpy())
        elif parameterization == "leave_one_out":  # of the other positions alone: s_y = Σ p P[y, x0] / Σ p P[x, x0]
            into = normalised(said) @ content.T
            score = into / np.take_along_axis(into, xt[..., None], -1)
        else:
            ratio = content[None, :, :] / content[:, None, :]  # [x, y, x0]
            score = np.einsum("niv,niyv->niy", normalised(said), ratio[xt])
        return transition, chance, np.where(same[xt] > 0, 1.0, score)

    u, w = legendre(points)
    times = schedule.t_min + (1 - schedule.t_min) * (1 - (1 - u**3) ** 3)  # dense at both ends, where σ'(t) may run off
    diffusion = np.zeros(len(x0))
    for t, weight in zip(times, (1 - schedule.t_min) * 9 * (u * (1 - u**3)) ** 2 * w, strict=True):
        time = torch.tensor(t, dtype=torch.float64)
        sigma, rate = float(schedule.total_noise(time)), float(schedule.noise_rate(time))
        transition, chance, s = at(sigma)
        for k, clean in enumerate(x0):
            r = transition[:, clean].T[None] / transition[xt, clean[None]][..., None]  # [xt, i, y]
            terms = (rates[xt] * (s - r * np.log(s) + r * (np.log(r) - 1))).sum((-1, -2))
            diffusion[k] += weight * rate * (chance[:, k] * terms).sum()
    # π spans the null space of Q
    limit = np.linalg.svd(every)[2][-1]
    limit = limit / limit.sum()
    last = case.transition(size, schedule.ends()[1])[:, :size]
    prior = (last * np.log(last / limit[:, None])).sum(0)[x0].sum(-1)
    transition, chance, s = at(schedule.ends()[0])
    back = np.linalg.inv(transition)
    posterior = (np.einsum("zy,niy->niz", back, s) * transition[xt])[..., :size]  # no mask in a clean sequence
    posterior = np.clip(posterior, 0, None) / np.clip(posterior, 0, None).sum(-1, keepdims=True)
    picked = posterior[:, np.arange(TOY.length), x0]  # [xt, x0, i]
    reconstruction = -(chance * np.log(picked).sum(-1)).sum(0)
    return diffusion, prior, reconstruction


def estimate(model: Diffusion, *, samples: int = 4, keyed: bool = True, copies: int = COPIES) -> Bound:
    """Bounds of `copies` copies of every sequence, in rows that share nothing."""
    rows = Sequences.full(X0.repeat(copies, 1))
    generator = Keys(5, torch.arange(len(rows))) if keyed else torch.Generator().manual_seed(5)
    return nelbo(model, rows, generator=generator, samples=samples, batch_size=1 << 20)


def by_copy(values: torch.Tensor) -> Array:
    """Averages over the sequences, one for each copy: `[COPIES]` independent numbers."""
    return values.reshape(-1, len(X0)).mean(-1).numpy()


# Ends at which noise is no rare event: an average over some thousand draws can then be judged by its own spread.
ENDS: dict[str, Schedule] = {
    "log_linear": LogLinear(t_min=0.05),
    "geometric": Geometric(0.05, 20.0),
    "cosine": Cosine(t_min=0.15),
    "cosine_squared": CosineSquared(t_min=0.15),
    "linear": Linear(t_min=0.1),
    "polynomial": Polynomial(t_min=0.2),
}
# Every schedule on two processes, every process on one schedule.


def erring(process: str, parameterization: str, schedule: Schedule) -> Diffusion:
    """A wrong network, as wrong as its bound stays finite: inverting exp(σQ) can cut a wrong score's x0 to 0."""
    for strength in (0.3, 0.1, 0.03, 0.01):
        network = functools.partial(Wrong, strength=strength)
        model = build(process, parameterization, toy=TOY, schedule=schedule, network=network)
        if model.process.reveals_noise or np.isfinite(score_terms(model, process, parameterization, points=1)[2]).all():
            return model
    raise AssertionError("every wrong network has an infinite bound")
