"""O17: what the plain sampler may do the weighed one may do too, however unlikely, on every kind of model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import discdiff as dd
from discdiff.constraints import Automaton, Checked, Clamp
from discdiff.errors import DiscdiffWarning, IncompatibleError
from discdiff.languages import compile_expression, count, regex
from discdiff.model import Diffusion
from discdiff.networks.exact import Exact
from discdiff.samplers import Ancestral, Euler, GridSampler, PredictorCorrector, RungeKutta2, Trapezoidal
from tests.cases import SPARSE, automaton, build, ends_alike
from tests.laws import clean_part, grid_law
from tests.toys import Array, Integers, Toy, counts_of, dense, repeat

pytestmark = pytest.mark.filterwarnings("ignore:.*no particle has any weight")

WORDS = {4: (16, 14, 18, 3, 5, 25, 2), 5: (22, 15, 12, 10, 8, 14, 25)}
"""Of the 27 sequences of three tokens, by the seed of a table."""


def uneven(seed: int) -> Toy:
    """Three tokens that depend on one another strongly: most sequences are rare."""
    joint = np.random.default_rng(seed).gamma(0.3, size=(3, 3, 3)) + 1e-3
    return Toy(f"uneven{seed}", joint / joint.sum())


def one_of(words: Integers) -> Automaton:
    """Words of three tokens each, int `[N, 3]`."""
    written = "|".join("".join("abc"[token] for token in word) for word in words)
    return Automaton(compile_expression(regex(written, "abc"), 3))


def mean_weight(model: Diffusion, sampler: GridSampler, steps: int, toy: Toy, seed: int) -> tuple[Array, float]:
    """Weights of samples, and the probability that the plain sampler gives one of the words."""
    law = clean_part(grid_law(model, sampler, steps, 3), toy, model.process.num_states)
    words = one_of(toy.sequences[list(WORDS[seed])])
    drawn = dd.sample(
        model, 10_000, length=3, sampler=sampler, steps=steps, constraint=words, particles=8,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    assert drawn.log_weights is not None
    counts = counts_of(drawn.tokens, 3)
    assert counts[list(WORDS[seed])].sum() == counts.sum()
    return drawn.log_weights.exp().numpy(), float(law[list(WORDS[seed])].sum())


@pytest.mark.parametrize("seed", WORDS)
def test_what_a_second_leap_cuts_may_come_later(seed: int) -> None:
    """Where only tokens are accepted that (a p_ρ − b p_t)₊ cuts, a later step may draw them."""
    weights, probability = mean_weight(
        build("absorbing", "conditional", toy=uneven(seed)), Trapezoidal(0.3), 5, uneven(seed), seed
    )
    error = weights.std() / len(weights) ** 0.5
    assert error < 0.004 * probability
    assert abs(weights.mean() - probability) < 4 * error


def test_what_the_middle_of_a_leap_says_may_be_impossible_at_its_start() -> None:
    """Most sequences never occur: of a middle that cannot, a network says anything."""
    draw = np.random.default_rng(1)
    joint = draw.gamma(1.0, size=(3, 3, 3)) * (draw.random((3, 3, 3)) < 0.25)
    toy, kept = Toy("sparse", joint / joint.sum()), [0, 3, 9, 11, 18, 24]
    model, sampler = build("absorbing", "conditional", toy=toy), RungeKutta2(0.3)
    probability = clean_part(grid_law(model, sampler, 5, 3), toy, 4)[kept].sum()
    out = dd.sample(
        model, 20_000, length=3, sampler=sampler, steps=5, constraint=one_of(toy.sequences[kept]), particles=4,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert out.log_weights is not None
    weights = out.log_weights.exp().numpy()
    assert abs(weights.mean() - probability) < 4 * weights.std() / 20_000**0.5


@pytest.mark.parametrize("particles", [1, 4])
def test_second_leaps_to_states_that_are_left_for_good_are_refused(particles: int) -> None:
    """At most one a: each of two positions may leap to a, where it stays."""
    toy = dense(3, 4)
    process = SPARSE["transient"].make(3)
    model = Diffusion(Exact(torch.from_numpy(toy.joint), 3), process, dd.LogLinear(), dd.Denoiser())
    options = {"length": 4, "steps": 9, "sampler": RungeKutta2(), "particles": particles}
    with pytest.raises(IncompatibleError, match="RateMatrix with states that cannot be entered again"):
        dd.sample(
            model, 50, constraint=Automaton(count([0], 0, 1, 3)), generator=torch.Generator(), **options  # type: ignore[arg-type]
        )  # fmt: skip
    clamp = Clamp(torch.tensor([0, 0, 0, 0]), torch.tensor([True, True, False, False]))
    assert (dd.sample(model, 50, constraint=clamp, generator=torch.Generator(), **options).tokens[:, :2] == 0).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", [Ancestral(), Euler(), Trapezoidal(), RungeKutta2()])
def test_scores_are_steered_by_rewards(sampler: GridSampler) -> None:
    """Off the absorbing process a score is not read as a denoiser: the samples' rewards count, and nothing ahead."""
    toy = dense(3, 3)
    model = build("uniform", "score", toy=toy)
    out = dd.sample(
        model, 20_000, length=3, sampler=sampler, steps=9, particles=4,
        reward=dd.Reward(lambda rows: (rows.tokens == 1).sum(-1).double(), 0.5),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    law = grid_law(model, sampler, 9, 3)
    assert out.log_weights is not None
    weights, found = np.exp(0.5 * (toy.sequences == 1).sum(-1)), out.log_weights.exp().numpy()
    assert abs(found.mean() - law @ weights) < 4 * found.std() / 20_000**0.5


def test_a_population_without_weight_has_size_zero_through_final_sweeps() -> None:
    """c never occurs and is asked for."""
    joint = np.zeros((3, 3))
    joint[:2, :2] = [[0.1, 0.2], [0.3, 0.4]]
    model = Diffusion(Exact(torch.from_numpy(joint), 3), dd.Uniform(3), dd.LogLinear(), dd.LeaveOneOut())
    with pytest.warns(DiscdiffWarning, match="no particle has any weight"):
        out = dd.sample(
            model, 3, length=2, steps=3, sampler=PredictorCorrector(Ancestral(), final_sweeps=1), particles=4,
            constraint=Automaton(count([2], 1, None, 3)), generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
    assert out.effective is not None
    assert out.effective.tolist() == [0.0] * 3


def test_moves_among_what_never_occurs_have_weights_that_are_numbers() -> None:
    """aaa, bbb or ccc: two positions revealed in one step mostly differ, and then no token fits the others."""
    model = build("absorbing", "conditional", toy=repeat(3, 3))
    sampler = PredictorCorrector(Ancestral(), sweeps=1, final_sweeps=0)
    out = dd.sample(
        model, 5000, length=3, steps=4, sampler=sampler, constraint=automaton(3, 3), particles=8,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert out.log_weights is not None
    assert out.effective is not None
    assert not bool(torch.isnan(out.log_weights).any() | torch.isnan(out.effective).any())
    assert float(out.log_weights.max()) <= 0


def test_a_second_leap_under_a_check_is_drawn_more_freely_where_it_must() -> None:
    """The likeliest tokens that a leap expects may pass no check: then what the start of the step says counts."""
    out = dd.sample(
        build("absorbing", "conditional"), 2000, length=3, sampler=RungeKutta2(0.3), steps=7, top_k=1,
        constraint=Checked(ends_alike, tries=3, first=512), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert bool(ends_alike(out).all())
