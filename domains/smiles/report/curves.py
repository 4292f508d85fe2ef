"""Loss and bound of a run, drawn from its `metrics.csv`."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path

from discdiff.errors import require

_LOSS = "#1f5fbf"
_SOFT = "#5b6875"


def curves_svg(metrics: Path, *, tokens_per_unit: float, baselines: Mapping[str, float], unit: str) -> str:
    """Two plots beside one another, as one SVG element without outside references.

    Args:
        metrics: a run's `metrics.csv`.
        tokens_per_unit: of the held-out sequences; turns nats per token into bits per unit.
        baselines: name and bits per unit of what the bound is compared with.
        unit: what a unit is called.
    """
    with metrics.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    scale = tokens_per_unit / math.log(2)
    loss = [(int(row["step"]), scale * float(row["loss"])) for row in rows if row["loss"]]
    bound = [
        (int(row["step"]), scale * float(row["val/nats_per_token"]), scale * float(row["val/standard_error"]))
        for row in rows
        if row["val/nats_per_token"]
    ]
    settings = {
        "svg.fonttype": "none",  # text stays text, in the page's own type
        "svg.hashsalt": "discdiff",  # the same ids every time
        "font.family": "sans-serif",
        "font.sans-serif": ["system-ui", "Segoe UI", "DejaVu Sans", "Arial"],
        "font.size": 10.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": _SOFT,
        "axes.titlelocation": "left",
    }
    with require("matplotlib").rc_context(settings):
        drawn = require("matplotlib.figure").Figure(figsize=(10.6, 3.7), layout="constrained")
        left, right = drawn.subplots(1, 2, sharey=True)
        left.plot(*zip(*loss, strict=True), color=_LOSS, alpha=0.25, linewidth=1)
        left.plot(*zip(*_smooth(loss), strict=True), color=_LOSS, linewidth=1.8)
        left.set_title("Training loss")
        left.set_ylabel(f"bits per {unit}")
        steps, values, errors = zip(*bound, strict=True)
        right.errorbar(steps, values, yerr=errors, color=_LOSS, marker="o", markersize=3.5, linewidth=1.8, capsize=2)
        right.set_title("Bound on held-out molecules")
        for name, bits in baselines.items():
            right.axhline(bits, color=_SOFT, linestyle="--", linewidth=1)
            right.annotate(
                f"{name} {bits:.2f}", (1, bits), xycoords=("axes fraction", "data"), xytext=(0, 3),
                textcoords="offset points", ha="right", color=_SOFT,
            )  # fmt: skip
        right.yaxis.set_tick_params(labelleft=True)
        for axes in (left, right):
            axes.set_xlabel("step")
            axes.set_xlim(left=0)
            axes.set_ylim(0, 1.1 * max(*values, *baselines.values(), *(y for _, y in _smooth(loss))))
            axes.grid(axis="y", color="#e8ecf0")
        target = io.StringIO()
        drawn.savefig(target, format="svg", transparent=True)
    text = target.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def _smooth(points: list[tuple[int, float]], weight: float = 0.85) -> list[tuple[int, float]]:
    """A moving average, the later the more; its start is corrected for having no past."""
    total = mass = 0.0
    smooth = []
    for step, value in points:
        total, mass = weight * total + value, weight * mass + 1.0
        smooth.append((step, total / mass))
    return smooth
