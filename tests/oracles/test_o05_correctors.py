"""O5: a corrector leaves p_t as it is; sweeps take the predictor's error away."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.constraints import Allowed, Clamp, Constraint, Unconstrained
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.prediction import Positions, Prediction
from discdiff.samplers import (
    Ancestral,
    AnyOrder,
    Corrector,
    FirstHitting,
    ForwardBackward,
    Gibbs,
    Level,
    PredictorCorrector,
    State,
    Uniformization,
)
from discdiff.sampling import sample
from tests.cases import PROCESSES, build
from tests.laws import clean_part, grid_law, prior_law, step_matrix
from tests.scripted import scripted
from tests.toy_networks import Tabulated, Wrong
from tests.toys import DENSE, P_VALUE, TOYS, Array, Toy, chi_square, counts_of, every_sequence, total_variation

SIGMA = 0.7


class Spy(Unconstrained):
    """Keeps the probabilities that x0 is drawn from, after what `allowed` leaves of them."""

    def __init__(self, allowed: Tensor | None = None) -> None:
        self.table = allowed

    def draw(self, prediction: Prediction, where: Positions, u: Tensor, *, tilt: Tensor | None = None) -> Tensor:
        inner: Constraint = Unconstrained() if self.table is None else Allowed(self.table)
        log_p = inner.log_marginals(prediction, where)
        self.drawn = (log_p if tilt is None else (log_p + tilt).log_softmax(-1)).exp()
        return inner.draw(prediction, where, u, tilt=tilt)


@torch.no_grad()  # as in `sample`: with gradients every row is evaluated
def kernel(
    model: Model, corrector: Corrector, toy: Toy, process: str, sigma: float, allowed: Tensor | None = None
) -> Array:
    """p(next state | state) of one move over all S^L states; the position is scripted, its law read off the draw."""
    size, length = model.process.num_states, toy.length
    tokens = torch.from_numpy(every_sequence(size, length))
    free = torch.zeros_like(tokens, dtype=torch.bool)
    zero = torch.zeros(len(tokens))
    masked = (tokens == size - 1) if PROCESSES[process].masked else free
    candidates = (~masked).sum(-1)
    level = Level(0.5, 0.4, sigma, sigma, 1.0)
    matrix = np.zeros((len(tokens), len(tokens)))
    noise = (
        np.eye(size)[:, :size] if PROCESSES[process].masked else PROCESSES[process].transition(toy.vocab_size, sigma)
    )
    for rank in range(length):
        rows = rank < candidates
        script = scripted(
            len(tokens),
            position=((rank + 0.5) / candidates.clamp(min=1)).clamp(max=0.999).double(),
            token=torch.full(tokens.shape, 0.5, dtype=torch.float64),
            noise=torch.full(tokens.shape, 0.5, dtype=torch.float64),
        )
        spy = Spy(allowed)
        state = State(tokens, free, free, None, zero.long(), zero, script)
        moved = corrector.move(model, spy, state, Ancestral(), level, rows)
        assert torch.equal(moved.calls, rows.long())
        assert ((moved.tokens != tokens).sum(-1) <= 1).all()
        position = torch.where(masked, -1, (~masked).long().cumsum(-1) - 1).eq(rank).int().argmax(-1)
        for row, (state_row, law) in enumerate(zip(tokens[rows].numpy(), spy.drawn.numpy(), strict=True)):
            index = int(rows.nonzero()[row, 0])
            after = noise[:, : toy.vocab_size] @ law
            for token in range(size):
                new = state_row.copy()
                new[int(position[index])] = token
                target = int(np.ravel_multi_index(tuple(new), (size,) * length))
                matrix[index, target] += after[token] / float(candidates[index])
    still = (candidates == 0).numpy()
    matrix[still, still.nonzero()[0]] += 1.0
    return matrix


def change(
    corrector: Corrector, process: str, parameterization: str, toy: Toy, sigma: float, allowed: Tensor | None = None
) -> float:
    """How far one move carries p_t, the exact network given: the largest change of a probability."""
    model = build(process, parameterization, toy=toy)
    law = toy.noised(PROCESSES[process].transition(toy.vocab_size, sigma))
    if allowed is not None:
        kept = allowed.numpy()[np.arange(toy.length), toy.sequences].all(-1)
        table = np.where(kept, toy.probabilities, 0.0).reshape(toy.joint.shape)
        law = Toy("allowed", table / table.sum()).noised(PROCESSES[process].transition(toy.vocab_size, sigma))
    matrix = kernel(model, corrector, toy, process, sigma, allowed)
    np.testing.assert_allclose(matrix.sum(-1), 1, atol=1e-12)
    return float(np.abs(law @ matrix - law).max())


@pytest.mark.parametrize("toy", ["dense3x3", "repeat3x3"])
@pytest.mark.parametrize(
    ("process", "parameterization", "sigma"),
    [
        ("absorbing", "conditional", SIGMA),
        ("absorbing", "conditional", 0.0),
        ("absorbing", "denoiser", SIGMA),
        ("uniform", "denoiser", SIGMA),
        ("uniform", "denoiser", 0.05),
    ],
)
def test_gibbs_leaves_the_law(process: str, parameterization: str, sigma: float, toy: str) -> None:
    """p_t K = p_t to 1e-12, every state and position; at σ = 0 it is p0."""
    assert change(Gibbs(), process, parameterization, TOYS[toy], sigma) < 1e-12


def test_gibbs_under_a_constraint() -> None:
    """With sets of allowed tokens it leaves p0(· | allowed) as it is, which the predictors' own draws do not reach."""
    allowed = torch.tensor([[True, False, True], [True, True, True], [False, True, True]])
    assert change(Gibbs(), "absorbing", "conditional", DENSE, 0.0, allowed) < 1e-12


# ---- the real sampler -----------------------------------------------------------------------------------------------
DRAWS = 200_000


@pytest.mark.parametrize(("process", "toy"), [("absorbing", "dense3x3"), ("uniform", "dense3x3")])
def test_sweeps_take_the_error_away(process: str, toy: str) -> None:
    """One long ancestral step is off p_s by over 1%; each move brings it closer, 60 moves to a tenth. Enumerated."""
    table, model = TOYS[toy], build(process, "denoiser", toy=TOYS[toy])
    level = Ancestral().levels(model.schedule, 3)[1]
    start, target = (table.noised(PROCESSES[process].transition(3, sigma)) for sigma in (level.sigma, level.sigma_next))
    law = start @ step_matrix(model, Ancestral(), level, 3)
    matrix = kernel(model, Gibbs(), table, process, level.sigma_next)
    errors = [total_variation(law, target)]
    for _ in range(60):
        law = law @ matrix
        errors.append(total_variation(law, target))
    assert errors[0] > 0.01
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(errors))
    assert errors[-1] < 0.1 * errors[0]


def test_final_sweeps_follow_the_enumerated_law() -> None:
    """A wrong network's one ancestral step, then one Gibbs sweep (three moves) of the same; chi-square catches 1%."""
    model = build("absorbing", "conditional", network=lambda toy, states: Tabulated(Wrong(toy, states), toy.length))
    law = grid_law(model, Ancestral(), 1, 3)
    matrix = kernel(model, Gibbs(), DENSE, "absorbing", 0.0)
    law = clean_part(law @ matrix @ matrix @ matrix, DENSE, 4)
    sampler = PredictorCorrector(Ancestral(), final_sweeps=1)
    drawn = sample(model, DRAWS, length=3, sampler=sampler, steps=1, generator=torch.Generator().manual_seed(2))
    assert chi_square(counts_of(drawn.tokens, 3), law) > P_VALUE
    assert total_variation(law, clean_part(grid_law(model, Ancestral(), 1, 3), DENSE, 4)) > 0.05
    # one a step and a move, but for moves that meet a state which the row has just been in
    assert set(torch.as_tensor(drawn.calls).tolist()) == {2, 3, 4}


def test_sweeps_between_steps_follow_the_enumerated_law() -> None:
    """Uniform noise, two steps with a sweep of three moves between them; a wrong network; chi-square catches 1%."""
    model = build("uniform", "denoiser", network=lambda toy, states: Tabulated(Wrong(toy, states), toy.length))
    first, last = Ancestral().levels(model.schedule, 2)
    matrix = kernel(model, Gibbs(), DENSE, "uniform", first.sigma_next)
    law = prior_law(model, 3) @ step_matrix(model, Ancestral(), first, 3)
    law = law @ matrix @ matrix @ matrix @ step_matrix(model, Ancestral(), last, 3)
    sampler = PredictorCorrector(Ancestral(), sweeps=1, final_sweeps=0)
    drawn = sample(model, DRAWS, length=3, sampler=sampler, steps=2, generator=torch.Generator().manual_seed(3))
    assert chi_square(counts_of(drawn.tokens, 3), law) > P_VALUE


@pytest.mark.parametrize("process", ["absorbing", "uniform"])
def test_forward_backward_follows_the_enumerated_law(process: str) -> None:
    """Up by SciPy's exp(ΔσQ), back by an ancestral step, between two steps and at the end; chi-square catches 1%."""
    model = build(process, "denoiser", network=lambda toy, states: Tabulated(Wrong(toy, states), toy.length))
    corrector = ForwardBackward(0.2)
    first, last = Ancestral().levels(model.schedule, 2)
    law = prior_law(model, 3) @ step_matrix(model, Ancestral(), first, 3)
    law = law @ up_and_back(model, corrector, process, first)
    end, again = step_matrix(model, Ancestral(), last, 3), up_and_back(model, corrector, process, last)
    if process == "absorbing":  # rows that the last step finds with a mask are corrected after it
        busy = (every_sequence(4, 3) == 3).any(-1)
        law = (law * busy) @ end @ again + (law * ~busy) @ end
    else:
        law = law @ end
    law = law @ again
    sampler = PredictorCorrector(Ancestral(), corrector, sweeps=1, final_sweeps=1)
    drawn = sample(model, DRAWS, length=3, sampler=sampler, steps=2, generator=torch.Generator().manual_seed(3))
    assert chi_square(counts_of(drawn.tokens, 3), clean_part(law, DENSE, model.process.num_states)) > P_VALUE


def up_and_back(model: Model, corrector: ForwardBackward, process: str, level: Level) -> Array:
    """The matrix of one forward-backward move, `[S^L, S^L]`."""
    back = corrector.interval(model, level)
    one = PROCESSES[process].transition(3, back.sigma - back.sigma_next).T
    return np.kron(np.kron(one, one), one) @ step_matrix(model, Ancestral(), back, 3)


def test_parts_that_do_not_fit() -> None:
    model, draws = build("uniform", "denoiser"), torch.Generator()
    with pytest.raises(IncompatibleError, match="final_sweeps=0"):
        sample(model, 2, length=3, sampler=PredictorCorrector(Ancestral()), steps=2, generator=draws)
    with pytest.raises(IncompatibleError, match="Leave steps out"):
        sample(build("absorbing", "conditional"), 2, length=3, sampler=PredictorCorrector(), steps=2, generator=draws)
    sampler = PredictorCorrector(corrector=ForwardBackward())
    with pytest.raises(IncompatibleError, match="got FirstHitting, expected a predictor with a grid of steps"):
        sample(build("absorbing", "conditional"), 2, length=3, sampler=sampler, generator=draws)
    with pytest.raises(IncompatibleError, match="sweeps: got -1"):
        PredictorCorrector(sweeps=-1)
    with pytest.raises(IncompatibleError, match="corrects already"):
        PredictorCorrector(PredictorCorrector())


def test_sweeps_are_counted_by_row() -> None:
    """A sweep is a move for each position: 2 sweeps after first-hitting cost 2 L more calls, padding left out."""
    model = build("absorbing", "denoiser", toy=TOYS["dense2x4"])  # shown the noise: no state is one seen before
    clamped = torch.tensor([False, True, False, False])
    drawn = sample(
        model,
        10,
        constraint=Clamp(torch.zeros(4, dtype=torch.int64), clamped),
        sampler=PredictorCorrector(FirstHitting(), final_sweeps=2),
        generator=torch.Generator().manual_seed(0),
    )
    assert (torch.as_tensor(drawn.calls) == 3 + 6).all()


def test_predictors_that_cannot_be_corrected() -> None:
    """Rows with clocks of their own have no common noise to correct at; orders cannot go back in one step."""
    draws = torch.Generator().manual_seed(0)
    clocks = PredictorCorrector(Uniformization(), sweeps=1, final_sweeps=0)
    with pytest.raises(IncompatibleError, match="expected a predictor on a time grid"):
        sample(build("uniform", "denoiser"), 2, length=3, sampler=clocks, generator=draws)
    order = PredictorCorrector(AnyOrder(), ForwardBackward(0.2), sweeps=1)
    with pytest.raises(IncompatibleError, match="expected a predictor with a grid of steps"):
        sample(build("absorbing", "conditional"), 2, length=3, sampler=order, generator=draws)
