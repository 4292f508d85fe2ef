"""The optimisers: which weights Muon takes, one schedule for all, states that come back, and that it helps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import discdiff as dd
from discdiff.errors import ConfigError
from discdiff.training.optimizers import Together, make_optimizer
from tests.training.conftest import make_model


def build(name: Any, model: dd.Diffusion, rate: float = 1e-2) -> torch.optim.Optimizer:
    return make_optimizer(
        name,
        model,
        learning_rate=rate,
        betas=(0.9, 0.98),
        weight_decay=0.1,
        fused=False,
    )


def fill_gradients(model: dd.Diffusion, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_every_trained_weight_is_taken_once(name: str) -> None:
    model = make_model(depth=2)
    taken = [p for group in build(name, model).param_groups for p in group["params"]]
    assert len({id(p) for p in taken}) == len(taken)
    assert {id(p) for p in taken} == {id(p) for p in model.parameters() if p.requires_grad}


def test_weight_decay_spares_vectors() -> None:
    for name in ("muon", "adamw"):
        for group in build(name, make_model()).param_groups:
            decays = {p.ndim >= 2 for p in group["params"]}
            assert decays == {group["weight_decay"] > 0}


def test_muon_takes_the_blocks_matrices_alone() -> None:
    model = make_model(depth=2)
    optimizer = build("muon", model)
    assert isinstance(optimizer, Together)
    names = {id(p): name for name, p in model.network.named_parameters()}
    matrices = {names[id(p)] for group in optimizer.parts[0].param_groups for p in group["params"]}
    layers = ("qkv", "out", "up", "down")
    assert matrices == {f"blocks.{i}.{layer}.weight" for i in range(2) for layer in layers}


def test_muon_moves_every_direction_alike() -> None:
    """A step is the gradient with its singular values set to about one: 0.7 to 1.2 after five iterations."""
    model = make_model(dim=32)
    (matrix, *_) = model.network.hidden_matrices()
    before = matrix.detach().clone()
    optimizer = build("muon", model, rate=1.0)
    fill_gradients(model, 0)
    optimizer.step()
    scale = 0.2 * max(matrix.shape) ** 0.5
    step = (0.9 * before - matrix.detach()) / scale  # weight decay 0.1
    values = torch.linalg.svdvals(step.double())
    assert values.min() > 0.6
    assert values.max() < 1.3
    # and it has AdamW's size: root mean square 0.2 in units of the rate (Liu et al. 2025, section 2.2)
    assert 0.15 < float((scale * step).square().mean().sqrt()) < 0.25


def test_one_schedule_reaches_all_parts() -> None:
    optimizer = build("muon", make_model())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()  # without gradients: nothing moves
    schedule.step()
    assert isinstance(optimizer, Together)
    rates = {group["lr"] for part in optimizer.parts for group in part.param_groups}
    assert rates == {0.5e-2}


def test_states_come_back() -> None:
    """Saved, loaded and continued: the same weights as without the interruption, and the schedule still holds."""
    model = make_model(depth=2)
    optimizer = build("muon", model)
    for seed in range(3):
        fill_gradients(model, seed)
        optimizer.step()
    twin = copy.deepcopy(model)
    again = build("muon", twin)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each in (optimizer, again):
        for group in each.param_groups:
            group["lr"] = 3e-2
    for which, resumed in ((model, optimizer), (twin, again)):
        fill_gradients(which, 9)
        resumed.step()
    for here, there in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(here, there, atol=0, rtol=0)


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="optimizer: got 'sgd', expected 'muon' or 'adamw'"):
        build("sgd", make_model())
