"""Pictures that several domains draw. Matplotlib's object interface: no display, no global state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from discdiff.errors import MissingDependencyError, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {"samples": "#1f6f8b", "reference": "#e0a458"}
MOST_POSITIONS = 400


@contextmanager
def figure(path: Path, *, width: float = 6.0, height: float = 3.2) -> Iterator[Axes]:
    """Axes to draw on, saved to `path` at the end."""
    drawing = require("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
    axes: Axes = drawing.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    yield axes
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=120)


def histogram(path: Path, values: Mapping[str, ArrayLike], xlabel: str, *, bins: int = 40) -> Path:
    """Densities of several sets of numbers over one another; the sets' names are the legend."""
    arrays = {name: np.asarray(array, dtype=np.float64) for name, array in values.items()}
    arrays = {name: array for name, array in arrays.items() if array.size}
    every = np.concatenate([*arrays.values(), np.empty(0)])
    with figure(path) as axes:
        if every.size:
            edges = bin_edges(every, bins)
            for name, array in arrays.items():
                weights = np.full(array.size, 1 / array.size)
                label = f"{name} (n = {array.size:,})"
                axes.hist(array, edges.tolist(), weights=weights, alpha=0.6, label=label, color=COLORS.get(name))
            axes.legend(frameon=False)
        axes.set_xlabel(xlabel)
        axes.set_ylabel("fraction of sequences")
    return path


def bin_edges(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Edges of at most about `bins` bins. Where values are multiples of a step, such as whole numbers or 50ths, each
    bin holds as many of them, lest the picture have the teeth of a comb.
    """
    different = np.unique(values)
    low, high = different[0], different[-1]
    if low == high:
        return np.array([low - 0.5, low + 0.5])
    step = np.diff(different).min()
    places = (different - low) / step
    if places[-1] > 100 * bins or np.abs(places - places.round()).max() > 1e-6:
        return np.linspace(low, high, bins + 1)
    width = int(np.ceil((round(places[-1]) + 1) / bins))
    count = round(places[-1]) // width + 1
    edges: NDArray[np.float64] = low + step * (width * np.arange(count + 1) - 0.5)
    return edges


def bars(path: Path, labels: Sequence[str], values: Mapping[str, ArrayLike], ylabel: str) -> Path:
    """Bars side by side: one group a label, one bar a set."""
    with figure(path, width=max(4.0, 0.32 * len(labels))) as axes:
        places = np.arange(len(labels))
        width = 0.8 / max(len(values), 1)
        for i, (name, heights) in enumerate(values.items()):
            axes.bar(places + (i - (len(values) - 1) / 2) * width, heights, width, label=name, color=COLORS.get(name))
        axes.set_xticks(places, labels)
        axes.set_ylabel(ylabel)
        axes.legend(frameon=False)
    return path


def scatter(path: Path, x: ArrayLike, y: ArrayLike, xlabel: str, ylabel: str, *, names: Sequence[str] = ()) -> Path:
    """Points against the diagonal, on logarithmic axes; the ones farthest from it are named."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    with figure(path, width=4.2, height=4.0) as axes:
        some = (a > 0) & (b > 0)
        if some.any():
            low, high = min(a[some].min(), b[some].min()) / 1.2, max(a.max(), b.max()) * 1.2
            axes.plot([low, high], [low, high], color="0.7", linewidth=1, zorder=0)
            axes.scatter(np.maximum(a, low), np.maximum(b, low), s=6, alpha=0.5, color=COLORS["samples"])
            axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
            places = np.log(np.maximum(np.stack([a, b], axis=1), low) / low) / np.log(high / low)  # shares of the axes
            named: list[int] = []
            for i in np.argsort(-np.abs(a - b))[: 24 if names else 0].tolist():
                # no name over another: one is some 2 % of an axis wide a letter, and 4 % high
                free = (np.abs(places[named] - places[i]) > (0.02 * len(names[i]) + 0.02, 0.04)).any(1).all()
                if free and len(named) < 8:
                    named.append(i)
                    axes.annotate(names[i], np.exp(places[i] * np.log(high / low)) * low, fontsize=7)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
    return path


def position_frequencies(rows: Sequence[NDArray[Any]], size: int) -> NDArray[np.float64] | None:
    """Frequencies of each token at each position, `[L, size]`, over rows of the most common length; None if L > 400."""
    if not rows:
        return None
    lengths, counts = np.unique([len(row) for row in rows], return_counts=True)
    length = int(lengths[counts.argmax()])
    if not 0 < length <= MOST_POSITIONS:
        return None
    stack = np.stack([row for row in rows if len(row) == length])
    return np.stack([(stack == token).mean(0) for token in range(size)], axis=1)


def composition(path: Path, frequencies: NDArray[np.float64], letters: Sequence[str], title: str) -> Path:
    """What stands at each position: a logo of information content with logomaker, stacked frequencies without it."""
    length = len(frequencies)
    with figure(path, width=min(14.0, 2 + 0.16 * length), height=2.4) as axes:
        try:
            logomaker = require("logomaker", "viz")
            pandas = require("pandas")
        except MissingDependencyError:
            below = np.zeros(length)
            for token, letter in enumerate(letters):
                axes.bar(np.arange(1, length + 1), frequencies[:, token], 1.0, bottom=below, label=letter)
                below += frequencies[:, token]
            axes.set_ylabel("frequency")
            axes.legend(frameon=False, ncols=10, fontsize=6)
        else:
            bits = information(frequencies)[:, None] * frequencies
            table = pandas.DataFrame(bits, columns=list(letters), index=range(1, length + 1))
            table = table[[letter for letter in letters if letter != "-"]]  # a gap leaves its height empty
            scheme = "classic" if len(letters) <= 5 else "chemistry"
            logomaker.Logo(table, ax=axes, color_scheme=scheme)
            axes.set_ylabel("bits")
        axes.set_xlabel("position")
        axes.set_title(title, fontsize=9)
    return path


def information(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Information content of each position in bits, log2 V − H, `[L]`."""
    logs = np.log2(frequencies, out=np.zeros_like(frequencies), where=frequencies > 0)
    bits: NDArray[np.float64] = np.log2(frequencies.shape[1]) + (frequencies * logs).sum(1)
    return bits
