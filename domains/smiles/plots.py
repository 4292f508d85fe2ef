"""The domain's first pictures: what was sampled, and how its properties are spread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from discdiff.errors import require
from domains.smiles.chemistry import molecule
from domains.smiles.drawing import molecule_grid_png, molecule_grid_svg
from domains.smiles.metrics import MOST
from domains.smiles.properties import PROPERTIES, properties, valid_molecules

SHOWN = 24


def draw_plots(folder: Path, samples: Sequence[str], reference: Sequence[str] | None) -> dict[str, Path]:
    """Draw `molecules.svg`, `molecules.png` and `properties.png` into `folder`; maps captions to files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, Path] = {}
    shown: list[str] = []
    for one in dict.fromkeys(samples):
        if molecule(one) is not None:
            shown.append(one)
            if len(shown) == SHOWN:
                break
    if not shown:
        return drawn
    vector = folder / "molecules.svg"
    vector.write_text(molecule_grid_svg(shown), encoding="utf-8")
    drawn[f"the first {len(shown)} distinct valid molecules"] = vector
    if (picture := molecule_grid_png(shown)) is not None:
        bitmap = folder / "molecules.png"
        bitmap.write_bytes(picture)
        drawn[f"the first {len(shown)} distinct valid molecules (PNG)"] = bitmap
    histograms = folder / "properties.png"
    _histograms(histograms, samples, reference)
    drawn["properties of the valid samples" + (" and of the reference" if reference else "")] = histograms
    return drawn


def _histograms(path: Path, samples: Sequence[str], reference: Sequence[str] | None) -> None:
    import numpy as np

    found = properties(valid_molecules(samples, MOST))
    expected = properties(valid_molecules(reference, MOST)) if reference else {}
    # A Figure of its own, not pyplot's: no window system and no global state.
    figure = require("matplotlib.figure").Figure(figsize=(10, 6), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(2, 2).flat, PROPERTIES.items(), strict=True):
        both = found[name] + expected.get(name, [])
        if both:
            bins = np.histogram_bin_edges(both, bins=40)
            axes.hist(found[name], bins=bins, density=True, alpha=0.6, label=f"samples ({len(found[name])})")
        if expected.get(name):
            label = f"reference ({len(expected[name])})"
            axes.hist(expected[name], bins=bins, density=True, histtype="step", color="black", label=label)
        axes.set_xlabel(title)
        axes.set_ylabel("density")
        if both:
            axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
