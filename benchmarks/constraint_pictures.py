"""Pictures of what was asked of promoters, proteins and text: each sample with what had to hold in colour.

    python -m benchmarks.constraint_pictures --promoters runs/ecoli_promoters --data ../shared/data docs/pictures
    python -m benchmarks.constraint_pictures --proteins runs/uniprot docs/pictures
    python -m benchmarks.constraint_pictures --text benchmarks/results/constraints-text.jsonl docs/pictures

Writes promoters.png (logos of samples with both boxes and of real promoters that nearly have them), zinc-finger.png and
text-constraints.png. Samples are drawn anew, with seed 0; text is that of the recorded run.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import discdiff as dd
from benchmarks.constraints_bio import FINGER, FORBIDDEN
from discdiff.errors import require

BOXES = "N{10} TTGACA N{17} TATAAT N{11}"
NEAR = re.compile("TTGA.{19}TA...T")
"""Both boxes up to a base or two, 17 bases apart."""
SPANS = {
    "date in a sentence": r"[A-Z][a-z]+ \d+ , \d{4}",
    "JSON record": r'"(?:title|year|kind|tags)"|[{}\[\]]',
    "rhymed couplet": r"(?:day|way|say|may),|(?:away|to-day|stay|pray)[.!?]",
    "a word, 24 characters": " of the ",
}


def plot() -> Any:
    """matplotlib.pyplot, without a display."""
    require("matplotlib").use("Agg")
    return require("matplotlib.pyplot")


def logo(axis: Any, sequences: Sequence[str], title: str) -> None:
    """Bases by position, in bits."""
    logos = require("logomaker")
    bits = logos.alignment_to_matrix(list(sequences), to_type="information")
    logos.Logo(bits, ax=axis)
    axis.set(title=f"{title} ({len(sequences)})", ylim=(0, 2), ylabel="bits")


def promoters(run: Path, data: Path, folder: Path) -> None:
    """Samples with both boxes, beside real promoters that nearly have them at the same distance."""
    pipe, plt = dd.Pipeline.load(run, device="cpu"), plot()
    real = [record.sequence for record in pipe.domain.read(data / "dna/ecoli_promoters.train.tsv.xz")]
    near = []
    for match in (NEAR.search(sequence) for sequence in real):
        if match is not None:  # the boxes where the samples have them; what lies outside the sequence is left open
            start, end = match.span()
            near.append(("-" * 10 + match.string + "-" * 11)[start : end + 21])
    drawn = pipe.infill(BOXES, 96, rules={"forbid": FORBIDDEN})
    figure, axes = plt.subplots(2, 1, figsize=(10, 4), dpi=80, layout="constrained", sharex=True)
    logo(axes[0], drawn, "samples: both boxes given, no EcoRI or BsaI site")
    logo(axes[1], near, "real promoters with nearly these boxes, this far apart")
    figure.savefig(folder / "promoters.png")


def coloured(axis: Any, lines: Sequence[str], pattern: str, *, size: float) -> None:
    """Lines of text in a fixed pitch; what matches the pattern is red."""
    widest = max(map(len, lines))
    for i, line in enumerate(lines):
        marked = {k for match in re.finditer(pattern, line) for k in range(*match.span())}
        for k, character in enumerate(line):
            how = {"color": "#c1121f", "weight": "bold"} if k in marked else {"color": "#444444"}
            axis.text(k, -i, character, family="monospace", fontsize=size, ha="center", va="center", **how)
    axis.set(xlim=(-1, widest), ylim=(-len(lines) + 0.3, 0.9))
    axis.axis("off")


def zinc_finger(run: Path, folder: Path) -> None:
    """Where the pattern has come to lie in proteins of 48 residues."""
    pipe, plt = dd.Pipeline.load(run, device="cpu"), plot()
    how: dict[str, Any] = {"sampler": dd.samplers.Ancestral(), "steps": 48}
    drawn = pipe.sample(12, length=48, rules={"require": FINGER}, **how)
    figure, axis = plt.subplots(figsize=(8.5, 3.2), dpi=80, layout="constrained")
    coloured(axis, drawn, "C.{2,4}C.{3}[LIVMFYWC].{8}H.{3,5}H", size=9)
    axis.set_title(f"proteins that hold {FINGER} (PS00028) somewhere", fontsize=10)
    figure.savefig(folder / "zinc-finger.png")


def text(results: Path, folder: Path) -> None:
    """Recorded samples, what had to hold in colour."""
    plt = plot()
    rows = {row["task"]: row for row in map(json.loads, results.read_text(encoding="utf-8").splitlines())}
    shown = {name: [s.replace("\n", " / ") for s in rows[name]["samples"][:3]] for name in SPANS}
    figure, axes = plt.subplots(len(shown), 1, figsize=(11, 5), dpi=80, layout="constrained")
    for axis, (name, lines) in zip(axes, shown.items(), strict=True):
        coloured(axis, [line.ljust(100)[:100] for line in lines], SPANS[name], size=8)
        axis.set_title(name, fontsize=9, loc="left")
    figure.savefig(folder / "text-constraints.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--promoters", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--proteins", type=Path)
    parser.add_argument("--text", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.promoters:
        promoters(arguments.promoters, arguments.data, arguments.folder)
    if arguments.proteins:
        zinc_finger(arguments.proteins, arguments.folder)
    if arguments.text:
        text(arguments.text, arguments.folder)


if __name__ == "__main__":
    main()
