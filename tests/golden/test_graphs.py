"""SEDD's graphs: rates, transitions, reverse rates, staggered scores and score entropies of both processes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discdiff.processes.absorbing import Absorbing
from discdiff.processes.base import Process
from discdiff.processes.uniform import Uniform
from tests.conftest import GoldenCase
from tests.golden.replay import Golden, close

KINDS: dict[str, type[Absorbing] | type[Uniform]] = {"absorb": Absorbing, "uniform": Uniform}
CASES = [f"sedd_graph_{kind}_V{size}" for kind in KINDS for size in (2, 5, 33)]


def process_of(case: GoldenCase) -> Process:
    meta = case.case["meta"]
    return KINDS[meta["kind"]](meta["V"])


def noise(case: GoldenCase, name: str = "x", dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    x = case.tensor(name)
    return x, case.tensor("sigma", dtype)[:, None].expand(x.shape)


@pytest.mark.parametrize("name", CASES)
def test_rates(golden: Golden, name: str) -> None:
    case = golden(name)
    process, x = process_of(case), case.tensor("x")
    close(process.rates_from(x, dtype=torch.float64), case.tensor("rate"), atol=1e-15)
    close(process.rates_into(x, dtype=torch.float64), case.tensor("transp_rate"), atol=1e-15)
    for dtype, rtol in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
        close(process.reverse_rate(case.tensor("log_score", dtype), x), case.tensor("reverse_rate", dtype), rtol=rtol)


@pytest.mark.parametrize("name", CASES)
def test_transitions(golden: Golden, name: str) -> None:
    """The absolute tolerance is the reference's: it forms 1 − e^(−σ), wrong in the eighth digit at σ = 1e-9."""
    case = golden(name)
    process = process_of(case)
    close(process.likelihood(*noise(case)), case.tensor("transp_transition"), atol=1e-15)
    if "transition" in case.data:  # not implemented for the absorbing graph
        close(process.transition(*noise(case)), case.tensor("transition"), atol=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_transition_is_a_column_and_likelihood_a_row(golden: Golden, name: str) -> None:
    """P_σ[x, x0] has one value, whichever way it is read: the absorbing graph's missing `transition` too."""
    case = golden(name)
    process = process_of(case)
    (x, sigma), (x0, _) = noise(case), noise(case, "x0")
    row = case.tensor("transp_transition").gather(-1, x0[..., None])
    close(process.transition(x0, sigma).gather(-1, x[..., None]), row, atol=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_staggered_score(golden: Golden, name: str) -> None:
    """exp(−σQ) s. Its terms reach e^σ and cancel: errors are relative to the largest."""
    case = golden(name)
    _, sigma = noise(case)
    staggered = process_of(case).propagate(case.tensor("log_score").exp(), -sigma)
    theirs = case.tensor("staggered_score")
    scale = theirs.abs().amax(-1, keepdim=True)
    close(staggered / scale, theirs / scale, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_score_entropy(golden: Golden, name: str) -> None:
    """Equal to 40-digit arithmetic at every σ; to the reference within the error that its case states.

    Its uniform ratio 1 − V/(e^σ − 1 + V) cancels at small σ: at V = 33 even its float64 is off by 1.6e-6.
    """
    case = golden(name)
    process, (x, sigma), x0 = process_of(case), noise(case), case.tensor("x0")
    ours = process.score_entropy(case.tensor("log_score"), x, x0, sigma)
    close(ours, case.tensor("score_entropy_exact"), rtol=1e-12, atol=1e-15)
    stated = next(v["max_rel"] for v in case.case["verification"] if v["what"].endswith("all sigma"))
    close(ours, case.tensor("score_entropy"), rtol=1.01 * stated + 1e-12)


@pytest.mark.parametrize("name", CASES)
def test_score_entropy_in_float32(golden: Golden, name: str) -> None:
    """Finite and right to five digits from σ = 1e-9 to 20; the reference's uniform process has NaN and infinities."""
    case = golden(name)
    process, (x, sigma), x0 = process_of(case), noise(case, dtype=torch.float32), case.tensor("x0")
    ours = process.score_entropy(case.tensor("log_score", torch.float32), x, x0, sigma)
    assert ours.dtype == torch.float32
    exact, theirs = case.tensor("score_entropy_exact"), case.tensor("score_entropy_f32")
    close(ours.double(), exact, rtol=1e-5)
    usable = (sigma > 0.01) | torch.full_like(sigma, name.startswith("sedd_graph_absorb")).bool()
    close(ours[usable], theirs[usable], rtol=3e-4, atol=1e-6)
    wrong = ~((theirs.double() - exact).abs() <= 1e-3 * exact)
    assert bool(wrong[0].any()) == name.startswith("sedd_graph_uniform")  # σ = 1e-9
