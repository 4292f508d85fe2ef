"""Importing discdiff is quick and light: what few users need is imported by those who use it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("rdkit", "Bio", "datasets", "lightning", "pandas", "matplotlib", "tensorboard", "pyarrow")


def in_new_process(code: str) -> dict[str, object]:
    """Run `code` in a fresh interpreter and return the JSON object that it prints last."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def loaded(code: str) -> set[str]:
    """Return the top-level modules that `code` leaves loaded in a fresh interpreter."""
    report = "import json, sys; print(json.dumps({'modules': sorted(sys.modules)}))"
    modules = in_new_process(f"{code}\n{report}")["modules"]
    assert isinstance(modules, list)
    return {module.split(".")[0] for module in modules}


def test_import_is_light() -> None:
    assert sorted(set(HEAVY) & loaded("import discdiff")) == []


def test_domains_package_is_light() -> None:
    assert sorted({*HEAVY, "torch"} & loaded("import domains")) == []


@pytest.mark.parametrize("name", [point.name for point in entry_points(group="discdiff.domains")])
def test_each_domain_imports_light(name: str) -> None:
    code = f"import discdiff; discdiff.domain({name!r})"
    assert sorted(set(HEAVY) & loaded(code)) == []


def test_import_is_quick() -> None:
    code = """
import json, time
import torch
start = time.process_time()
import discdiff
print(json.dumps({"seconds": time.process_time() - start}))
"""
    seconds = in_new_process(code)["seconds"]
    assert isinstance(seconds, float)
    assert seconds < 1.0, f"discdiff itself, beyond torch, took {seconds:.2f} s of CPU time to import"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["sample", "--help"]])
def test_help_is_light(arguments: list[str]) -> None:
    code = f"""
import sys
from discdiff.cli import main
sys.argv = ["discdiff", *{arguments!r}]
try:
    status = main()
except SystemExit as exit:
    status = exit.code
assert not status, status
"""
    assert sorted({"lightning", "datasets", "rdkit", "Bio"} & loaded(code)) == []


def test_public_names_exist() -> None:
    code = """
import json, discdiff
missing = [name for name in discdiff.__all__ if not hasattr(discdiff, name)]
print(json.dumps({"missing": missing, "twice": len(discdiff.__all__) - len(set(discdiff.__all__))}))
"""
    assert in_new_process(code) == {"missing": [], "twice": 0}
