"""The length model draws the training set's lengths and undoes the end token."""

from __future__ import annotations

import json

import pytest
import torch

from discdiff.data import LengthModel
from discdiff.errors import CheckpointError, DiscdiffError
from discdiff.randomness import Keys
from discdiff.sequences import Sequences


def test_sample_follows_the_counts(generator: torch.Generator) -> None:
    model = LengthModel.of([3] * 10 + [7] * 30 + [4] * 60)
    assert (model.lengths, model.counts, model.shortest, model.longest) == ((3, 4, 7), (10, 60, 30), 3, 7)
    drawn = model.sample(20_000, generator)
    assert drawn.dtype == torch.int64
    share = [(drawn == length).double().mean().item() for length in model.lengths]
    assert share == pytest.approx([0.1, 0.6, 0.3], abs=0.015)


def test_sample_follows_keys_row_by_row() -> None:
    model = LengthModel.of(range(1, 100))
    whole = model.sample(10, Keys(0, torch.arange(10)))
    assert torch.equal(whole[4:7], model.sample(3, Keys(0, torch.arange(4, 7))))


def test_json_round_trip() -> None:
    for model in (LengthModel.of([5, 2, 5]), LengthModel.of([9], end=20)):
        assert LengthModel.from_json(json.loads(json.dumps(model.to_json()))) == model
    good = LengthModel.of([5]).to_json()
    for bad in (
        {},
        {**good, "lengths": [0]},
        {**good, "counts": []},
        {**good, "counts": "x"},
        {**good, "lengths": None},
    ):
        with pytest.raises(CheckpointError, match="length model"):
            LengthModel.from_json(bad)


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(DiscdiffError, match="at least one"):
        LengthModel.of([])


def test_cut_and_fill_undo_each_other() -> None:
    model = LengthModel.of([5, 5], end=9)
    batch = Sequences.from_lists([[1, 2], [1, 2, 3, 4, 5], [3]], labels=[0, 1, 2])
    filled = model.fill(batch)
    assert filled.tokens.tolist() == [[1, 2, 9, 9, 9], [1, 2, 3, 4, 5], [3, 9, 9, 9, 9]]
    assert filled.lengths.tolist() == [5, 5, 5]
    assert model.cut(filled).lists() == batch.lists()
    assert model.fill(Sequences.from_lists([[1]])).tokens.tolist() == [[1, 9, 9, 9, 9]]
    # what follows the first end token is no content, whatever it is
    assert model.cut(Sequences.full(torch.tensor([[1, 9, 2, 9, 3], [9, 1, 1, 1, 1]]))).lists() == [[1], []]
    with pytest.raises(DiscdiffError, match="at most 5"):
        model.fill(Sequences.from_lists([[1] * 6]))


def test_without_an_end_token_nothing_changes() -> None:
    model = LengthModel.of([2, 3])
    batch = Sequences.from_lists([[1, 2], [1, 2, 3]])
    assert model.cut(batch) is batch
    assert model.fill(batch) is batch
