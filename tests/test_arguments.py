"""Arguments of another kind are told by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import discdiff as dd
from discdiff.data import LengthModel, SequenceDataset
from discdiff.errors import DiscdiffWarning, IncompatibleError
from discdiff.pipeline import Pipeline
from tests.test_pipeline import trained

free: Any = dd  # of types


@cache
def pipe() -> Pipeline:
    """A small run of DNA."""
    dna = dd.domain("dna")
    return Pipeline(trained(dna.vocab_size), dna, LengthModel.of([4, 6]), 6)


def _encoded(pipeline: Pipeline) -> SequenceDataset:
    return SequenceDataset.from_sequences(pipeline.domain, ["ACGT", "AC"])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda pipe: pipe.sample("two"), "sample: n: got str 'two', expected an integer"),
        (lambda pipe: pipe.sample(2.5), "sample: n: got float 2.5, expected an integer"),
        (lambda pipe: pipe.sample(True), "sample: n: got bool True"),
        (lambda pipe: pipe.sample(2, length=4.5), "sample: length: got float 4.5"),
        (lambda pipe: pipe.sample(2, length=[4, 5]), "sample: length: got list"),
        (lambda pipe: pipe.sample(2, steps="many"), "sample: steps: got str 'many', expected an integer"),
        (lambda pipe: pipe.sample(2, seed="x"), "sample: seed: got str 'x'"),
        (lambda pipe: pipe.sample(2, temperature="hot"), "sample: temperature: got str 'hot', expected a number"),
        (lambda pipe: pipe.infill(None, 2), "infill: template: got NoneType None, expected a string"),
        (lambda pipe: pipe.infill("ACNN", "two"), "sample: n: got str"),
        (
            lambda pipe: free.fit(pipe.model, ["ACGT"]),
            "fit: train: got list .* SequenceDataset.from",
        ),
        (lambda pipe: free.fit(pipe, _encoded(pipe)), "fit: model: got Pipeline"),
        (
            lambda pipe: free.fit(pipe.model, _encoded(pipe), loss="AnyOrder"),
            "fit: loss: got str 'AnyOrder'",
        ),
        (
            lambda pipe: free.nelbo(pipe.model, torch.zeros(2, 4), generator=torch.Generator()),
            "nelbo: sequences: got Tensor",
        ),
        (
            lambda pipe: free.sample(pipe.model, 2, length=4, generator=0),
            "sample: generator: got int 0",
        ),
        (lambda pipe: free.sample(pipe.model, "two", length=4, generator=torch.Generator()), "sample: batch: got str"),
        (
            lambda pipe: free.Diffusion(pipe.model.process, pipe.model.network, pipe.model.schedule, None),
            "Diffusion: network: got Absorbing",
        ),
    ],
)
def test_arguments_of_another_kind(call: Callable[[Any], object], said: str) -> None:
    """Told by name, before any work, instead of in the words of what stumbles over them."""
    with pytest.raises(IncompatibleError, match=said):
        call(pipe())


def test_numbers_of_numpy_are_numbers() -> None:
    typeless: Any = pipe()
    first = typeless.sample(2, length=4, temperature=1.0, seed=3)
    assert typeless.sample(np.int64(2), length=np.int32(4), temperature=np.float64(1), seed=np.int64(3)) == first


@pytest.mark.parametrize("asked", [{"length": 7}, {"rules": {"length": "7-9"}}])
def test_lengths_that_no_training_sequence_had_are_told(asked: dict[str, Any]) -> None:
    text = dd.domain("text", tokenizer="characters", lines=True).fit(["abc"])
    made: Any = Pipeline(trained(text.vocab_size), text, LengthModel.of([4, 6]), 12)
    with pytest.warns(DiscdiffWarning, match="7 tokens or more are asked for; .* training set has 6, so") as told:
        assert {len(text) for text in made.sample(4, **asked)} <= {7, 8, 9}
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.sample(2, rules={"length": "5-9"})
        made.infill("[MASK:6]", 2)
    with pytest.warns(DiscdiffWarning, match="7 tokens or more"):
        made.infill("a[MASK:6]", 2)
