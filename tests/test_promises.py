"""Every test and record that the page of promises names is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "promises.md"


def rows(text: str) -> Iterator[tuple[str, list[str]]]:
    """The promises, and what is named beside each."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        if len(cells) == 4 and not set(cells[1]) <= set("-: ") and cells[2] != "shown by":
            yield cells[1], re.findall(r"`([\w./-]+(?:::\w+)?)`", cells[2])


def there(name: str) -> bool:
    """Whether a file is there, and has a test of that name."""
    path, _, test = name.partition("::")
    if not (ROOT / path).is_file():
        return False
    if not test:
        return path.startswith("benchmarks/results/")  # a test's file alone shows nothing
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == test for node in tree.body)


@pytest.mark.parametrize(("promise", "named"), list(rows(PAGE.read_text(encoding="utf-8"))))
def test_each_promise_is_shown(promise: str, named: list[str]) -> None:
    assert any("::" in name for name in named), f"no test: {promise}"
    assert [name for name in named if not there(name)] == []


@pytest.mark.parametrize(
    "name",
    [
        "tests/training/test_nothing.py::test_a",
        "tests/test_promises.py::test_nothing",
        "tests/test_promises.py",
        "benchmarks/results/nothing.jsonl",
    ],
)
def test_what_is_missing_is_seen(name: str) -> None:
    assert not there(name)


def test_rows_are_read() -> None:
    lines = (
        "| promise | shown by |",
        "|---|---|",
        "| a \\| b | `tests/x.py::test_y`, `benchmarks/results/z.jsonl` |",
        "| c | - |",
    )
    page = "\n".join(lines)
    assert list(rows(page)) == [("a \\| b", ["tests/x.py::test_y", "benchmarks/results/z.jsonl"]), ("c", [])]
    assert len(list(rows(PAGE.read_text(encoding="utf-8")))) > 15
