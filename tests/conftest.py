"""Fixtures and settings that every test shares."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("DISCDIFF_SHARED", ROOT.parent / "shared"))

# One thread per worker: pytest-xdist already fills the cores, and sums keep their order from run to run.
torch.set_num_threads(1)

# Derandomized: a failure repeats on every machine. No deadline: torch's first call of anything is slow.
settings.register_profile(
    "discdiff",
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("thorough", parent=settings.get_profile("discdiff"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "discdiff"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Give new networks the same weights in every run; all other draws take a generator."""
    torch.manual_seed(0)


@pytest.fixture
def generator() -> torch.Generator:
    """Return a CPU generator with seed 0."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder of reference data: `shared/` beside the checkout, or $DISCDIFF_SHARED."""
    if not SHARED.is_dir():
        pytest.skip(f"reference data absent: no folder {SHARED.name}/ beside the checkout; set DISCDIFF_SHARED")
    return SHARED


@dataclass(frozen=True)
class GoldenCase:
    """One golden case: what a published implementation returned for given inputs.

    Attributes:
        data: inputs and outputs by name.
        weights: the reference network's state dict under its own names; empty where no network is involved.
        case: `case.json`: roles, shapes, conventions, the reference's known discrepancies.
    """

    data: dict[str, np.ndarray[Any, Any]]
    weights: dict[str, np.ndarray[Any, Any]]
    case: dict[str, Any]

    def tensor(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return the array `name` as a tensor, in its own dtype unless another is asked for."""
        return torch.from_numpy(np.array(self.data[name])).to(dtype)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the reference network's weights as tensors."""
        return {name: torch.from_numpy(array) for name, array in self.weights.items()}


@pytest.fixture(scope="session")
def golden(shared_dir: Path) -> Callable[[str], GoldenCase]:
    """Return a reader of golden cases: `golden("sedd_noise").data["t"]`."""

    def read(name: str) -> GoldenCase:
        folder = shared_dir / "golden" / name
        if not folder.is_dir():
            pytest.skip(f"reference data absent: no golden case {name!r}")
        arrays: dict[str, dict[str, np.ndarray[Any, Any]]] = {"data": {}, "weights": {}}
        for kind, target in arrays.items():
            path = folder / f"{kind}.npz"
            if path.exists():
                with np.load(path, allow_pickle=False) as archive:
                    target.update(archive)
        case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        return GoldenCase(arrays["data"], arrays["weights"], case)

    return read
