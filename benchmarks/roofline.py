"""The floor under the time of a training step and of sampling: FLOPs, bytes, memory and seconds of any shape.

    python -m benchmarks.roofline --table                       # S1 to G2, each on its device
    python -m benchmarks.roofline G1 --device H200 --device B200 --table
    python -m benchmarks.roofline --dim 1024 --depth 24 --heads 16 --length 512 --batch 64 --vocab 33 --device H100

Prints JSON, one object a line, or a Markdown table. An operation takes at least as long as its arithmetic at the
device's peak and as its traffic at the memory's bandwidth (Williams et al. 2009); the floor is the sum over operations,
which run one after another. `here` is measured at the start, with the threads that torch has (`--threads`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.arguments import check_heads, positive, share
from benchmarks.costs import GROUPS, Operation, Work, calls, parameters, sampling, training
from benchmarks.devices import DEVICES, Device, here
from benchmarks.footprint import memory
from benchmarks.shapes import SHAPES, Shape


def floor(operations: Iterable[Operation], device: Device) -> dict[str, dict[str, float]]:
    """FLOPs, FLOPs done again, bytes and least seconds of each group of operations, and of `all`."""
    found = {group: dict.fromkeys(("flops", "again", "bytes", "seconds"), 0.0) for group in (*GROUPS, "all")}
    for each in operations:
        seconds = device.seconds(each.flops + each.again, each.size, each.dtype)
        for group in (each.group, "all"):
            row = found[group]
            row["flops"] += each.count * each.flops
            row["again"] += each.count * each.again
            row["bytes"] += each.count * each.size
            row["seconds"] += each.count * seconds
    return found


def of_training(work: Work, device: Device) -> dict[str, Any]:
    """The floor of one training step."""
    groups = floor(training(work), device)
    total, shape = groups["all"], work.shape
    return {
        "what": "train",
        **_about(work, device),
        "tokens_per_second": shape.real_tokens / total["seconds"],
        "fraction_of_peak": total["flops"] / total["seconds"] / device.rates[shape.dtype],
        "flops_per_token": total["flops"] / shape.real_tokens,
        "groups": groups,
        "memory": memory(work),
    }


def of_sampling(work: Work, device: Device, steps: int, *, textbook: bool = False) -> dict[str, Any]:
    """The floor of drawing one batch."""
    groups = floor(sampling(work, steps, textbook=textbook), device)
    total, shape = groups["all"], work.shape
    return {
        "what": "sample, textbook" if textbook else "sample",
        **_about(work, device),
        "steps": steps,
        "calls": steps if textbook or work.timed else calls(steps, shape.real_tokens / shape.batch),
        "seconds_per_sample": total["seconds"] / shape.batch,
        "fraction_of_peak": total["flops"] / total["seconds"] / device.rates[shape.dtype],
        "groups": groups,
    }


def _about(work: Work, device: Device) -> dict[str, Any]:
    return {
        "config": work.shape.name,
        "device": device.name,
        "source": device.source,
        "dtype": work.shape.dtype,
        "gemm_flops_per_second": device.rates[work.shape.dtype],
        "bytes_per_second": device.bandwidth,
        "parameters": sum(parameters(work).values()),
    }


def default_device(shape: Shape) -> str:
    """Where a shape is measured: names with G are for a GPU."""
    return "H200" if shape.name.startswith("G") else "here"


def table(reports: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row for each report, and where the least time goes."""
    lines = [
        "| config | on | what | FLOP | bytes | least time | rate | of peak | " + " | ".join(GROUPS) + " |",
        "|---" * (8 + len(GROUPS)) + "|",
    ]
    for each in reports:
        total = each["groups"]["all"]
        if each["what"] == "train":
            rate = f"{quantity(each['tokens_per_second']).strip()} tokens/s"
        else:
            rate = f"{quantity(1 / each['seconds_per_sample']).strip()} samples/s, {each['calls']:.1f} calls"
        shares = (f"{100 * each['groups'][group]['seconds'] / total['seconds']:.0f} %" for group in GROUPS)
        lines.append(
            f"| {each['config']} | {each['device']} | {each['what']} | {quantity(total['flops'])} "
            f"| {quantity(total['bytes'])} | {quantity(total['seconds'])}s | {rate} "
            f"| {100 * each['fraction_of_peak']:.0f} % | " + " | ".join(shares) + " |"
        )
    return "\n".join(lines)


def quantity(value: float) -> str:
    """Three figures and an SI prefix, to be followed by a unit."""
    if not value:
        return "0 "
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value / 1e-6:.3g} µ"


def add_work_options(parser: argparse.ArgumentParser) -> None:
    """How the work is done: one flag for each assumption of `Work`."""
    parser.add_argument("--timed", action="store_true", help="noise conditions the network (adaLN)")
    parser.add_argument("--masked", type=share, default=0.5, help="share of positions that meet the head")
    parser.add_argument("--padded", action="store_true", help="evaluate padding, too")
    parser.add_argument("--eager", action="store_true", help="one kernel for each element-wise operation")
    parser.add_argument("--scores", action="store_true", help="attention that keeps its scores")
    parser.add_argument("--checkpoint", type=share, default=0.0, help="share of blocks computed again in the backward")
    parser.add_argument("--head-dtype", choices=("float32", "tf32", "bfloat16"), help="operands of the head")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    parser.add_argument("--no-clip", action="store_true")
    parser.add_argument("--no-ema", action="store_true")


def work_of(shape: Shape, options: argparse.Namespace) -> Work:
    """The work that the flags describe."""
    work = Work(
        shape,
        head_share=options.masked,
        timed=options.timed,
        fused=not options.eager,
        flash=not options.scores,
        checkpoint=options.checkpoint,
        head_dtype=options.head_dtype,
        optimizer=options.optimizer,
        clip=not options.no_clip,
        ema=not options.no_ema,
    )
    return replace(work, tokens=shape.tokens, context=shape.length) if options.padded else work


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help=f"of {', '.join(SHAPES)}; all by default")
    for name in ("dim", "depth", "heads", "length", "batch", "vocab"):
        parser.add_argument(f"--{name}", type=positive, help="of a shape of your own; give all six")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16", help="of a shape of your own")
    parser.add_argument("--kernel", type=int, help="of the local mixing, instead of the config's")
    parser.add_argument("--device", action="append", choices=(*DEVICES, "here"), help="H200 for G*, else here")
    parser.add_argument("--what", choices=("train", "sample", "both"), default="both")
    parser.add_argument("--steps", type=positive, default=64, help="of sampling")
    parser.add_argument("--threads", type=positive, help="of torch, for `here`")
    parser.add_argument("--table", action="store_true", help="Markdown instead of JSON")
    add_work_options(parser)
    options = parser.parse_args(arguments)
    own = {name: getattr(options, name) for name in ("dim", "depth", "heads", "length", "batch", "vocab")}
    shapes = [SHAPES[name] for name in options.configs if name in SHAPES]
    if unknown := [name for name in options.configs if name not in SHAPES]:
        parser.error(f"config: got {unknown[0]!r}, expected one of {', '.join(SHAPES)}")
    if any(value is not None for value in own.values()):
        if missing := [f"--{name}" for name, value in own.items() if value is None]:
            parser.error(f"a shape of your own needs {', '.join(missing)} too")
        check_heads(parser, options.dim, options.heads)
        shapes.append(Shape("own", dtype=options.dtype, **own))
    shapes = shapes or list(SHAPES.values())
    if options.kernel is not None:
        shapes = [replace(shape, kernel=options.kernel) for shape in shapes]
    if options.threads:
        torch.set_num_threads(options.threads)
    devices = dict(DEVICES)
    reports: list[dict[str, Any]] = []
    for shape in shapes:
        for name in options.device or [default_device(shape)]:
            device = devices[name] if name in devices else devices.setdefault(name, here())
            work = work_of(shape, options)
            if options.what != "sample":
                reports.append(of_training(work, device))
            if options.what != "train":
                reports += [of_sampling(work, device, options.steps, textbook=textbook) for textbook in (True, False)]
    print(table(reports) if options.table else "\n".join(json.dumps(report) for report in reports))


if __name__ == "__main__":
    main()
