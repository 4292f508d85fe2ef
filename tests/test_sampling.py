"""The loop: lengths, steps, calls, callbacks, the noise levels it goes through."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from discdiff.constraints import Clamp
from discdiff.guidance import Temperature
from discdiff.networks import Network
from discdiff.randomness import Keys
from discdiff.samplers import DEFAULT_STEPS, Ancestral, FirstHitting, GridSampler, Ordered, State, noise_levels
from discdiff.sampling import sample
from discdiff.schedules import LogLinear
from tests.cases import PROCESSES, SAMPLED, SAMPLERS, SCHEDULES, build, runs
from tests.laws import clean_part, grid_law
from tests.toy_networks import ByLength, Tabulated, Wrong
from tests.toys import DENSE, P_VALUE, TOYS, Toy, chi_square, counts_of, dense


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def wrong(toy: Toy, num_states: int) -> Network:
    return Tabulated(Wrong(toy, num_states), toy.length)


# ---- noise levels ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 7, 128, 5000])
def test_noise_levels(schedule: str, steps: int) -> None:
    """From σ(1) down to 0, joined without gaps; the network is never shown less than σ(t_min)."""
    made = SCHEDULES[schedule]()
    levels = noise_levels(made, steps)
    low, high = made.ends()
    assert len(levels) == steps
    assert levels[0].t == 1
    assert levels[0].sigma == high
    assert levels[-1].last
    assert levels[-1].s == 0
    assert [level.last for level in levels[:-1]] == [False] * (steps - 1)
    for one, two in itertools.pairwise(levels):
        assert (one.s, one.sigma_next) == (two.t, two.sigma)
    for level in levels:
        assert low <= level.sigma <= high
        assert level.sigma >= level.sigma_next
        rate = float(made.noise_rate(torch.tensor(level.t, dtype=torch.float64)))
        assert level.noise_rate == pytest.approx(rate)


# ---- every sampler --------------------------------------------------------------------------------------------------
PLANS = [(*model, name) for model in SAMPLED for name, case in SAMPLERS.items() if runs(case, *model)]


@pytest.mark.parametrize(("process", "parameterization", "sampler"), PLANS)
def test_outputs(process: str, parameterization: str, sampler: str) -> None:
    """Content tokens only, lengths kept, padding 0, calls counted, one callback a step."""
    toys = {length: dense(3, length, seed=length) for length in (1, 2, 3)}
    model = build(
        process,
        parameterization,
        toy=toys[3],
        network=lambda toy, states: ByLength({n: Wrong(t, states) for n, t in toys.items()}),
    )
    made, lengths = SAMPLERS[sampler].make(), torch.tensor([2, 3, 1, 3, 2] * 20)
    steps = 5 if made.takes_steps else None
    seen: list[tuple[int, int, torch.Tensor]] = []

    def watch(step: int, total: int, state: State) -> None:
        seen.append((step, total, state.tokens))

    labels = torch.arange(100) % 2
    drawn = sample(
        model,
        100,
        lengths=lengths,
        sampler=made,
        steps=steps,
        labels=labels,
        generator=draws(),
        on_step=watch,
    )
    assert torch.equal(drawn.lengths, lengths)
    assert drawn.labels is labels or torch.equal(torch.as_tensor(drawn.labels), labels)
    assert drawn.tokens[~drawn.padding].max() < 3
    assert (drawn.tokens[drawn.padding] == 0).all()
    case, total = SAMPLERS[sampler], seen[0][1]
    if isinstance(made, GridSampler):
        assert total == ((steps or 0) + 1) // case.calls if case.calls > 1 else steps
    elif case.exact and not case.corrects:
        assert total == 3
    assert [(step, count) for step, count, _ in seen] == [(k + 1, total) for k in range(total)]
    assert torch.equal(seen[-1][2], drawn.tokens)
    assert drawn.calls is not None
    if case.corrects:
        assert (drawn.calls >= 1).all()
    elif case.exact:
        assert torch.equal(drawn.calls, lengths)
    elif not PROCESSES[process].masked:
        assert torch.equal(drawn.calls, torch.full_like(drawn.calls, steps or 0))
    else:
        assert (drawn.calls >= 1).all()
        most = torch.minimum(lengths, torch.tensor(total)) if case.calls == 1 else torch.tensor(steps or 0)
        assert (drawn.calls <= most).all()
    assert drawn.log_weights is not None
    assert (drawn.log_weights == 0).all()


def test_calls_of_ancestral_steps() -> None:
    """Rows where nothing is revealed are not evaluated: N (1 − (1 − 1/N)^L) calls on average, to 1%."""
    model, steps, length = build("absorbing", "conditional", toy=TOYS["dense2x4"], network=wrong), 8, 4
    model.schedule = LogLinear(eps=1e-9)
    drawn = sample(model, 20_000, length=length, steps=steps, generator=draws())
    assert drawn.calls is not None
    want = steps * (1 - (1 - 1 / steps) ** length)
    assert float(drawn.calls.double().mean()) == pytest.approx(want, rel=0.01)


def test_default_steps() -> None:
    counts: list[int] = []
    sample(
        build("absorbing", "conditional"),
        2,
        length=3,
        generator=draws(),
        on_step=lambda step, total, state: counts.append(total),
    )
    assert len(counts) == counts[0] == DEFAULT_STEPS == 128


def test_one_step_is_the_product_of_marginals() -> None:
    """A single call: every position its own marginal, whatever the joint says."""
    model = build("absorbing", "conditional", toy=TOYS["repeat3x3"])
    drawn = sample(model, 100_000, length=3, sampler=Ancestral(), steps=1, generator=draws())
    marginal = np.array([1, 2, 3]) / 6
    law = np.multiply.outer(np.multiply.outer(marginal, marginal), marginal).reshape(-1)
    assert chi_square(counts_of(drawn.tokens, 3), law) > P_VALUE
    assert drawn.calls is not None
    assert (drawn.calls == 1).all()


def test_more_steps_than_times() -> None:
    """Beyond 1/t_min steps the grid has steps of no length; they change nothing."""
    model = build("absorbing", "conditional", toy=TOYS["dense2x4"], network=wrong, schedule=LogLinear(t_min=0.2))
    drawn = sample(model, 50, length=4, steps=30, generator=draws())
    assert drawn.tokens.max() < 2


# ---- temperature ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tau", [0.5, 2.0])
@pytest.mark.parametrize("process", ["absorbing", "uniform"])
def test_temperature_powers_each_draw(process: str, tau: float) -> None:
    """The denoiser becomes p^(1/τ), normalised; samples follow the law of that denoiser. 50,000 draws catch 2%."""
    model = build(process, "denoiser", network=wrong)
    cooled = Temperature(model, tau)
    state = torch.full((1, 3), model.process.num_states - 1)
    noise = torch.full((1, 1), 1.5, dtype=torch.float64)
    plain, tempered = (m.predict(state, noise).log_denoiser().exp() for m in (model, cooled))
    want = plain ** (1 / tau)
    torch.testing.assert_close(tempered, want / want.sum(-1, keepdim=True))
    law = clean_part(grid_law(cooled, Ancestral(), 3, 3), DENSE, model.process.num_states)
    drawn = sample(cooled, 50_000, length=3, steps=3, generator=draws(1)).tokens
    assert chi_square(counts_of(drawn, 3), law) > P_VALUE


def test_temperature_of_one_changes_nothing() -> None:
    model = build("absorbing", "score", network=wrong)
    for sampler in (Ancestral(), FirstHitting(), Ordered()):
        steps = 4 if sampler.takes_steps else None
        one, two = (
            sample(m, 40, length=3, sampler=sampler, steps=steps, generator=Keys(0, torch.arange(40)))
            for m in (model, Temperature(model, 1.0))
        )
        assert torch.equal(one.tokens, two.tokens)
        assert torch.equal(torch.as_tensor(one.calls), torch.as_tensor(two.calls))


def test_temperature_passes_the_model_through() -> None:
    model = build("absorbing", "denoiser")
    cooled = Temperature(model, 0.7)
    for name in ("process", "schedule", "time_conditioned", "dtype", "device"):
        assert getattr(cooled, name) == getattr(model, name)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_rows_where_all_is_given(sampler: str) -> None:
    """They come back as they are, without a network call, alone or beside a row that is free."""
    model, made = build("absorbing", "conditional"), SAMPLERS[sampler].make()
    tokens = torch.tensor([[0, 1, 2], [0, 0, 0]])
    given = torch.tensor([[True] * 3, [False] * 3])
    for rows in (torch.tensor([0]), torch.tensor([0, 1])):
        constraint = Clamp(tokens[rows], given[rows])
        drawn = sample(model, len(rows), sampler=made, constraint=constraint, generator=Keys(0, rows))
        assert drawn.tokens[0].tolist() == [0, 1, 2]
        assert drawn.calls is not None
        assert [bool(count) for count in drawn.calls] == [False, True][: len(rows)]
