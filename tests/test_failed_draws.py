"""What cannot be drawn or weighed is said: failed draws of x0, populations without weight, guidance without weights."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import discdiff as dd
from discdiff.constraints import Automaton, Unconstrained
from discdiff.errors import DiscdiffError, DiscdiffWarning
from discdiff.guidance import Temperature
from discdiff.languages import anything
from discdiff.model import Diffusion
from discdiff.networks.exact import Exact
from discdiff.prediction import Positions, Prediction, positions_of
from discdiff.processes import Process
from discdiff.samplers import certainty
from discdiff.samplers.ancestral import posterior_step
from discdiff.samplers.base import State


class Failing(Unconstrained):
    """Its draws of x0 fail: behind the last token, where a masked process has its mask."""

    def draw(
        self, prediction: Prediction, where: Positions, u: torch.Tensor, *, tilt: torch.Tensor | None = None
    ) -> torch.Tensor:
        return torch.full_like(where[0], prediction.process.vocab_size)


def model(process: Process) -> Diffusion:
    joint = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(16)).reshape(4, 4))
    return Diffusion(Exact(joint, process.num_states), process, dd.LogLinear(), dd.Denoiser())


SAMPLERS = [
    dd.samplers.FirstHitting(),
    dd.samplers.Ancestral(),
    dd.samplers.Euler(),
    dd.samplers.Argmax(),
    dd.samplers.Confidence(),
    dd.samplers.EntropyBounded(1.0),
    dd.samplers.Remasking(),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_a_failed_x0_is_no_mask(sampler: dd.samplers.Sampler) -> None:
    """It is named in the first step in which it is drawn, not when masks are left at the end, or never."""
    seen: list[int] = []
    with pytest.raises(DiscdiffError, match="a draw failed"):
        dd.sample(
            model(dd.Absorbing(4)), 64, length=2, sampler=sampler, constraint=Failing(),
            generator=torch.Generator().manual_seed(0), on_step=lambda step, steps, state: seen.append(step),
            steps=None if not sampler.takes_steps else 2,
        )  # fmt: skip
    assert seen == []


def test_a_failed_x0_that_moves_on_is_named() -> None:
    """Of a process with a mask beside other noise the mask may be drawn as x_s: the check is of x0."""
    inner = model(dd.Absorbing(4))
    tokens = torch.full((8, 2), 4)
    sides = torch.zeros(8, 2, dtype=torch.bool)
    zero = torch.zeros(8)
    state = State(tokens, sides, sides, None, zero.long(), zero, torch.Generator().manual_seed(0))
    high, low = torch.full((8, 1), 3.0), torch.full((8, 1), 0.01)
    with pytest.raises(DiscdiffError, match="a draw failed"):
        posterior_step(inner.predict(tokens, high), Failing(), state, high, low)


def test_an_automaton_passes_on_what_is_not_a_number() -> None:
    inner = model(dd.Absorbing(4))
    broken = Temperature(inner, 1.0)
    prediction = broken.predict(torch.full((3, 2), 4), torch.ones(3, 1))
    prediction.__dict__["_log_p"] = lambda where: torch.full((6 if where is None else len(where[0]), 4), torch.nan)
    where = positions_of(torch.ones(3, 2, dtype=torch.bool))
    filtered = Automaton({"any": anything(4)}).bound(torch.full((3,), 2)).filter(prediction, None, torch.arange(3))
    found = filtered._members(where, torch.zeros(6, dtype=torch.int64), 4, torch.full((6,), 0.5))
    assert (found == 4).all()


# ---- particles ------------------------------------------------------------------------------------------------------
def test_particles_warn_of_guidance_without_weights() -> None:
    """Off the absorbing process what guided laws sum to is not counted; on it nothing is said."""
    for process in (dd.Uniform(4), dd.Absorbing(4)):
        guided = Temperature(model(process), 0.5)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            dd.sample(guided, 4, length=2, steps=4, particles=2, generator=torch.Generator().manual_seed(0))
        told = [one for one in said if issubclass(one.category, DiscdiffWarning)]
        assert len(told) == (1 if isinstance(process, dd.Uniform) else 0)
        assert all("particles under Uniform" in str(one.message) for one in told)


def test_dead_populations_are_named() -> None:
    """Samples 2 and 3 ask for tokens that the model never gives."""
    joint = torch.zeros(4, 4, dtype=torch.float64)
    joint[:2, :2] = 0.25
    inner = Diffusion(Exact(joint, 5), dd.Absorbing(4), dd.LogLinear(), dd.Denoiser())
    allowed = torch.ones(3, 2, 4, dtype=torch.bool)
    allowed[1:, 0] = torch.tensor([False, False, True, True])
    with pytest.warns(DiscdiffWarning, match=r"2 of 3 samples \(rows 1, 2\): no particle has any weight"):
        drawn = dd.sample(
            inner, 3, sampler=dd.samplers.FirstHitting(), constraint=dd.constraints.Allowed(allowed), particles=4,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
    assert drawn.log_weights is not None
    assert torch.isneginf(drawn.log_weights).tolist() == [False, True, True]
    assert (drawn.tokens[1:, 0] >= 2).all()


# ---- marginals read in parts ----------------------------------------------------------------------------------------
def test_rows_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts end where rows do, so that what draws whole rows draws each of them once."""
    monkeypatch.setattr(certainty, "CHUNK", 4 * 3)
    inner = model(dd.Absorbing(4))
    prediction = inner.predict(torch.full((4, 2), 4), torch.ones(4, 1))
    where = positions_of(torch.ones(4, 2, dtype=torch.bool))
    parts: list[list[int]] = []

    def read(log_p: torch.Tensor, part: Positions) -> torch.Tensor:
        parts.append(part[0].tolist())
        return log_p[:, 0]

    values = certainty.read_marginals(Unconstrained(), prediction, where, read)
    assert parts == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert torch.equal(values, prediction.log_denoiser(where)[:, 0])
