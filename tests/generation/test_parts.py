"""Part files: what stands in them, and that damage is seen."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

import discdiff as dd
from discdiff.cli.jobs import FORMATS
from discdiff.data import LengthModel
from discdiff.errors import DiscdiffError, DiscdiffWarning, IncompatibleError
from discdiff.pipeline import Pipeline, read_parts
from discdiff.pipeline.part_formats import FormatName, Own
from discdiff.records import Record
from tests.generation.conftest import CUT, contents, trained


def test_formats_of_the_command_line() -> None:
    assert get_args(FormatName) == FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_formats_hold_the_same(name: FormatName, pipe: Pipeline, whole: Path, tmp_path: Path) -> None:
    pipe.sample_to(tmp_path, 50, format=name, **CUT)
    wanted, found = list(read_parts(whole)), list(read_parts(tmp_path))
    if name == "own":
        wanted = [{key: row[key] for key in ("index", "sequence")} for row in wanted]
    assert found == wanted
    assert {path.suffix for path in tmp_path.glob("part-*")} == {{"own": ".fasta"}.get(name, f".{name}")}


def test_own_files_together_are_one_file(pipe: Pipeline, tmp_path: Path) -> None:
    pipe.sample_to(tmp_path, 30, format="own", **CUT)
    stream = io.StringIO()
    strings = pipe.sample(30, steps=4)
    pipe.domain.write((Record(text, f"sample_{i}", None, i) for i, text in enumerate(strings, 1)), stream)
    assert "".join(content.decode() for content in contents(tmp_path).values()) == stream.getvalue()


def test_pandas_reads_parts(pipe: Pipeline, whole: Path) -> None:
    import pandas as pd

    table = pd.concat(map(pd.read_parquet, sorted(whole.glob("part-*.parquet"))))
    assert list(table["sequence"]) == pipe.sample(50, steps=4)
    assert list(table["index"]) == list(range(50))
    assert str(table.dtypes["calls"]) == "int64"


def test_labels_and_what_is_not_valid(tmp_path: Path) -> None:
    smiles = dd.domain("smiles")
    lengths = LengthModel.of([3, 5, 8])
    pipe = Pipeline(trained(smiles, num_labels=3), smiles, lengths, 8, ["low", "middle", "high"])
    pipe.sample_to(tmp_path / "turns", 10, part_size=4, steps=3)
    rows = list(read_parts(tmp_path / "turns"))
    assert [row["label"] for row in rows] == (["low", "middle", "high"] * 4)[:10]
    assert [row["sequence"] for row in rows] == pipe.sample(10, steps=3)
    assert [row["reason"] for row in rows] == [smiles.invalid(row["sequence"]) for row in rows]
    assert [row["valid"] for row in rows] == [row["reason"] is None for row in rows]
    assert not all(row["valid"] for row in rows)
    pipe.sample_to(tmp_path / "one", 6, part_size=4, steps=3, labels="high")
    assert {row["label"] for row in read_parts(tmp_path / "one")} == {"high"}
    with pytest.raises(IncompatibleError, match="label: got 'huge', expected one of low, middle, high"):
        pipe.sample_to(tmp_path / "none", 6, labels="huge")
    assert not (tmp_path / "none").exists()


def test_certificates(pipe: Pipeline, tmp_path: Path) -> None:
    """What each sample's schedule loses stands beside it."""
    measured = Pipeline(pipe.model, pipe.domain, pipe.lengths, pipe.max_length)
    measured.measure_profile(n=32)
    for name in ("parquet", "jsonl"):
        measured.sample_to(tmp_path / name, 12, format=name, error=0.2, part_size=8)
        found = [row["certificate"] for row in read_parts(tmp_path / name)]
        assert found == [each.to_json() for each in measured.sample(12, error=0.2).certificates]
        assert all(0 <= each["nats"] <= 0.2 for each in found)
    other = Pipeline(pipe.model, pipe.domain, pipe.lengths, pipe.max_length)
    other.measure_profile(n=40)
    with pytest.raises(IncompatibleError, match="the run's profile"):
        other.sample_to(tmp_path / "jsonl", 12, format="jsonl", error=0.2, part_size=8)


def flipped(content: bytes) -> bytes:
    """One bit of the first page."""
    return content[:40] + bytes([content[40] ^ 1]) + content[41:]


DAMAGE: dict[str, tuple[FormatName, Callable[[bytes], bytes], str]] = {
    "truncated": ("parquet", lambda content: content[: len(content) // 2], "cannot be read"),
    "empty": ("parquet", lambda content: b"", "cannot be read"),
    "flipped": ("parquet", flipped, "cannot be read"),
    "a line short": ("jsonl", lambda content: content[: content[:-1].rindex(b"\n") + 1], "holds 11 rows, expected 12"),
    "half a line": ("jsonl", lambda content: content[:-30], "cannot be read"),
    "rows of elsewhere": (
        "jsonl",
        lambda content: b"".join(
            json.dumps(json.loads(line) | {"index": i}).encode() + b"\n" for i, line in enumerate(content.splitlines())
        ),
        "holds rows 0 to 11, expected 12 to 23",
    ),
    "a record short": ("own", lambda content: content[: content.rindex(b">")], "holds 11 rows, expected 12"),
    "no header": ("own", lambda content: content[content.index(b"\n") + 1 :], "cannot be read"),
    "not text": ("own", lambda content: b"\xff\n" * 12, "cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_parts_are_made_again(damage: str, pipe: Pipeline, tmp_path: Path) -> None:
    name, change, fault = DAMAGE[damage]
    pipe.sample_to(tmp_path, 30, format=name, **CUT)
    before = contents(tmp_path)
    (damaged,) = tmp_path.glob("part-000001.*")
    damaged.write_bytes(change(damaged.read_bytes()))
    with pytest.raises(DiscdiffError, match=r"part-000001\.\w+: .*makes it again"):
        list(read_parts(tmp_path))
    with pytest.warns(DiscdiffWarning, match=rf"part-000001\.\w+: {fault}.*; it is made again"):
        report = pipe.sample_to(tmp_path, 30, format=name, **CUT)
    assert (report.found, report.made) == (2, 12)
    assert contents(tmp_path) == before


def test_a_line_break_within_a_sample() -> None:
    """Is told, not written: the file would hold other records than were drawn."""
    smiles = dd.domain("smiles")
    row = {"index": 0, "sequence": "CC\nO", "label": None}
    with pytest.raises(DiscdiffError, match="a sample has a line break"):
        Own("smi", smiles).encode([row])
    assert Own("smi", smiles).encode([row | {"sequence": "CCO"}]) == b"CCO\tsample_1\n"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "labels": ({"labels": ["a", "b"]}, "labels: got one a string; a job takes one class for all"),
    "seed": ({"seed": 2**64}, "seed: got 18446744073709551616, expected an integer of 64 bits"),
    "check": ({"check": lambda text: True}, "tag: got none, with check, expected a name for what cannot be written"),
    "guidance": ({"guidance": lambda model: model, "reward": len}, "tag: got none, with reward and guidance"),
    "devices": ({"check": bool, "tag": "t", "devices": 2}, "devices: got 2, with check, expected 1"),
    "no devices": ({"devices": 0}, "devices: got 0, expected 1 or more"),
    "shard": ({"shard": (3, 2)}, "shard: got 3/2, expected i/n with i from 1 to n"),
    "format": ({"format": "csv"}, "format: got 'csv', expected parquet or jsonl or own"),
    "error": ({"format": "own", "error": 0.1, "grid": None}, "error"),
    "argument": ({"stepz": 3}, "sample: no argument 'stepz'.*Did you mean 'steps'?"),
    "n": ({"n": 0}, "n: got 0, expected a whole number from 1 on"),
    "parts": ({"n": 10**9, "part_size": 10}, "part_size: got 10, which makes 100,000,000 parts.*give 1000 or more"),
    "batch": ({"batch_size": 0}, "batch_size=0; expected at least 1"),
    "length": ({"length": 13}, "length: got 13, expected 1 to 12"),
    "template": ({"template": "NNQ"}, "'Q'"),
    "rule": ({"rules": {"forbit": "EcoRI"}}, "no rule 'forbit'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_anything_is_written(name: str, pipe: Pipeline, tmp_path: Path) -> None:
    arguments, message = REFUSED[name]
    with pytest.raises(DiscdiffError, match=message):
        pipe.sample_to(tmp_path / "job", **{"n": 8, **arguments})
    assert not list(tmp_path.glob("job/part-*"))


def test_texts_without_ends_have_no_own_files(tmp_path: Path) -> None:
    text = dd.domain("text", tokenizer="characters")
    text.fit(["abc def"])
    pipe = Pipeline(trained(text), text, LengthModel.of([6]), 6)
    with pytest.raises(IncompatibleError, match="'own' of text, whose files do not tell one sample from the next"):
        pipe.sample_to(tmp_path / "job", 4, format="own")
    pipe.sample_to(tmp_path / "job", 4, format="jsonl", steps=2)
    assert [row["sequence"] for row in read_parts(tmp_path / "job")] == pipe.sample(4, steps=2)


def test_infill_and_rules(pipe: Pipeline, tmp_path: Path) -> None:
    how: dict[str, Any] = {"rules": {"forbid": "GGG"}, "steps": 4}
    pipe.sample_to(tmp_path, 20, template="NNTATANN", part_size=8, **how)
    assert [row["sequence"] for row in read_parts(tmp_path)] == pipe.infill("NNTATANN", 20, **how)


def test_a_tag_stands_for_functions(pipe: Pipeline, tmp_path: Path) -> None:
    how: dict[str, Any] = {"check": lambda text: text.count("A") > 1, "tag": "two A", "steps": 4, "part_size": 8}
    pipe.sample_to(tmp_path, 12, **how)
    assert all(row["sequence"].count("A") > 1 for row in read_parts(tmp_path))
    assert pipe.sample_to(tmp_path, 12, **how).made == 0
    with pytest.raises(IncompatibleError, match='tag: got "three A", expected "two A"'):
        pipe.sample_to(tmp_path, 12, **how | {"tag": "three A"})


def test_unknown_files_among_parts(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / "part-000001.parquet").rename(tmp_path / "part-000001.csv")
    with pytest.raises(DiscdiffError, match=r"part-000001.csv: is of no format that jobs have"):
        list(read_parts(tmp_path))
