"""O17: weights of every sampler that has them, on every process: unbiased for its plain law on what is accepted.

Σ w 1[x] / N estimates the plain sampler's probability of each accepted x without bias at any number of particles, so
that two of them and the enumerated law of the plain sampler say whether every factor of every weight is right.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import discdiff as dd
from discdiff.constraints import Automaton
from discdiff.errors import DiscdiffWarning, IncompatibleError
from discdiff.guidance import Temperature
from discdiff.samplers import (
    AnyOrder,
    Bisection,
    Blockwise,
    Confidence,
    EntropyBounded,
    Euler,
    FirstHitting,
    Gibbs,
    GridSampler,
    PredictorCorrector,
    RungeKutta2,
    Sampler,
    TauLeaping,
    Trapezoidal,
    Uniformization,
)
from tests.cases import PROCESSES, automaton, build
from tests.laws import clean_part, grid_law
from tests.toys import DENSE, Array, Toy, counts_of

ACCEPTED = np.array([automaton(3, 3).language.accepts(row) for row in DENSE.sequences.tolist()])
DRAWS = 20_000

pytestmark = pytest.mark.filterwarnings("ignore:.*no particle has any weight")  # of two, both may have none

GRIDS: dict[str, tuple[Callable[[], GridSampler], int]] = {
    "euler": (Euler, 3),
    "tau leaping": (TauLeaping, 3),
    "trapezoidal": (Trapezoidal, 5),
    "trapezoidal, early": (lambda: Trapezoidal(0.3), 5),
    "runge-kutta": (RungeKutta2, 5),
    "runge-kutta, early": (lambda: RungeKutta2(0.3), 5),
    "runge-kutta, late": (lambda: RungeKutta2(0.8), 5),
}
EXACT: dict[str, Callable[[], Sampler]] = {
    "confidence": Confidence,
    "margin": lambda: Confidence("margin", noise=0.3),
    "entropy bounded": lambda: EntropyBounded(0.0),
    "uniformization": Uniformization,
    "blockwise": lambda: Blockwise(block_size=2),
    "gibbs": lambda: PredictorCorrector(FirstHitting(), Gibbs(), sweeps=1.0, final_sweeps=1.0),
    "final sweeps": lambda: PredictorCorrector(FirstHitting(), Gibbs(), final_sweeps=2.0),
}


def weights_and_cells(sampler: Sampler, process: str, steps: int | None, particles: int = 2) -> tuple[Array, Array]:
    """Weights of `DRAWS` samples, and their sequences' places in `DENSE.sequences`."""
    model = build(process, "conditional" if process == "absorbing" else "denoiser")
    drawn = dd.sample(
        model, DRAWS, length=3, sampler=sampler, steps=steps, constraint=Automaton(automaton(3, 3).language),
        particles=particles, generator=torch.Generator().manual_seed(29),
    )  # fmt: skip
    assert drawn.log_weights is not None
    return drawn.log_weights.exp().numpy(), np.ravel_multi_index(tuple(drawn.tokens.T.numpy()), (3, 3, 3))


def compare(weights: Array, cells: Array, truth: Array, *, slack: Array | float = 0.0) -> None:
    """Each accepted sequence's share, and all together, within 4.5 standard errors, below 2 %, and `slack`."""
    slack = np.broadcast_to(slack, truth.shape)
    probability = truth[ACCEPTED].sum()
    error = weights.std() / len(weights) ** 0.5
    assert error < 0.02 * probability, error / probability
    known = float(np.sqrt((slack[ACCEPTED] ** 2).sum()))
    assert abs(weights.mean() - probability) < 4.5 * error + known, (weights.mean(), probability, error)
    for cell in range(27):
        mine = np.where(cells == cell, weights, 0.0)
        if not ACCEPTED[cell]:
            assert not mine.any()
            continue
        # a cell that is hardly ever drawn has no error of its own
        spread = max(mine.std(), (truth[cell] * weights.max()) ** 0.5 / 3) / len(mine) ** 0.5
        assert abs(mine.mean() - truth[cell]) < 4.5 * spread + slack[cell], (cell, mine.mean(), truth[cell], spread)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", GRIDS)
def test_steps_on_a_grid(name: str, process: str) -> None:
    make, steps = GRIDS[name]
    model = build(process, "conditional" if process == "absorbing" else "denoiser")
    law = clean_part(grid_law(model, make(), steps, 3), DENSE, model.process.num_states)
    compare(*weights_and_cells(make(), process, steps), law)


@pytest.mark.parametrize("name", EXACT)
def test_exact_samplers(name: str) -> None:
    compare(*weights_and_cells(EXACT[name](), "absorbing", None), DENSE.probabilities)


@pytest.mark.parametrize("process", ["uniform", "circular"])
def test_uniformization_off_the_absorbing_process(process: str) -> None:
    compare(*weights_and_cells(Uniformization(), process, None), DENSE.probabilities)


SEVERAL: dict[str, tuple[Callable[[], Sampler], int | None]] = {
    "any order": (AnyOrder, 2),
    "bisection": (Bisection, None),
    "confidence": (Confidence, 2),
    "entropy bounded": (lambda: EntropyBounded(1.0), None),
    "gibbs between": (lambda: PredictorCorrector(AnyOrder(), Gibbs(), final_sweeps=0.0), 2),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_positions_a_call(name: str) -> None:
    """Their plain law is off p0; 200,000 free draws say by how much."""
    make, steps = SEVERAL[name]
    free = dd.sample(
        build("absorbing", "conditional"), 200_000, length=3, sampler=make(), steps=steps,
        generator=torch.Generator().manual_seed(31),
    )  # fmt: skip
    law = counts_of(free.tokens, 3) / 200_000
    assert np.abs(law - DENSE.probabilities).sum() > 0.02 or name == "gibbs between"
    compare(*weights_and_cells(make(), "absorbing", steps), law, slack=3 * (law / 200_000) ** 0.5)


def test_final_sweeps_off_the_absorbing_process() -> None:
    """They leave p0 given acceptance as it is; the run before errs little in many steps."""
    sampler = PredictorCorrector(dd.samplers.Ancestral(), Gibbs(), final_sweeps=1.0)
    model = build("uniform", "leave_one_out", schedule=dd.LogLinear(t_min=1e-3))
    drawn = dd.sample(
        model, 4_000, length=3, sampler=sampler, steps=64, constraint=Automaton(automaton(3, 3).language), particles=8,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    law = DENSE.probabilities * ACCEPTED
    assert 0.5 * np.abs(counts_of(drawn.tokens, 3) / 4_000 - law / law.sum()).sum() < 0.04


def test_sweeps_that_move_what_is_said_are_refused() -> None:
    sampler = PredictorCorrector(dd.samplers.Ancestral(), Gibbs(), sweeps=1.0, final_sweeps=0.0)
    with pytest.raises(IncompatibleError, match="Gibbs sweeps at noise levels of Uniform"):
        weights_and_cells(sampler, "uniform", 4)


@pytest.mark.parametrize("sampler", [Trapezoidal(), RungeKutta2()])
def test_guided_laws_that_are_mixed_have_no_mass(sampler: Sampler) -> None:
    model = Temperature(build("absorbing", "conditional"), 0.5)
    with pytest.raises(IncompatibleError, match="mixes what two predictions say"):
        dd.sample(model, 2, length=3, sampler=sampler, steps=4, particles=2, generator=torch.Generator())


def test_a_population_without_weight_is_told() -> None:
    """The model never says a token twice: the constraint holds, the weight says that the model's law does not."""
    joint = (1 - np.eye(3)) / 6
    model = build("absorbing", "conditional", toy=Toy("no pair", joint))
    both = Automaton(dd.languages.compile_expression(dd.languages.regex("bb|cc", "abc"), 3))
    with pytest.warns(DiscdiffWarning, match="3 of 3 samples .rows 0, 1, 2.: no particle has any weight"):
        drawn = dd.sample(
            model, 3, length=2, sampler=dd.samplers.Ordered(), constraint=both, particles=4,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
    assert all(row in ([1, 1], [2, 2]) for row in drawn.tokens.tolist())
    assert drawn.log_weights is not None
    assert drawn.effective is not None
    assert drawn.log_weights.tolist() == [-np.inf] * 3
    assert drawn.effective.tolist() == [0.0] * 3
