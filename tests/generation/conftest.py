"""A small run that jobs draw from, and another process that holds locks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import discdiff as dd
from discdiff.data import LengthModel
from discdiff.pipeline import Pipeline

CUT: dict[str, Any] = {"part_size": 12, "batch_size": 5, "steps": 4}
"""Parts of three batches."""

_HOLDER = """
import fcntl, sys
stream = open(sys.argv[1], "a+b")
for word in sys.argv[2:]:
    fcntl.lockf(stream, fcntl.LOCK_SH if word == "1" else fcntl.LOCK_EX, 1, int(word))
print("held", flush=True)
sys.stdin.read()
"""


def trained(domain: dd.Domain, *, num_labels: int | None = None) -> dd.Diffusion:
    """A small model with an opinion: weights as if trained on something."""
    process = dd.Absorbing(domain.vocab_size)
    network = dd.Transformer(process.num_states, dim=16, depth=1, heads=2, num_labels=num_labels)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.3 if num_labels is None else 0.1)
    return model.eval()


@pytest.fixture(scope="session")
def pipe() -> Pipeline:
    dna = dd.domain("dna")
    torch.manual_seed(0)
    return Pipeline(trained(dna), dna, LengthModel.of([6, 9, 9, 12]), 12)


@pytest.fixture(scope="session")
def whole(pipe: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job of 50 samples in five parts that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    pipe.sample_to(folder, 50, **CUT)
    return folder


@contextmanager
def holding(folder: Path, *what: int) -> Iterator[None]:
    """Another process that holds bytes of a job's lock: 1 is its presence, 2 + k the part k."""
    words = [sys.executable, "-c", _HOLDER, str(folder / "job.lock"), *map(str, what)]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
    finally:
        holder.kill()
        holder.communicate()


def contents(folder: Path) -> dict[str, bytes]:
    """The part files."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}
