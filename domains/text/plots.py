"""The domain's first picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from discdiff.domain import Domain
from discdiff.errors import require
from discdiff.metrics import encoded


def draw_plots(
    domain: Domain, folder: Path, samples: Sequence[str], reference: Sequence[str] | None
) -> dict[str, Path]:
    """Draw `token_ranks.png` into `folder`: frequency of tokens by rank, on logarithmic axes."""
    folder.mkdir(parents=True, exist_ok=True)
    # A Figure of its own, not pyplot's: no window system and no global state.
    axes = (figure := require("matplotlib.figure").Figure(figsize=(6, 4), layout="constrained")).subplots()
    for texts, label, style in ((samples, "samples", "-"), (reference or [], "reference", "--")):
        rows, _ = encoded(domain, texts)
        if sum(map(len, rows)):
            counts = np.sort(np.bincount(np.concatenate(rows)))[::-1]
            frequencies = counts[counts > 0] / counts.sum()
            axes.loglog(np.arange(1, len(frequencies) + 1), frequencies, style, label=f"{label} ({len(rows)} texts)")
    axes.set_xlabel("rank of the token")
    axes.set_ylabel("frequency")
    if axes.lines:
        axes.legend(frameon=False)
    path = folder / "token_ranks.png"
    figure.savefig(path, dpi=120)
    return {"frequency of tokens by rank": path}
