"""Losses as they are trained: shapes, gradients, padding, batches in which nothing happens to be masked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from discdiff import prediction as prediction_module
from discdiff.model import Diffusion
from discdiff.networks import linear_head
from discdiff.networks.transformer import Transformer
from discdiff.parameterizations import Conditional, Denoiser, Score
from discdiff.processes import Absorbing, Uniform
from discdiff.randomness import Keys
from discdiff.schedules import LogLinear
from discdiff.sequences import Sequences
from tests.cases import LOSSES, MODELS, PARAMETERIZATIONS, PROCESSES, SCHEDULES, serves
from tests.scripted import ALMOST_ONE, scripted

PLANS = [(*model, name) for model in MODELS for name, case in LOSSES.items() if serves(case, *model)]
ROWS = Sequences.from_lists([[0, 1, 2, 1], [2, 1], [1]])


def small(process: str, parameterization: str, schedule: str = "log_linear") -> Diffusion:
    made = PROCESSES[process].make(3)
    network = Transformer(made.num_states, dim=16, depth=1, heads=2)
    return Diffusion(network, made, SCHEDULES[schedule](), PARAMETERIZATIONS[parameterization]())


@pytest.mark.parametrize(
    ("process", "parameterization", "loss", "schedule"),
    [(*plan, "log_linear") for plan in PLANS] + [("uniform", "score", "dse", name) for name in SCHEDULES],
)
def test_trains(process: str, parameterization: str, loss: str, schedule: str) -> None:
    """Nats per sequence in float32, finite gradients, and steps downhill that lower the loss."""
    model, made = small(process, parameterization, schedule), LOSSES[loss].make()
    rows = ROWS[torch.arange(3).repeat(20)]
    values = made(model, rows, generator=torch.Generator().manual_seed(0))
    assert values.shape == (60,)
    assert values.dtype == torch.float32
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def total() -> torch.Tensor:
        return made(model, rows, generator=Keys(0, torch.arange(60))).sum() / rows.lengths.sum()

    before = total()
    before.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients)
    assert any((g != 0).any() for g in gradients)
    for _ in range(3):
        optimizer.step()
        optimizer.zero_grad()
        total().backward()
    assert total() < before


@pytest.mark.parametrize(("process", "parameterization", "loss"), PLANS)
def test_bf16_autocast(process: str, parameterization: str, loss: str) -> None:
    """The network in bf16, all formulas in float32: within 3% of float32, and no step out of range."""
    model, made = small(process, parameterization), LOSSES[loss].make()
    rows = ROWS[torch.arange(3).repeat(20)]
    keys = Keys(0, torch.arange(60))
    full = made(model, rows, generator=keys)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = made(model, rows, generator=keys)
    assert half.dtype == torch.float32
    assert half.isfinite().all()
    assert half.sum().item() == pytest.approx(full.sum().item(), rel=0.03)


@pytest.mark.parametrize(("process", "parameterization", "loss"), PLANS)
def test_in_pieces(process: str, parameterization: str, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two positions at a time, each read again for its gradient: the same values and gradients as all at once.

    The plain path, without a linear head, is a third way to the same numbers.
    """
    model, made = small(process, parameterization), LOSSES[loss].make()
    with torch.no_grad():
        for weight in model.parameters():  # the head starts at zero, where many gradients are zero
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    model.double()
    rows = ROWS[torch.arange(3).repeat(4)]
    scale = torch.arange(1.0, len(rows) + 1, dtype=torch.float64)

    def run(objective: Callable[[Tensor], Tensor]) -> list[Tensor]:
        values = made(model, rows, generator=Keys(0, torch.arange(len(rows))))
        weights = [p for p in model.parameters() if p.requires_grad]
        return [values.detach(), *torch.autograd.grad(objective(values), weights, materialize_grads=True)]

    for objective in (torch.sum, lambda values: (scale * values).sum()):
        expected = run(objective)
        with monkeypatch.context() as patch:
            patch.setattr(prediction_module, "HELD", 2 * model.process.num_states)
            patch.setitem(linear_head._FLOATS, "cpu", 2 * model.process.num_states)
            pieces = run(objective)
            patch.setattr(Transformer, "linear_head", lambda self: None)
            plain = run(objective)
        for one, two, three in zip(expected, pieces, plain, strict=True):
            torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-11)
            torch.testing.assert_close(three, one, rtol=1e-9, atol=1e-11)


class Largest(TorchDispatchMode):
    """The largest tensor that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self.numel = max(self.numel, value.numel())
        return out


# Not where a process is a dense matrix of rates, and not the implicit loss: its rates are of all states by definition.
THIN = [plan for plan in PLANS if PROCESSES[plan[0]].redraws and not plan[2].startswith("ise")]


@pytest.mark.parametrize(("process", "parameterization", "loss"), THIN)
def test_logits_are_never_held(process: str, parameterization: str, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward, no tensor has a number for each state of each position: pieces, at any vocabulary."""
    vocabulary, length = 300, 64
    made_process = PROCESSES[process].make(vocabulary)
    network = Transformer(made_process.num_states, dim=4, depth=1, heads=2, cond_dim=4, mlp_ratio=1)
    model = Diffusion(network, made_process, LogLinear(), PARAMETERIZATIONS[parameterization]())
    made = LOSSES[loss].make()
    monkeypatch.setattr(prediction_module, "HELD", 8 * made_process.num_states)
    monkeypatch.setitem(linear_head._FLOATS, "cpu", 8 * made_process.num_states)
    tokens = torch.randint(vocabulary, (4, length), generator=torch.Generator().manual_seed(0))
    with Largest() as largest:
        made(model, Sequences.full(tokens), generator=Keys(0, torch.arange(4))).sum().backward()
    assert largest.numel < 4 * length * made_process.num_states / 8


@pytest.mark.parametrize("loss", LOSSES)
def test_padding_has_no_gradient(loss: str) -> None:
    """What stands at padded positions is neither read nor learned from."""
    model, made = small("absorbing", "denoiser"), LOSSES[loss].make()
    keys = Keys(0, torch.arange(3))
    other = Sequences(torch.where(ROWS.padding, 2, ROWS.tokens), ROWS.lengths)
    one, two = (made(model, rows, generator=keys) for rows in (ROWS, other))
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("loss", ["dse", "t_dce", "lambda_dce"])
@pytest.mark.parametrize("parameterization", [Conditional(), Denoiser(), Score()], ids=repr)
def test_nothing_masked(parameterization: Conditional | Denoiser | Score, loss: str) -> None:
    """A small batch may stay clean: its loss is 0, and still has gradients for a training loop to take."""
    made = Absorbing(3)
    network = Transformer(made.num_states, dim=16, depth=1, heads=2)
    model = Diffusion(network, made, LogLinear(), parameterization)
    clean = torch.full((3, 4), ALMOST_ONE, dtype=torch.float64)
    keys = scripted(3, time=torch.full((3,), 0.5), corrupt=clean, corrupt_token=clean)
    values = LOSSES[loss].make()(model, ROWS, generator=keys)
    assert values.tolist() == [0.0, 0.0, 0.0]
    values.sum().backward()
    assert all(p.grad is None or (p.grad == 0).all() for p in model.parameters())


@pytest.mark.parametrize("loss", LOSSES)
def test_repr(loss: str) -> None:
    assert repr(LOSSES[loss].make()).startswith(f"{type(LOSSES[loss].make()).__name__}(")


def test_labels_reach_the_network() -> None:
    """A label-conditioned network gives other losses for other labels."""
    process = Uniform(3)
    network = Transformer(3, dim=16, depth=1, heads=2, num_labels=2)
    model = Diffusion(network, process, LogLinear(), Denoiser())
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)
    keys = Keys(0, torch.arange(3))
    losses = [
        LOSSES["dse"].make()(
            model, Sequences(ROWS.tokens, ROWS.lengths, labels=torch.full((3,), label)), generator=keys
        )
        for label in (0, 1)
    ]
    assert (losses[0] != losses[1]).all()


@pytest.mark.parametrize(("process", "parameterization", "loss"), PLANS)
def test_a_row_without_tokens_costs_nothing(process: str, parameterization: str, loss: str) -> None:
    """And changes no other row's loss, nor any gradient."""
    model, made = small(process, parameterization), LOSSES[loss].make()
    with_empty = Sequences(torch.tensor([[0, 1, 2], [0, 0, 0]]), torch.tensor([3, 0]))
    values = made(model, with_empty, generator=Keys(0, torch.tensor([4, 5])))
    alone = made(model, with_empty[torch.tensor([0])], generator=Keys(0, torch.tensor([4])))
    assert float(values[1].detach()) == 0
    torch.testing.assert_close(values[:1], alone)
    learned = [p for p in model.parameters() if p.requires_grad]
    ours, theirs = (torch.autograd.grad(total, learned, allow_unused=True) for total in (values.sum(), alone.sum()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
