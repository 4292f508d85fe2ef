"""How far from the limit: measured speed beside the floor, as Markdown, for `docs/speed.md`.

    python -m benchmarks.limits                 # prints
    python -m benchmarks.limits --write         # replaces what stands between the page's markers
    python -m benchmarks.limits --measure       # measures this machine's memory first, into results/machine.json

Reads `benchmarks/results/train.jsonl`, `sample.jsonl` and `machine.json`. A floor on a CPU takes the rate of matrix
products that was measured beside the run, and the memory's rates from machine.json; on a GPU, the data sheet's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import projection
from benchmarks.costs import Work
from benchmarks.devices import DEVICES, Device, here
from benchmarks.roofline import of_sampling, of_training, quantity, table
from benchmarks.shapes import SHAPES, Shape

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs/speed.md"
OPTIONS = {"compiled": "compiled", "checkpointed": "checkpoint"}
MARKS = ("<!-- tables: python -m benchmarks.limits --write -->", "<!-- end of tables -->")


def records(path: Path, *needed: str) -> list[dict[str, Any]]:
    """The lines of a file that say what is needed of a known config: the last one of each kind. No file has none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    known = {}
    for record in map(json.loads, filter(None, lines)):
        if record.get("config") not in SHAPES or not all(name in record for name in needed):
            continue
        kind = tuple(record.get(name) for name in ("config", "contender", "dtype", "compiled", "checkpoint"))
        known[(*kind, record.get("steps"), record.get("gpu"))] = record
    return sorted(known.values(), key=lambda record: (record["config"][:1] == "G", record["config"]))


def middle(value: Any) -> float:
    """The median of a spread, or a bare number."""
    return float(value["median"] if isinstance(value, dict) else value)


def shape_of(record: dict[str, Any]) -> Shape:
    """The shape that was measured: the record's own where it is there."""
    known, given = SHAPES[record["config"]], record.get("shape") or {}
    names = {field.name for field in fields(Shape)}
    dtype = record.get("dtype", known.dtype)
    return replace(known, **{name: value for name, value in given.items() if name in names} | {"dtype": dtype})


def device_of(record: dict[str, Any], machine: Device) -> Device:
    """What it was measured on: a GPU of the table, or the machine with the rate measured beside the run."""
    for name, device in DEVICES.items():
        if name in str(record.get("gpu") or ""):
            return device
    rate = record.get("gemm_flops_per_second")
    if rate is None:
        return machine
    return replace(machine, rates=dict.fromkeys(machine.rates, middle(rate)))


def machine_of(folder: Path) -> Device:
    """The machine of the records; where it was never measured, 50 GB/s and no cache."""
    path = folder / "machine.json"
    if path.exists():
        return Device(**json.loads(path.read_text(encoding="utf-8")))
    rates = dict.fromkeys(("float32", "tf32", "bfloat16"), 1e11)
    return Device("here", rates, 50e9, 0.0, 0.0, "assumed")


def training_table(found: Sequence[dict[str, Any]], machine: Device) -> list[str]:
    """Tokens/s beside the floor's, and the share of the matrix products' rate that useful FLOPs reach in each.

    Useful are those of the floor: a head at every position and padding do not count. Memory is above the weights and
    their average: needed are gradients, moments and saved activations, as the network is written, without logits.
    """
    lines = [
        "| config | step | real tokens/s | at the floor | of the floor | useful, of GEMM | memory, needed |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in found:
        shape, device = shape_of(record), device_of(record, machine)
        # The least work that does the task: shown the noise or not, only masked rows at the head, no padding.
        floor = of_training(Work(shape, timed=record.get("contender") != "time-free"), device)
        speed = middle(record.get("real_tokens_per_second") or record["tokens_per_second"])
        share = speed / floor["tokens_per_second"]
        speeds = " | ".join(quantity(value).strip() for value in (speed, floor["tokens_per_second"]))
        lines.append(
            f"| {shape.name} | {_contender(record)} | {speeds} "
            f"| **{100 * share:.0f} %** | {100 * share * floor['fraction_of_peak']:.0f} %, "
            f"{100 * floor['fraction_of_peak']:.0f} % | {_memory(record, floor['memory'])} |"
        )
    return lines + _missing({record["config"] for record in found}, 7)


def _memory(record: dict[str, Any], parts: dict[str, float]) -> str:
    """The measured peak and what no plain step does without."""
    if record.get("peak_bytes_above_weights") is None:
        return ""
    needed = sum(parts[name] for name in ("gradients", "optimiser", "activations"))
    return f"{quantity(middle(record['peak_bytes_above_weights']))}B, {quantity(needed)}B"


def sampling_table(found: Sequence[dict[str, Any]], machine: Device) -> list[str]:
    """Seconds a sample beside the floor's."""
    lines = ["| config | steps | loop | seconds a sample | at the floor | of the floor |", "|---|---|---|---|---|---|"]
    for record in found:
        shape, device = shape_of(record), device_of(record, machine)
        least = of_sampling(Work(shape), device, int(record["steps"]))["seconds_per_sample"]
        spent = middle(record["seconds_per_sample"])
        lines.append(
            f"| {shape.name} | {record['steps']} | {_contender(record)} | {quantity(spent)}s | {quantity(least)}s "
            f"| **{100 * least / spent:.0f} %** |"
        )
    return lines + _missing({record["config"] for record in found}, 6)


def _contender(record: dict[str, Any]) -> str:
    """Who, in what type, compiled or not, and where that is a GPU."""
    options = [word for word, name in OPTIONS.items() if record.get(name)]
    words = (record.get("contender", "discdiff"), record.get("dtype"), *options, record.get("gpu"))
    return ", ".join(str(word) for word in words if word)


def _missing(measured: set[str], columns: int) -> list[str]:
    return [
        f"| {name} | not measured{' (needs a GPU)' if name.startswith('G') else ''} |" + " |" * (columns - 2)
        for name in SHAPES
        if name not in measured
    ]


def page_tables(folder: Path) -> str:
    """All of the page's tables."""
    machine = machine_of(folder)
    train = records(folder / "train.jsonl", "tokens_per_second")
    sample = records(folder / "sample.jsonl", "seconds_per_sample", "steps")
    floors = []
    for shape in SHAPES.values():
        device = DEVICES["H200"] if shape.name.startswith("G") else machine
        floors += [of_training(Work(shape), device), of_sampling(Work(shape), device, 64)]
    rates = machine.rates
    parts = [
        "### A training step",
        *training_table(train, machine),
        "### Sampling",
        *sampling_table(sample, machine),
        "### What the floor is made of",
        (
            f"`here` is the machine of the CPU rows ({machine.source}): {quantity(rates['float32'])}FLOP/s in float32, "
            f"{quantity(rates['bfloat16'])}FLOP/s in bf16, {quantity(machine.bandwidth)}B/s from memory. The last "
            "columns are shares of the least time; sampling takes 64 steps."
        ),
        table(floors),
        "### A billion parameters on 64 GPUs",
        projection.table(
            projection.project(projection.standard(), projection.Cluster(DEVICES["H100"], 64), projection.Assumptions())
        ),
        "The same model of time beside published runs:",
        projection.check_table(projection.against_published(projection.Assumptions())),
    ]
    text = ""
    for before, part in zip(["", *parts], parts, strict=False):
        text += ("\n" if part.startswith("|") and before.startswith("|") else "\n\n" if text else "") + part
    return text


def written(page: str, tables: str) -> str:
    """The page with other tables between its markers."""
    before, rest = page.split(MARKS[0])
    return f"{before}{MARKS[0]}\n\n{tables}\n\n{MARKS[1]}{rest.split(MARKS[1])[1]}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--write", action="store_true", help="into the page")
    parser.add_argument("--measure", action="store_true", help="this machine, into machine.json")
    parser.add_argument("--threads", type=int, help="of torch, for --measure")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.measure:
        (options.results / "machine.json").write_text(json.dumps(asdict(here(seconds=2))) + "\n", encoding="utf-8")
    tables = page_tables(options.results)
    if options.write:
        options.page.write_text(written(options.page.read_text(encoding="utf-8"), tables), encoding="utf-8")
    else:
        print(tables)


if __name__ == "__main__":
    main()
