"""O7: one step. Log-linear absorbing: Euler = ancestral = D3PM posterior; any process: score step = mixture over x0."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.errors import IncompatibleError
from discdiff.model import Diffusion
from discdiff.prediction import Prediction
from discdiff.samplers import Ancestral, Euler, GridSampler, Level, noise_levels
from discdiff.schedules import LogLinear
from tests.cases import MODELS, PROCESSES, SCHEDULES, build
from tests.toys import TOYS, Array, Toy, every_sequence

LONGEST = -np.log(100 * np.finfo(np.float64).eps)
"""A step that magnifies errors by more than e to this is refused."""
TOY_NAMES = ["dense3x3", "repeat3x3", "parity2x4"]


def mixture(toy: Toy, process: str, level: Level) -> Array:
    """Σ_x0 p(x0_i | xt) q(x_s,i = y | xt_i, x0_i) for all xt, `[S^L, L, S]`, in NumPy; NaN where xt cannot occur."""
    case, size = PROCESSES[process], toy.vocab_size
    now, later, step = (
        case.transition(size, sigma) for sigma in (level.sigma, level.sigma_next, level.sigma - level.sigma_next)
    )
    x = every_sequence(len(now), toy.length)
    with np.errstate(divide="ignore", invalid="ignore"):
        # q[x, y, x0] = P_Δ[x, y] P_s[y, x0] / P_t[x, x0]
        bridge = step[:, :, None] * later[None, :, :size] / now[:, None, :size]
    terms = toy.denoiser(now)[:, :, None, :] * np.where(now[:, None, :size] > 0, bridge, 0)[x]
    return np.asarray(terms.sum(-1))


def predict(model: Diffusion, toy: Toy, level: Level) -> Prediction:
    states = torch.from_numpy(every_sequence(model.process.num_states, toy.length))
    return model.predict(states, torch.full((len(states), 1), level.sigma, dtype=torch.float64))


def kernel(model: Diffusion, toy: Toy, sampler: GridSampler, level: Level) -> Array:
    """The sampler's law of each position's next state, for all xt: `[S^L, L, S]`."""
    return np.asarray(sampler.kernel(predict(model, toy, level), level, later(model, toy, level), None))


def later(model: Diffusion, toy: Toy, level: Level) -> torch.Tensor:
    return torch.full((model.process.num_states**toy.length, 1), level.sigma_next, dtype=torch.float64)


def difference(got: Array, want: Array) -> float:
    possible = ~np.isnan(want).any((-1, -2))
    assert possible.sum() > 1
    return float(np.abs(got - want)[possible].max())


def euler_error(sampler: GridSampler, toy: Toy, parameterization: str) -> float:
    """The largest difference between a sampler's kernel and the D3PM posterior on log-linear absorbing noise."""
    model = build("absorbing", parameterization, toy=toy)
    levels = noise_levels(LogLinear(), 7)
    return max(difference(kernel(model, toy, sampler, level), mixture(toy, "absorbing", level)) for level in levels)


@pytest.mark.parametrize("toy", TOY_NAMES)
@pytest.mark.parametrize("parameterization", ["score", "denoiser", "conditional"])
@pytest.mark.parametrize("sampler", [Ancestral(), Euler()], ids=["ancestral", "euler"])
def test_log_linear_absorbing(sampler: GridSampler, parameterization: str, toy: str) -> None:
    """1e-12, in every state that can occur, at every step, the last included."""
    assert euler_error(sampler, TOYS[toy], parameterization) < 1e-12


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("toy", TOY_NAMES)
@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_posterior_is_the_mixture(process: str, parameterization: str, toy: str, schedule: str) -> None:
    """1e-12 from a denoiser; from a score, whose steps invert exp(ΔσQ), e^(Δσ·fastest rate) times float64's digits."""
    model = build(process, parameterization, toy=TOYS[toy], schedule=schedule)
    for level in noise_levels(model.schedule, 5):
        prediction = predict(model, TOYS[toy], level)
        inverted = (level.sigma - level.sigma_next) * PROCESSES[process].fastest_rate(TOYS[toy].vocab_size)
        if parameterization == "score" and inverted > LONGEST:
            with pytest.raises(IncompatibleError, match="Step from a score"):
                prediction.posterior(later(model, TOYS[toy], level))
            continue
        got = np.asarray(prediction.posterior(later(model, TOYS[toy], level)))
        error = difference(got, mixture(TOYS[toy], process, level))
        amplified = np.exp(inverted) if parameterization == "score" else 1.0
        assert error < 1e-12 * max(1.0, amplified / 100), level


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_euler_is_the_rate_times_the_interval(process: str, parameterization: str) -> None:
    """Away from the clipped first steps: p(y ≠ x) = σ'(t) (t − s) Q[x, y] s(x)_y with SciPy's score; 1e-10."""
    toy = TOYS["dense3x3"]
    levels = noise_levels(LogLinear(), 50)
    rates = PROCESSES[process].rates(toy.vocab_size)
    x, model = every_sequence(len(rates), toy.length), build(process, parameterization)
    for level in (levels[20], levels[40], levels[48]):
        score = toy.score(PROCESSES[process].transition(toy.vocab_size, level.sigma))
        with np.errstate(invalid="ignore"):
            jump = np.where(rates[x] > 0, rates[x] * score, 0) * level.noise_rate * (level.t - level.s)
        jump[np.arange(len(x))[:, None], np.arange(toy.length), x] = 0
        stay = 1 - jump.sum(-1, keepdims=True)
        assert (stay > 0).all()
        want = np.where(np.arange(len(rates)) == x[..., None], stay, jump)
        got = kernel(model, toy, Euler(), level)
        np.testing.assert_allclose(got, want, atol=1e-10)
