"""Every example runs, at a tiny size, and does what it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.cases import LOSSES, PARAMETERIZATIONS, PROCESSES

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_exact_toy() -> None:
    found = load("01_exact_toy").main(draws=4000, noise_levels=50)
    assert found["first-hitting"] < 0.06 < found["ancestral,  1 steps"]
    assert abs(found["gap"]) < 0.5


def test_text() -> None:
    infills = load("02_text").main(max_steps=3, dim=16, depth=1)
    assert all(text.startswith("The ") and " statement is used to " in text for text in infills)


def test_dna() -> None:
    pytest.importorskip("logomaker", reason="the example's data come with logomaker")
    filled = load("03_dna").main(max_steps=3, dim=16)
    assert all(s[4:9] == "TGTGA" and s[16:21] == "TCACA" and set(s[13:15]) <= set("AT") for s in filled)


def test_protein() -> None:
    pytest.importorskip("logomaker", reason="the example's data come with logomaker")
    infills = load("04_protein").main(max_steps=3, dim=16)
    assert all(s.startswith("LPPGWE") and s[15] in "YF" for s in infills)


def test_smiles() -> None:
    infills = load("05_smiles_infill").main(max_steps=3, dim=16, molecules=300)
    assert all(s.startswith("c1ccc(cc1)") and s.endswith("C(=O)O") for s in infills)


def test_pandas() -> None:
    table = load("06_pandas_pipeline").main(max_steps=30)
    assert table["bits_per_base"].is_monotonic_increasing
    assert len(table) == 3


def test_losses() -> None:
    """Every loss, parameterisation and process is there, and each nears the true ratios (a tenth of the training)."""
    example = load("07_losses")
    cases = example.cases()
    assert {type(loss) for _, _, loss in cases} == {type(case.make()) for case in LOSSES.values()}
    assert {type(said) for _, said, _ in cases} == {type(make()) for make in PARAMETERIZATIONS.values()}
    assert {type(process) for process, _, _ in cases} == {type(case.make(3)) for case in PROCESSES.values()}
    found = example.main(steps=90)
    assert len(found) == len(cases)
    assert all(after < 0.75 * before for before, after in found.values()), found


def test_convergence(tmp_path: Path) -> None:
    """The laws that each sampler states: of order 1, of order 2, slower, exact, or greedy."""
    pytest.importorskip("matplotlib", reason="the example draws a picture")
    path = tmp_path / "convergence.png"
    found = load("08_convergence").main(path, draws=10_000, grid=(16, 32, 64))
    assert path.stat().st_size > 10_000
    for process in ("Absorbing", "Uniform"):
        assert found[process]["Ancestral"].slope == pytest.approx(1, abs=0.1)
        assert found[process]["Euler"].slope == pytest.approx(1, abs=0.1)
        assert found[process]["Trapezoidal"].slope > 1.6
        assert found[process]["Uniformization"].tv[-1] < 0.025  # noise: 0.015
    masked = found["Absorbing"]
    assert masked["Remasking"].slope < 0.8
    assert all(masked[name].tv[-1] < 0.025 for name in ("FirstHitting", "Ordered", "AnyOrder", "Confidence"))
    assert masked["AnyOrder"].tv[0] > 0.04
    assert masked["Argmax"].tv[-1] > 0.5
