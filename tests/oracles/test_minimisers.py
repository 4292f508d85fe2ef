"""What each loss is least at: at the exact network its expected gradient is 0, and every other network costs more.

A network is here a table, one row of logits for each noised sequence; expectations run over every x0 and xt at a fixed
time, with probabilities from SciPy.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.losses import D3PM, AnyOrder, ImplicitScoreEntropy, Loss, MaskFractionCrossEntropy, ScoreEntropy
from discdiff.model import Diffusion
from discdiff.networks.base import Context
from discdiff.networks.exact import Exact
from discdiff.parameterizations import Parameterization
from discdiff.processes import Process
from discdiff.schedules import LogLinear
from discdiff.sequences import Sequences
from tests.cases import LOSSES, MODELS, PROCESSES, build, serves
from tests.expectations import all_noised
from tests.scripted import ALMOST_ONE, scripted
from tests.toy_networks import ToyNetwork
from tests.toys import TOYS, Array, Toy, every_sequence, index_of

TOY = TOYS["dense3x2"]
SCHEDULE = LogLinear(eps=1e-3, t_min=1e-3)
PLANS = [(*model, name) for model in MODELS for name in LOSSES if serves(LOSSES[name], *model)]
POINTS = [0.125, 0.6]
"""Where in [0, 1) the loss's own uniform number falls: two times, mask fractions, numbers of masks, steps of D3PM."""


class Table(ToyNetwork):
    """Logits `[S^L, L, outputs]` at one noise level: those of the exact network, plus what the test adds."""

    def __init__(self, toy: Toy, num_states: int, sigma: float) -> None:
        super().__init__()
        self.exact, self.num_states, self.sigma = Exact(torch.from_numpy(toy.joint), num_states), num_states, sigma
        self.length = toy.length

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.exact.configure(process, parameterization)
        self.num_outputs = self.exact.num_outputs
        every = torch.from_numpy(every_sequence(self.num_states, self.length))
        noise = torch.full((len(every), 1), self.sigma, dtype=torch.float64)
        self.right = self.exact.hidden(every, noise, Context())
        self.added = torch.zeros_like(self.right, requires_grad=True)

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        return (self.right + self.added)[index_of(tokens, self.num_states)]


def sigma_at(loss: Loss, point: float) -> float:
    """The noise that the network is shown; by number of masks, that of a scripted mask fraction of one half."""
    if isinstance(loss, MaskFractionCrossEntropy):
        return float(-np.log(point))  # the fraction is 1 − u
    if isinstance(loss, AnyOrder):
        return float(np.log(2))
    if isinstance(loss, D3PM):
        return float(loss.levels(SCHEDULE)[1 + int(point * loss.steps)])
    return float(SCHEDULE.total_noise(torch.tensor(SCHEDULE.t_min + (1 - SCHEDULE.t_min) * point, dtype=torch.float64)))


def table_model(process: str, parameterization: str, sigma: float) -> Diffusion:
    return build(process, parameterization, toy=TOY, schedule=SCHEDULE, network=lambda toy, n: Table(toy, n, sigma))


def expected(loss: Loss, process: str, model: Diffusion, point: float, sigma: float) -> Tensor:
    """E over x0 ~ p0 and xt of the loss at one time, differentiable: float64 `[]`."""
    if isinstance(loss, AnyOrder):
        return expected_of_counts(loss, model, point)
    case, size = PROCESSES[process], TOY.vocab_size
    x0 = torch.from_numpy(TOY.sequences)
    xt = all_noised(x0, size if case.masked else model.process.num_states, masked=case.masked)
    known = case.transition(size, sigma)
    transition = torch.from_numpy(known)
    chance = transition[xt, x0[:, None]].prod(-1) * torch.from_numpy(TOY.probabilities)[:, None]
    noisy, clean = xt.flatten(0, 1), x0.repeat_interleave(xt.shape[1], 0)
    keys = scripted(
        len(clean),
        time=torch.full((len(clean),), point, dtype=torch.float64),
        **case.script(noisy, clean, np.broadcast_to(known, (len(clean), *known.shape))),
    )
    weights = chance.flatten()
    if isinstance(loss, ImplicitScoreEntropy) and loss.neighbors is not None:
        shares, u, v = neighbor_draws(case.rates(size), noisy, loss.neighbors)
        weights, clean = (weights[:, None] * shares).flatten(), clean.repeat_interleave(shares.shape[1], 0)
        script = {name: value.repeat_interleave(shares.shape[1], 0) for name, value in keys.script.items()}
        keys = scripted(len(clean), **script, neighbor_position=u.flatten(0, 1), neighbor_state=v.flatten(0, 1))
    return (weights * loss(model, Sequences.full(clean), generator=keys)).sum()


def neighbor_draws(rates: Array, x: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Every way to draw `count` neighbours y of x `[N, L]` at position i, in proportion to the rate x_i → y.

    Returns:
        The chance of each of M ways `[N, M]`, and the two uniform numbers of each draw that lead there `[N, M, count]`.
    """
    out = np.maximum(rates.T[x.numpy()], 0)  # Q[y, x_i], 0 at y = x_i
    leaving = out.sum(-1)
    total = leaving.sum(-1, keepdims=True)
    nothing = total == 0
    first = (leaving.cumsum(-1) - leaving / 2) / np.where(nothing, 1, total)
    inner = np.where(leaving[..., None] > 0, leaving[..., None], 1)
    second = (out.cumsum(-1) - out / 2) / inner
    chance = (out / np.where(nothing, 1, total)[..., None]).reshape(len(x), -1)
    chance[nothing[:, 0], 0] = 1.0  # a row that cannot move has nothing to draw
    u = np.broadcast_to(first[..., None], out.shape).reshape(len(x), -1)
    ways = list(itertools.product(range(chance.shape[1]), repeat=count))
    v = second.reshape(len(x), -1)
    shares = chance[:, ways].prod(-1)
    return torch.from_numpy(shares), torch.from_numpy(u[:, ways]), torch.from_numpy(v[:, ways])


def expected_of_counts(loss: AnyOrder, model: Diffusion, point: float) -> Tensor:
    """E over x0 ~ p0 and the ⌊point L⌋ + 1 positions that are masked, the network shown a mask fraction of one half."""
    length = TOY.length
    k = 1 + int(point * length)
    chosen = list(itertools.combinations(range(length), k))
    numbers = torch.full((len(chosen), length), ALMOST_ONE, dtype=torch.float64)
    for row, positions in enumerate(chosen):
        numbers[row, list(positions)] = torch.linspace(0.5 / k, 0.5, k, dtype=torch.float64)
    clean = torch.from_numpy(TOY.sequences).repeat_interleave(len(chosen), 0)
    keys = scripted(
        len(clean),
        time=torch.full((len(clean),), point, dtype=torch.float64),
        mask=numbers.repeat(len(TOY.sequences), 1),
    )
    values = loss(model, Sequences.full(clean), generator=keys).reshape(-1, len(chosen)).mean(-1)
    return (torch.from_numpy(TOY.probabilities) * values).sum()


def gradient(loss: Loss, process: str, parameterization: str, point: float) -> Tensor:
    """Of the expected loss at the exact network, with respect to every logit."""
    sigma = sigma_at(loss, point)
    model = table_model(process, parameterization, sigma)
    assert isinstance(model.network, Table)
    (found,) = torch.autograd.grad(expected(loss, process, model, point, sigma), model.network.added)
    return found


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(("process", "parameterization", "name"), PLANS)
def test_exact_network_is_the_minimum(process: str, parameterization: str, name: str, point: float) -> None:
    """Every entry of the gradient below 1e-10; each of five random changes of the logits raises the loss."""
    loss = LOSSES[name].make()
    assert float(gradient(loss, process, parameterization, point).abs().max()) < 1e-10
    sigma = sigma_at(loss, point)
    model = table_model(process, parameterization, sigma)
    assert isinstance(model.network, Table)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        least = float(expected(loss, process, model, point, sigma))
        for strength in (0.03, 0.1, 0.3, 1.0, 2.0):
            change = torch.randn(model.network.added.shape, generator=draw, dtype=torch.float64)
            model.network.added.copy_(strength * change)
            assert float(expected(loss, process, model, point, sigma)) > least + 1e-6 * strength**2


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_implicit_score_entropy_is_the_denoising_one(process: str, parameterization: str, point: float) -> None:
    """Up to a constant that is the same for six networks: 1e-9, where the losses themselves differ by over 0.01."""
    implicit, denoising = ImplicitScoreEntropy(), ScoreEntropy()
    sigma = sigma_at(denoising, point)
    model = table_model(process, parameterization, sigma)
    assert isinstance(model.network, Table)
    draw = torch.Generator().manual_seed(6)
    differences, values = [], []
    with torch.no_grad():
        for strength in (0.0, 0.1, 0.3, 1.0, 1.5, 2.0):
            model.network.added.copy_(
                strength * torch.randn(model.network.added.shape, generator=draw, dtype=torch.float64)
            )
            one, two = (float(expected(loss, process, model, point, sigma)) for loss in (implicit, denoising))
            differences.append(one - two)
            values.append(two)
    assert np.ptp(values) > 0.01
    assert np.ptp(differences) < 1e-9


def neighbor_error(loss: ImplicitScoreEntropy, process: str) -> float:
    """|E of the loss over the neighbours that it draws − the sum over all of them|, a network off by random logits."""
    sigma = sigma_at(loss, 0.6)
    model = table_model(process, "denoiser", sigma)
    assert isinstance(model.network, Table)
    with torch.no_grad():
        model.network.added.normal_(generator=torch.Generator().manual_seed(7))
        drawn, whole = (float(expected(each, process, model, 0.6, sigma)) for each in (loss, ImplicitScoreEntropy()))
    return abs(drawn - whole)


@pytest.mark.parametrize("neighbors", [1, 2])
@pytest.mark.parametrize("process", PROCESSES)
def test_every_draw_of_neighbours(process: str, neighbors: int) -> None:
    """Each weighed by its chance, as the rates have it: the sum over all of them, to 1e-12."""
    assert neighbor_error(ImplicitScoreEntropy(neighbors), process) < 1e-12


@pytest.mark.parametrize("process", PROCESSES)
def test_drawn_neighbours_are_unbiased(process: str) -> None:
    """Over every draw of one neighbour, on a grid of uniform numbers: the sum over all of them, row by row, to 1%.

    A neighbour's share of the grid of 200 × 200 numbers is off by at most one in 200 a cut.
    """
    grid = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    u, v = (part.reshape(-1, 1) for part in torch.meshgrid(grid, grid, indexing="ij"))
    sigma = sigma_at(ScoreEntropy(), 0.6)
    model = table_model(process, "denoiser", sigma)
    x0 = torch.tensor([[0, 2]])
    xt = torch.tensor([[1, 2]]) if not PROCESSES[process].masked else torch.tensor([[0, 2]])
    script = PROCESSES[process].script(xt, x0, PROCESSES[process].transition(TOY.vocab_size, sigma)[None])
    script["time"] = torch.full((1,), 0.6, dtype=torch.float64)
    with torch.no_grad():
        whole = float(ImplicitScoreEntropy()(model, Sequences.full(x0), generator=scripted(1, **script)))
        many = {key: value.expand(len(u), *value.shape[1:]) for key, value in script.items()}
        draws = ImplicitScoreEntropy(neighbors=1)(
            model,
            Sequences.full(x0.expand(len(u), -1)),
            generator=scripted(len(u), **many, neighbor_position=u, neighbor_state=v),
        )
    assert float(draws.std()) > 0.1
    assert float(draws.mean()) == pytest.approx(whole, rel=0.01)
