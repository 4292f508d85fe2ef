"""O11: clamps are exact on absorbing and first order elsewhere; every constraint always holds, in every sampler."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from discdiff.constraints import Clamp
from discdiff.guidance import Temperature
from discdiff.model import Model
from discdiff.networks import Context
from discdiff.prediction import Prediction
from discdiff.samplers import Ancestral, GridSampler, noise_levels
from discdiff.sampling import sample
from discdiff.schedules import LogLinear
from tests.cases import CONSTRAINTS, NO_DENOISER, PROCESSES, SAMPLED, SAMPLERS, automaton, build, runs
from tests.laws import clean_part, grid_law, prior_law, revealed_law, slope, step_matrix
from tests.toy_networks import Tabulated, Wrong
from tests.toys import DENSE, P_VALUE, TOYS, Array, caught_error, chi_square, counts_of, total_variation

DRAWS = 200_000
GIVEN = {1: 2}


@pytest.mark.parametrize("toy", ["dense3x3", "parity2x4"])
def test_clamps_by_enumeration(toy: str) -> None:
    """Absorbing: p0(· | x_C) to 1e-12 for every set of positions, every value that can occur, every order."""
    table = TOYS[toy]
    model = build("absorbing", "conditional", toy=table)
    for size in range(1, table.length):
        for positions in itertools.combinations(range(table.length), size):
            for tokens in {tuple(row[list(positions)]) for row in table.support}:
                given = dict(zip(positions, map(int, tokens), strict=True))
                free = [i for i in range(table.length) if i not in given]
                for order in itertools.permutations(free):
                    law = revealed_law(model, table, [order], given)
                    np.testing.assert_allclose(law, table.given(given), atol=1e-12)


@pytest.mark.parametrize("name", [name for name, case in SAMPLERS.items() if case.exact])
def test_clamped_sampler_is_exact(name: str) -> None:
    """The real sampler under a clamp: 200,000 draws; p > 1e-4 catches 1% in total variation."""
    given = GIVEN
    law = DENSE.given(given)
    assert caught_error(DRAWS, 9) < 0.01
    clamp = Clamp(torch.tensor([0, 2, 0]), torch.tensor([False, True, False]))
    model = build("absorbing", "conditional")
    drawn = sample(
        model, DRAWS, sampler=SAMPLERS[name].make(), constraint=clamp, generator=torch.Generator().manual_seed(1)
    )
    assert chi_square(counts_of(drawn.tokens, 3), law) > P_VALUE
    assert drawn.calls is not None
    # a corrector's move that meets a state which the row has just been in costs no call
    assert (drawn.calls >= 2 if SAMPLERS[name].corrects else drawn.calls == 2).all()
    # in blocks of two with one of them given, what a move masks again is always the state just seen
    assert bool((drawn.calls > 2).any()) == (SAMPLERS[name].corrects and name != "blockwise_corrected")


def clamped_errors(process: str, steps: list[int], *, told: bool) -> list[float]:
    """TV between p0(· | x_C) and the ancestral law, the network told what is frozen, or shown it as if noised."""
    model = build(process, "denoiser", schedule=LogLinear())
    target, out = DENSE.given(GIVEN), []
    for count in steps:
        law = prior_law(model, 3, GIVEN)
        for level in noise_levels(model.schedule, count):
            if told:
                law = law @ step_matrix(model, Ancestral(), level, 3, GIVEN)
            else:
                law = law @ step_matrix(Untold(model), Ancestral(), level, 3, GIVEN)
        out.append(total_variation(clean_part(law, DENSE, model.process.num_states), target))
    return out


class Untold(Temperature):
    """A model whose network is not told what is given: the naive way to clamp."""

    def __init__(self, model: Model) -> None:
        super().__init__(model, 1.0)

    def predict(self, tokens: torch.Tensor, sigma: torch.Tensor, context: Context | None = None) -> Prediction:
        return self.model.predict(tokens, sigma)


@pytest.mark.parametrize("process", PROCESSES)
def test_clamped_error_falls(process: str) -> None:
    """Told what is frozen: TV falls with slope 1 ± 0.15 over 8 to 128 steps, to below 1%."""
    steps = [8, 16, 32, 64, 128]
    errors = clamped_errors(process, steps, told=True)
    assert slope(steps, errors) == pytest.approx(1, abs=0.15)
    assert errors[-1] < 0.01


def test_naive_clamp_stays_wrong() -> None:
    """Off the absorbing process a clean token shown as if it might be noise leaves a plateau, however many steps."""
    errors = clamped_errors("uniform", [32, 64], told=False)
    assert errors[1] > 0.02
    assert errors[1] > 0.8 * errors[0]


# ---- sets per position ----------------------------------------------------------------------------------------------
class Restricted(Temperature):
    """A model whose denoiser is cut to a table of allowed tokens and normalised: what a constrained step draws from."""

    def __init__(self, model: Model, allowed: torch.Tensor) -> None:
        super().__init__(model, 1.0)
        self.allowed = allowed

    def predict(self, tokens: torch.Tensor, sigma: torch.Tensor, context: Context | None = None) -> Prediction:
        prediction = super().predict(tokens, sigma, context)
        log_p = prediction.log_denoiser().masked_fill(~self.allowed, -torch.inf).log_softmax(-1)
        prediction.__dict__["_log_p"] = lambda where: log_p if where is None else log_p[where]
        return prediction


def allowed_law(model: Model, sampler: GridSampler, allowed: torch.Tensor, given: dict[int, int], steps: int) -> Array:
    law = grid_law(Restricted(model, allowed), sampler, steps, 3, given=given)
    return clean_part(law, DENSE, model.process.num_states)


@pytest.mark.parametrize("sampler", ["ancestral", "euler"])
@pytest.mark.parametrize("process", PROCESSES)
def test_allowed_sets_follow_the_enumerated_law(process: str, sampler: str) -> None:
    """Three steps with a wrong network: each draw of x0 is the denoiser cut to the sets. p > 1e-4 catches 1%."""
    model = build(process, "denoiser", network=lambda toy, states: Tabulated(Wrong(toy, states), toy.length))
    made, constraint = SAMPLERS[sampler].make(), CONSTRAINTS["allowed"].make(3, 3)
    assert isinstance(made, GridSampler)
    table = torch.tensor([[False, True, False], [False, True, True], [True, False, True]])
    law = allowed_law(model, made, table, {0: 1}, 3)
    assert law.sum() == pytest.approx(1, abs=1e-12)
    drawn = sample(
        model, DRAWS, sampler=made, steps=3, constraint=constraint, generator=torch.Generator().manual_seed(3)
    )
    assert chi_square(counts_of(drawn.tokens, 3), law) > P_VALUE


@pytest.mark.parametrize(
    ("process", "parameterization", "name", "constraint"),
    [
        (*model, name, constraint)
        for model in SAMPLED
        for name, sampler in SAMPLERS.items()
        for constraint, case in CONSTRAINTS.items()
        if runs(sampler, *model) and not (case.needs_denoiser and model in NO_DENOISER)
    ],
)
def test_constraints_always_hold(process: str, parameterization: str, name: str, constraint: str) -> None:
    """10,000 draws of 4 tokens (2,000 by an automaton), a wrong network: all satisfy it, and vary where it is free."""
    toy = TOYS["dense2x4"]
    model = build(process, parameterization, toy=toy, network=lambda t, s: Tabulated(Wrong(t, s), t.length))
    made = SAMPLERS[name].make()
    tokens = sample(
        model,
        2_000 if constraint == "automaton" else 10_000,
        length=4,
        sampler=made,
        steps=2 * SAMPLERS[name].calls if made.takes_steps else None,
        constraint=CONSTRAINTS[constraint].make(2, 4),
        generator=torch.Generator().manual_seed(0),
    ).tokens
    allowed = torch.ones(4, 2, dtype=torch.bool)
    if constraint in ("allowed", "both"):
        allowed[0], allowed[1] = torch.tensor([False, True]), torch.tensor([False, True])
    if constraint in ("clamp", "both"):
        allowed[1], allowed[3] = torch.tensor([False, True]), torch.tensor([False, True])
    if constraint == "automaton":
        accepted = automaton(2, 4).language.accepts
        assert all(accepted(row) for row in tokens.unique(dim=0).tolist())
    assert allowed[torch.arange(4), tokens].all()
    for position in range(4):
        assert len(tokens[:, position].unique()) == (int(allowed[position].sum()) if SAMPLERS[name].random else 1)
