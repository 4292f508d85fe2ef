"""A page of HTML: headings, figures, tables. Its styles are inside, and it asks nothing of the network."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from domains.smiles.report.style import CSS

_CODE = re.compile(r"`([^`]+)`")


class Page:
    """Collects blocks of HTML in order.

    Args:
        title: of the document.
        lead: one paragraph under the title; text between backticks is set as code, here and in all other texts.
    """

    def __init__(self, title: str, lead: str) -> None:
        self.title = title
        self._sections: list[tuple[str, str]] = []
        self._parts = [f"<header><h1>{_text(title)}</h1><p class='lead'>{_text(lead)}</p></header>"]

    def tiles(self, tiles: Iterable[tuple[str, str, str]]) -> None:
        """A row of figures: each a value, what it is, and a remark."""
        cells = (
            f"<div class='tile'><div class='name'>{_text(name)}</div><div class='value'>{_text(value)}</div>"
            f"<div class='note'>{_text(note)}</div></div>"
            for value, name, note in tiles
        )
        self._parts.append(f"<div class='tiles'>{''.join(cells)}</div>")

    def section(self, name: str, title: str, *blocks: str) -> None:
        """A section with an anchor; the blocks are HTML."""
        self._sections.append((name, title))
        self._parts.append(f"<section id='{escape(name)}'><h2>{_text(title)}</h2>{''.join(blocks)}</section>")

    def html(self) -> str:
        """The document."""
        links = "".join(f"<a href='#{escape(name)}'>{_text(title)}</a>" for name, title in self._sections)
        head, *rest = self._parts
        return (
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>{escape(self.title)}</title><style>{CSS}</style></head><body><main>\n"
            + "\n".join([head, f"<nav>{links}</nav>", *rest])
            + "\n</main></body></html>\n"
        )

    def write(self, path: Path) -> None:
        """Write the document; the file appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(self.html())
            Path(name).chmod(0o644)  # mkstemp's file is private
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{_text(text)}</p>"


def figure(svg: str, caption: str = "") -> str:
    """A drawing with its caption."""
    under = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
    return f"<figure>{svg}{under}</figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column names the rows."""
    top = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th>{_text(first)}</th>{''.join(f'<td>{_text(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return f"<div class='wide'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars from zero: name, length, and the value as text. The last one is the one that matters."""
    longest = max(length for _, length, _ in rows)
    lines = (
        f"<div class='name'>{_text(name)}</div><div><div class='bar{' mine' if i == len(rows) - 1 else ''}' "
        f"style='width:{100 * length / longest:.1f}%'></div></div><div class='number'>{_text(value)}</div>"
        for i, (name, length, value) in enumerate(rows)
    )
    return f"<div class='bars'>{''.join(lines)}</div>"


def code(lines: Iterable[str]) -> str:
    """Command lines, to be copied; what follows two blanks and a # is a remark."""
    shown = (
        f"{escape(command)}{f'<i>  #{escape(remark)}</i>' if mark else ''}"
        for command, mark, remark in (line.partition("  #") for line in lines)
    )
    return "<pre>" + "\n".join(shown) + "</pre>"


def _text(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))
