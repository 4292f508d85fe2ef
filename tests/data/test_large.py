"""Nothing that a data set does takes memory by the size of its tokens."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import discdiff as dd
from discdiff.data import BatchLoader, LengthBuckets, LengthModel, SequenceDataset, dataset, encoding, order
from tests.letters import Letters


def proteins(path: Path, records: int) -> Path:
    rng = np.random.default_rng(records)
    letters = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", np.uint8)
    with path.open("wb") as file:
        for number in range(records):
            file.write(b">p%d\n%s\n" % (number, letters[rng.integers(0, 20, 2000)].tobytes()))
    return path


def peak(work: Callable[[], object]) -> int:
    """The most bytes that Python and numpy had allocated at once, above those before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_TOKENS", 1 << 16)
    monkeypatch.setattr(dataset, "_BLOCK", 1 << 16)
    protein, cache = dd.domain("protein"), tmp_path / "cache"
    most = []
    for records in (1000, 8000):
        path = proteins(tmp_path / f"{records}.fasta", records)
        made = peak(lambda path=path: SequenceDataset.read(protein, path, cache=cache))  # type: ignore[misc]

        def used(path: Path = path) -> None:
            data = SequenceDataset.read(protein, path, cache=cache)
            train, valid = data.split(0.1)
            assert int(train.token_counts().sum() + valid.token_counts().sum()) == data.tokens
            train.checksum()
            assert train.length_model.longest == 2000
            for batch in BatchLoader(train, 8, steps=3):
                train.titles(batch.sequences.ids.tolist())  # type: ignore[union-attr]

        most.append((made, peak(used)))
    (made_small, used_small), (made_large, used_large) = most
    # 14 MB of tokens more: neither has them, nor a tenth of them
    assert made_large - made_small < 1_400_000
    assert used_large - used_small < 1_400_000
    in_memory = peak(lambda: SequenceDataset.read(protein, tmp_path / "8000.fasta", cache=False))
    assert in_memory > 16_000_000  # what the two above would be, were the arrays not mapped


def test_counts_of_a_part_are_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_BLOCK", 5)
    words = ["abc", "d", "abcdabcd", "bb", "abc", "ca"]
    data = SequenceDataset.from_sequences(Letters(), words)
    for rows in ([0, 1, 2, 3, 4, 5], [2], [5, 0], [3, 3], [-1]):
        expected = [sum(words[row].count(letter) for row in rows) for letter in "abcd"]
        assert data.subset(rows).token_counts().tolist() == expected
    assert data.token_counts().tolist() == [5, 6, 5, 3]


def test_parts_of_parts_keep_their_rows() -> None:
    data = SequenceDataset.from_sequences(Letters(), ["a", "b", "c", "d"], labels=[0, 1, 0, 1])
    part = data.subset([3, 1, 0]).subset(torch.tensor([2, 0]))
    assert part.texts() == ["a", "d"]
    batch = part.batch([1])
    assert batch.ids is not None
    assert batch.labels is not None
    assert (batch.ids.tolist(), batch.labels.tolist()) == ([3], [1])
    assert part.labels is not None
    assert part.labels.tolist() == [0, 1]
    assert part.titles([3]) == ["record 4"]
    with pytest.raises(IndexError):
        data.batch([4])
    with pytest.raises(IndexError):
        part.batch([2])


def test_tokens_take_as_few_bytes_as_the_vocabulary_needs() -> None:
    assert [encoding.token_dtype(size).name for size in (2, 255, 256, 65_535, 65_536)] == [
        "uint8", "uint8", "uint16", "uint16", "int32",
    ]  # fmt: skip


def test_the_order_does_not_depend_on_the_parts_it_is_made_in(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = torch.arange(100) % 7
    whole = [batch.tolist() for batch in LengthBuckets(lengths, 8, seed=3).batches(2)]
    monkeypatch.setattr(order, "_HASHED", 9)
    assert [batch.tolist() for batch in LengthBuckets(lengths, 8, seed=3).batches(2)] == whole


def test_one_length_for_all_is_counted_without_a_list() -> None:
    lengths = torch.tensor(7).expand(10**12)
    assert LengthModel.of(lengths) == LengthModel((7,), (10**12,))


def test_an_epochs_order_takes_one_number_a_sequence() -> None:
    lengths = torch.arange(200_000) % 50
    buckets = LengthBuckets(lengths, 4)
    most = peak(lambda: buckets.batches(0))
    tracemalloc.start()
    kept = LengthBuckets(lengths, 4)
    kept.batches(0)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 200_000 * 8 * 2  # the sequences, and where each of 50,000 batches of 4 begins and comes
    assert most < 200_000 * 8 * 5


def test_batches_are_a_sequence() -> None:
    batches = LengthBuckets(torch.arange(10), 3, seed=1).batches(0)
    assert len(batches) == 4
    assert batches[-1].tolist() == list(batches)[3].tolist()
    assert [batch.tolist() for batch in batches[1:3]] == [batches[1].tolist(), batches[2].tolist()]
