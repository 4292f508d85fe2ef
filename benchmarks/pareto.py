"""Pictures of quality against network calls, from the lines of `benchmarks/samplers.py`.

python benchmarks/pareto.py benchmarks/results/samplers-zinc250k.jsonl docs/pictures/samplers-zinc250k.png
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt


def main(results: str, picture: str) -> None:
    rows = [json.loads(line) for line in Path(results).read_text(encoding="utf-8").splitlines()]
    molecules = any(row["valid"] < 1 for row in rows)
    shown = [("valid", "valid share")] if molecules else []
    shown += [("judge_bits_per_unit", "bits per unit, judge"), ("bigram_total_variation", "bigram total variation")]
    curves: dict[str, list[dict[str, float]]] = defaultdict(list)
    for row in rows:
        curves[row["sampler"].split("(")[0] if row["steps"] is None else row["sampler"]].append(row)
    figure, axes = plt.subplots(1, len(shown), figsize=(4.2 * len(shown) + 1.5, 3.6), dpi=80, layout="constrained")
    for axis, (name, title) in zip(axes, shown, strict=True):
        for k, (sampler, points) in enumerate(sorted(curves.items())):
            points = sorted(points, key=lambda row: row["calls"])
            style = "o-" if len(points) > 1 else "*"
            axis.plot(
                [p["calls"] for p in points], [p[name] for p in points], style, ms=4 if len(points) > 1 else 9,
                color=plt.get_cmap("tab20")(k % 20), label=sampler, lw=1,
            )  # fmt: skip
        axis.set(xscale="log", xlabel="network calls a sequence", title=title)
    axes[-1].legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(picture)


if __name__ == "__main__":
    main(*sys.argv[1:3])
