"""Rate matrices with likelihoods of zero or below float32's range: chains of neighbours, states left for good."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.model import Diffusion
from discdiff.networks.exact import Exact
from discdiff.parameterizations import Denoiser, LeaveOneOut, Parameterization, Score
from discdiff.prediction import DenoiserPrediction, positions_of
from discdiff.processes import RateMatrix
from discdiff.processes.constructions import banded
from discdiff.randomness import categorical
from discdiff.samplers import (
    Ancestral,
    Euler,
    ForwardBackward,
    GridSampler,
    PredictorCorrector,
    RungeKutta2,
    Sampler,
    TauLeaping,
    Trapezoidal,
)
from discdiff.sampling import sample
from discdiff.schedules import Geometric
from tests.cases import SPARSE
from tests.laws import grid_law
from tests.test_dtypes import FLOAT64, MODES, build
from tests.test_leave_one_out import leave_one_out
from tests.toys import TOYS, every_sequence, total_variation

FORMS: list[Parameterization] = [Denoiser(), LeaveOneOut(), Score()]
GRIDS: list[GridSampler] = [
    Ancestral(), Euler(), TauLeaping(), Trapezoidal(), Trapezoidal(0.3), RungeKutta2(), RungeKutta2(0.3)
]  # fmt: skip


def exact(name: str, parameterization: Parameterization, toy: str = "dense3x2", low: float = 1e-4) -> Diffusion:
    table = torch.from_numpy(TOYS[toy].joint)
    process = SPARSE[name].make(TOYS[toy].vocab_size)
    return Diffusion(Exact(table, process.num_states), process, Geometric(low, 6.0), parameterization)


@pytest.mark.parametrize("sigma", [1e-6, 1e-3, 0.7, 3.0])
def test_far_entries_keep_their_ratios(sigma: float) -> None:
    """40 states in a band, both routes: entries down to 1e-100 to 1e-9 relative, against the series in logarithms."""
    process = RateMatrix(40, banded(40))
    rates = process.table.numpy()
    rate = -rates.diagonal().min()
    step = np.eye(40) + rates / rate
    # Uniformization in SciPy's floats at 200 terms: sums of positive numbers, each k! taken into the exponent.
    want, power, log_weight = np.zeros((40, 40)), np.eye(40), -sigma * rate
    for k in range(200):
        want += power * np.exp(log_weight)
        power, log_weight = step @ power, log_weight + np.log(sigma * rate) - np.log(k + 1)
    got = process.likelihood(torch.arange(40), torch.full((40,), sigma, dtype=torch.float64)).numpy()
    seen = want > 1e-99
    assert seen[10, 0]
    assert want[seen].min() < (1e-20 if sigma > 1 else 1e-30)
    np.testing.assert_allclose(got[seen], want[seen], rtol=1e-9)
    levels = torch.full((40,), sigma)
    assert process.log_likelihood(torch.arange(40), levels).isfinite().all()  # in float32 too


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", [1e-6, 1e-2, 20.0])
def test_leave_one_out_of_a_band(sigma: float, dtype: torch.dtype) -> None:
    """Posterior → leave-one-out → posterior and score, 40 tokens: float32 has no NaN where likelihoods are 1e-60."""
    process = RateMatrix(40, banded(40))
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(40, (1, 30), generator=draw)
    log_loo = torch.randn(1, 30, 40, generator=draw, dtype=torch.float64).log_softmax(-1)
    like = process.log_likelihood(x, torch.full((1, 30), sigma, dtype=torch.float64))
    readings = []
    for each in (dtype, torch.float64):
        log_p = (log_loo + like).log_softmax(-1).to(each)
        prediction = DenoiserPrediction(
            process, x, torch.full((1, 1), sigma, dtype=each), None,
            log_p=lambda where, said=log_p: said if where is None else said[where],  # type: ignore[misc]
            calls=lambda: torch.zeros(1, dtype=torch.int64),
        )  # fmt: skip
        readings.append((prediction.log_leave_one_out().double(), prediction.log_score().double()))
    assert all(reading.isfinite().all() for reading in readings[0])
    torch.testing.assert_close(readings[0][0], log_loo, rtol=1e-4, atol=1e-3)
    rates = process.rates_into(x) > 0
    torch.testing.assert_close(readings[0][1][rates], readings[1][1][rates], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("parameterization", [Denoiser(), LeaveOneOut()], ids=repr)
def test_scores_that_are_used(name: str, parameterization: Parameterization) -> None:
    """Against enumeration, 1e-9 relative: every s_y with y that can become x; the others are −∞, not wrong."""
    toy, case = TOYS["dense4x2"], SPARSE[name]
    model = exact(name, parameterization, "dense4x2")
    states = torch.from_numpy(every_sequence(4, 2))
    for sigma in (1e-3, 0.5, 4.0):
        truth = toy.score(case.transition(4, sigma))
        got = model.predict(states, torch.full((len(states), 1), sigma, dtype=torch.float64)).log_score().exp().numpy()
        becomes = case.transition(4, 1.0)[states.numpy()] > 0
        np.testing.assert_allclose(got[becomes], truth[becomes], rtol=1e-9)
        assert (got[~becomes] == 0).all()
        assert becomes.all() == (name == "banded")


def test_a_token_that_rules_out_others_has_no_leave_one_out_law() -> None:
    """Refused at token 0, which nothing becomes; right elsewhere, 1e-9."""
    model = exact("transient", Denoiser(), "dense3x3")
    states = torch.from_numpy(every_sequence(3, 3))
    prediction = model.predict(states, torch.full((len(states), 1), 0.5, dtype=torch.float64))
    with pytest.raises(IncompatibleError, match="Leave-one-out reading: got 27 positions"):
        prediction.log_leave_one_out()
    where = positions_of(states > 0)
    truth = leave_one_out(TOYS["dense3x3"], SPARSE["transient"].transition(3, 0.5))
    got = prediction.log_leave_one_out(where).exp().numpy()
    np.testing.assert_allclose(got, truth[where[0].numpy(), where[1].numpy()], atol=1e-9)


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("sampler", GRIDS, ids=lambda s: f"{type(s).__name__}{getattr(s, 'theta', '')}")
def test_laws_converge(name: str, sampler: GridSampler) -> None:
    """From the true p_1, steps doubled: the enumerated law's distance from the data falls; all forms have one law."""
    toy, case = TOYS["dense3x2"], SPARSE[name]
    start = toy.noised(case.transition(3, 6.0))
    laws: dict[tuple[str, int], np.ndarray] = {}
    for parameterization, steps in itertools.product(FORMS, (16, 64)):
        law = grid_law(exact(name, parameterization, low=1e-3), sampler, steps, 2, start=start)
        laws[repr(parameterization), steps] = law
        assert abs(law.sum() - 1) < 1e-9
        # The trapezoid of scores cuts other negative parts than that of denoisers.
        apart = 0.02 if isinstance(sampler, Trapezoidal) and parameterization is FORMS[2] else 1e-7
        np.testing.assert_allclose(law, laws["Denoiser()", steps], atol=apart)
    near, far = (total_variation(laws["Denoiser()", steps], toy.probabilities) for steps in (64, 16))
    assert near < 0.06
    assert near < far


@pytest.mark.parametrize("parameterization", FORMS, ids=repr)
def test_gibbs_refuses_states_left_for_good(parameterization: Parameterization) -> None:
    model = exact("transient", parameterization)
    sampler = PredictorCorrector(Ancestral(), sweeps=1, final_sweeps=0)
    with pytest.raises(IncompatibleError, match=r"Gibbs corrector: got RateMatrix with states .* ForwardBackward"):
        sample(model, 2, length=2, sampler=sampler, steps=4, generator=torch.Generator().manual_seed(0))
    sample(exact("banded", parameterization), 2, length=2, sampler=sampler, steps=40, generator=torch.Generator())


EVERY: list[Sampler] = [
    *GRIDS,
    PredictorCorrector(Ancestral(), sweeps=1, final_sweeps=0),
    PredictorCorrector(Ancestral(), ForwardBackward(0.2), sweeps=1, final_sweeps=0),
]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("parameterization", FORMS, ids=repr)
@pytest.mark.parametrize("name", ["band of 40", "transient"])
def test_whole_samplers(name: str, parameterization: Parameterization, mode: object) -> None:
    """A transformer that knows nothing of the likelihoods, σ from 3 to 1e-4: tokens, or the refusal of Gibbs."""
    assert mode in MODES
    process = RateMatrix(40, banded(40)) if name != "transient" else SPARSE["transient"].make(5)
    for sampler in EVERY:
        model = build(process, parameterization, mode, Geometric(1e-4, 3.0))
        gibbs = isinstance(sampler, PredictorCorrector) and type(sampler.corrector).__name__ == "Gibbs"
        try:
            out = sample(model, 6, length=5, sampler=sampler, steps=9, generator=torch.Generator().manual_seed(0))
        except IncompatibleError:
            assert gibbs
            assert name == "transient"
            continue
        assert not gibbs or name != "transient"
        assert int(out.tokens.max()) < process.vocab_size


@pytest.mark.parametrize("sampler", EVERY[:8], ids=lambda s: f"{type(s).__name__}{getattr(s, 'theta', '')}")
@pytest.mark.parametrize("parameterization", FORMS, ids=repr)
def test_a_network_that_says_nan_is_named(sampler: Sampler, parameterization: Parameterization) -> None:
    model = build(RateMatrix(4, banded(4)), parameterization, FLOAT64, Geometric(1e-4, 3.0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(DiscdiffError, match="a draw failed"):
        sample(model, 4, length=3, sampler=sampler, steps=8, generator=torch.Generator().manual_seed(0))


def test_weights_that_all_vanish_draw_nothing() -> None:
    weights = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0], [torch.nan, 1.0, 0.0]])
    drawn: Tensor = categorical(weights, torch.tensor([0.0, 0.0, 0.5]))
    assert drawn.tolist() == [3, 1, 3]


def test_one_state_that_none_leaves_is_refused() -> None:
    with pytest.raises(IncompatibleError, match=r"one state that none leaves.*Use Absorbing"):
        RateMatrix(2, [[-1.0, 0.0], [1.0, 0.0]])


def test_truth_of_the_chains() -> None:
    """The chains are what they are called: SciPy's exp(Q) has zeros at token 0 of the transient one only."""
    zero = {name: scipy.linalg.expm(case.rates(4)) < 1e-15 for name, case in SPARSE.items()}
    assert not zero["banded"].any()
    assert zero["transient"].nonzero()[0].tolist() == [0, 0, 0]
