"""σ = 1e-6 and 20, the largest vocabularies, float32, bf16 inside the network, and float64: losses, readings, steps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from discdiff.losses import Loss
from discdiff.model import Diffusion
from discdiff.networks.base import Context
from discdiff.parameterizations import Parameterization
from discdiff.prediction import DenoiserPrediction, ScorePrediction
from discdiff.processes import Absorbing, Hybrid, Marginal, Process, RateMatrix, Uniform
from discdiff.processes.constructions import banded
from discdiff.samplers import Level, RungeKutta2, TauLeaping
from discdiff.schedules import Geometric
from discdiff.sequences import Sequences
from tests.cases import LOSSES, MODELS, PARAMETERIZATIONS, PROCESSES, serves
from tests.oracles.test_loss_numerics import draws
from tests.scripted import ALMOST_ONE, scripted
from tests.toy_networks import ToyNetwork

WIDE = Geometric(sigma_min=1e-6, sigma_max=20.0)
LARGE = 50_258
MANY: dict[str, Callable[[], Process]] = {
    "absorbing": lambda: Absorbing(LARGE),
    "uniform": lambda: Uniform(LARGE),
    "marginal": lambda: Marginal(LARGE, counts=1e6 / torch.arange(1, LARGE + 1)),
    "hybrid": lambda: Hybrid(LARGE, 0.4),
    "banded": lambda: RateMatrix(64, banded(64)),
}
KIND = {"banded": "circular"}
"""The process of `tests.cases` that takes the same losses."""
PRECISIONS = {"float32": torch.float32, "bf16": torch.float32, "float64": torch.float64}


class Linear(ToyNetwork):
    """Vectors of 8 by position, a linear head: bf16 under autocast, as any network's."""

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.num_states = num_states

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.num_outputs = parameterization.num_outputs(process)
        draw = torch.Generator().manual_seed(2)
        self.vectors = torch.nn.Parameter(torch.randn(4, 8, generator=draw))
        self.table = torch.nn.Parameter(torch.randn(self.num_outputs, 8, generator=draw))

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        return self.vectors[torch.arange(tokens.shape[1])].expand(len(tokens), -1, -1)

    def head(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.table).to(self.table.dtype)


def finite(process: Process, parameterization: Parameterization, loss: Loss, precision: str, top: int) -> None:
    """Values and gradients at both ends of t, every position noised or none."""
    rows = Sequences.full(torch.tensor([[0, 1, top, 1]]))
    model = Diffusion(Linear(process.num_states), process, WIDE, parameterization).to(dtype=PRECISIONS[precision])
    for time, event in ((0.0, 0.0), (0.0, ALMOST_ONE), (ALMOST_ONE, 0.0), (ALMOST_ONE, ALMOST_ONE)):
        with torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16" else nullcontext():
            values = loss(model, rows, generator=scripted(1, **draws(time, event, 1)))
        assert values.dtype == PRECISIONS[precision]
        assert values.isfinite().all()
        model.zero_grad()
        values.sum().backward()
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("precision", ["bf16"])
@pytest.mark.parametrize("name", LOSSES)
def test_small_vocabularies(name: str, precision: str) -> None:
    """V = 2, every model that the loss serves; float32 and float64 are in `test_loss_numerics`."""
    for process, parameterization in MODELS:
        if serves(LOSSES[name], process, parameterization):
            parts = PROCESSES[process].make(2), PARAMETERIZATIONS[parameterization]()
            finite(*parts, LOSSES[name].make(), precision, 1)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("process", MANY)
def test_large_vocabularies(process: str, precision: str) -> None:
    """V = 50,258 for the rank-one family, a band of 64 tokens: every loss but the one that visits all neighbours."""
    made, kind = MANY[process](), KIND.get(process, process)
    for name, case in LOSSES.items():
        for parameterization in PARAMETERIZATIONS:
            if name != "ise" and (kind, parameterization) in MODELS and serves(case, kind, parameterization):
                chosen = PARAMETERIZATIONS[parameterization]()
                finite(made, chosen, case.make(), precision, made.vocab_size - 1)


# ---- float32 at large σ, against float64 -----------------------------------------------------------------------------
def said(process: Process, log_p: Tensor, x: Tensor, sigma: float) -> DenoiserPrediction:
    return DenoiserPrediction(
        process, x, torch.full((len(x), 1), sigma, dtype=log_p.dtype), None,
        log_p=lambda where: log_p if where is None else log_p[where],
        calls=lambda: torch.zeros(len(x), dtype=torch.int64),
    )  # fmt: skip


@pytest.mark.parametrize("sigma", [1e-6, 12.0, 20.0])
@pytest.mark.parametrize("process", PROCESSES)
def test_readings_and_steps(process: str, sigma: float) -> None:
    """A denoiser's score, its posterior and the rates' steps, float32 against float64: 2e-5 relative."""
    made = PROCESSES[process].make(5)
    draw = torch.Generator().manual_seed(1)
    x = torch.randint(made.num_states, (40, 3), generator=draw)
    log_p = torch.randn(40, 3, 5, generator=draw, dtype=torch.float64).log_softmax(-1)
    single, double = (said(made, log_p.to(dtype), x, sigma) for dtype in (torch.float32, torch.float64))
    scores = single.log_score().double(), double.log_score()
    torch.testing.assert_close(scores[0], scores[1], rtol=2e-5, atol=1e-5)
    for share in (0.0, 0.1, 0.999):
        steps = [
            each.posterior(torch.full((40, 1), sigma * share, dtype=each.sigma.dtype)).double()
            for each in (single, double)
        ]
        torch.testing.assert_close(*steps, rtol=1e-4, atol=1e-6)
    level = Level(1.0, 0.9, sigma, 0.9 * sigma, sigma)
    for sampler in (TauLeaping(), RungeKutta2()):
        kernels = [sampler.kernel(each, level, each.sigma, None).double() for each in (single, double)]
        torch.testing.assert_close(*kernels, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("process", PROCESSES)
def test_steps_from_a_score(process: str) -> None:
    """At σ = 20 a score's posterior over Δσ = 0.5, float32 against float64: 1e-5 (the inverse magnifies by e^0.5)."""
    made = PROCESSES[process].make(5)
    draw = torch.Generator().manual_seed(1)
    x = torch.randint(made.num_states, (40, 3), generator=draw)
    exact = said(made, torch.randn(40, 3, 5, generator=draw, dtype=torch.float64).log_softmax(-1), x, 20.0)
    laws = []
    for dtype in (torch.float32, torch.float64):
        log_s = exact.log_score().to(dtype)
        prediction = ScorePrediction(
            made, x, exact.sigma.to(dtype), None,
            log_s=lambda where, log_s=log_s: log_s,  # type: ignore[misc]
            calls=lambda: torch.zeros(40, dtype=torch.int64),
        )  # fmt: skip
        laws.append(prediction.posterior(torch.full((40, 1), 19.5, dtype=dtype)).double())
    torch.testing.assert_close(*laws, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        laws[1], exact.posterior(torch.full((40, 1), 19.5, dtype=torch.float64)), atol=1e-9, rtol=0
    )
