"""Weights with one factor wrong: the oracle of every sampler's weights must see each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from discdiff.constraints import Constraint
from discdiff.constraints.weighed import Weighed
from discdiff.samplers import rates
from tests.oracles import test_o17_every_sampler as oracles

pytestmark = oracles.pytestmark

Patch = Callable[[pytest.MonkeyPatch], None]


def nothing(*args: Any, **kwargs: Any) -> None:
    """In the place of a method that counts."""


def without_moves(self: Weighed, prediction: Any, where: Any, u: Any, tokens: Any, *, tilt: Any = None) -> torch.Tensor:
    return self.constraint.draw(prediction, where, u, tilt=tilt)


def of_no_jump(*args: Any, plain: Callable[..., Any] = rates.jump_evidence) -> Any:
    found = plain(*args)
    return found._replace(values=torch.zeros_like(found.values))


MUTANTS: dict[str, tuple[Patch, Callable[[], None]]] = {
    "who jumps is not counted": (
        lambda patch: patch.setattr(Weighed, "account", nothing),
        partial(oracles.test_steps_on_a_grid, "euler", "uniform"),
    ),
    "where jumps led is not counted": (
        lambda patch: patch.setattr(rates, "jump_evidence", of_no_jump),
        partial(oracles.test_steps_on_a_grid, "tau leaping", "marginal"),
    ),
    "second jumps are not counted": (
        lambda patch: patch.setattr(Weighed, "account", nothing),
        partial(oracles.test_steps_on_a_grid, "runge-kutta", "uniform"),
    ),
    "a leap is never settled": (
        lambda patch: patch.setattr(Weighed, "settle", nothing),
        partial(oracles.test_steps_on_a_grid, "trapezoidal", "uniform"),
    ),
    "positions are chosen under the constraint": (
        lambda patch: patch.setattr(Weighed, "aside", Constraint.aside),
        partial(oracles.test_several_positions_a_call, "entropy bounded"),
    ),
    "sweeps do not weigh": (
        lambda patch: patch.setattr(Weighed, "redraw", without_moves),
        partial(oracles.test_exact_samplers, "gibbs"),
    ),
    "sweeps weigh as first draws do": (
        lambda patch: patch.setattr(Weighed, "redraw", lambda self, p, w, u, t, **k: self.draw(p, w, u, **k)),
        partial(oracles.test_exact_samplers, "gibbs"),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, oracle = MUTANTS[name]
    patch(monkeypatch)
    with pytest.raises(AssertionError):
        oracle()
