"""Batches are a pure function of (seed, epoch); a loader goes on from any step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.data import BatchLoader, LengthBuckets, SequenceDataset, evaluation_batches
from discdiff.errors import CheckpointError, DiscdiffError
from discdiff.randomness import time_points
from tests.letters import Letters


def dataset(n: int = 50) -> SequenceDataset:
    return SequenceDataset.from_sequences(Letters(), ["abcd"[i % 4] * (1 + i * 7 % 23) for i in range(n)])


def test_an_epoch_has_every_sequence_once() -> None:
    buckets = LengthBuckets(dataset(50).lengths, 8, seed=3, window=2)
    batches = buckets.batches(0)
    assert len(batches) == len(buckets) == 7
    assert sorted(np.concatenate(batches).tolist()) == list(range(50))
    assert {len(batch) for batch in batches} == {7, 8}


def test_batches_are_a_pure_function_of_seed_and_epoch() -> None:
    def make(seed: int, epoch: int) -> list[list[int]]:
        buckets = LengthBuckets(dataset().lengths, 8, seed=seed)
        buckets.batches(epoch + 1)
        return [batch.tolist() for batch in buckets.batches(epoch)]

    assert make(0, 2) == make(0, 2)
    assert make(0, 2) != make(0, 3)
    assert make(0, 2) != make(1, 2)
    # a golden order: it must not change with versions of numpy or torch
    small = LengthBuckets(torch.ones(6, dtype=torch.int64), 2, seed=7)
    assert [batch.tolist() for batch in small.batches(0)] == [[5, 3], [1, 2], [0, 4]]


def test_batches_hold_similar_lengths() -> None:
    lengths = torch.arange(1000) % 97
    spread = [float(np.ptp(lengths.numpy()[batch])) for batch in LengthBuckets(lengths, 10, window=100).batches(0)]
    assert np.mean(spread) < 3
    loose = [float(np.ptp(lengths.numpy()[batch])) for batch in LengthBuckets(lengths, 10, window=1).batches(0)]
    assert np.mean(loose) > 50


def test_a_rows_slot_does_not_tell_its_length() -> None:
    lengths = torch.arange(4096) % 61
    batches = LengthBuckets(lengths, 16).batches(0)
    slots = np.array([lengths.numpy()[batch] for batch in batches]).mean(0)
    assert np.ptp(slots) < 6


def test_sampler_interface() -> None:
    buckets = LengthBuckets(dataset().lengths, 8)
    whole = [batch.tolist() for batch in buckets]
    buckets.start = 3
    assert [batch.tolist() for batch in buckets] == whole[3:]
    buckets.set_epoch(1)
    assert [batch.tolist() for batch in buckets] == [batch.tolist() for batch in buckets.batches(1)] != whole


def test_impossible_sizes_are_refused() -> None:
    for lengths, size in ((torch.ones(3, dtype=torch.int64), 0), (torch.ones(0, dtype=torch.int64), 4)):
        with pytest.raises(DiscdiffError, match="expected at least 1"):
            LengthBuckets(lengths, size)


def test_loader_goes_on_from_any_step() -> None:
    whole = list(BatchLoader(dataset(), 8, steps=20, seed=1))
    assert [batch.step for batch in whole] == list(range(20))
    assert [batch.epoch for batch in whole] == [0] * 7 + [1] * 7 + [2] * 6
    for position in (0, 6, 7, 13, 20):
        first = BatchLoader(dataset(), 8, steps=20, seed=1)
        for _, _ in zip(range(position), first, strict=False):
            pass
        loader = BatchLoader(dataset(), 8, steps=20, seed=1)
        loader.load_state_dict(first.state_dict())
        rest = list(loader)
        assert len(rest) == 20 - position
        for batch, expected in zip(rest, whole[position:], strict=True):
            assert torch.equal(batch.sequences.tokens, expected.sequences.tokens)
            assert torch.equal(batch.strata, expected.strata)
            assert (batch.step, batch.epoch, batch.tokens) == (expected.step, expected.epoch, expected.tokens)


def test_loader_refuses_another_runs_position() -> None:
    state = BatchLoader(dataset(), 8, steps=20).state_dict()
    for other, name in (
        (BatchLoader(dataset(49), 8, steps=20), "sequences"),
        (BatchLoader(dataset(), 9, steps=20), "batch_size"),
        (BatchLoader(dataset(), 8, steps=20, seed=1), "seed"),
    ):
        with pytest.raises(CheckpointError, match=name):
            other.load_state_dict(state)
    BatchLoader(dataset(), 8, steps=40).load_state_dict(state)


def test_times_are_stratified_and_uniform() -> None:
    times = []
    for batch in BatchLoader(dataset(2000), 8, steps=250, seed=1):
        t = time_points(8, generator=batch.keys(0)).sort().values
        assert (t.diff() - 1 / 8).abs().max() < 1e-9
        times.append(t)
    counts = torch.histc(torch.cat(times).float(), 100, 0, 1)
    assert (counts - 20).abs().max() <= 2, "independent draws would be off by 4 or more"


def test_keys_follow_the_row_not_the_batch() -> None:
    one = BatchLoader(dataset(), 8, steps=7).batch(0)
    row = int(one.sequences.ids[2])  # type: ignore[index]
    for step in range(4):
        other = BatchLoader(dataset(), 16, steps=4).batch(step)
        ids = other.sequences.ids
        assert ids is not None
        if row in ids.tolist():
            there = other.keys(5).uniform((len(ids), 9), "x", torch.float32)[ids.tolist().index(row)]
            assert torch.equal(one.keys(5).uniform((len(one.sequences), 9), "x", torch.float32)[2], there)
            break
    else:
        pytest.fail("row not found")


def test_evaluation_takes_each_sequence_once() -> None:
    data = dataset()
    batches = list(evaluation_batches(data, 8))
    ids = torch.cat([batch.ids for batch in batches if batch.ids is not None])
    assert sorted(ids.tolist()) == list(range(50))
    widths = [batch.tokens.shape[1] for batch in batches]
    assert widths == sorted(widths, reverse=True)
