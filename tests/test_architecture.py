"""The house rules that a parser can see: who may import whom, how long a file may be, what nobody imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
import warnings
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Imports point from later layers to earlier ones. Rooms of one layer may use one another, never in a circle.
LAYERS: list[set[str]] = [
    {"errors", "launch", "manifest", "records", "sealed", "sequences", "randomness", "unfinished", "writing"},
    {"languages"},
    {"schedules", "processes", "networks"},
    {"logits"},
    {"prediction"},
    {"parameterizations"},
    {"model"},
    {"losses", "samplers", "constraints", "guidance"},
    {"particles"},
    {"sampling", "likelihood"},
    {
        "domain",
        "metrics",
        "data",
        "description",
        "release",
        "run_folder",
        "progress",
        "rules",
        "training",
        "interop",
        "pipeline",
        "weights",
    },
    {"experiment"},
    {"cli", "__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}

# What a domain may see of the library, as a third party's domain does.
PUBLIC_TO_DOMAINS = {
    "discdiff",
    "discdiff.constraints",
    "discdiff.data",
    "discdiff.data.files",
    "discdiff.domain",
    "discdiff.errors",
    "discdiff.languages",
    "discdiff.metrics",
    "discdiff.processes.constructions",
    "discdiff.rules",
    "discdiff.sequences",
}

# Packages that are imported under another name than they are installed.
DISTRIBUTIONS = {"Bio": "biopython", "flash_attn": "flash-attn", "yaml": "pyyaml"}

CORE = sorted((ROOT / "discdiff").rglob("*.py"))
DOMAINS = sorted((ROOT / "domains").rglob("*.py"))
FOLDERS = ("discdiff", "domains", "tests", "examples", "benchmarks")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path: Path, *, with_typing: bool = False) -> Iterator[tuple[int, str, str]]:
    """Yield (line, module, name) of every import in a file; `name` is empty for `import module`.

    Imports inside functions count: they are dependencies too. Those under `if TYPE_CHECKING:` count only
    where `with_typing` asks for them. Relative imports are made absolute.
    """
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]

    def walk(node: ast.AST) -> Iterator[tuple[int, str, str]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not with_typing:
            for branch in node.orelse:
                yield from walk(branch)
            return
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, module, alias.name) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    yield from walk(parsed(path))


def room_of(path: Path) -> str:
    """Return the room that a core file belongs to: '' for the public surface, `discdiff/__init__.py`."""
    parts = path.relative_to(ROOT / "discdiff").with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def rooms_imported(module: str, name: str) -> str | None:
    """Return the room that an import reaches: None outside discdiff, '' for the public surface itself."""
    parts = module.split(".")
    if parts[0] != "discdiff":
        return None
    if len(parts) > 1:
        return parts[1]
    return name if name in LEVEL else ""


def calls(function: str) -> Iterator[tuple[Path, ast.Call]]:
    """Yield every call of `function`, under whatever module or object, in the library and its domains."""
    for path in CORE + DOMAINS:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == function:
                yield path, node


def at(path: Path, line: int) -> str:
    """Return a place as `path:line`."""
    return f"{path.relative_to(ROOT)}:{line}"


def test_every_file_has_a_room() -> None:
    unknown = sorted({room_of(path) for path in CORE} - set(LEVEL) - {""})
    assert not unknown, f"no layer for {unknown}: give each a place in LAYERS and in the contributor's guide"


def test_core_imports_point_one_way() -> None:
    faults = []
    for path in CORE:
        here = room_of(path)
        if not here:
            continue
        for line, module, name in imports(path):
            there = rooms_imported(module, name)
            if there == "" and name != "__version__":
                faults.append(f"{at(path, line)}: the core imports its own public surface; name the module")
            elif there and LEVEL.get(there, 0) > LEVEL.get(here, 0):
                faults.append(f"{at(path, line)}: {here} may not import {there}, which stands on it")
    assert not faults, "\n".join(faults)


def test_rooms_form_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in CORE:
        here = room_of(path)
        used = {rooms_imported(module, name) for _, module, name in imports(path)}
        graph.setdefault(here, set()).update(room for room in used if room and room != here)
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail("a circle of imports: " + " -> ".join(error.args[1]))


def test_core_knows_no_domain() -> None:
    faults = [
        f"{at(path, line)}: {module}"
        for path in CORE
        for line, module, _ in imports(path, with_typing=True)
        if module.split(".")[0] == "domains"
    ]
    assert not faults, "the core reaches domains through entry points only:\n" + "\n".join(faults)


def test_domains_see_public_names_only() -> None:
    faults = []
    for path in DOMAINS:
        for line, module, name in imports(path, with_typing=True):
            if module.split(".")[0] != "discdiff":
                continue
            # `from discdiff import errors` reaches the module discdiff.errors
            reached = f"{module}.{name}" if module == "discdiff" and name in LEVEL else module
            if reached not in PUBLIC_TO_DOMAINS or name.startswith("_"):
                faults.append(f"{at(path, line)}: from {module} import {name or '…'}")
    assert not faults, f"domains may import from {sorted(PUBLIC_TO_DOMAINS)}:\n" + "\n".join(faults)


def test_nobody_imports_pytorch_lightning() -> None:
    faults = [
        at(path, line)
        for path in SOURCES
        for line, module, _ in imports(path, with_typing=True)
        if module.split(".")[0] == "pytorch_lightning"
    ]
    assert not faults, f"import lightning.pytorch instead: {faults}"


def test_torch_load_unpickles_nothing() -> None:
    faults = [
        at(path, call.lineno)
        for path, call in calls("load")
        if ast.unparse(call.func) == "torch.load"
        and "weights_only=True" not in {ast.unparse(keyword) for keyword in call.keywords}
    ]
    assert not faults, f"torch.load without weights_only=True: {faults}"


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    long = [f"{path.relative_to(ROOT)} ({n})" for path, n in lengths.items() if n > 300]
    if long:
        warnings.warn(f"over 300 lines, to be split: {', '.join(long)}", stacklevel=1)
    too_long = [f"{path.relative_to(ROOT)} ({n})" for path, n in lengths.items() if n > 500]
    assert not too_long, f"over 500 lines: {too_long}"


def test_imported_packages_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.split(r"[^\w-]", requirement)[0] for group in groups for requirement in group}
    known = declared | set(sys.stdlib_module_names) | {"benchmarks", "discdiff", "domains", "tests"}
    used = {(path, module) for path in SOURCES for _, module, _ in imports(path)}
    for path, call in calls("require"):
        used |= {(path, str(argument.value)) for argument in call.args[:1] if isinstance(argument, ast.Constant)}
    faults = set()
    for path, module in used:
        package = module.split(".")[0]
        if DISTRIBUTIONS.get(package, package) not in known:
            faults.add(f"{path.relative_to(ROOT)}: {package}")
    assert not faults, f"imported, but not declared in pyproject.toml: {sorted(faults)}"


def test_extras_named_in_code_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    named = [
        (at(path, call.lineno), argument.value)
        for path, call in calls("require")
        for argument in call.args[1:]
        if isinstance(argument, ast.Constant)
    ]
    for path in [*CORE, *DOMAINS, *ROOT.glob("*.md")]:
        for group in re.findall(r"discdiff\[([a-z,]+)\]", path.read_text(encoding="utf-8")):
            named += [(str(path.relative_to(ROOT)), extra) for extra in group.split(",")]
    faults = [f"{place}: {extra!r}" for place, extra in named if extra not in extras]
    assert not faults, f"extras that pyproject.toml does not have (it has {sorted(extras)}): {faults}"
