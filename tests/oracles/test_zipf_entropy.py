"""Draws over a large vocabulary: −E[log p] of samples is the entropy, whatever the number of steps.

A Zipf law over 50,000 tokens at every position, independently, in float32: every sampler that preserves distributions
must return it. A sampler whose draws lose rare tokens (a float32 Gumbel race does, the more the more steps it takes)
shows a lower −E[log p], as a lower temperature would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from discdiff.model import Diffusion
from discdiff.networks import Context, Network
from discdiff.parameterizations import Conditional, Parameterization
from discdiff.processes import Absorbing, Process
from discdiff.randomness import Keys
from discdiff.sampling import sample
from discdiff.schedules import LogLinear
from tests.cases import SAMPLERS
from tests.toys import Array

VOCAB = 50_000
ROWS, LENGTH, BATCH = 20, 100, 5  # in small batches: the law of 2,000 positions in float64 is 800 MB
DRAWS = ROWS * LENGTH
TOLERANCE = 0.01
"""Nats."""


@cache
def zipf() -> Array:
    """p(rank) ∝ 1 / rank."""
    p = 1 / np.arange(1, VOCAB + 1)
    return np.asarray(p / p.sum())


def entropy(p: Array) -> float:
    return float(-(p * np.log(p)).sum())


class Independent(Network):
    """The same law at every position, whatever it sees; in float32."""

    def __init__(self, p: Array) -> None:
        super().__init__()
        self.num_states = len(p) + 1
        self.logits = nn.Parameter(torch.from_numpy(np.log(p)).float())

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.num_outputs = parameterization.num_outputs(process)

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        return torch.zeros(*tokens.shape, 1)

    def head(self, hidden: Tensor) -> Tensor:
        return self.logits.expand(*hidden.shape[:-1], -1)


@dataclass(frozen=True)
class Even(Keys):
    """Keys whose numbers for tokens lie in the middles of `DRAWS` equal parts of [0, 1), shuffled over all rows.

    A sampler that draws each token once, by the inverse distribution function, then has at most (largest − smallest
    −log p) / (2 · draws) = 10.8 / 4,000 = 0.003 nats of error of its own: no more than 700,000 independent draws have
    (0.0039, a standard error).
    """

    def uniform(self, shape: tuple[int, ...], purpose: str, dtype: torch.dtype) -> Tensor:
        if purpose != "token":
            return super().uniform(shape, purpose, dtype)
        places = torch.randperm(DRAWS, generator=torch.Generator().manual_seed(self.seed)).reshape(ROWS, LENGTH)
        return ((places[self.rows] + 0.5) / DRAWS).to(dtype)


def nll(law: Array, sampler: str, steps: int | None) -> float:
    """−E[log p] under the Zipf law of samples from a network that says `law`."""
    model = Diffusion(Independent(law), Absorbing(VOCAB), LogLinear(), Conditional())
    assert model.dtype == torch.float32
    made, parts = SAMPLERS[sampler].make(), torch.arange(ROWS).split(BATCH)
    drawn = [sample(model, BATCH, length=LENGTH, sampler=made, steps=steps, generator=Even(1, rows)) for rows in parts]
    return float(-np.log(zipf())[torch.cat([part.tokens for part in drawn]).numpy()].mean())


def gumbel(steps: int) -> Array:
    """The law of tokens that a race of float32 exponentials over tokens and mask draws, in steps of equal chance.

    Each state's chance p / steps comes out r / (e^r − 1) times too small, r = 2^-24 steps / p (`test_o15_draws`).
    """
    r = 2.0**-24 * steps / zipf()
    law = zipf() * r / np.expm1(r)
    return np.asarray(law / law.sum())


def test_resolution() -> None:
    """What the numbers of `Even` can hide is below a third of the tolerance."""
    spread = np.log(zipf()[0]) - np.log(zipf()[-1])
    assert spread / (2 * DRAWS) < TOLERANCE / 3
    u = [Even(1, rows).uniform((BATCH, LENGTH), "token", torch.float64) for rows in torch.arange(ROWS).split(BATCH)]
    assert torch.equal((torch.cat(u) * DRAWS).long().flatten().sort().values, torch.arange(DRAWS))
    deviation = math.sqrt((zipf() * np.log(zipf()) ** 2).sum() - entropy(zipf()) ** 2)
    assert deviation / math.sqrt(7e5) == pytest.approx(0.0039, abs=1e-4)


@pytest.mark.parametrize(
    ("sampler", "steps"),
    [
        *[("ancestral", steps) for steps in (1, 32, 1024)],
        ("euler", 32),
        ("first_hitting", None),
        ("ordered", None),
        *[("any_order", steps) for steps in (16, None)],
        ("bisection", None),
    ],
)
def test_entropy_is_kept(sampler: str, steps: int | None) -> None:
    """Within 0.01 nats of 7.563."""
    assert nll(zipf(), sampler, steps) == pytest.approx(entropy(zipf()), abs=TOLERANCE)


def gumbel_error(steps: int) -> float:
    """How far −E[log p] falls if tokens are drawn by a float32 Gumbel race."""
    return entropy(zipf()) - nll(gumbel(steps), "ancestral", 32)


def test_a_float32_gumbel_race_loses_entropy() -> None:
    """0.055 nats at 8 steps, 0.21 at 32, 1.68 at 1,024: five times the tolerance at least."""
    for steps, lost in ((8, 0.055), (1024, 1.68)):
        assert gumbel_error(steps) == pytest.approx(lost, abs=TOLERANCE)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("sampler", "steps"), [("ancestral", 64)])
def test_independent_draws(sampler: str, steps: int) -> None:
    """700,000 draws without stratification: 0.01 nats, 2.6 standard errors (the seed is fixed)."""
    model = Diffusion(Independent(zipf()), Absorbing(VOCAB), LogLinear(), Conditional())
    generator, total, batches = torch.Generator().manual_seed(0), 0.0, 1400
    for _ in range(batches):
        made = SAMPLERS[sampler].make()
        tokens = sample(model, BATCH, length=LENGTH, sampler=made, steps=steps, generator=generator).tokens
        total += float(-np.log(zipf())[tokens.numpy()].mean()) / batches
    assert total == pytest.approx(entropy(zipf()), abs=TOLERANCE)
