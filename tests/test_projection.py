"""The projection to many GPUs: its counts against published ones, its times worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import costs, projection
from benchmarks.devices import DEVICES
from benchmarks.projection import PUBLISHED, Assumptions, Cluster, project

RUNS = {run.work.shape.name + str(run.cluster.gpus): run for run in PUBLISHED}


@pytest.mark.parametrize(
    ("name", "published"),
    [("MPT 1b64", 1_315_950_592), ("MPT 3b64", 2_651_837_440), ("Llama 3.1 8B128", 8_030_261_248)],
)
def test_published_parameters(name: str, published: int) -> None:
    counted = sum(costs.parameters(RUNS[name].work).values())
    assert counted == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(("name", "mfu"), [("MPT 1b64", 0.4085), ("MPT 3b64", 0.408), ("MPT 1b8", 0.5986)])
def test_published_utilisation(name: str, mfu: float) -> None:
    """Of the published tokens/s, by their convention: attention counts as if it were not causal."""
    run = RUNS[name]
    work = replace(run.work, context=2048)
    found = project(work, run.cluster, Assumptions())["flops_per_token"] * run.tokens_per_second_per_gpu
    assert found / run.cluster.device.rates["bfloat16"] == pytest.approx(mfu, rel=0.015)


def test_published_speeds() -> None:
    ratios = [row["ratio"] for row in projection.against_published(Assumptions())]
    assert len(ratios) == 4
    assert all(0.8 < ratio < 1.3 for ratio in ratios)
    assert min(ratios) < 1 < max(ratios)


def test_traffic() -> None:
    """Two gathers of bf16 and one sum of float32 of 63/64 of the weights, at 8 adapters of 50 GB/s or one NVLink."""
    work, device = projection.standard(), DEVICES["H100"]
    total = sum(costs.parameters(work).values())
    given = Assumptions(network=1.0, overlap=0.0, idle=0.0)
    far = project(work, Cluster(device, 64), given)
    assert far["gathered_bytes"] == far["reduced_bytes"] == pytest.approx(4 * total * 63 / 64)
    assert far["traffic_seconds"] == far["exposed_seconds"] == pytest.approx(8 * total * 63 / 64 / 400e9)
    near = project(work, Cluster(device, 8), given)
    assert near["traffic_seconds"] == pytest.approx(8 * total * 7 / 8 / 450e9)
    assert project(work, Cluster(device, 1), given)["traffic_seconds"] == 0
    hidden = project(work, Cluster(device, 64), replace(given, overlap=0.9))
    assert hidden["exposed_seconds"] == 0
    assert far["step_seconds"] - hidden["step_seconds"] == pytest.approx(far["traffic_seconds"])
    slow = project(work, Cluster(device, 64, nic=1e9), replace(given, overlap=0.5))
    assert slow["exposed_seconds"] == pytest.approx(slow["traffic_seconds"] - slow["compute_seconds"] / 2)


def test_memory_is_divided() -> None:
    work = projection.standard()
    total = sum(costs.parameters(work).values())
    one, many = (project(work, Cluster(DEVICES["H100"], gpus), Assumptions())["memory_per_gpu"] for gpus in (1, 64))
    assert many["weights"] == pytest.approx(4 * total / 64)
    assert many["optimiser"] == pytest.approx(8 * total / 64)
    assert many["activations"] == one["activations"] > 10e9
    assert many["all"] == pytest.approx(sum(size for name, size in many.items() if name != "all"))


@pytest.mark.parametrize(
    "worse",
    [{"gemm": 0.5}, {"attention": 0.3}, {"bandwidth": 0.5}, {"network": 0.01}, {"idle": 0.1}],
)
def test_each_assumption_acts(worse: dict[str, Any]) -> None:
    cluster = Cluster(DEVICES["H100"], 64)
    usual, found = (project(projection.standard(), cluster, Assumptions(**given)) for given in ({}, worse))
    assert found["tokens_per_second"] < 0.99 * usual["tokens_per_second"]
    assert found["mfu"] / usual["mfu"] == pytest.approx(found["tokens_per_second"] / usual["tokens_per_second"])


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    projection.main(["--json", "--device", "H200", "--overlap", "0.5", "--gather-bytes", "1"])
    found = json.loads(capsys.readouterr().out)
    assert found["assumptions"]["overlap"] == 0.5
    assert found["gathered_bytes"] == pytest.approx(found["reduced_bytes"] / 2)
    assert 0.9e9 < found["parameters"] < 1.1e9
    projection.main([])
    assert "MFU" in capsys.readouterr().out
    projection.main(["--check"])
    assert capsys.readouterr().out.count("\n") == 2 + len(PUBLISHED)
