"""How molecules came out of the masks, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from domains.smiles.drawing import atom_spans, molecule_grid_svg
from domains.smiles.report.style import ORDER

STAGES = 8


@dataclass(frozen=True)
class Denoised:
    """One molecule and when each of its tokens was written.

    Attributes:
        symbols: its tokens as text.
        revealed: for each token the step that wrote it, from 1; each step writes at least one.
    """

    symbols: Sequence[str]
    revealed: Sequence[int]

    @property
    def smiles(self) -> str:
        """The molecule as a string."""
        return "".join(self.symbols)

    @property
    def shades(self) -> list[int]:
        """For each token the index of its color in `ORDER`."""
        return [(step - 1) * len(ORDER) // max(self.revealed) for step in self.revealed]

    def atom_colors(self) -> dict[int, tuple[float, float, float]]:
        """The color of each atom: that of the last of its tokens."""
        shades = [shade for symbol, shade in zip(self.symbols, self.shades, strict=True) for _ in symbol]
        return {i: _rgb(ORDER[max(shades[start:end])]) for i, (start, end) in enumerate(atom_spans(self.smiles))}


def denoising_html(traces: Sequence[Denoised]) -> str:
    """Rows of tokens from all masks to none, and the molecule at the end, for each of some molecules."""
    key = "".join(f"<span class='o{i}'></span>" for i in range(len(ORDER)))
    legend = (
        "<div class='key'><span class='cells'><span class='m'>·</span></span>mask"
        f"<span style='width:24px'></span>written first<span class='cells'>{key}</span>last"
        "<span style='width:24px'></span><span class='cells'><span class='new'></span></span>new in this row</div>"
    )
    return legend + "".join(map(_trace, traces))


def _trace(one: Denoised) -> str:
    last = max(one.revealed)
    stages = sorted({round(k * last / STAGES) for k in range(STAGES + 1)})
    lines, before = [], 0
    for stage in stages:
        cells = "".join(
            f"<span class='o{shade}{' new' if step > before else ''}'>{escape(symbol)}</span>"
            if step <= stage
            else "<span class='m'>·</span>"
            for symbol, step, shade in zip(one.symbols, one.revealed, one.shades, strict=True)
        )
        lines.append(
            f"<div class='stage'><div class='count'>{stage} of {last}</div><div class='cells'>{cells}</div></div>"
        )
        before = stage
    picture = molecule_grid_svg([one.smiles], [one.atom_colors()], columns=1, size=(250, 210))
    return f"<div class='trace'><div>{''.join(lines)}</div><figure>{picture}</figure></div>"


def _rgb(color: str) -> tuple[float, float, float]:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue
