"""The second leap of schemes of two, in NumPy, from their definitions; nothing here runs a sampler.

Read off the library: what predictions say (`tests/test_prediction.py`), and Q (`tests/processes`, against the cases').
"""

from __future__ import annotations

import numpy as np
import torch

from discdiff.prediction import Prediction
from discdiff.samplers import RungeKutta2, Trapezoidal
from discdiff.samplers.trapezoidal import TwoLeaps
from tests.toys import Array, transition_matrix


def trapezoidal_kernel(sampler: Trapezoidal, first: Prediction, second: Prediction, level: TwoLeaps) -> Array:
    """From the middle's token z: Σ p̃(x0) q(x_s | z, x0), p̃ ∝ (a p_ρ − b p_t)₊, p_t carried to ρ and z: `[N, L, S]`.

    a = 1/(2θ(1 − θ)), b = a − 1. From scores: s̃ = (a s_ρ − b exp(−ΔσQ) s_t)₊, the latter 1 at z, then Tweedie's step.
    """
    rates, x, z = rates_of(first), first.tokens.numpy(), second.tokens.numpy()
    ahead = 1 / (2 * sampler.theta * (1 - sampler.theta))
    now, middle, end = level.sigma, level.second.sigma, level.sigma_next
    step = transition_matrix(rates, middle - end)
    if first.has_denoiser:
        size = first.process.vocab_size
        earlier = ratio(said(first), transition_matrix(rates, now)[x][..., :size])
        earlier = normalized(earlier * transition_matrix(rates, middle)[z][..., :size])
        mixed = normalized(np.maximum(ahead * said(second) - (ahead - 1) * earlier, 0))
        later = transition_matrix(rates, end)[:, :size]
        bridge = step[z][..., :, None] * later
        bridge = ratio(bridge, bridge.sum(-2, keepdims=True))
        return np.asarray((bridge * mixed[..., None, :]).sum(-1))
    back = np.exp(first.log_score().numpy()) @ transition_matrix(rates, middle - now).T
    back = np.maximum(back, 0)
    back = ratio(back, np.take_along_axis(back, z[..., None], -1))
    mixed = np.maximum(ahead * np.exp(second.log_score().numpy()) - (ahead - 1) * back, 0)
    law = np.maximum(mixed @ transition_matrix(rates, end - middle).T * step[z], 0)
    if end == 0:
        law[..., first.process.vocab_size :] = 0
    return normalized(law)


def runge_kutta_kernel(sampler: RungeKutta2, first: Prediction, second: Prediction, level: TwoLeaps) -> Array:
    """From x: one jump with probability 1 − e^(−n), n = Σ_y ((1 − b) σ'_t R_t(x → y) + b σ'_ρ R_ρ(z → y))₊ (t − s).

    b = 1/(2θ), z the middle's token, y ≠ x. What is cut is cut a destination y at a time. `[N, L, S]`.
    """
    rates, x, z = rates_of(first), first.tokens.numpy(), second.tokens.numpy()
    share, time = 1 / (2 * sampler.theta), level.t - level.s
    now, then = (1 - share) * level.first.noise_rate * time, share * level.second.noise_rate * time
    states = np.arange(len(rates))
    into_x, into_z = (rates[at] * (states != at[..., None]) for at in (x, z))
    others = states != x[..., None]
    if first.has_denoiser:
        size = first.process.vocab_size

        def jumps(prediction: Prediction, into: Array, at: Array, sigma: float) -> Array:
            known = transition_matrix(rates, sigma)[:, :size]
            each = ratio(np.broadcast_to(known, (*into.shape, size)), known[at][..., None, :])
            return np.asarray(into * (each * said(prediction)[..., None, :]).sum(-1))

        one, two = jumps(first, into_x, x, level.sigma), jumps(second, into_z, z, level.second.sigma)
    else:
        one, two = (
            np.where(into > 0, into * np.exp(each.log_score().numpy()), 0)
            for into, each in ((into_x, first), (into_z, second))
        )
    expected = np.maximum(now * one + then * two, 0) * others
    total = expected.sum(-1, keepdims=True)
    law = ratio(expected, total) * -np.expm1(-total)
    np.put_along_axis(law, x[..., None], np.exp(-total), -1)
    return np.asarray(law)


def rates_of(prediction: Prediction) -> Array:
    """Q[y, x] of the prediction's process."""
    every = torch.arange(prediction.process.num_states)
    return np.asarray(prediction.process.rates_from(every, dtype=torch.float64).numpy().T)


def said(prediction: Prediction) -> Array:
    """p(x0_i | xt), `[N, L, V]`."""
    return prediction.log_denoiser().double().exp().numpy()


def ratio(top: Array, bottom: Array) -> Array:
    """top / bottom, 0 where there is nothing to divide by."""
    return np.divide(top, bottom, out=np.zeros(np.broadcast_shapes(top.shape, bottom.shape)), where=bottom != 0)


def normalized(weights: Array) -> Array:
    """Of sum 1 along the last axis; 0 where nothing can be."""
    return ratio(weights, weights.sum(-1, keepdims=True))
