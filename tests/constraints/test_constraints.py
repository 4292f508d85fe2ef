"""Constraints: what is given, what is allowed, what conflicts, what is refused before anything runs."""

from __future__ import annotations

import pytest
import torch

from discdiff.constraints import Allowed, Both, Clamp, Constraint, Unconstrained
from discdiff.errors import DiscdiffError, EmptyLanguageError, IncompatibleError
from discdiff.prediction import Positions, positions_of
from discdiff.sampling import sample
from tests.cases import CONSTRAINTS, ConstraintCase, build
from tests.toys import DENSE


def clamp(*tokens: int | None) -> Clamp:
    """A clamp of the tokens that are not None."""
    return Clamp(torch.tensor([t or 0 for t in tokens]), torch.tensor([t is not None for t in tokens]))


def allowed(*sets: set[int], vocab_size: int = 3) -> Allowed:
    return Allowed(torch.tensor([[token in choice for token in range(vocab_size)] for choice in sets]))


def everywhere(rows: int, length: int) -> Positions:
    return positions_of(torch.ones(rows, length, dtype=torch.bool))


def draw(constraint: Constraint, batch: int = 6, **options: object) -> torch.Tensor:
    model = build("absorbing", "conditional")
    generator = torch.Generator().manual_seed(0)
    return sample(model, batch, constraint=constraint, steps=3, generator=generator, **options).tokens  # type: ignore[arg-type]


# ---- every constraint -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", CONSTRAINTS.values(), ids=CONSTRAINTS)
def test_interface(case: ConstraintCase) -> None:
    """Shapes and dtypes; a position that is given allows its token and no other is drawn there."""
    constraint = case.make(3, 4)
    constraint.check(vocab_size=3, length=4)
    tokens, frozen = constraint.given(5, 4)
    assert tokens.shape == frozen.shape == (5, 4)
    assert tokens.dtype == torch.int64
    assert frozen.dtype == torch.bool
    assert (tokens[~frozen] == 0).all()
    assert constraint.restricts_draws == case.needs_denoiser
    same, still = constraint.index(torch.tensor([3, 0])).given(2, 4)
    assert torch.equal(same, tokens[:2])
    assert torch.equal(still, frozen[:2])


@pytest.mark.parametrize("case", [c for c in CONSTRAINTS.values() if c.fixes_length])
def test_length_is_fixed(case: ConstraintCase) -> None:
    constraint = case.make(3, 4)
    assert constraint.length == 4
    with pytest.raises(IncompatibleError, match=r"Constraint length: got 5 positions, expected 4\."):
        constraint.check(vocab_size=3, length=5)


@pytest.mark.parametrize("case", [CONSTRAINTS["allowed"], CONSTRAINTS["both"]])
def test_marginals_and_draws(case: ConstraintCase) -> None:
    """Marginals are normalised and zero outside the sets; draws follow them exactly, over a grid of u."""
    constraint, size = case.make(3, 3), 900
    model = build("absorbing", "conditional")
    state = torch.full((size, 3), 3)
    prediction = model.predict(state, torch.ones(size, 1, dtype=torch.float64))
    where = everywhere(size, 3)
    marginals = constraint.log_marginals(prediction, where).exp().reshape(size, 3, 3)
    free = prediction.log_denoiser().exp()
    table = constraint.allowed_at(where)  # type: ignore[attr-defined]
    cut = free * table.reshape(size, 3, 3)
    torch.testing.assert_close(marginals, cut / cut.sum(-1, keepdim=True))
    u = ((torch.arange(size, dtype=torch.float64) + 0.5) / size)[:, None].expand(-1, 3)
    drawn = constraint.draw(prediction, where, u).reshape(size, 3)
    shares = torch.nn.functional.one_hot(drawn, 3).double().mean(0)
    torch.testing.assert_close(shares, marginals[0], atol=2 / size, rtol=0)


def test_sets_without_any_mass_still_hold() -> None:
    """Where the model is sure of a token that is not allowed, the allowed ones are equally likely."""
    constraint = allowed({0, 2}, {0, 1, 2}, {0, 1, 2})
    model = build("absorbing", "conditional")
    state = torch.tensor([[1, 3, 3]])  # unmasked: its denoiser is certain of token 1
    where = everywhere(1, 3)
    marginals = constraint.log_marginals(model.predict(state, torch.ones(1, 1)), where).exp()
    assert marginals[0].tolist() == [0.5, 0.0, 0.5]


def test_tilt_multiplies_the_law() -> None:
    constraint, size = allowed({0, 1}, {0, 1, 2}, {0, 1, 2}), 3000
    model = build("absorbing", "conditional")
    prediction = model.predict(torch.full((size, 3), 3), torch.ones(size, 1, dtype=torch.float64))
    where = (torch.arange(size), torch.zeros(size, dtype=torch.int64))
    tilt = torch.tensor([2.0, 0.5, 9.0], dtype=torch.float64).log().expand(size, -1)
    u = ((torch.arange(size, dtype=torch.float64) + 0.5) / size)[:, None].expand(-1, 3)
    drawn = constraint.draw(prediction, where, u, tilt=tilt)
    weights = prediction.log_denoiser()[0, 0].exp() * torch.tensor([2.0, 0.5, 0.0])
    share = float((drawn == 0).double().mean())
    assert share == pytest.approx(float(weights[0] / weights.sum()), abs=2 / size)


# ---- tables for each row --------------------------------------------------------------------------------------------
def test_clamp_for_each_row() -> None:
    tokens = torch.arange(6)[:, None].expand(-1, 3) % 3
    given = torch.tensor([True, False, True]).expand(6, -1)
    drawn = draw(Clamp(tokens, given))
    assert torch.equal(drawn[:, [0, 2]], tokens[:, [0, 2]])


def test_allowed_for_each_row() -> None:
    table = torch.ones(6, 3, 3, dtype=torch.bool)
    table[::2, 1, 0] = False
    table[1::2, 1, 1:] = False
    drawn = draw(Allowed(table))
    assert (drawn[::2, 1] != 0).all()
    assert (drawn[1::2, 1] == 0).all()


def test_both_with_tables_for_each_row() -> None:
    """A clamp for each row and one set for all; row 4's clamp meets the set, which another row's would not."""
    tokens = torch.tensor([[0], [1], [2], [0], [1], [2]]).expand(-1, 3)
    given = torch.tensor([True, False, False]).expand(6, -1)
    both = Clamp(tokens, given) & allowed({0, 1, 2}, {1, 2}, {0})
    drawn = draw(both)
    assert torch.equal(drawn[:, 0], tokens[:, 0])
    assert (drawn[:, 1] != 0).all()
    assert (drawn[:, 2] == 0).all()
    picked = both.index(torch.tensor([5, 1]))
    assert picked.given(2, 3)[0][:, 0].tolist() == [2, 1]
    with pytest.raises(EmptyLanguageError, match="position 1: one constraint gives a token that the other forbids"):
        (Clamp(tokens, given) & allowed({0, 1}, {1, 2}, {0})).check(vocab_size=3, length=3)


@pytest.mark.parametrize(
    "constraint",
    [
        Clamp(torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bool)),
        Allowed(torch.ones(2, 3, 3, dtype=torch.bool)),
        Allowed(torch.ones(2, 3, 3, dtype=torch.bool)) & clamp(0, None, None),
    ],
)
def test_rows_must_fit_the_batch(constraint: Constraint) -> None:
    with pytest.raises(IncompatibleError, match=r"got 2 rows, expected 1 or 6"):
        draw(constraint)


def test_rows_of_two_constraints_must_fit() -> None:
    two, three = torch.ones(2, 3, 3, dtype=torch.bool), torch.ones(3, 3, 3, dtype=torch.bool)
    with pytest.raises(IncompatibleError, match="got tables of 2 and 3 rows"):
        Allowed(two) & Allowed(three)


# ---- intersections --------------------------------------------------------------------------------------------------
def test_a_single_token_in_common_is_given() -> None:
    """{0, 1} and {1, 2} leave one token, which is clamped as if it had been written down."""
    both = allowed({0, 1}, {0, 1, 2}, {0, 1, 2}) & allowed({1, 2}, {0, 1, 2}, {0, 1, 2})
    tokens, frozen = both.given(2, 3)
    assert frozen.tolist() == [[True, False, False]] * 2
    assert tokens[:, 0].tolist() == [1, 1]
    assert not both.restricts_draws
    assert (draw(both)[:, 0] == 1).all()


def test_clamps_may_cover_all_sets() -> None:
    """Nothing restricted is left to draw: a score network off the absorbing process takes it."""
    both = allowed({0, 1}, {0, 1, 2}, {0, 1, 2}) & clamp(1, None, None)
    assert not both.restricts_draws
    model = build("uniform", "score")
    drawn = sample(model, 5, constraint=both, steps=2, generator=torch.Generator().manual_seed(0)).tokens
    assert (drawn[:, 0] == 1).all()


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (clamp(0, 1, None), clamp(0, 2, None), "position 2: the two constraints give different tokens"),
        (clamp(None, None, 0), allowed({0}, {1}, {1, 2}), "position 3: one constraint gives a token that the other"),
        (allowed({0}, {1}, {1, 2}), clamp(None, None, 0), "position 3: one constraint gives a token that the other"),
        (allowed({0, 1}, {0, 1}, {1}), allowed({0}, {2}, {1}), "position 2: one constraint gives a token that the"),
        (
            allowed({0}, {0, 1}, {1}, vocab_size=4),
            allowed({0}, {2, 3}, {1}, vocab_size=4),
            "position 2: the two sets of allowed tokens have nothing in common",
        ),
    ],
)
def test_conflicts_are_named(first: Clamp, second: Clamp, message: str) -> None:
    for both in (first & second, second & first):
        with pytest.raises(EmptyLanguageError, match=message):
            both.check(vocab_size=4 if "nothing" in message else 3, length=3)


def test_conflicts_are_found_before_the_network_runs() -> None:
    with pytest.raises(EmptyLanguageError, match="position 2"):
        draw(clamp(0, 1, None) & clamp(0, 2, None))


def test_three_constraints() -> None:
    three = clamp(0, None, None) & allowed({0, 1}, {0, 1}, {0, 1, 2}) & clamp(None, None, 2)
    drawn = draw(three)
    assert (drawn[:, 0] == 0).all()
    assert (drawn[:, 1] < 2).all()
    assert (drawn[:, 2] == 2).all()


def test_lengths_must_agree() -> None:
    with pytest.raises(IncompatibleError, match="lengths 3 and 2"):
        clamp(0, None, None) & clamp(0, None)
    assert (Unconstrained() & clamp(0, None)).length == 2


def test_other_constraints_do_not_combine() -> None:
    class Whole(Unconstrained):
        __and__ = Constraint.__and__

    with pytest.raises(IncompatibleError, match="Whole & Clamp"):
        Whole() & clamp(0)
    assert isinstance(clamp(0) & clamp(0), Both)


# ---- refused --------------------------------------------------------------------------------------------------------
def test_empty_set_is_refused() -> None:
    with pytest.raises(EmptyLanguageError, match="position 2: no token is allowed"):
        allowed({0}, set(), {1})


@pytest.mark.parametrize("table", [torch.ones(3, 3), torch.ones(3, dtype=torch.bool)])
def test_allowed_must_be_a_table(table: torch.Tensor) -> None:
    with pytest.raises(DiscdiffError, match=r"expected bool \[L, V\] or \[B, L, V\]"):
        Allowed(table)


def test_clamp_must_be_in_shape() -> None:
    with pytest.raises(DiscdiffError, match=r"Clamp: got tokens \[3\] and given \[2\]"):
        Clamp(torch.zeros(3, dtype=torch.int64), torch.ones(2, dtype=torch.bool))


@pytest.mark.parametrize("token", [3, -1])
def test_clamp_holds_content_tokens_only(token: int) -> None:
    """Neither the mask nor a stray number; where nothing is given, values are ignored."""
    with pytest.raises(IncompatibleError, match=rf"got token {token}, expected content tokens 0\.\.2"):
        draw(clamp(token, None, None))
    ignored = Clamp(torch.tensor([token, 1, 1]), torch.tensor([False, True, False]))
    assert (draw(ignored)[:, 1] == 1).all()


def test_vocabulary_must_fit() -> None:
    with pytest.raises(IncompatibleError, match="Allowed: got 4 tokens, expected 3"):
        draw(allowed({0}, {1}, {2}, vocab_size=4))


def test_exhaustive_constraint_costs_no_call() -> None:
    """Where all is given, the network is not asked."""
    model = build("absorbing", "conditional")
    for steps in (1, 4):
        drawn = sample(model, 3, constraint=clamp(0, 1, 2), steps=steps, generator=torch.Generator().manual_seed(0))
        assert drawn.tokens.tolist() == [[0, 1, 2]] * 3
        assert drawn.calls is not None
        assert (drawn.calls == 0).all()
    assert DENSE.vocab_size == 3
