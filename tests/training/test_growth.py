"""Memory of a long run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_does_not_grow() -> None:
    """In a process of its own, whose heap nothing else has filled; skipped steps and all."""
    line = [sys.executable, "-m", "benchmarks.growth", "--steps", "2000"]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout)["growth"] <= 0.01
