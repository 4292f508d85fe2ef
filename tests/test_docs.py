"""The documentation names nothing that is not there: links, files, classes and functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

import discdiff

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
FOLDERS = ("tests", "discdiff", "domains", "examples", "benchmarks", "configs", "docs")
ROOMS = ("constraints", "losses", "networks", "processes", "samplers")
"""Modules whose members may be named without `discdiff.`."""
OTHERS = {"True", "False", "None", "gradcheck", "config.yaml"}
"""Of Python, torch and run folders."""


@cache
def members() -> dict[str, list[object]]:
    """Everything public that a module of discdiff defines, by its bare name."""
    found: dict[str, list[object]] = {}
    for module in walk_packages(discdiff.__path__, "discdiff."):
        if module.name.endswith("__main__"):
            continue
        made = import_module(module.name)
        for name, value in vars(made).items():
            if not name.startswith("_") and getattr(value, "__module__", "").startswith("discdiff"):
                found.setdefault(name, []).append(value)
    return found


@cache
def words() -> frozenset[str]:
    """Every identifier in the source: functions, arguments, attributes, names of domains."""
    files = [path for folder in ("discdiff", "domains") for path in (ROOT / folder).rglob("*.py")]
    return frozenset(word for path in files for word in re.findall(r"\w+", path.read_text(encoding="utf-8")))


def has(value: object, name: str) -> bool:
    """Whether a module, class or dataclass has the attribute."""
    return hasattr(value, name) or name in getattr(value, "__annotations__", {})


def resolves(name: str) -> bool:
    """Whether a dotted name, from `discdiff` on or from a class, is something of discdiff."""
    parts = name.removeprefix("discdiff.").removeprefix("dd.").split(".")
    classes = members().get(parts[0], [])  # all modules are loaded now
    value: object = discdiff
    for part in parts:
        if not has(value, part):
            return any(len(parts) == 1 or has(each, parts[1]) for each in classes)
        value = getattr(value, part, None)
    return True


def prose(page: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)


def missing(page: str, folder: Path) -> Iterator[str]:
    """What a page names that is not there.

    What code asks of `dd`; a link to a file; in backticks a file, a dotted name below one of our modules or classes, a
    class, or a word of the source (a function, an argument).
    """
    yield from (f"dd{name}" for name in re.findall(r"\bdd((?:\.[A-Za-z]\w*)+)", page) if not resolves(name[1:]))
    text = prose(page)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target) and not (folder / target.split("#")[0]).exists():
            yield target
    for quoted in re.findall(r"`([^`\n]+)`", text):
        if re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]*|[\w-]+\.(?:md|py|toml|yaml)", quoted):
            if not (ROOT / quoted).exists():
                yield quoted
        elif match := re.fullmatch(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(.*\))?", quoted):
            name = match[1]
            first = name.split(".")[0]
            if "." in name:
                found = (first not in (*ROOMS, "dd", "discdiff") and not first[0].isupper()) or resolves(name)
            elif re.fullmatch(r"[A-Z]\w*[a-z]\w*", name):
                found = resolves(name)
            else:
                found = len(name) < 3 or name in words()
            if not found and name not in OTHERS and name not in entry_points():
                yield quoted


@cache
def entry_points() -> frozenset[str]:
    """Groups of entry points, which look like modules."""
    return frozenset(re.findall(r'entry-points\."([\w.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_everything_named_is_there(page: Path) -> None:
    assert list(missing(page.read_text(encoding="utf-8"), page.parent)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "[no page](nowhere.md)",
        "![no picture](pictures/nothing.png)",
        "`tests/oracles/test_o99_nothing.py`",
        "`losses.Perplexity`",
        "`samplers.Tweedie`",
        "`Multinomial`",
        "`Bound.perplexity`",
        "`Schedule.beta`",
        "`discdiff.processes.constructions.ring`",
        "`samplers.Tweedie(steps=3)`",
        "`every_order_likelihood`",
        "`NOTHING.md`",
        "\n```python\nmodel = dd.losses.Nothing()\n```\n",
    ],
)
def test_missing_things_are_seen(wrong: str) -> None:
    assert list(missing(f"Words, `Absorbing`, `losses.AnyOrder` and {wrong}.", ROOT / "docs"))


BASES = {
    "losses": "Loss",
    "samplers": "Sampler",
    "processes": "Process",
    "schedules": "Schedule",
    "parameterizations": "Parameterization",
}


@pytest.mark.parametrize("room", BASES)
def test_mathematics_is_complete(room: str) -> None:
    """Every loss, sampler, process, schedule and parameterisation has its place on the page."""
    text = (ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8")
    module = import_module(f"discdiff.{room}")
    base = getattr(module, BASES[room])
    wanted = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and not getattr(value, "__abstractmethods__", ())
    ]
    assert len(wanted) >= 4
    prefix = f"{room}." if room in ("losses", "samplers") else ""
    assert [name for name in wanted if f"`{prefix}{name}`" not in text] == []
