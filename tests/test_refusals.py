"""Combinations that do not exist are refused before anything runs: got, expected, remedy. All others work."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Callable

import pytest
import torch

from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.guidance import Temperature
from discdiff.likelihood import nelbo
from discdiff.model import Diffusion
from discdiff.networks import Network
from discdiff.networks.exact import Exact
from discdiff.parameterizations import Denoiser
from discdiff.processes import Absorbing, Uniform
from discdiff.samplers import Ancestral, FirstHitting, Ordered
from discdiff.sampling import sample
from discdiff.schedules import LogLinear
from discdiff.sequences import Sequences
from tests.cases import (
    CONSTRAINTS,
    LOSSES,
    MODELS,
    NO_DENOISER,
    PARAMETERIZATIONS,
    PROCESSES,
    REFUSED_MODELS,
    SAMPLERS,
    build,
    exact,
    runs,
    serves,
)
from tests.toy_networks import Single
from tests.toys import DENSE, Toy

IN_WORDS = re.compile(r".+: got .+, expected .+\. .+\.$", re.DOTALL)
"""What was passed, what would have worked, and a sentence on what to do."""


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("process", "parameterization"), list(itertools.product(PROCESSES, PARAMETERIZATIONS)))
def test_models(process: str, parameterization: str) -> None:
    if (process, parameterization) in REFUSED_MODELS:
        with pytest.raises(IncompatibleError, match=IN_WORDS):
            build(process, parameterization)
    else:
        assert build(process, parameterization).process.vocab_size == 3


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_losses(process: str, parameterization: str, loss: str) -> None:
    model, made = build(process, parameterization), LOSSES[loss].make()
    clean = Sequences.full(torch.from_numpy(DENSE.sequences))
    if serves(LOSSES[loss], process, parameterization):
        made.check(model)
        values = made(model, clean, generator=draws())
        assert values.shape == (27,)
        assert values.isfinite().all()
    else:
        with pytest.raises(IncompatibleError, match=IN_WORDS):
            made.check(model)
        with pytest.raises(
            IncompatibleError, match=r"expected (the absorbing|a model with a den|a process of the rank-one)"
        ):
            made(model, clean, generator=draws())


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_samplers_and_constraints(process: str, parameterization: str, sampler: str, constraint: str) -> None:
    model, made = build(process, parameterization), SAMPLERS[sampler].make()
    limit = CONSTRAINTS[constraint].make(3, 3)
    steps = 2 if made.takes_steps else None
    needed = CONSTRAINTS[constraint].needs_denoiser and (process, parameterization) in NO_DENOISER

    def draw() -> Sequences:
        return sample(model, 2, length=3, sampler=made, steps=steps, constraint=limit, generator=draws())

    if runs(SAMPLERS[sampler], process, parameterization) and not needed:
        assert draw().tokens.shape == (2, 3)
    else:
        with pytest.raises(IncompatibleError, match=IN_WORDS):
            draw()


def test_network_of_another_size() -> None:
    with pytest.raises(IncompatibleError, match=r"got a network of 3 states, expected 4 \(Absorbing over 3 tokens\)"):
        Diffusion(Exact(torch.from_numpy(DENSE.joint), 3), Absorbing(3), LogLinear(), Denoiser())
    assert Diffusion(Exact(torch.from_numpy(DENSE.joint), 3), Uniform(3), LogLinear(), Denoiser()).device.type == "cpu"


@pytest.mark.parametrize("sampler", [FirstHitting(), Ordered()])
def test_event_samplers_take_no_steps(sampler: FirstHitting | Ordered) -> None:
    with pytest.raises(IncompatibleError, match=r"got steps=8, expected no steps"):
        sample(build("absorbing", "conditional"), 2, length=3, sampler=sampler, steps=8, generator=draws())


@pytest.mark.parametrize("steps", [0, -1])
def test_grid_samplers_take_at_least_one_step(steps: int) -> None:
    with pytest.raises(IncompatibleError, match=f"steps: got {steps}, expected at least 1"):
        sample(build("absorbing", "conditional"), 2, length=3, sampler=Ancestral(), steps=steps, generator=draws())


@pytest.mark.parametrize("order", [torch.tensor([0, 1]), torch.tensor([0, 1, 1]), torch.tensor([1, 2, 3])])
def test_orders_must_be_permutations(order: torch.Tensor) -> None:
    with pytest.raises(IncompatibleError, match=r"expected permutations of 0\.\.2"):
        sample(build("absorbing", "conditional"), 2, length=3, sampler=Ordered(order), generator=draws())


def test_orders_must_fit_the_batch() -> None:
    order = torch.tensor([[0, 1, 2], [2, 1, 0]])
    with pytest.raises(IncompatibleError, match="got orders for 2 rows, expected 1 or 3"):
        sample(build("absorbing", "conditional"), 3, length=3, sampler=Ordered(order), generator=draws())


def test_order_by_an_unknown_name() -> None:
    with pytest.raises(IncompatibleError, match="got 'backwards', expected"):
        Ordered("backwards")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0, "length": 3}, "batch: got 0"),
        ({"batch": 2}, "length: got None, expected a positive number"),
        ({"batch": 2, "length": 0}, "length: got 0"),
        ({"batch": 2, "lengths": torch.tensor([3])}, r"lengths: got shape \[1\], expected \[2\] positive"),
        ({"batch": 2, "lengths": torch.tensor([3, 0])}, "positive numbers"),
        ({"batch": 2, "lengths": torch.tensor([3, 3]), "length": 3}, "without length"),
        ({"batch": 2, "length": 3, "labels": torch.tensor([1])}, r"labels: got shape \[1\], expected \[2\]"),
        (
            {"batch": 2, "lengths": torch.tensor([3, 3]), "constraint": CONSTRAINTS["clamp"].make(3, 3)},
            "a constraint that fixes the length",
        ),
        ({"batch": 2, "length": 4, "constraint": CONSTRAINTS["clamp"].make(3, 3)}, "got 4 positions, expected 3"),
    ],
)
def test_arguments_of_sample(options: dict[str, object], message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        sample(build("absorbing", "conditional"), generator=draws(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf])
def test_temperature_must_be_positive(tau: float) -> None:
    with pytest.raises(IncompatibleError, match=f"Temperature: got {tau}, expected a positive"):
        Temperature(build("absorbing", "conditional"), tau)


def test_temperature_needs_a_denoiser() -> None:
    model = Temperature(build("uniform", "score"), 0.5)
    with pytest.raises(IncompatibleError, match=IN_WORDS):
        sample(model, 2, length=3, generator=draws())


def test_scores_are_not_inverted_at_high_noise() -> None:
    model, tokens = build("uniform", "score"), torch.zeros(2, 3, dtype=torch.int64)
    low, high = torch.full((2, 1), 2.9).double(), torch.tensor([[0.5], [3.1]]).double()
    assert model.predict(tokens, low).log_denoiser().shape == (2, 3, 3)
    with pytest.raises(IncompatibleError, match=r"got total noise 3\.10, expected at most 3\.0"):
        model.predict(tokens, high).log_denoiser()


@pytest.mark.parametrize(
    ("sequences", "samples"),
    [
        (Sequences.full(torch.zeros(0, 3, dtype=torch.int64)), 8),
        (Sequences(torch.zeros(2, 3, dtype=torch.int64), torch.tensor([3, 0])), 8),
        (Sequences.full(torch.zeros(2, 3, dtype=torch.int64)), 1),
    ],
    ids=["empty set", "empty sequence", "one sample"],
)
def test_bounds_of_nothing(sequences: Sequences, samples: int) -> None:
    with pytest.raises(DiscdiffError, match="expected at least"):
        nelbo(build("absorbing", "conditional"), sequences, generator=draws(), samples=samples)


def test_long_steps_from_a_float32_score() -> None:
    """One step over Δσ = 18 would leave no digit of a float32 score; float64, or steps enough, have them."""

    def run(steps: int, network: Callable[[Toy, int], Network]) -> Sequences:
        model = build("uniform", "score", schedule="geometric", network=network)
        return sample(model, 2, length=3, steps=steps, generator=draws())

    with pytest.raises(IncompatibleError, match=r"got a difference of total noise of \d+\.\d, expected at most 11\.3"):
        run(3, lambda toy, states: Single(exact(toy, states)))
    assert run(32, lambda toy, states: Single(exact(toy, states))).tokens.shape == (2, 3)
    assert run(3, exact).tokens.shape == (2, 3)


@pytest.mark.parametrize("process", PROCESSES)
def test_clamps_that_a_network_was_never_told_of(process: str) -> None:
    """Off the absorbing process they bias what is filled in: a warning says so. On it they are exact: none."""

    class Deaf(Single):
        @property
        def conditions_on_frozen(self) -> bool:
            return False

    model = build(process, "denoiser", network=lambda toy, states: Deaf(exact(toy, states)))
    clamp = CONSTRAINTS["clamp"].make(3, 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sample(model, 2, steps=2, constraint=clamp, generator=draws())
        sample(model, 2, steps=2, length=3, generator=draws())
    assert len(caught) == (0 if process == "absorbing" else 1)
    assert all("biased, however many steps" in str(warning.message) for warning in caught)


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_networks_that_are_not_finite(process: str, parameterization: str) -> None:
    """NaN weights give no samples, and no answer that looks like one."""

    class Broken(Single):
        def head(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden * torch.nan

    model = build(process, parameterization, network=lambda toy, states: Broken(exact(toy, states)))
    with pytest.raises(DiscdiffError, match="not finite"):
        sample(model, 2, length=3, steps=12, generator=draws())
