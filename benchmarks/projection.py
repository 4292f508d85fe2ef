"""Training a large model on many GPUs, projected: memory, traffic between GPUs, time of a step, tokens/s.

    python -m benchmarks.projection                      # 1B parameters on 64 H100, Markdown
    python -m benchmarks.projection --device H200 --gpus 128 --overlap 0.5 --json
    python -m benchmarks.projection --check              # the same model of time against published runs

Fully sharded data parallelism (Rajbhandari et al. 2020, ZeRO stage 3; Zhao et al. 2023, FSDP): weights, gradients,
optimiser and moving average are divided among all GPUs; a block gathers its weights before its forward and before its
backward pass, and its gradients are summed and scattered. Nothing here is measured by us: each assumption is a flag.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from benchmarks.costs import Work, backward, forward, parameters, update
from benchmarks.devices import DEVICES, Device
from benchmarks.footprint import saved
from benchmarks.roofline import quantity
from benchmarks.shapes import Shape


@dataclass(frozen=True)
class Assumptions:
    """What a real step does not get of the peak figures.

    Attributes:
        gemm: share of the peak that large matrix products reach.
        attention: share of the peak that the attention kernel reaches.
        bandwidth: share of the memory's bandwidth that element-wise kernels reach.
        network: share of a link's rate that collective operations reach.
        overlap: share of the arithmetic's time under which traffic between GPUs can hide.
        idle: share of a step in which the GPU waits for the host or for the slowest GPU.
        gather_bytes, reduce_bytes: bytes of a gathered weight, and of a gradient that is summed.
        gathers: how often a step gathers each weight: 2, or 1 where they are kept from forward to backward.
        chunk: rows whose logits are held at once.
    """

    gemm: float = 0.6
    attention: float = 0.4
    bandwidth: float = 0.85
    network: float = 0.8
    overlap: float = 0.9
    idle: float = 0.03
    gather_bytes: int = 2
    reduce_bytes: int = 4
    gathers: int = 2
    chunk: int = 4096


MEANING = {
    "gemm": "share of peak that matrix products reach",
    "attention": "share of peak that attention reaches",
    "bandwidth": "share of memory bandwidth that element-wise kernels reach",
    "network": "share of link rate that collectives reach",
    "overlap": "share of compute time under which traffic can hide",
    "idle": "share of a step spent waiting for host or stragglers",
    "gather_bytes": "bytes of a gathered weight",
    "reduce_bytes": "bytes of a reduced gradient",
    "gathers": "gathers of each weight in a step",
    "chunk": "rows whose logits are held at once",
}


@dataclass(frozen=True)
class Cluster:
    """GPUs and what joins them.

    Attributes:
        device: each one of them.
        gpus: how many.
        per_node: how many share a node's fast links.
        nic: bytes/s that each GPU sends and receives at once beyond its node.
    """

    device: Device
    gpus: int
    per_node: int = 8
    nic: float = 50e9

    @property
    def bus(self) -> float:
        """Bytes/s at which every GPU can be given the same data, without losses.

        Each ring leaves a node through one adapter, and all adapters share the data, so a node takes it in at the sum
        of their rates; within the node each GPU takes it over its own link.
        """
        if self.gpus <= self.per_node:
            return self.device.link
        return min(self.device.link, self.per_node * self.nic)


def project(work: Work, cluster: Cluster, given: Assumptions) -> dict[str, Any]:
    """One step of a work that each GPU does on its own batch."""
    device, G, shape = cluster.device, cluster.gpus, work.shape
    real = replace(
        device,
        rates={name: given.gemm * rate for name, rate in device.rates.items()},
        bandwidth=given.bandwidth * device.bandwidth,
    )
    slower = given.gemm / given.attention
    compute, useful = 0.0, 0.0
    for each in (*forward(work), *backward(work)):
        factor = slower if each.group == "attention" else 1.0
        compute += each.count * real.seconds(factor * (each.flops + each.again), each.size, each.dtype)
        useful += each.count * each.flops
    step = sum(each.count * real.seconds(each.flops, each.size, each.dtype) for each in update(work)) / G
    total = sum(parameters(work).values())
    away = (G - 1) / G  # of each tensor, what lies elsewhere
    gathered = given.gathers * given.gather_bytes * total * away
    reduced = given.reduce_bytes * total * away
    traffic = (gathered + reduced) / (given.network * cluster.bus) if G > 1 else 0.0
    exposed = max(0.0, traffic - given.overlap * compute)
    seconds = (compute + exposed + step) / (1 - given.idle)
    tokens = shape.real_tokens * G
    return {
        "config": shape.name,
        "device": device.name,
        "gpus": G,
        "parameters": total,
        "memory_per_gpu": _memory(work, total, G, given),
        "gathered_bytes": gathered,
        "reduced_bytes": reduced,
        "compute_seconds": compute,
        "traffic_seconds": traffic,
        "exposed_seconds": exposed,
        "update_seconds": step,
        "step_seconds": seconds,
        "tokens_per_step": tokens,
        "tokens_per_second": tokens / seconds,
        "tokens_per_second_per_gpu": tokens / seconds / G,
        "flops_per_token": useful / shape.real_tokens,
        "mfu": useful / seconds / device.rates[shape.dtype],
    }


def _memory(work: Work, total: int, G: int, given: Assumptions) -> dict[str, float]:
    """Bytes on each GPU: shards; two gathered blocks (or the largest of embedding and head) with their gradients."""
    count = parameters(work)
    muon = count["matrices"] if work.optimizer == "muon" else 0
    largest = max(2 * count["matrices"] // work.shape.depth, count["embedding"], count["head"])
    rows = min(given.chunk, work.head_share * work.evaluated)
    found = {
        "weights": 4 * total / G,
        "gradients": 4 * total / G,
        "optimiser": (8 * (total - muon) + 4 * muon) / G,
        "moving average": 4 * total / G if work.ema else 0.0,
        "gathered blocks": largest * (given.gather_bytes + given.reduce_bytes),
        "activations": saved(work),
        "logits of a chunk": 8 * rows * work.columns,
    }
    return {**found, "all": sum(found.values())}


@dataclass(frozen=True)
class Published:
    """A run of others.

    Attributes:
        source: where the figure stands.
        work: of each GPU.
        cluster: GPUs.
        tokens_per_second_per_gpu: as published.
    """

    source: str
    work: Work
    cluster: Cluster
    tokens_per_second_per_gpu: float


def _mpt(name: str, dim: int, depth: int, heads: int, batch: int) -> Work:
    """MosaicML's GPT: tied embeddings, causal, logits everywhere, element-wise kernels as written."""
    shape = Shape(name, dim, depth, heads, 2048, batch, 50_368, "bfloat16")
    block = ((dim, 3 * dim), (dim, dim), (dim, 4 * dim), (4 * dim, dim))
    return Work(shape, context=1024, head_share=1, outputs=50_368, matrices=block, tied=True, fused=False, ema=False)


def _llama(batch: int, *, fused: bool) -> Work:
    """Llama 3.1 8B: gated MLP, eight key and value heads, causal, logits everywhere; half the products recomputed."""
    shape = Shape("Llama 3.1 8B", 4096, 32, 32, 8192, batch, 128_256, "bfloat16")
    block = ((4096, 6144), (4096, 4096), (4096, 2 * 14_336), (14_336, 4096))
    return Work(
        shape, context=4096, head_share=1, outputs=128_256, matrices=block, fused=fused, checkpoint=0.5, ema=False
    )


_FOUNDRY = "MosaicML LLM Foundry, scripts/train/benchmarking, "
_TITAN = "Liang et al. 2024 (TorchTitan), benchmarks/llama3_h100_202412, "
_TETON = replace(DEVICES["H100"], name="H100, HBM2e, 500 W", bandwidth=2.4e12)
PUBLISHED = (
    Published(_FOUNDRY + "1b, 64 H100", _mpt("MPT 1b", 2048, 24, 16, 20), Cluster(DEVICES["H100"], 64), 44_402),
    Published(_FOUNDRY + "3b, 64 H100", _mpt("MPT 3b", 2560, 32, 20, 6), Cluster(DEVICES["H100"], 64), 22_525),
    Published(_FOUNDRY + "1b, 8 A100", _mpt("MPT 1b", 2048, 24, 16, 14), Cluster(DEVICES["A100"], 8), 20_513),
    Published(_TITAN + "table 3, compiled", _llama(2, fused=True), Cluster(_TETON, 128), 6_514),
)


def against_published(given: Assumptions) -> list[dict[str, Any]]:
    """The projection of each published run, beside what was published."""
    rows = []
    for run in PUBLISHED:
        found = project(run.work, run.cluster, given)
        ratio = found["tokens_per_second_per_gpu"] / run.tokens_per_second_per_gpu
        rows.append({**found, "source": run.source, "published": run.tokens_per_second_per_gpu, "ratio": ratio})
    return rows


def check_table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: published runs beside their projection."""
    lines = [
        "| run | published, tokens/s a GPU | projected | projected over published | projected MFU |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['source']} | {row['published']:,} | {row['tokens_per_second_per_gpu']:,.0f} | {row['ratio']:.2f} "
        f"| {100 * row['mfu']:.0f} % |"
        for row in rows
    ]
    return "\n".join(lines)


def table(found: dict[str, Any]) -> str:
    """Markdown: one projection."""
    parts = found["memory_per_gpu"]
    rows = [
        ("parameters", quantity(found["parameters"])),
        ("tokens in a step", quantity(found["tokens_per_step"])),
        ("FLOP a token", quantity(found["flops_per_token"])),
        *((f"{name}, a GPU", f"{size / 1e9:.2f} GB") for name, size in parts.items() if name != "all"),
        ("memory, a GPU", f"**{parts['all'] / 1e9:.1f} GB**"),
        ("gathered, a GPU and step", f"{found['gathered_bytes'] / 1e9:.2f} GB"),
        ("reduced, a GPU and step", f"{found['reduced_bytes'] / 1e9:.2f} GB"),
        ("compute", f"{quantity(found['compute_seconds'])}s"),
        ("traffic, of it not hidden", f"{quantity(found['traffic_seconds'])}s, {quantity(found['exposed_seconds'])}s"),
        ("optimiser", f"{quantity(found['update_seconds'])}s"),
        ("a step", f"**{quantity(found['step_seconds'])}s**"),
        ("tokens/s", f"**{quantity(found['tokens_per_second'])}**"),
        ("tokens/s, a GPU", quantity(found["tokens_per_second_per_gpu"])),
        ("MFU", f"**{100 * found['mfu']:.0f} %**"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def standard() -> Work:
    """A billion parameters, 16 rows of 1,024 tokens on each GPU."""
    return Work(Shape("1B", 2048, 16, 16, 1024, 16, 50_258, "bfloat16"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    shape = standard().shape
    for name in ("dim", "depth", "heads", "length", "batch", "vocab"):
        parser.add_argument(f"--{name}", type=int, default=getattr(shape, name), help="batch: rows on each GPU")
    parser.add_argument("--device", choices=DEVICES, default="H100")
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--per-node", type=int, default=8)
    parser.add_argument("--nic", type=float, default=50e9, help="bytes/s of each GPU beyond its node: 400 Gb/s")
    parser.add_argument("--eager", action="store_true", help="one kernel for each element-wise operation")
    parser.add_argument("--checkpoint", type=float, default=0.0, help="share of blocks computed again in the backward")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    for field in fields(Assumptions):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default,
            help=MEANING[field.name],
        )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="published runs instead")
    parser.add_argument("--json", action="store_true", help="JSON instead of Markdown")
    options = parser.parse_args(arguments)
    given = Assumptions(**{field.name: getattr(options, field.name) for field in fields(Assumptions)})
    if options.check:
        rows = against_published(given)
        print("\n".join(map(json.dumps, rows)) if options.json else check_table(rows))
        return
    sizes = {name: getattr(options, name) for name in ("dim", "depth", "heads", "length", "batch", "vocab")}
    work = replace(
        standard(), shape=replace(shape, **sizes), fused=not options.eager, checkpoint=options.checkpoint,
        optimizer=options.optimizer,
    )  # fmt: skip
    cluster = Cluster(DEVICES[options.device], options.gpus, options.per_node, options.nic)
    found = project(work, cluster, given)
    print(json.dumps({**found, "assumptions": asdict(given)}) if options.json else table(found))


if __name__ == "__main__":
    main()
