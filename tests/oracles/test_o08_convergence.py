"""O8: laws of the grid samplers, enumerated: order of convergence; and that `sample` draws from just these laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.guidance import Temperature
from discdiff.model import Diffusion
from discdiff.networks import Network
from discdiff.samplers import GridSampler
from discdiff.sampling import sample
from discdiff.schedules import Cosine, Geometric, Schedule
from tests.cases import PROCESSES, SAMPLED, SAMPLERS, SCHEDULES, build
from tests.laws import clean_part, divergence, grid_law, slope
from tests.toy_networks import Single, Tabulated, Wrong
from tests.toys import (
    DENSE,
    P_VALUE,
    TOYS,
    Array,
    Integers,
    Toy,
    caught_error,
    chi_square,
    counts_of,
    total_variation,
)

GRID_SAMPLERS = ["ancestral", "euler", "tau_leaping"]
STEPS = [8, 16, 32, 64, 128]


def errors(sampler: GridSampler, process: str, toy: Toy, schedule: Schedule, steps: list[int]) -> tuple[Array, Array]:
    """(TV, KL(p0 ‖ law)) for each number of steps; the start is p_1, so that only the steps err."""
    model = build(process, "denoiser", toy=toy, schedule=schedule)
    start = toy.noised(PROCESSES[process].transition(toy.vocab_size, schedule.ends()[1]))
    laws = [
        clean_part(grid_law(model, sampler, n, toy.length, start=start), toy, model.process.num_states) for n in steps
    ]
    tv = [total_variation(law, toy.probabilities) for law in laws]
    return np.array(tv), np.array([divergence(toy.probabilities, law) for law in laws])


@pytest.mark.parametrize(
    ("process", "sampler", "toy", "kl_order"),
    [
        ("absorbing", "ancestral", "near-independent3x2", 2),
        ("absorbing", "ancestral", "repeat3x3", 1),
        ("absorbing", "ancestral", "parity2x4", 1),
        ("absorbing", "euler", "near-independent3x2", 2),
        ("absorbing", "euler", "dense3x3", None),
        ("uniform", "ancestral", "near-independent3x2", 2),
        ("uniform", "euler", "near-independent3x2", 2),
        ("uniform", "euler", "dense3x2", None),
        ("absorbing", "tau_leaping", "near-independent3x2", 2),
        ("absorbing", "tau_leaping", "repeat3x3", 1),
        ("uniform", "tau_leaping", "near-independent3x2", 2),
        ("marginal", "ancestral", "near-independent3x2", 2),
        ("hybrid", "ancestral", "near-independent3x2", 2),
        ("reversible", "ancestral", "near-independent3x2", 2),
        ("circular", "ancestral", "near-independent3x2", 2),
    ],
)
def test_first_order(process: str, sampler: str, toy: str, kl_order: int | None) -> None:
    """Log-linear noise: TV has slope 1 ± 0.1; KL has slope 2 ± 0.1 on full support, 1 ± 0.1 where p0 has zeros.

    The KL of "dense" is not asserted: its small probabilities bend the line (1.77 to 1.9 over these steps).
    """
    made = SAMPLERS[sampler].make()
    assert isinstance(made, GridSampler)
    tv, kl = errors(made, process, TOYS[toy], SCHEDULES["log_linear"](), STEPS)
    assert tv[-1] < 0.01
    assert slope(STEPS, tv) == pytest.approx(1, abs=0.1)
    if kl_order is not None:
        assert slope(STEPS, kl) == pytest.approx(kl_order, abs=0.1)


# At ε = 1e-3 Euler's first step on the cosine schedule is clipped up to 1,570 steps; off the uniform process that
# leaves an error of about ε, which no number of steps below that removes.
OTHERS: dict[str, Schedule] = {"geometric": Geometric(), "cosine": Cosine(eps=0.05)}


@pytest.mark.parametrize("schedule", OTHERS)
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("sampler", GRID_SAMPLERS)
def test_first_order_along_other_schedules(sampler: str, process: str, schedule: str) -> None:
    """From 128 to 256 steps the error halves, ± 0.1 in the exponent (fewer clip Euler's rates on these schedules)."""
    made = SAMPLERS[sampler].make()
    assert isinstance(made, GridSampler)
    tv, _ = errors(made, process, TOYS["dense3x2"], OTHERS[schedule], [128, 256])
    assert np.log2(tv[0] / tv[1]) == pytest.approx(1, abs=0.1)


# ---- the real sampler -----------------------------------------------------------------------------------------------
DRAWS = 200_000
FEW_STEPS = {"Ancestral": 3, "Euler": 6, "TauLeaping": 4, "Trapezoidal": 5, "RungeKutta2": 5}
"""Few, so that the steps' own errors show; Euler's first are clipped, and its jumps show later."""
SMALLEST = caught_error(DRAWS, DENSE.vocab_size**DENSE.length)


def wrong(toy: Toy, num_states: int) -> Network:
    return Tabulated(Wrong(toy, num_states), toy.length)


def law_of(model: Diffusion, sampler: GridSampler) -> Array:
    """The enumerated law of content sequences after a few steps.

    A score on the absorbing process, here unnormalised, is read as a denoiser, which is what is drawn from.
    """
    normalised = Temperature(model, 1.0) if model.process.reveals_noise else model
    steps = FEW_STEPS[type(sampler).__name__]
    law = clean_part(grid_law(normalised, sampler, steps, DENSE.length), DENSE, model.process.num_states)
    assert law.sum() == pytest.approx(1, abs=1e-12)
    return law


def drawn(model: Diffusion, sampler: GridSampler) -> Integers:
    """How often `sample` returns each sequence."""
    generator, steps = torch.Generator().manual_seed(11), FEW_STEPS[type(sampler).__name__]
    tokens = sample(model, DRAWS, length=DENSE.length, sampler=sampler, steps=steps, generator=generator).tokens
    return counts_of(tokens, DENSE.vocab_size)


def test_power() -> None:
    """The tests below catch any error of 1% in total variation, with probability 0.99."""
    assert SMALLEST < 0.01


@pytest.mark.parametrize(
    ("process", "parameterization", "schedule"),
    [(*model, "log_linear") for model in SAMPLED]
    + [("absorbing", "conditional", "cosine"), ("uniform", "denoiser", "cosine")],
)
@pytest.mark.parametrize("sampler", [*GRID_SAMPLERS, "trapezoidal", "runge_kutta"])
def test_sample_follows_the_enumerated_law(sampler: str, process: str, parameterization: str, schedule: str) -> None:
    """200,000 draws in 3 or 6 steps of a wrong network; chi-square p > 1e-4, which catches 1% in total variation."""
    model = build(process, parameterization, schedule=schedule, network=wrong)
    made = SAMPLERS[sampler].make()
    assert isinstance(made, GridSampler)
    law, counts = law_of(model, made), drawn(model, made)
    assert chi_square(counts, law) > P_VALUE
    # The law is far from the data's: agreement is no accident of a good network.
    assert total_variation(law, DENSE.probabilities) > 0.05


@pytest.mark.parametrize(
    ("process", "parameterization", "sampler"),
    [
        ("absorbing", "conditional", "ancestral"),
        ("absorbing", "score", "euler"),
        ("uniform", "denoiser", "euler"),
        ("uniform", "score", "ancestral"),
    ],
)
def test_sample_follows_the_law_in_float32(sampler: str, process: str, parameterization: str) -> None:
    """The same in the precision of trained networks: noise levels, logits and draws in float32."""
    made = SAMPLERS[sampler].make()
    assert isinstance(made, GridSampler)
    law = law_of(build(process, parameterization, network=wrong), made)
    model = build(process, parameterization, network=lambda toy, states: Single(wrong(toy, states)))
    assert model.dtype == torch.float32
    counts = drawn(model, made)
    assert chi_square(counts, law) > P_VALUE
