"""Hugging Face data sets by name, where a file is expected: local folders stand for the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from discdiff.data import SequenceDataset
from discdiff.data.files import is_hub, is_table, read_table
from discdiff.data.tables import columns_of
from discdiff.errors import DataError, MissingDependencyError
from discdiff.experiment import Experiment
from discdiff.records import Record
from domains.dna import DNA
from domains.text import Text
from domains.tokens import Tokens

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No network, and no cache but one of the tests' own."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def promoters() -> Any:
    rows = {"id": ["a", "b", "c"], "dna": ["ACGT", "GG", "TTT"], "y": [0, 1, 0]}
    return datasets.Dataset.from_dict(rows).cast_column("y", datasets.ClassLabel(names=["no", "yes"]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set with two splits, as `save_to_disk` writes it."""
    whole = promoters()
    datasets.DatasetDict({"train": whole, "test": whole.select([1])}).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_name_has_its_split_and_column(folder: Path) -> None:
    name = f"hf://{folder}?split=train&column=dna"
    assert list(DNA().read(name, label_column="y")) == [
        Record("ACGT", "a", "no", 1),
        Record("GG", "b", "yes", 2),
        Record("TTT", "c", "no", 3),
    ]
    assert [r.sequence for r in DNA().read(name, where={"y": "yes"})] == ["GG"]
    assert [r.name for r in DNA().read(f"hf://{folder}?split=test", sequence_column="dna")] == ["b"]


def test_train_is_taken_where_nothing_is_said(folder: Path) -> None:
    assert len(list(DNA().read(folder, sequence_column="dna"))) == 3


@pytest.mark.parametrize("spelled", ["hf://{}", "hf:{}", "{}"])
def test_a_path_that_lost_a_slash_is_the_same_name(folder: Path, spelled: str) -> None:
    # pathlib makes `hf:/name` of `hf://name`
    name = Path(spelled.format(folder))
    assert is_hub(name)
    assert is_table(name)
    assert columns_of(name) == ["id", "dna", "y"]


def test_one_set_without_splits(tmp_path: Path) -> None:
    promoters().save_to_disk(tmp_path / "one")
    assert len(list(DNA().read(tmp_path / "one", sequence_column="dna"))) == 3
    with pytest.raises(DataError, match=r"no split 'train' \(it is one set without splits"):
        list(DNA().read(f"hf://{tmp_path / 'one'}?split=train"))


def test_a_builder_with_files(tmp_path: Path) -> None:
    promoters().select([0, 1]).to_json(tmp_path / "0.jsonl")
    promoters().select([2]).to_json(tmp_path / "1.jsonl")
    name = f"hf://json?data_files={tmp_path}/*.jsonl&column=dna"
    assert [r.sequence for r in DNA().read(name)] == ["ACGT", "GG", "TTT"]


def test_a_folder_of_files(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    promoters().to_parquet(tmp_path / "repository" / "train-00000.parquet")
    assert [r.sequence for r in DNA().read(f"hf://{tmp_path}/repository?column=dna")] == ["ACGT", "GG", "TTT"]


def test_lists_are_tokens(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"input_ids": [[1, 2], [3]]}).save_to_disk(tmp_path / "ids")
    assert [r.sequence for r in Tokens(5).read(tmp_path / "ids")] == ["1 2", "3"]
    with pytest.raises(DataError, match=r"column 'input_ids' holds list<.*not text"):
        list(Text(lines=True).read(tmp_path / "ids", sequence_column="input_ids"))


def test_faults_of_rows(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"sequence": ["AC", None, "AN", "GT"]}).save_to_disk(tmp_path / "some")
    with pytest.raises(DataError, match=r"some, record 2: the sequence \(column 'sequence'\) is empty"):
        list(DNA().read(tmp_path / "some"))
    data = SequenceDataset.read(DNA(), tmp_path / "some", on_error="skip")
    assert data.texts() == ["AC", "GT"]
    assert [(fault.record, fault.column) for fault in data.skipped] == [("2", None), ("3", 2)]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?split=valid", "no split 'valid' (splits found: train, test; name one by ?split=)"),
        ("?column=seq", "no column 'seq' (columns found: id, dna, y"),
        ("", "no column of sequences (columns found: id, dna, y; name one by sequence_column=)"),
        ("?splt=train", "unknown option 'splt' (known: split, column, config, revision, data_files)"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(folder: Path, query: str, said: str) -> None:
    name = f"hf://{folder}{query}"
    with pytest.raises(DataError) as caught:
        list(DNA().read(name))
    assert str(caught.value).startswith(name)
    assert said in str(caught.value)


def test_no_such_data_set() -> None:
    with pytest.raises(DataError, match=r"hf://nobody/nothing: cannot be loaded: .*check the name"):
        list(DNA().read("hf://nobody/nothing"))
    with pytest.raises(DataError, match="no name"):
        list(DNA().read("hf://"))


def test_code_of_others_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "scripted"
    folder.mkdir()
    (folder / "scripted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(DataError):
        list(DNA().read(f"hf://{folder}"))
    assert not (tmp_path / "ran").exists()


def test_without_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match="datasets is needed here"):
        list(read_table(folder))


def test_streams_stop_where_the_reader_does(tmp_path: Path) -> None:
    lines = "".join(f'{{"text": "row {i}"}}\n' for i in range(5000))
    (tmp_path / "rows.jsonl").write_text(lines)
    name = f"hf://json?data_files={tmp_path / 'rows.jsonl'}"
    streamed = read_table(name, streaming=True)
    assert next(streamed).sequence == "row 0"
    streamed.close()  # type: ignore[attr-defined]


def test_rows_are_not_copied_into_memory(tmp_path: Path) -> None:
    import pyarrow as pa

    # Arrow's own allocations, not the mapped file, while 64 MB of rows pass by
    datasets.Dataset.from_dict({"sequence": ["ACGT" * 4000] * 4000}).save_to_disk(tmp_path / "large")
    before, most = pa.total_allocated_bytes(), 0
    for record in read_table(tmp_path / "large"):
        most = max(most, pa.total_allocated_bytes() - before)
        assert len(record.sequence) == 16_000
    assert most < 16 << 20


def test_an_experiment_learns_from_a_name(folder: Path) -> None:
    data = {"train": f"hf://{folder}?split=train&column=dna", "valid": f"hf://{folder}?split=test&column=dna"}
    experiment = Experiment.load(values={"domain": "dna", "data": data | {"root": "elsewhere"}})
    parts = experiment.read()
    train, valid = parts.train, parts.valid
    assert isinstance(train, SequenceDataset)
    assert isinstance(valid, SequenceDataset)
    assert (train.texts(), valid.texts()) == (["ACGT", "GG", "TTT"], ["GG"])


def test_a_cached_data_set_is_found_again_by_its_content(tmp_path: Path, folder: Path) -> None:
    name, cache = f"hf://{folder}?split=train&column=dna", tmp_path / "cache"
    first = SequenceDataset.read(DNA(), name, cache=cache)
    assert first.texts() == ["ACGT", "GG", "TTT"]
    entries = list((cache / "tokens").iterdir())
    again = SequenceDataset.read(DNA(), name, cache=cache)
    assert again.texts() == first.texts()
    assert "encoded before" in again.notes[-1]
    SequenceDataset.read(DNA(), f"hf://{folder}?split=test&column=dna", cache=cache)
    assert len(list((cache / "tokens").iterdir())) == len(entries) + 1
