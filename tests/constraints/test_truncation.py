"""Truncation: what it keeps, in what order it acts, and the laws of samplers under it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from discdiff.constraints import Allowed, Automaton, Clamp, Truncated, Unconstrained
from discdiff.constraints.truncated import truncate
from discdiff.errors import IncompatibleError
from discdiff.guidance import Temperature
from discdiff.languages import Language
from discdiff.model import Model
from discdiff.networks import Context, Network
from discdiff.pipeline import SamplingDefaults
from discdiff.prediction import DenoiserPrediction, Positions, Prediction, positions_of
from discdiff.randomness import Keys
from discdiff.samplers import AnyOrder, Confidence, EntropyBounded, GridSampler, Sampler
from discdiff.sampling import sample
from tests.cases import NO_DENOISER, SAMPLED, SAMPLERS, build, serves
from tests.forced import laws_by_order
from tests.laws import all_orders, clean_part, grid_law, revealed_law
from tests.toy_networks import Sure, Tabulated, Wrong
from tests.toys import (
    DENSE,
    P_VALUE,
    Array,
    Toy,
    caught_error,
    chi_square,
    counts_of,
    dense,
    every_sequence,
    total_variation,
)

DRAWS = 200_000


def wrong(toy: Toy, num_states: int) -> Network:
    return Tabulated(Wrong(toy, num_states), toy.length)


def cut(p: Array, top_k: int | None, top_p: float | None) -> Array:
    """By the definition, law by law: the top k, then the smallest set of likeliest tokens of mass at least p."""
    out = np.zeros_like(p)
    for index in np.ndindex(p.shape[:-1]):
        law = p[index]
        order = sorted(range(len(law)), key=lambda token: (-law[token], token))[:top_k]
        if top_p is not None:
            mass = law[order].sum()
            order = order[: next(n for n in range(1, len(order) + 1) if law[order[:n]].sum() >= top_p * mass - 1e-15)]
        out[index][order] = law[order] / law[order].sum()
    return out


# ---- what is kept ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("top_k", [None, 1, 2, 5, 9])
@pytest.mark.parametrize("top_p", [None, 1e-9, 0.3, 0.75, 0.999, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_against_the_definition(top_k: int | None, top_p: float | None, dtype: torch.dtype) -> None:
    """200 random laws of 6 tokens, peaked and flat."""
    draw = np.random.default_rng(0)
    p = np.concatenate([draw.dirichlet(np.full(6, a), size=100) for a in (0.3, 3.0)])
    found = truncate(torch.from_numpy(p).to(dtype).log(), top_k=top_k, top_p=top_p).exp().double().numpy()
    np.testing.assert_allclose(found, cut(p, top_k, top_p), atol=1e-12 if dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (1.0, 4)])
def test_the_crossing_token_is_kept(top_p: float, kept: int) -> None:
    """Masses 0.5, 0.75, 0.875, 1, exact in binary: the token that reaches p is in, the next is not."""
    log_p = torch.tensor([[0.125, 0.5, 0.125, 0.25]], dtype=torch.float64).log()
    assert int(truncate(log_p, top_p=top_p).isfinite().sum()) == kept


def test_ties_go_to_the_lower_number() -> None:
    even = torch.full((1, 4), 0.25).log()
    assert truncate(even, top_k=3).isfinite()[0].tolist() == [True, True, True, False]
    assert truncate(even, top_p=0.3).isfinite()[0].tolist() == [True, True, False, False]


def test_what_a_constraint_forbids_stays_out() -> None:
    """The cut is of the constrained law: the model's favourite forbidden, the likeliest of the rest is kept."""
    model = build("absorbing", "conditional", network=lambda toy, states: Sure(states, token=2))
    table = torch.tensor([[True, True, False]] * 3)
    drawn = sample(
        model, 200, length=3, constraint=Allowed(table), top_k=1, steps=2, generator=torch.Generator().manual_seed(0)
    )
    assert (drawn.tokens == 0).all()  # of two even tokens the first
    given = Clamp(torch.tensor([1, 0, 0]), torch.tensor([True, False, False]))
    drawn = sample(
        model, 200, length=3, constraint=given, top_p=0.01, steps=2, generator=torch.Generator().manual_seed(0)
    )
    assert (drawn.tokens == torch.tensor([1, 2, 2])).all()


def test_intersections_keep_the_cut() -> None:
    """Truncated & Allowed, in either order: the cut of the law under both."""
    model = build("absorbing", "conditional", network=lambda toy, states: Sure(states, token=2))
    first, second = Truncated(Unconstrained(), top_k=1), Allowed(torch.tensor([[True, True, False]] * 3))
    for joined in (first & second, second & first, first & (second & first)):
        drawn = sample(model, 50, length=3, constraint=joined, generator=torch.Generator().manual_seed(0))
        assert (drawn.tokens == 0).all()
        assert not isinstance(joined.untruncated, Truncated)


# ---- order of operations --------------------------------------------------------------------------------------------
def test_temperature_comes_first() -> None:
    """(0.4, 0.3, 0.2, 0.1) at τ = 1/2 is (0.53, 0.3, 0.13, 0.03): a mass of 0.5 is one token of it, two at τ = 1."""
    p = np.array([0.4, 0.3, 0.2, 0.1])
    model = build("absorbing", "conditional", toy=Toy("independent", np.multiply.outer(p, p)))
    generator = torch.Generator().manual_seed(0)
    for tau, kept in ((0.5, 1), (1.0, 2)):
        drawn = sample(Temperature(model, tau), 500, length=2, top_p=0.5, steps=1, generator=generator)
        assert len(drawn.tokens.unique()) == kept


# ---- laws -----------------------------------------------------------------------------------------------------------
class Cut(Temperature):
    """A model whose denoiser is cut by the definition above: what truncated steps draw from."""

    def __init__(self, model: Model, top_k: int | None, top_p: float | None) -> None:
        super().__init__(model, 1.0)
        self.top_k, self.top_p = top_k, top_p

    def predict(self, tokens: torch.Tensor, sigma: torch.Tensor, context: Context | None = None) -> Prediction:
        inner = super().predict(tokens, sigma, context)

        def log_p(where: Positions | None) -> torch.Tensor:
            return torch.from_numpy(cut(inner.log_denoiser(where).exp().numpy(), self.top_k, self.top_p)).log()

        return DenoiserPrediction(inner.process, tokens, sigma, None, log_p=log_p, calls=lambda: inner.calls)


Numbers = tuple[int | None, float | None]
TRUNCATIONS: list[Numbers] = [(2, None), (None, 0.7), (2, 0.7)]


def follows(law: Array, model: Model, sampler: Sampler, steps: int | None, truncation: Numbers) -> bool:
    """Whether 200,000 draws follow a law; p > 1e-4 catches 1%, and what the cut forbids must not occur."""
    assert law.sum() == pytest.approx(1, abs=1e-12)
    assert caught_error(DRAWS, 27) < 0.01
    drawn = sample(
        model,
        DRAWS,
        length=3,
        sampler=sampler,
        steps=steps,
        top_k=truncation[0],
        top_p=truncation[1],
        generator=torch.Generator().manual_seed(5),
    )
    return chi_square(counts_of(drawn.tokens, 3), law) > P_VALUE


@pytest.mark.parametrize("truncation", TRUNCATIONS, ids=str)
@pytest.mark.parametrize("sampler", ["ancestral", "euler"])
@pytest.mark.parametrize("process", ["absorbing", "uniform"])
def test_grid_samplers(process: str, sampler: str, truncation: Numbers) -> None:
    model, made = build(process, "denoiser", network=wrong), SAMPLERS[sampler].make()
    assert isinstance(made, GridSampler)
    laws = [
        clean_part(grid_law(m, made, 4, 3), DENSE, model.process.num_states) for m in (Cut(model, *truncation), model)
    ]
    assert total_variation(*laws) > 0.05
    assert follows(laws[0], model, made, 4, truncation)


@pytest.mark.parametrize("truncation", TRUNCATIONS, ids=str)
@pytest.mark.parametrize("sampler", ["first_hitting", "ordered", "any_order", "left_to_right"])
def test_samplers_by_order(sampler: str, truncation: Numbers) -> None:
    model = build("absorbing", "conditional", network=wrong)
    orders = [(0, 1, 2)] if sampler == "left_to_right" else all_orders(3)
    law = revealed_law(Cut(model, *truncation), DENSE, orders)
    assert follows(law, model, SAMPLERS[sampler].make(), None, truncation)


def test_blocks() -> None:
    model = build("absorbing", "conditional", network=wrong)
    law = laws_by_order(Cut(model, None, 0.7), AnyOrder(), DENSE, steps=2).mean(0)
    assert follows(law, model, AnyOrder(), 2, (None, 0.7))


def surest_first(model: Model, top_k: int | None, top_p: float | None, *, of_cut: bool = False) -> Array:
    """One position a call by the largest probability of the whole law, the token from the cut one: all paths.

    `of_cut`: the position, too, by the cut law.
    """
    states = torch.from_numpy(every_sequence(4, 3))
    p = model.predict(states, torch.ones(64, 1, dtype=torch.float64)).log_denoiser().exp().numpy()
    law: dict[tuple[int, ...], float] = {(3, 3, 3): 1.0}
    for _ in range(3):
        after: dict[tuple[int, ...], float] = {}
        for state, chance in law.items():
            whole = p[np.ravel_multi_index(state, (4, 4, 4))]
            drawn = cut(whole, top_k, top_p)
            sure = (drawn if of_cut else whole).max(-1)
            position = max((i for i in range(3) if state[i] == 3), key=lambda i: sure[i])
            for token, weight in enumerate(drawn[position]):
                moved = tuple(token if i == position else old for i, old in enumerate(state))
                after[moved] = after.get(moved, 0.0) + chance * float(weight)
        law = after
    return np.array([law.get(tuple(row), 0.0) for row in DENSE.sequences.tolist()])


@pytest.mark.parametrize("truncation", [*TRUNCATIONS, (1, None)], ids=str)
def test_confidence_is_of_the_whole_law(truncation: Numbers) -> None:
    """Under the cut one all positions may look certain (k = 1), and the order would be left to right."""
    model = build("absorbing", "conditional", toy=dense(3, 3, seed=3), network=wrong)
    law = surest_first(model, *truncation)
    if truncation != (2, 0.7):
        assert total_variation(law, surest_first(model, *truncation, of_cut=True)) > 0.05
    assert follows(law, model, Confidence(), None, truncation)


def test_entropy_bound_is_of_the_whole_law() -> None:
    """k = 1 leaves no entropy; the calls are those of the whole law."""
    model, seen = build("absorbing", "conditional", network=wrong), []
    for top_k in (None, 1):
        drawn = sample(
            model, 1, length=3, sampler=EntropyBounded(0.5), top_k=top_k, generator=torch.Generator().manual_seed(0)
        )
        assert drawn.calls is not None
        seen.append(int(drawn.calls))
    assert seen[1] > 1


# ---- rows, refusals -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_rows_stand_alone(sampler: str) -> None:
    """With keys a row's tokens are the same alone, under a clamp of its own (which `index` must follow)."""
    model, made, rows = build("absorbing", "conditional", network=Wrong), SAMPLERS[sampler].make(), torch.arange(9)
    tokens, given = rows[:, None].expand(-1, 3) % 3, torch.arange(3).expand(9, -1) == rows[:, None] % 3

    def run(chosen: torch.Tensor) -> torch.Tensor:
        constraint = Clamp(tokens[chosen], given[chosen])
        steps = 3 if isinstance(made, GridSampler) else None
        return sample(
            model, len(chosen), sampler=made, steps=steps, constraint=constraint, top_p=0.8, generator=Keys(1, chosen)
        ).tokens

    whole = run(rows)
    for i in rows.split(1):
        assert torch.equal(run(i), whole[i])
    index = torch.tensor([2, 0, 2])
    cut_rows = Truncated(Clamp(tokens, given), top_k=2, top_p=0.5).index(index)
    assert (cut_rows.top_k, cut_rows.top_p) == (2, 0.5)
    assert torch.equal(cut_rows.given(3, 3)[1], given[index])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k: got 0, expected at least 1"),
        ({"top_p": 0.0}, "top_p: got 0.0, expected above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p: got 1.5, expected above 0"),
        ({"top_p": float("nan")}, "top_p: got nan, expected above 0"),
    ],
)
def test_numbers_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(IncompatibleError, match=re.escape(message)):
        sample(build("absorbing", "conditional"), 2, length=3, generator=torch.Generator(), **options)  # type: ignore[arg-type]
    with pytest.raises(IncompatibleError, match=re.escape(message)):
        SamplingDefaults(**options)  # type: ignore[arg-type]


PLANS = [(*model, name) for model in SAMPLED for name, case in SAMPLERS.items() if serves(case, model[0])]


@pytest.mark.parametrize(("process", "parameterization", "sampler"), PLANS)
def test_every_model(process: str, parameterization: str, sampler: str) -> None:
    """Every model with a denoiser can be cut; the others refuse. `top_p` = 1 and `top_k` = V change nothing."""
    model, made = build(process, parameterization, network=wrong), SAMPLERS[sampler].make()
    steps = 3 if isinstance(made, GridSampler) else None

    def run(**options: float) -> torch.Tensor:
        keys = Keys(0, torch.arange(40))
        return sample(model, 40, length=3, sampler=made, steps=steps, generator=keys, **options).tokens  # type: ignore[arg-type]

    if (process, parameterization) in NO_DENOISER:
        with pytest.raises(IncompatibleError, match=r"(truncation of, the draw of x0|Uniformization sampler): got"):
            run(top_p=0.9)
        return
    plain = run()
    assert torch.equal(run(top_p=1.0, top_k=3), plain)
    assert SAMPLERS[sampler].random != torch.equal(run(top_p=0.5), plain)


def test_a_cut_that_leaves_nothing_goes_and_the_tilt_stays() -> None:
    """1 somewhere, beside a cut that keeps 0 alone: drawn from the denoiser times the tilt, given what is asked."""
    table = np.array([0.7, 0.2, 0.1])
    joint = np.einsum("a,b,c->abc", table, table, table)
    model = build("absorbing", "conditional", toy=Toy("independent", joint))
    count = 5_000
    language = Automaton(Language.of([[0, 1, 0], [1, 1, 1]], [False, True], [0, 1, 2]))
    constraint = Truncated(language, top_k=1).bound(torch.full((count,), 3))
    prediction = model.predict(torch.full((count, 3), 3), torch.ones(count, 1))
    where = positions_of(torch.ones(count, 3, dtype=torch.bool))
    assert (constraint.log_marginals(prediction, where).argmax(-1) == 0).all()
    u = torch.rand(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = constraint.draw(prediction, where, u, tilt=torch.tensor([1.0, 1.0, 30.0]).log().expand(3 * count, 3))
    tilted = np.array([0.7, 0.2, 3.0]) / 3.9
    with_one = 1 - (1 - tilted[1]) ** 3
    without_two = (tilted[0] + tilted[1]) ** 3 - tilted[0] ** 3
    assert (drawn.view(count, 3) == 1).any(1).all()
    found = float((drawn.view(count, 3) == 2).any(1).double().mean())
    assert found == pytest.approx(1 - without_two / with_one, abs=0.02)  # four standard errors
