"""The page of speed: what is read from records, what the profile is made of, and that the page says what they say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import breakdown, limits
from benchmarks.costs import Work
from benchmarks.devices import Device
from benchmarks.footprint import saved
from benchmarks.roofline import of_sampling, of_training
from benchmarks.shapes import SHAPES, Shape

MACHINE = Device("here", {"float32": 1e11, "bfloat16": 4e11, "tf32": 1e11}, 5e10, 0, 0, "for a test")


def lines(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_a_measured_row_stands_beside_its_floor(tmp_path: Path) -> None:
    """Half the floor's speed is 50 %; the floor has the rate that the record measured; the last record counts."""
    fast = replace(MACHINE, rates=dict.fromkeys(MACHINE.rates, 2e11))
    best = of_training(Work(SHAPES["S1"]), fast)["tokens_per_second"]
    record = {
        "config": "S1",
        "contender": "time-free",
        "dtype": "float32",
        "tokens_per_second": {"median": best / 2, "least": 0, "greatest": 9e9},
        "gemm_flops_per_second": {"median": 2e11},
        "peak_bytes_above_weights": 2e9,
    }
    gpu = {"config": "G1", "contender": "discdiff", "real_tokens_per_second": 4e5, "gpu": "NVIDIA H200"}
    path = lines(tmp_path / "train.jsonl", {**record, "tokens_per_second": 1.0}, record, gpu)
    rows = [cells(row) for row in limits.training_table(limits.records(path), MACHINE)[2:]]
    assert [row[0] for row in rows] == ["S1", "G1", "S2", "S3", "G2"]
    assert rows[0][4] == "**50 %**"
    assert rows[0][1] == "time-free, float32"
    # 30.5 million parameters with gradient and moments, and the activations of 2,048 tokens
    assert rows[0][6] == f"2 GB, {(12 * 30.5e6 + saved(Work(SHAPES['S1']))) / 1e6:.3g} MB"
    assert "NVIDIA H200" in rows[1][1]
    assert rows[1][6] == ""
    assert 30 < float(rows[1][4].strip("* %")) < 60
    assert rows[2][1] == "not measured"
    assert rows[4][1] == "not measured (needs a GPU)"
    assert len({len(row) for row in rows}) == 1


def test_real_tokens_count_where_rows_are_padded(tmp_path: Path) -> None:
    """The record's own shape is taken, with its lengths."""
    shape = {**vars(SHAPES["S3"]), "mean_length": 36.0}
    record = {"config": "S3", "tokens_per_second": 7200.0, "real_tokens_per_second": 3600.0, "shape": shape}
    found = limits.records(lines(tmp_path / "train.jsonl", record))
    assert limits.shape_of(found[0]).mean_length == 36
    best = of_training(Work(limits.shape_of(found[0]), timed=True), MACHINE)["tokens_per_second"]
    assert cells(limits.training_table(found, MACHINE)[2])[4] == f"**{100 * 3600 / best:.0f} %**"


def test_sampling_rows(tmp_path: Path) -> None:
    least = of_sampling(Work(SHAPES["S2"]), MACHINE, 64)["seconds_per_sample"]
    record = {"config": "S2", "steps": 64, "contender": "discdiff", "seconds_per_sample": {"median": 4 * least}}
    rows = limits.sampling_table(limits.records(lines(tmp_path / "sample.jsonl", record)), MACHINE)
    assert cells(rows[2])[5] == "**25 %**"


def test_no_records_no_rows(tmp_path: Path) -> None:
    tables = limits.page_tables(tmp_path)
    assert tables.count("not measured (needs a GPU)") == 4
    path = tmp_path / "train.jsonl"
    assert limits.records(path) == []
    lines(path, {"config": "S9", "tokens_per_second": 1}, {"config": "S1"}, {"config": "S2", "tokens_per_second": 1})
    assert [record["config"] for record in limits.records(path, "tokens_per_second")] == ["S2"]


def test_only_what_is_between_the_marks_is_written() -> None:
    page = f"before\n{limits.MARKS[0]}\nold\n{limits.MARKS[1]}\nafter\n"
    assert limits.written(page, "new") == f"before\n{limits.MARKS[0]}\n\nnew\n\n{limits.MARKS[1]}\nafter\n"


def test_the_page_says_what_the_records_say() -> None:
    """Else: `python -m benchmarks.limits --write`."""
    page = limits.PAGE.read_text(encoding="utf-8")
    assert limits.written(page, limits.page_tables(limits.RESULTS)) == page


@pytest.mark.parametrize(
    ("name", "shapes", "expected"),
    [
        ("aten::addmm", [[256], [4096, 256], [256, 256]], "body"),
        ("aten::addmm", [[63], [100, 256], [256, 63]], "head"),
        ("aten::mm", [[64, 100], [100, 256]], "head"),
        ("aten::mm", [[64, 32, 256], [256, 256]], "body"),  # 64 rows of a batch
        ("aten::_scaled_dot_product_flash_attention_for_cpu", [[4, 8, 128, 32]], "attention"),
        ("aten::gelu_backward", [[4, 128, 1024]], "element-wise"),
        ("aten::logsumexp", [[100, 63], []], "head"),
        ("aten::embedding_dense_backward", [[4, 128, 256]], "embedding"),
        ("aten::_fused_adamw_", [], "optimiser"),
        ("aten::_foreach_lerp_", [], "optimiser"),
        ("aten::empty_strided", [], "rest"),
        ("autograd::engine::evaluate_function: AddmmBackward0", [], "rest"),
    ],
)
def test_operators_have_their_part(name: str, shapes: list[list[int]], expected: str) -> None:
    assert breakdown.part(name, shapes, (64, 63)) == expected


def test_a_profile_has_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a step small enough for a test; measured again it takes the place of the old."""
    monkeypatch.setitem(SHAPES, "tiny", Shape("tiny", dim=16, depth=1, heads=2, length=12, batch=3, vocab=29))
    monkeypatch.setattr(breakdown, "here", lambda: MACHINE)
    monkeypatch.setattr(breakdown, "SHAPES", SHAPES)
    results, picture = tmp_path / "found.jsonl", tmp_path / "found.png"
    for _ in range(2):
        breakdown.measure_and_draw(["tiny"], steps=3, repeats=1, results=results, picture=picture)
    train, sample = map(json.loads, results.read_text().splitlines())
    assert (train["what"], sample["what"]) == ("train", "sample")
    assert all(train["seconds"][name] > 0 for name in breakdown.PARTS)
    assert sample["seconds"]["optimiser"] == 0
    assert 0 < sum(train["floor"].values()) < sum(train["seconds"].values())
    assert picture.stat().st_size > 5000
