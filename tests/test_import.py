"""Importing discdiff is quick and light: what few users need is imported by those who use it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"rdkit", "Bio", "datasets", "lightning", "pandas", "matplotlib", "tensorboard", "pyarrow"}

# One fresh interpreter goes through the stages in order, as one for each would import torch anew. After each stage it
# notes what is loaded, the CPU seconds taken, and the error if it failed.
STAGES = {
    "the domains' package": "import domains",
    "torch": "import torch",
    "import": "import discdiff",
    "domains": """
import discdiff
assert len(discdiff.domain_names()) >= 5, discdiff.domain_names()
for name in discdiff.domain_names():
    discdiff.domain(name)
""",
    "help": """
import contextlib, io, sys
from discdiff.cli import main
for arguments in ([], ["train"], ["sample"], ["evaluate"]):
    sys.argv = ["discdiff", *arguments, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            status = main()
        except SystemExit as exit:
            status = exit.code
    assert not status and "usage" in shown.getvalue().lower(), (arguments, status, shown.getvalue())
""",
    "names": """
import discdiff
assert len(discdiff.__all__) == len(set(discdiff.__all__)), "a public name is listed twice"
for name in discdiff.__all__:
    getattr(discdiff, name)
""",
}
RUNNER = """
import json, sys, time, traceback
report = {}
for stage, code in json.loads(sys.argv[1]).items():
    start, error = time.process_time(), None
    try:
        exec(code, {})
    except BaseException:
        error = traceback.format_exc()
    seconds = time.process_time() - start
    modules = sorted({name.split(".")[0] for name in sys.modules})
    report[stage] = {"error": error, "seconds": seconds, "modules": modules}
print(json.dumps(report))
"""

pytestmark = pytest.mark.xdist_group("import")


@pytest.fixture(scope="module")
def report() -> dict[str, dict[str, Any]]:
    """Go through the stages; return, for each, `error`, `seconds` and the top-level `modules` loaded by then."""
    command = [sys.executable, "-c", RUNNER, json.dumps(STAGES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    stages: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return stages


@pytest.mark.parametrize("stage", STAGES)
def test_stage_succeeds(report: dict[str, dict[str, Any]], stage: str) -> None:
    assert report[stage]["error"] is None, report[stage]["error"]


@pytest.mark.parametrize(
    ("stage", "banned"),
    [
        ("the domains' package", HEAVY | {"torch", "discdiff"}),
        ("import", HEAVY),
        ("domains", HEAVY),
        ("help", {"lightning", "datasets", "rdkit", "Bio", "tensorboard"}),
    ],
)
def test_stage_is_light(report: dict[str, dict[str, Any]], stage: str, banned: set[str]) -> None:
    assert sorted(banned & set(report[stage]["modules"])) == []


def test_import_is_quick(report: dict[str, dict[str, Any]]) -> None:
    seconds = report["import"]["seconds"]
    assert seconds < 1.0, f"discdiff itself, beyond torch, took {seconds:.2f} s of CPU time to import"
