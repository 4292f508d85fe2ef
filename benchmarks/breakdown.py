"""Where the time of a training step and of a sampling step goes, beside the floor, measured with torch's profiler.

    python -m benchmarks.breakdown S1 S2 --threads 2            # measures, then draws all that is recorded
    python -m benchmarks.breakdown --draw                       # draws only

Keeps one JSON line a bar in `benchmarks/results/breakdown.jsonl`, a new one in place of the old one of the same config,
and draws `docs/pictures/where-time-goes.png`. The model is ours as it is by default, time-free; the step is that of
`fit` with AdamW. Floors are for the rates measured before and after.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import discdiff as dd
from benchmarks.costs import GROUPS, Work
from benchmarks.devices import Device, here
from benchmarks.real_data import hardware
from benchmarks.roofline import of_sampling, of_training
from benchmarks.shapes import SHAPES, Shape
from discdiff.errors import require
from discdiff.training.optimizers import make_optimizer

RESULTS = Path(__file__).parent / "results/breakdown.jsonl"
PICTURE = Path(__file__).parents[1] / "docs/pictures/where-time-goes.png"
PARTS = (*GROUPS, "rest")
ATTENTION = ("scaled_dot_product", "flash_attention", "attention", "bmm")
PRODUCTS = ("mm", "addmm", "linear", "matmul")
UPDATE = ("_fused_adam", "_foreach", "Optimizer", "newton", "linalg_vector_norm")
CHEAP = ("empty", "view", "as_strided", "detach", "expand", "transpose", "permute", "select", "slice", "t", "reshape")


def part(name: str, shapes: Sequence[Sequence[int]], columns: Sequence[int]) -> str:
    """The part of a step that an operator belongs to.

    Args:
        name: the operator's, as `aten::mm`.
        shapes: of its inputs.
        columns: sizes that, among the last two, only the head's tensors have.
    """
    short = name.removeprefix("aten::")
    if any(word in short for word in UPDATE):
        return "optimiser"
    if "embedding" in short or "index_select" in short:
        return "embedding"
    if any(size in columns for shape in shapes for size in shape[-2:]):
        return "head"
    if any(word in short for word in ATTENTION):
        return "attention"
    if short in PRODUCTS:
        return "body"
    return "element-wise" if name.startswith("aten::") and short.split("_")[0] not in CHEAP else "rest"


def profiled(run: Callable[[], object], shape: Shape, repeats: int) -> dict[str, float]:
    """Seconds of each part of a run, `rest` for what is in no operator: of the fastest of some runs, once warm."""
    run()
    plain = min(_seconds(run) for _ in range(repeats))  # the profiler makes everything slower
    best, slowed = None, float("inf")
    for _ in range(repeats):
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
            took = _seconds(run)
        if took < slowed:
            best, slowed = seen, took
    assert best is not None
    found: dict[str, float] = defaultdict(float)
    for each in best.key_averages(group_by_input_shape=True):
        sizes = [sizes for sizes in each.input_shapes if all(isinstance(n, int) for n in sizes)]
        found[part(each.key, sizes, (shape.vocab, shape.vocab - 1))] += each.self_cpu_time_total / 1e6
    found["rest"] += max(0.0, slowed - sum(found.values()))
    return {name: found[name] * plain / slowed for name in PARTS}


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def model_of(shape: Shape) -> dd.Diffusion:
    process = dd.Absorbing(shape.vocab - 1)
    network = dd.Transformer(shape.vocab, shape.dim, shape.depth, shape.heads, kernel=shape.kernel)
    return dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())


def training_step(shape: Shape) -> Callable[[], object]:
    """Loss, gradient, clipping, AdamW, moving average."""
    model, loss = model_of(shape).train(), dd.losses.AnyOrder()
    weights = [p for p in model.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in weights]
    optimizer = make_optimizer("adamw", model, learning_rate=1e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(shape.vocab - 1, (shape.batch, shape.length), generator=draw)
    sequences = dd.Sequences.full(tokens)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=shape.dtype == "bfloat16"):
            value = loss(model, sequences, generator=draw).sum() / shape.tokens
        value.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        torch._foreach_lerp_(average, [p.detach() for p in weights], 0.001)
        optimizer.zero_grad()

    return step


def sampling_run(shape: Shape, steps: int) -> Callable[[], object]:
    """A whole batch, drawn in so many steps."""
    model = model_of(shape).eval()

    def run() -> None:
        generator = torch.Generator().manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=shape.dtype == "bfloat16"):
            dd.sample(model, shape.batch, length=shape.length, steps=steps, generator=generator)

    return run


def measure(shape: Shape, steps: int, repeats: int) -> list[dict[str, Any]]:
    """A record of a training step and one of a sampling step, each with its floor. Rows are padded to one length."""
    even = replace(shape, mean_length=None)
    work, records = Work(even), []
    cases: dict[str, tuple[Callable[[], object], Callable[[Device], dict[str, Any]], int]] = {
        "train": (training_step(even), lambda device: of_training(work, device), 1),
        "sample": (sampling_run(even, steps), lambda device: of_sampling(work, device, steps), steps),
    }
    for what, (run, floor, count) in cases.items():
        before = here()
        parts = {name: seconds / count for name, seconds in profiled(run, even, repeats).items()}
        device = max(before, here(), key=lambda each: each.rates[shape.dtype])  # what else the machine does varies
        least = {name: each["seconds"] / count for name, each in floor(device)["groups"].items() if name in GROUPS}
        about = {"benchmark": "breakdown", "config": shape.name, "what": what, "batch": shape.batch, "steps": steps}
        records.append({**about, "dtype": shape.dtype, "seconds": parts, "floor": least, **hardware()})
    return records


def keep(records: Sequence[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Write records over those of the same config, and return all."""
    known = {}
    old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for record in (*map(json.loads, old), *records):
        known[record["config"], record["what"], record["dtype"]] = record
    path.write_text("".join(json.dumps(record) + "\n" for record in known.values()), encoding="utf-8")
    return list(known.values())


def draw(records: Sequence[dict[str, Any]], picture: Path) -> None:
    """Stacked bars, measured above the floor, one panel for training and one for sampling."""
    require("matplotlib").use("Agg")
    plt = require("matplotlib.pyplot")
    panels = [what for what in ("train", "sample") if any(record["what"] == what for record in records)]
    rows = max(sum(record["what"] == what for record in records) for what in panels)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5.5 * len(panels), 1.3 + 0.9 * rows), dpi=80, squeeze=False, layout="constrained"
    )
    colours = plt.get_cmap("tab10")
    for axis, what in zip(axes[0], panels, strict=True):
        bars = []
        for record in (record for record in records if record["what"] == what):
            name = f"{record['config']}, {record['batch']} rows, {record['dtype']}"
            unit = sum(record["seconds"].values())
            bars += [(f"{name}\n{1e3 * unit:.0f} ms", record["seconds"], unit), ("floor", record["floor"], unit)]
        for k, (_, parts, unit) in enumerate(bars):
            left = 0.0
            for index, group in enumerate(PARTS):
                width = parts.get(group, 0.0) / unit
                label = group if k == 0 else None
                axis.barh(-k, width, left=left, color="0.75" if group == "rest" else colours(index), label=label)
                left += width
        axis.set(
            title={"train": "a training step", "sample": "a sampling step"}[what], xlabel="share of the measured time",
            yticks=[-k for k in range(len(bars))], yticklabels=[label for label, _, _ in bars], xlim=(0, 1.02),
        )  # fmt: skip
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(PARTS), fontsize=8)
    figure.savefig(picture)


def measure_and_draw(
    configs: Sequence[str],
    *,
    steps: int,
    repeats: int,
    results: Path,
    picture: Path,
    batch: int | None = None,
    dtype: str | None = None,
) -> None:
    """Measure some configs, keep their records, and draw all records."""
    records: list[dict[str, Any]] = []
    for shape in (SHAPES[name] for name in configs):
        records += measure(replace(shape, batch=batch or shape.batch, dtype=dtype or shape.dtype), steps, repeats)
    draw(keep(records, results), picture)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", choices=[*SHAPES, []], metavar="CONFIG")
    parser.add_argument("--steps", type=int, default=64, help="of sampling")
    parser.add_argument("--repeats", type=int, default=3, help="runs, of which the fastest counts")
    parser.add_argument("--batch", type=int, help="rows, instead of the config's")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="instead of the config's")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--draw", action="store_true", help="draw what is recorded")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    measure_and_draw(
        [] if options.draw else options.configs,
        steps=options.steps,
        repeats=options.repeats,
        batch=options.batch,
        dtype=options.dtype,
        results=options.results,
        picture=options.picture,
    )


if __name__ == "__main__":
    main()
