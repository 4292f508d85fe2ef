"""A model and data so small that a step takes milliseconds."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import discdiff as dd
from discdiff.data import SequenceDataset
from discdiff.training import FitResult, fit
from tests.letters import Letters

# Probability that a letter repeats the one before it.
STAY = 0.85


def words(n: int, seed: int) -> list[str]:
    """Strings of 4 to 10 letters that mostly repeat."""
    rng = random.Random(seed)
    made = []
    for _ in range(n):
        word = rng.choice("abcd")
        while len(word) < rng.randint(4, 10):
            word += word[-1] if rng.random() < STAY else rng.choice("abcd")
        made.append(word)
    return made


@pytest.fixture(scope="session")
def train() -> SequenceDataset:
    return SequenceDataset.from_sequences(Letters(), words(200, 0))


@pytest.fixture(scope="session")
def valid() -> SequenceDataset:
    return SequenceDataset.from_sequences(Letters(), words(40, 1))


def make_model(
    dropout: float = 0.0, *, dim: int = 16, depth: int = 1, vocab_size: int = 4, pack: bool | None = None
) -> dd.Diffusion:
    process = dd.Absorbing(vocab_size)
    network = dd.Transformer(process.num_states, dim=dim, depth=depth, heads=2, dropout=dropout, pack=pack)
    return dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())


@pytest.fixture
def model() -> dd.Diffusion:
    return make_model()


@pytest.fixture(scope="session")
def quick_fit() -> Callable[..., FitResult]:
    """Return `fit` with settings for tests: silent, few rows a batch, no samples, no TensorBoard."""

    def run(model: dd.Diffusion, train: Any, **options: Any) -> FitResult:
        defaults: dict[str, Any] = {
            "batch_size": 16,
            "learning_rate": 5e-3,
            "samples": 0,
            "progress": False,
            "loggers": ("csv",),
            "device": "cpu",
        }
        return fit(model, train, **(defaults | options))

    return run
