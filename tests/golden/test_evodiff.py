"""EvoDiff's discrete-time chains: D3PM with BLOSUM and uniform kernels, through our loss and our rate matrices.

Convention map: their rows are laws, our columns; Q_bar[t] = Q_0 … Q_t. One published step is I + β_t G, a first-order
step of ours: G is one rate matrix for all t. Their softmax is the leave-one-out law, but at t = 1 the posterior.
"""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from torch import Tensor

from discdiff.losses import D3PM
from discdiff.model import Diffusion
from discdiff.parameterizations import Denoiser, LeaveOneOut
from discdiff.processes.constructions import generator_of
from discdiff.processes.rate_matrix import RateMatrix
from discdiff.processes.uniform import Uniform
from discdiff.schedules import LogLinear, Schedule
from discdiff.sequences import Sequences
from domains.protein.domain import Protein
from tests.conftest import GoldenCase
from tests.golden.replay import Golden, Said, close, given

STORED = (0, 1, 4, 7)
"""The steps whose matrices are stored, of T = 8."""
AMINO_ACIDS = 20
"""The first letters of their alphabet, in our order."""


class Chain(Uniform):
    """A chain in discrete time; the level of its state after k steps is k² + ½, so that a step is known by 2k − 1."""

    def __init__(self, steps: dict[int, Tensor], totals: dict[int, Tensor]) -> None:
        super().__init__(len(totals[1]))
        self.matrices = {2.0 * k - 1: step for k, step in steps.items()}  # [from, to], as theirs
        self.matrices |= {k * k + 0.5: total for k, total in totals.items()}
        self.matrices[0.0] = torch.eye(self.num_states, dtype=torch.float64)

    def matrix(self, sigma: Tensor) -> Tensor:
        (level,) = sigma.unique().tolist()
        return self.matrices[level]

    def likelihood(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.matrix(sigma).T[x]

    def transition(self, x0: Tensor, sigma: Tensor) -> Tensor:
        return self.matrix(sigma)[x0]

    def propagate(self, p: Tensor, sigma: Tensor) -> Tensor:
        return p @ self.matrix(sigma)


class OnChain(D3PM):
    """D3PM at the levels of a `Chain`."""

    def levels(self, schedule: Schedule) -> Tensor:
        k = torch.arange(self.steps + 1, dtype=torch.float64)
        return torch.where(k > 0, k * k + 0.5, 0.0)


def chain_of(case: GoldenCase, kernel: str) -> Chain:
    at = case.tensor("timestep").tolist()
    known = sorted(t for k in at for t in (k - 1, k))
    totals = dict(zip(known, case.tensor(f"{kernel}_Qbar"), strict=True))
    steps = {k: step for k, step in zip(sorted(at), case.tensor(f"{kernel}_Q"), strict=True) if k > 1}
    return Chain(steps, {k: total for k, total in totals.items() if k > 0})


@pytest.mark.parametrize("kernel", ["blosum", "uniform"])
def test_bound(golden: Golden, kernel: str) -> None:
    """One step's KL through our loss, mean over positions: D3PM's, equal to `exact`.

    The published loss multiplies the prediction twice, so that its p(x_{t−1} | x_t) is built from p(x0)²: 13% too
    large on the uniform kernel and 2.8 times on BLOSUM's. It is ours for a network whose logits are twice as large.
    """
    case, chain = golden("evodiff_d3pm_lvb"), chain_of(golden("evodiff_d3pm_lvb"), kernel)
    loss, published = OnChain(steps=case.case["meta"]["T"]), []
    for row, (length, k) in enumerate(zip(case.case["meta"]["lens"], case.tensor("timestep").tolist(), strict=True)):
        x0, xt = (case.tensor(name)[row : row + 1, :length] for name in ("tgt", f"{kernel}_src"))
        said = case.tensor("pred", torch.float64)[row : row + 1, :length, : chain.num_states]
        draws = given(
            time=torch.tensor([(k - 0.5) / loss.steps]),
            corrupt=torch.zeros_like(xt),
            corrupt_token=(xt + 0.5) / chain.num_states,
        )

        def value(logits: Tensor, reads: Denoiser | LeaveOneOut) -> Tensor:
            model = Diffusion(Said(xt, logits, chain), chain, LogLinear(), reads)  # noqa: B023
            return loss(model, Sequences.full(x0), generator=draws)[0] / loss.steps / length  # noqa: B023

        ours = value(said, Denoiser() if k == 1 else LeaveOneOut())
        published.append(ours if k == 1 else value(2 * said, LeaveOneOut()))
        close(ours, case.tensor(f"{kernel}_lvb_correct_per_seq")[row], rtol=1e-5)
        assert k == 1 or published[-1] / ours > 1.1
    close(torch.stack(published), case.tensor(f"{kernel}_lvb_per_seq"), rtol=1e-5)
    close(torch.stack(published).mean(), case.tensor(f"{kernel}_lvb"), rtol=1e-5)


def betas(steps: int = 8) -> Tensor:
    """Their "exp" schedule, whose last β is 1 + 1/T."""
    rising = torch.exp(torch.linspace(0, 6, steps, dtype=torch.float64)) * (0.999 - 1e-5) + 1e-5
    return rising / rising.max() + 1 / steps


@pytest.mark.parametrize("alphabet", ["seq", "msa"])
def test_blosum_kernels(golden: Golden, alphabet: str) -> None:
    """One matrix of rates gives every kernel: a step is I + β G to first order, which `RateMatrix` takes to all orders.

    Theirs has a last β beyond 1, where first order is not enough: it keeps tokens less often than the same rates do.
    """
    case = golden("evodiff_d3pm_schedules")
    generator = generator_of(case.tensor(f"q_blosum_{alphabet}"))
    process = RateMatrix(len(generator), generator)
    every, beta = torch.arange(len(generator)), betas()
    rates = process.rates_from(every, dtype=torch.float64)
    scale = float(generator.trace() / rates.trace())  # ours jump once per unit of σ
    steps = torch.eye(len(rates)) + (beta * scale)[:, None, None] * rates
    totals = torch.stack(list(accumulate(steps, torch.matmul)))
    for name, ours in (("Qt", steps), ("Qbar", totals)):
        close(ours[list(STORED)].mT, case.tensor(f"blosum_{alphabet}_T8_{name}"), rtol=0, atol=5e-7)
    traces = torch.stack([matrices.diagonal(dim1=-2, dim2=-1).sum(-1) for matrices in (steps, totals)])
    close(traces, case.tensor(f"blosum_{alphabet}_T8_trace"), rtol=1e-6)
    kept = process.transition(every, (beta.sum() * scale).expand(len(rates))).trace()
    assert kept / traces[1, -1] > 1.01


@pytest.mark.parametrize("alphabet", ["seq", "msa"])
def test_blosum_scores(golden: Golden, alphabet: str) -> None:
    """Their kernel is e^s with s in half bits taken for nats, its rows and columns scaled to sum to 1; our rates are
    e^(λ s) π_y. What no scaling touches, log q[a,c] − log q[a,d] − log q[b,c] + log q[b,d], differs by λ: theirs are
    three times too sharp for log-odds.
    """
    ours = Protein().rate_matrix("BLOSUM62", frequencies=[1 / AMINO_ACIDS] * AMINO_ACIDS)
    theirs = golden("evodiff_d3pm_schedules").tensor(f"q_blosum_{alphabet}")[:AMINO_ACIDS, :AMINO_ACIDS]

    def unscaled(rates: Tensor) -> Tensor:
        half = rates.log()[: AMINO_ACIDS // 2, AMINO_ACIDS // 2 :]  # off the diagonal
        return half - half.mean(0, keepdim=True) - half.mean(1, keepdim=True) + half.mean()

    a, b = unscaled(ours), unscaled(theirs)
    ratio = (a * b).sum() / (b * b).sum()
    assert 0.2 < ratio < 0.4
    close(a / ratio, b, rtol=0, atol=1e-4)


@pytest.mark.parametrize("alphabet", ["seq", "msa"])
def test_uniform_kernels(golden: Golden, alphabet: str) -> None:
    """The uniform process on the grid α_t = Π (1 − β_i), β_i = 1/(T − i + 1), in float32.

    The paper's last β is 1; theirs is ½, so that the chain ends with 1/(T + 1) of its tokens kept.
    """
    case = golden("evodiff_d3pm_schedules")
    size, beta = case.case["meta"][f"K_{alphabet}"], 1 / (9 - torch.arange(8).double())
    sigma = -torch.log1p(-beta)
    every, traces = torch.arange(size), []
    for name, levels in (("Qt", sigma), ("Qbar", sigma.cumsum(0))):
        ours = torch.stack([Uniform(size).transition(every, level.expand(size)) for level in levels])
        close(ours[list(STORED)], case.tensor(f"uniform_{alphabet}_T8_{name}"), rtol=0, atol=2e-8)
        traces.append(ours.diagonal(dim1=-2, dim2=-1).sum(-1))
    close(torch.stack(traces), case.tensor(f"uniform_{alphabet}_T8_trace"), rtol=1e-6)
    close(torch.exp(-sigma.sum()), torch.tensor(1 / 9.0, dtype=torch.float64))
