"""Files and strings become encoded data sets; what is wrong with them is said early and with its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from discdiff.data import SequenceDataset
from discdiff.errors import DataError, DiscdiffError, UnknownTokenError
from tests.letters import Letters

WORDS = ["abc", "d", "abcdabcd", "bb", "abc", "ca"]


def write(folder: Path, *lines: str) -> Path:
    path = folder / "letters.txt"
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_batch_holds_the_sequences() -> None:
    data = SequenceDataset.from_sequences(Letters(), WORDS)
    batch = data.batch([2, 0, 5])
    assert [Letters().decode(row) for row in batch.lists()] == ["abcdabcd", "abc", "ca"]
    assert batch.tokens.shape == (3, 8)
    assert batch.lengths.tolist() == [8, 3, 2]
    assert batch.ids is not None
    assert batch.ids.tolist() == [2, 0, 5]
    assert batch.labels is None
    assert data.texts() == WORDS
    assert data.texts([1]) == ["d"]
    assert data.lengths.tolist() == [3, 1, 8, 2, 3, 2]
    assert data.tokens == 19
    assert data.length == 8


def test_batch_takes_tensors_arrays_and_nothing() -> None:
    data = SequenceDataset.from_sequences(Letters(), WORDS)
    for indices in (torch.tensor([1, 3]), np.array([1, 3]), [1, 3]):
        assert data.batch(indices).lists() == [[3], [1, 1]]
    assert len(data.batch([])) == 0


def test_large_vocabularies_fit() -> None:
    class Numbers(Letters):
        @property
        def vocab_size(self) -> int:
            return 70_000

        def encode(self, sequence: str, *, record: object | None = None) -> list[int]:
            return [int(part) for part in sequence.split()]

    assert SequenceDataset.from_sequences(Numbers(), ["69999 0"]).batch([0]).tokens.tolist() == [[69999, 0]]
    with pytest.raises(DiscdiffError, match="outside its vocabulary"):
        SequenceDataset.from_sequences(Numbers(), ["70000"])


def test_read_gives_labels_and_titles(tmp_path: Path) -> None:
    path = write(tmp_path, "abc\tfirst\t10", "d\t\t2", "bb\tthird\t2", "a\t\t")
    data = SequenceDataset.read(Letters(), path)
    assert data.label_names == ["2", "10"]
    assert data.labels is not None
    assert data.labels.tolist() == [1, 0, 0, -1]
    labels = data.batch([3, 0]).labels
    assert labels is not None
    assert labels.tolist() == [-1, 1]
    assert data.titles([0, 1, 2]) == ["first", "record 2", "third"]


def test_labels_of_the_training_set_are_kept(tmp_path: Path) -> None:
    data = SequenceDataset.read(Letters(), write(tmp_path, "a\tx\tyes"), label_names=["no", "yes"])
    assert data.labels is not None
    assert data.labels.tolist() == [1]
    with pytest.raises(DataError, match=r"letters.txt, record y: label 'maybe' is not one of 'no', 'yes'"):
        SequenceDataset.read(Letters(), write(tmp_path, "a\ty\tmaybe"), label_names=["no", "yes"])


def test_labels_of_strings() -> None:
    data = SequenceDataset.from_sequences(Letters(), ["a", "b"], labels=[1, 0])
    assert data.label_names == ["0", "1"]
    with pytest.raises(DataError, match="1 labels for 2 sequences"):
        SequenceDataset.from_sequences(Letters(), ["a", "b"], labels=[1])


def test_empty_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sequences"):
        SequenceDataset.from_sequences(Letters(), [])
    with pytest.raises(DataError, match=r"letters.txt: no sequences in it"):
        SequenceDataset.read(Letters(), write(tmp_path))
    with pytest.raises(DataError, match=r"letters.txt, record 2: the sequence is empty"):
        SequenceDataset.read(Letters(), write(tmp_path, "a", "", "b"))


def test_unknown_token_names_file_record_and_place(tmp_path: Path) -> None:
    with pytest.raises(UnknownTokenError, match=r"letters.txt, record 2, column 3: 'x' is not in the alphabet"):
        SequenceDataset.read(Letters(), write(tmp_path, "abc", "abx"))


def test_long_sequences(tmp_path: Path) -> None:
    path = write(tmp_path, *WORDS)
    with pytest.raises(DataError, match=r"3 of 6 sequences are longer than length=2 .*8 tokens, record 3.*length=8"):
        SequenceDataset.read(Letters(), path, length=2)
    skipped = SequenceDataset.read(Letters(), path, length=2, on_long="skip")
    assert skipped.texts() == ["d", "bb", "ca"]
    assert "3 of 6" in skipped.notes[0]
    assert "left out" in skipped.notes[0]
    assert skipped.titles([1]) == ["record 4"]
    cropped = SequenceDataset.read(Letters(), path, length=2, on_long="crop")
    assert cropped.texts() == ["ab", "d", "ab", "bb", "ab", "ca"]
    assert "3 of 6" in cropped.notes[0]
    assert "cut" in cropped.notes[0]


def test_all_sequences_too_long_says_what_would_do() -> None:
    with pytest.raises(DataError, match=r"all 2 sequences are longer than length=1 .*at least 2"):
        SequenceDataset.from_sequences(Letters(), ["abc", "ab"], length=1, on_long="skip")


def test_streams_are_cut_into_blocks(tmp_path: Path) -> None:
    path = write(tmp_path, "abcda", "bcd", "abcd", "ab")
    data = SequenceDataset.read(Letters(streams=True), path, length=4)
    assert data.texts() == ["abcd", "abcd", "abcd"]
    assert data.notes == ["the last 2 of 14 tokens do not fill a block and are left out"]
    assert data.titles([1]) == ["tokens 5 to 8"]
    with pytest.raises(DataError, match="14 tokens do not fill one block of length=15"):
        SequenceDataset.read(Letters(streams=True), path, length=15)
    with pytest.raises(DataError, match="give their length"):
        SequenceDataset.read(Letters(streams=True), path)


def test_end_token_is_content() -> None:
    data = SequenceDataset.from_sequences(Letters(), WORDS, length=8, end_token=True)
    batch = data.batch([0, 2])
    assert data.vocab_size == 5
    assert batch.lengths.tolist() == [8, 8]
    assert batch.tokens.tolist() == [[0, 1, 2, 4, 4, 4, 4, 4], [0, 1, 2, 3, 0, 1, 2, 3]]
    assert Letters().decode_all(data.length_model.cut(batch)) == ["abc", "abcdabcd"]
    assert data.lengths.tolist() == [3, 1, 8, 2, 3, 2]
    assert data.model_lengths.tolist() == [8] * 6


def test_split_follows_content_alone() -> None:
    words = [f"{a}{b}{c}{d}" for a in "abcd" for b in "abcd" for c in "abcd" for d in "abcd"]
    train, valid = SequenceDataset.from_sequences(Letters(), words + words).split(0.2, seed=1)
    assert set(train.texts()).isdisjoint(valid.texts())
    assert len(train) + len(valid) == 512
    assert 50 < len(valid) < 160
    _, again = SequenceDataset.from_sequences(Letters(), sorted(words, reverse=True)).split(0.2, seed=1)
    assert set(again.texts()) == set(valid.texts())
    _, other = SequenceDataset.from_sequences(Letters(), words).split(0.2, seed=2)
    assert set(other.texts()) != set(valid.texts())


def test_split_keeps_ids_and_titles() -> None:
    data = SequenceDataset.from_sequences(Letters(), ["abc", "d", "bb"], labels=["x", "y", "x"])
    train, valid = data.split(0.01)
    assert len(valid) == 1
    ids = valid.batch([0]).ids
    assert ids is not None
    assert data.texts(ids.tolist()) == valid.texts()
    assert valid.titles(ids) == [f"record {int(ids) + 1}"]
    assert train.label_names == ["x", "y"]


def test_split_of_a_stream_takes_its_end() -> None:
    data = SequenceDataset.from_sequences(Letters(streams=True), ["aabbccdd" * 5], length=4)
    train, valid = data.split(0.2)
    assert len(train) == 8
    assert train.titles(train.batch([7]).ids)[0] == "tokens 29 to 32"  # type: ignore[arg-type]
    assert valid.texts() == ["aabb", "ccdd"]


@pytest.mark.parametrize(
    ("words", "fraction", "said"),
    [
        (["abc"], 0.5, "1 sequences cannot be split"),
        (["abc", "abc"], 0.5, r"2 sequences \(all of them the same\) cannot be split"),
        (["abc", "cba"], 0.9999, "2 sequences cannot be split"),
    ],
)
def test_split_that_leaves_nothing_is_refused(words: list[str], fraction: float, said: str) -> None:
    with pytest.raises(DataError, match=said):
        SequenceDataset.from_sequences(Letters(), words).split(fraction)


def test_checksum_tells_data_apart() -> None:
    one, same, other = (SequenceDataset.from_sequences(Letters(), w) for w in (["ab", "c"], ["ab", "c"], ["a", "bc"]))
    assert one.checksum() == same.checksum() != other.checksum()
