"""Likelihoods by enumeration in NumPy, and models to hold them against."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from discdiff.model import Diffusion
from discdiff.networks import Context
from discdiff.randomness import Keys
from discdiff.sequences import Sequences
from tests.cases import MODELS, PROCESSES, build
from tests.toy_networks import ByLength, Wrong
from tests.toys import TOYS, Array, dense

TOY = TOYS["dense3x3"]
X0 = torch.from_numpy(TOY.sequences)
CLEAN = Sequences.full(X0)
MASKED = [pair for pair in MODELS if PROCESSES[pair[0]].masked]
ORDERS = list(itertools.permutations(range(TOY.length)))
SPANS = [span for span in itertools.product([False, True], repeat=TOY.length) if any(span)]


def wrong(process: str = "absorbing", parameterization: str = "conditional") -> Diffusion:
    return build(process, parameterization, toy=TOY, network=lambda t, s: Wrong(t, s, 0.5))


def path(model: Diffusion, parameterization: str, order: tuple[int, ...]) -> Array:
    """−log p of each token, when it is revealed in this order (others given): `[V^L, L]`, read from raw logits."""
    tokens, mask, out = TOY.sequences, TOY.vocab_size, np.zeros(TOY.sequences.shape)
    low, high = model.schedule.ends()
    for step, position in enumerate(order):
        xt = tokens.copy()
        xt[:, list(order[step:])] = mask
        fraction = (len(order) - step) / TOY.length
        sigma = high if fraction == 1 else float(np.clip(-np.log1p(-fraction), low, high))
        shown = torch.full((len(xt), 1), sigma, dtype=torch.float64) if model.time_conditioned else None
        said = model.network.hidden(torch.from_numpy(xt), shown, Context()).numpy()[:, position, :mask]
        p = np.exp(said) / np.exp(said).sum(-1, keepdims=True)
        out[:, position] = -np.log(p[np.arange(len(xt)), tokens[:, position]])
    return out


def conditional_truth(span: tuple[bool, ...]) -> Array:
    """−log p0(x_S | x_rest) of every sequence, from the joint table."""
    marginal = TOY.joint.sum(axis=tuple(np.flatnonzero(span)), keepdims=True)
    return np.asarray(-np.log(TOY.joint / marginal).reshape(-1))


def keys(rows: int = len(X0), seed: int = 3) -> Keys:
    return Keys(seed, torch.arange(rows))


TOYS_BY_LENGTH = {length: dense(3, length, seed=length) for length in (1, 2, 3)}


def mixed(process: str, parameterization: str) -> Diffusion:
    return build(
        process,
        parameterization,
        toy=TOYS_BY_LENGTH[3],
        network=lambda toy, states: ByLength({n: Wrong(t, states, 0.3) for n, t in TOYS_BY_LENGTH.items()}),
    )
