"""What a run needs around it: the precision that "auto" chooses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from discdiff.data import SequenceDataset
from discdiff.training.surroundings import _c_library, lightning_precision
from tests.training.conftest import make_model
from tests.training.test_fit import Fit

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16-mixed"),
        ({"avx512_bf16": False, "amx_bf16": False}, "32-true"),
        ({}, "32-true"),
    ],
)
def test_auto_is_bf16_where_a_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert lightning_precision("auto", CPU) == expected
    assert lightning_precision("float32", CPU) == "32-true"


def test_auto_is_float32_where_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert lightning_precision("auto", CPU) == "32-true"


@pytest.mark.parametrize("precision", ["float32", "bf16", "bfloat16"])
def test_the_run_says_which(quick_fit: Fit, train: SequenceDataset, tmp_path: Path, precision: str) -> None:
    quick_fit(make_model(), train, max_steps=1, precision=precision, folder=tmp_path)
    said = json.loads((tmp_path / "environment.json").read_text())["precision"]
    assert said == {"float32": "32-true", "bf16": "bf16-mixed", "bfloat16": "bf16-mixed"}[precision]


FAULTS = """
import resource, sys
import torch
from discdiff.training.surroundings import keep_memory

def faults():  # pages faulted in by a 64 MB tensor that takes the place of one just freed
    for _ in range(2):
        torch.empty(1 << 24).fill_(1.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(1 << 24).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
with keep_memory(torch.device(sys.argv[1])):
    print(faults())
print(faults())
"""


def faults(device: str) -> list[int]:
    """Before, inside and after, in a process of its own, whose heap nothing else has filled."""
    done = subprocess.run([sys.executable, "-c", FAULTS, device], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(_c_library() is None, reason="the C library is not glibc")
def test_freed_memory_is_kept() -> None:
    """Inside, a large block is not faulted in again; outside, before and after, it is (huge pages would need 32)."""
    before, inside, after = faults("cpu")
    assert before >= 32
    assert inside < 16
    assert after >= 32


@pytest.mark.skipif(_c_library() is None, reason="the C library is not glibc")
def test_a_gpu_needs_no_kept_memory() -> None:
    assert min(faults("cuda")) >= 32
