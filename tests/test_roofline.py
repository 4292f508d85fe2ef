"""The floor under the time of a step: counted work against torch's counter, the network's own tensors, and by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import discdiff as dd
from benchmarks import costs, footprint, roofline
from benchmarks.devices import DEVICES, Device
from benchmarks.shapes import SHAPES, Shape

SHAPE = Shape("small", dim=64, depth=3, heads=4, length=48, batch=6, vocab=300)


def network(shape: Shape, *, timed: bool = False, backend: str = "auto") -> dd.Transformer:
    process = dd.Absorbing(shape.vocab - 1)
    made = dd.Transformer(shape.vocab, shape.dim, shape.depth, shape.heads, kernel=shape.kernel, backend=backend)
    dd.Diffusion(made, process, dd.LogLinear(), dd.Denoiser() if timed else dd.Conditional())
    return made


def shown(shape: Shape, *, timed: bool) -> tuple[Tensor, Tensor | None, dd.Context]:
    return (
        torch.zeros(shape.batch, shape.length, dtype=torch.int64),
        torch.ones(shape.batch, 1) if timed else None,
        dd.Context(),
    )


def flops(operations: Any) -> float:
    return sum(each.count * each.flops for each in operations)


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("kernel", [0, 9])
def test_flops_are_those_that_torch_counts(timed: bool, kernel: int) -> None:
    """Forward and backward, half of the positions at the head.

    The attention is written as products: torch's counter does not see the fused kernel of CPUs. The weight gradient of
    the local mixing is left out: the counter takes that depthwise convolution for a full one.
    """
    shape = Shape("", dim=64, depth=3, heads=4, length=48, batch=6, vocab=300, kernel=kernel)
    made = network(shape, timed=timed, backend="reference")
    with FlopCounterMode(display=False) as counter:
        logits = made.head(made.hidden(*shown(shape, timed=timed))[:, ::2])
    work = costs.Work(shape, timed=timed)
    assert flops(costs.forward(work)) == pytest.approx(counter.get_total_flops(), rel=0.01)
    if not kernel:
        with FlopCounterMode(display=False) as counter:
            logits.sum().backward()
        assert flops(costs.backward(work)) == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("kernel", [0, 9])
def test_parameters_and_saved_tensors_are_the_networks(timed: bool, kernel: int) -> None:
    shape = Shape("", dim=64, depth=3, heads=4, length=48, batch=6, vocab=300, kernel=kernel)
    made, work = network(shape, timed=timed), costs.Work(shape, timed=timed)
    assert sum(costs.parameters(work).values()) == sum(p.numel() for p in made.parameters())
    own = {p.untyped_storage().data_ptr() for p in made.parameters()}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)  # alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made.hidden(*shown(shape, timed=timed))
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    measured = sum(size for address, size in storages.items() if address not in own)
    assert footprint.saved(work) == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_update_is_the_optimisers(optimizer: Any) -> None:
    """FLOPs of Muon's products, and bytes of what both keep."""
    from discdiff.training.optimizers import make_optimizer

    made, work = network(SHAPE), costs.Work(SHAPE, optimizer=optimizer)
    model = dd.Diffusion(made, dd.Absorbing(299), dd.LogLinear(), dd.Conditional())
    step = make_optimizer(optimizer, model, learning_rate=1e-3, betas=(0.9, 0.98), weight_decay=0.1, fused=True)
    for parameter in made.parameters():
        parameter.grad = torch.randn(parameter.shape)
    with FlopCounterMode(display=False) as counter:
        step.step()
    assert flops(costs.update(work)) == pytest.approx(counter.get_total_flops(), rel=0.01)
    states = [part.state for part in getattr(step, "parts", [step])]
    kept = [t for state in states for values in state.values() for t in values.values() if t.ndim]
    assert footprint.memory(work)["optimiser"] == pytest.approx(sum(4 * t.numel() for t in kept), rel=0.01)


def test_calls_of_a_cached_sampler() -> None:
    """The mean over 1,000 rows of what `sample` counts, within 4 standard errors; a length of 1 needs one call."""
    assert costs.calls(7, 1) == pytest.approx(1)
    torch.manual_seed(0)
    shape = Shape("", dim=8, depth=1, heads=1, length=6, batch=1000, vocab=4)
    model = dd.Diffusion(network(shape), dd.Absorbing(3), dd.LogLinear(), dd.Conditional())
    drawn = dd.sample(model, shape.batch, length=6, steps=4, generator=torch.Generator().manual_seed(0))
    assert drawn.calls is not None
    counted = drawn.calls.double()
    assert abs(counted.mean() - costs.calls(4, 6)) < 4 * counted.std() / 1000**0.5 + 0.01


def test_the_floor_is_the_slower_of_arithmetic_and_traffic() -> None:
    """10 FLOP/s in float32, 20 in bfloat16; 5 bytes/s, 50 up to 8 bytes."""
    device = Device("", {"float32": 10.0, "bfloat16": 20.0}, 5.0, 0, 0, "", cache=8, cache_bandwidth=50.0)
    found = roofline.floor(
        [
            costs.Operation("", "body", flops=60, size=10, dtype="bfloat16", again=20, count=2),  # 4 s by arithmetic
            costs.Operation("", "body", flops=1, size=10),  # 2 s by traffic
            costs.Operation("", "optimiser", size=8),  # 0.16 s, in the cache
        ],
        device,
    )
    assert found["body"] == pytest.approx({"flops": 121, "again": 40, "bytes": 30, "seconds": 10})
    assert found["optimiser"]["seconds"] == pytest.approx(0.16)
    assert found["all"]["seconds"] == pytest.approx(10.16)


def test_what_makes_a_step_longer() -> None:
    """Each assumption acts in the direction that it must, on a device where all is bound by both."""
    work = costs.Work(SHAPES["G1"])

    def seconds(**changes: Any) -> float:
        return roofline.of_training(costs.Work(SHAPES["G1"], **changes), DEVICES["H200"])["groups"]["all"]["seconds"]

    least = seconds()
    for longer in (
        {"fused": False}, {"checkpoint": 1.0}, {"head_share": 1.0}, {"timed": True}, {"head_dtype": "tf32"},
        {"flash": False},
    ):  # fmt: skip
        assert seconds(**longer) > 1.005 * least, longer
    assert seconds(ema=False, clip=False) < least
    assert footprint.saved(costs.Work(SHAPES["G1"], checkpoint=1.0)) < 0.3 * footprint.saved(work)


def test_padding_costs_what_it_should() -> None:
    """Molecules: 72 positions for 38.3 real tokens, the same useful tokens a second."""
    ratio = [
        roofline.of_training(work, DEVICES["H200"])["flops_per_token"]
        for work in (
            costs.Work(SHAPES["S3"]),
            costs.Work(SHAPES["S3"], tokens=SHAPES["S3"].tokens, context=72),
        )
    ]
    assert 72 / 38.3 < ratio[1] / ratio[0] < 1.1 * 72 / 38.3


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    roofline.main(["G1", "--device", "H200", "--device", "B200", "--what", "train"])
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [report["device"] for report in reports] == ["H200", "B200"]
    assert 0.4 < reports[0]["fraction_of_peak"] < 1
    roofline.main(["G2", "--table", "--steps", "16"])
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[2] for row in rows[2:]] == ["train", "sample, textbook", "sample"]
    assert len({row.count("|") for row in rows}) == 1
    with pytest.raises(SystemExit):
        roofline.main(["--dim", "64"])
    assert "--depth" in capsys.readouterr().err
