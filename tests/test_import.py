"""Importing discdiff is quick and light: what few users need is imported by those who use it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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

# What must not be loaded by the end of a stage.
BANNED = {
    "the domains' package": HEAVY | {"torch", "discdiff"},
    "import": HEAVY,
    "domains": HEAVY,
    "help": {"lightning", "datasets", "rdkit", "Bio", "tensorboard"},
}
IMPORT_SECONDS = 1.0  # of CPU time for discdiff itself, beyond torch


def test_imports_are_quick_and_light() -> None:
    command = [sys.executable, "-c", RUNNER, json.dumps(STAGES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    faults = [f"{stage}: {found['error']}" for stage, found in report.items() if found["error"]]
    for stage, banned in BANNED.items():
        loaded = sorted(banned & set(report[stage]["modules"]))
        faults += [f"{stage}: loads {loaded}"] if loaded else []
    if report["import"]["seconds"] > IMPORT_SECONDS:
        faults.append(f"import: takes {report['import']['seconds']:.2f} s of CPU time")
    assert not faults, "\n".join(faults)
