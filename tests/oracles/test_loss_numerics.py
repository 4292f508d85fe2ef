"""Losses at both ends of time and noise, in float32 and float64; their gradients against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discdiff.losses.score_entropy import score_entropy_at
from discdiff.model import Diffusion
from discdiff.networks.base import Context
from discdiff.parameterizations import Parameterization
from discdiff.processes import Process, RateMatrix
from discdiff.processes.constructions import banded
from discdiff.processes.rank_one import RankOne
from discdiff.schedules import Geometric, LogLinear
from discdiff.sequences import Sequences
from tests.cases import LOSSES, MODELS, PARAMETERIZATIONS, PROCESSES, serves
from tests.scripted import ALMOST_ONE, scripted
from tests.toy_networks import ToyNetwork

PLANS = [(*model, name) for model in MODELS for name, case in LOSSES.items() if serves(case, *model)]
WIDE = Geometric(sigma_min=1e-6, sigma_max=20.0)


class Logits(ToyNetwork):
    """Says logits by position and token, whatever the noise: `table` `[L, S, outputs]`."""

    def __init__(self, num_states: int, dtype: torch.dtype, strength: float = 1.0) -> None:
        super().__init__()
        self.num_states, self.start, self.strength = num_states, dtype, strength

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.num_outputs = parameterization.num_outputs(process)
        draw = torch.Generator().manual_seed(2)
        said = torch.randn(4, self.num_states, self.num_outputs, generator=draw, dtype=torch.float64)
        self.table = torch.nn.Parameter((self.strength * said).to(self.start))

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        return self.table[torch.arange(tokens.shape[1]), tokens]


def small(process: str, parameterization: str, dtype: torch.dtype, *, wide: bool) -> tuple[Diffusion, Logits]:
    made = PROCESSES[process].make(3)
    network = Logits(made.num_states, dtype, 3.0 if wide else 1.0)
    schedule = WIDE if wide else LogLinear(t_min=0.05)
    return Diffusion(network, made, schedule, PARAMETERIZATIONS[parameterization]()), network


def draws(time: float, event: float, rows: int) -> dict[str, Tensor]:
    """Every number that a loss asks for; a process's own ways to corrupt included."""
    u = torch.tensor([0.1, 0.35, 0.6, 0.85], dtype=torch.float64).expand(rows, -1)
    script = {"time": torch.full((rows,), time, dtype=torch.float64), "mask": u}
    script["corrupt"] = torch.full((rows, 4), event, dtype=torch.float64)
    script |= {"corrupt_token": u, "neighbor_position": u[:, :2], "neighbor_state": u[:, 1:3]}
    return script


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("process", "parameterization", "name"), PLANS)
def test_finite_at_both_ends(process: str, parameterization: str, name: str, dtype: torch.dtype) -> None:
    """σ = 1e-6 and 20, t = t_min and 1, every position noised or none: values and gradients are finite."""
    rows = Sequences.full(torch.tensor([[0, 1, 2, 1], [2, 2, 0, 0]]))
    for time in (0.0, 0.5, ALMOST_ONE):
        for event in (0.0, ALMOST_ONE):
            model, network = small(process, parameterization, dtype, wide=True)
            values = LOSSES[name].make()(model, rows, generator=scripted(2, **draws(time, event, 2)))
            assert values.dtype == dtype
            assert values.isfinite().all()
            values.sum().backward()
            assert network.table.grad is None or network.table.grad.isfinite().all()


@pytest.mark.parametrize(("process", "parameterization", "name"), PLANS)
def test_gradients(process: str, parameterization: str, name: str) -> None:
    """`gradcheck` in float64, half of the positions noised."""
    rows = Sequences(torch.tensor([[0, 1, 2, 1], [2, 0, 1, 0]]), torch.tensor([4, 3]))
    script = draws(0.4, 0.0, 2)
    script["corrupt"] = torch.tensor([[0.0, ALMOST_ONE, 0.0, ALMOST_ONE]], dtype=torch.float64).expand(2, -1)
    model, network = small(process, parameterization, torch.float64, wide=False)
    loss = LOSSES[name].make()

    def of(table: Tensor) -> Tensor:
        del network.table
        network.table = table  # type: ignore[assignment]
        return loss(model, rows, generator=scripted(2, **script))

    start = network.table.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(of, (start,), eps=1e-6, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("process", [name for name, case in PROCESSES.items() if not case.masked])
def test_closed_form_keeps_its_digits(process: str) -> None:
    """At σ = 12 in float32: within 1e-4 of float64; the difference of two scores is ten times as far at least."""
    made = PROCESSES[process].make(5)
    if not isinstance(made, RankOne):
        pytest.skip("no closed form")
    draw = torch.Generator().manual_seed(0)
    log_loo = torch.randn(200, 5, generator=draw, dtype=torch.float64).log_softmax(-1)
    x, x0 = torch.randint(5, (2, 200), generator=draw)
    sigma = torch.full((200,), 12.0, dtype=torch.float64)
    truth = made.elbo_rate(log_loo, x, x0, sigma)
    single = log_loo.float(), x, x0, sigma.float()
    closed = made.elbo_rate(*single).double()
    scores = made.score_entropy(made.score_from_leave_one_out(*(single[i] for i in (0, 1, 3))), x, x0, sigma.float())
    errors = [float(((value - truth).abs() / truth.mean()).max()) for value in (closed, scores.double())]
    assert errors[0] < 1e-4
    assert errors[1] > 10 * errors[0]


@pytest.mark.parametrize("process", [name for name, case in PROCESSES.items() if not case.masked])
@pytest.mark.parametrize("sigma", [1e-6, 1e-3, 0.1])
def test_closed_form_of_a_network_that_is_sure_and_wrong(process: str, sigma: float) -> None:
    """x0 held unlikely, down to 1e-9, in float32: within 1e-5 of float64, where 1 − loo has rounded to 1."""
    made = PROCESSES[process].make(27)
    if not isinstance(made, RankOne):
        pytest.skip("no closed form")
    for chance in (1e-3, 1e-6, 1e-9):
        log_loo = torch.full((1, 27), 1e-12, dtype=torch.float64)
        log_loo[0, 0], log_loo[0, 1] = chance, 1 - chance - 25e-12
        x = x0 = torch.zeros(1, dtype=torch.int64)
        level = torch.full((1,), sigma, dtype=torch.float64)
        truth = made.score_entropy(made.score_from_leave_one_out(log_loo.log(), x, level), x, x0, level)
        single = made.elbo_rate(log_loo.log().float(), x, x0, level.float()).double()
        torch.testing.assert_close(single, truth, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("parameterization", ["score", "leave_one_out"])
def test_gradient_where_no_token_jumps_far(parameterization: str) -> None:
    """Nearest neighbours of 64 tokens, σ = 1e-3, float32: r of far tokens is below 1e-38, and gradients are finite."""
    process = RateMatrix(64, banded(64))
    network = Logits(64, torch.float32)
    model = Diffusion(network, process, LogLinear(), PARAMETERIZATIONS[parameterization]())
    rows = Sequences.full(torch.tensor([[0, 20, 40, 63]]))
    t = torch.full((1, 1), 1e-3, dtype=torch.float64)
    value = score_entropy_at(model, rows, t, generator=torch.Generator().manual_seed(0))
    value.sum().backward()
    assert value.isfinite().all()
    assert network.table.grad is not None
    assert network.table.grad.isfinite().all()
