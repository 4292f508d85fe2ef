"""Automata: totals, marginals and draws against enumeration of ∏ p_i · 1[accepted]."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from discdiff.constraints import Allowed, Automaton, Clamp, Truncated
from discdiff.errors import EmptyLanguageError, IncompatibleError
from discdiff.languages import Language, avoids, contains, count, nothing, span_of_lengths
from discdiff.prediction import DenoiserPrediction, Positions, positions_of
from discdiff.processes import Absorbing
from discdiff.samplers import Ancestral, Argmax
from discdiff.sampling import sample
from tests.cases import build
from tests.toys import Array

V, L = 3, 4


def said(p: Array, dtype: torch.dtype = torch.float64) -> DenoiserPrediction:
    """A prediction of all masks that says p `[B, L, V]`."""
    log_p = torch.from_numpy(p).log().to(dtype)
    rows, length = p.shape[:2]
    return DenoiserPrediction(
        Absorbing(p.shape[2]),
        torch.full((rows, length), p.shape[2]),
        torch.ones(rows, 1, dtype=dtype),
        None,
        log_p=lambda where: log_p if where is None else log_p[where],
        calls=lambda: torch.ones(rows, dtype=torch.int64),
    )


def enumerated(
    language: Language, p: Array, allowed: npt.NDArray[np.bool_] | None = None
) -> dict[tuple[int, ...], float]:
    """∏ p_i(x_i) of each accepted x of one row `[n, V]`, the sets cut and normalised first."""
    if allowed is not None:
        p = p * allowed
        p = p / p.sum(-1, keepdims=True)
    every = itertools.product(range(p.shape[1]), repeat=len(p))
    return {x: float(np.prod([p[i, t] for i, t in enumerate(x)])) for x in every if language.accepts(x)}


def marginals(law: dict[tuple[int, ...], float], length: int, size: int) -> Array:
    out = np.zeros((length, size))
    for x, weight in law.items():
        out[np.arange(length), list(x)] += weight
    return np.asarray(out / sum(law.values()))


@st.composite
def languages(draw: st.DrawFn) -> Language:
    states, classes = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    row = st.lists(st.integers(-1, states - 1), min_size=classes, max_size=classes)
    table = draw(st.lists(row, min_size=states, max_size=states))
    final = draw(st.lists(st.booleans(), min_size=states, max_size=states))
    of_token = draw(st.lists(st.integers(0, classes - 1), min_size=V, max_size=V))
    return Language.of(table, final, of_token)


def everywhere(lengths: torch.Tensor) -> Positions:
    return positions_of(torch.arange(int(lengths.max())) < lengths[:, None])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@given(languages(), st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 5.0]), st.booleans())
def test_against_enumeration(dtype: torch.dtype, language: Language, seed: int, flat: float, sets: bool) -> None:
    """Random automata, laws from peaked to flat, sets at positions, rows of several lengths: 1e-12 (1e-5)."""
    draw = np.random.default_rng(seed)
    p = draw.dirichlet(np.full(V, flat), size=(6, L)) * (1 - 3e-6) + 1e-6
    allowed = draw.uniform(size=(L, V)) < 0.7 if sets else np.ones((L, V), dtype=bool)
    allowed[np.arange(L), draw.integers(V, size=L)] = True
    possible = [n for n in range(1, L + 1) if sum(enumerated(language, p[0, :n], allowed[:n]).values()) > 0]
    if sets:
        possible = [n for n in possible if n == L]
    if not possible:
        return
    lengths = torch.from_numpy(draw.choice(possible, size=6))
    width = int(lengths.max())
    within = Allowed(torch.from_numpy(allowed)) if sets else None
    constraint = Automaton(language, within).bound(lengths)
    prediction = said(p[:, :width], dtype)
    where = everywhere(lengths)
    found = torch.zeros(6, width, V, dtype=torch.float64)
    found[where] = constraint.log_marginals(prediction, where).double().exp()
    totals = constraint.log_total(prediction)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    known, frozen = constraint.given(6, width)
    for b, n in enumerate(lengths.tolist()):
        law = enumerated(language, p[b, :n], allowed[:n])
        total = np.log(sum(law.values())) + (np.log((p[b, :n] * allowed[:n]).sum(-1)).sum() if sets else 0.0)
        np.testing.assert_allclose(float(totals[b]), total, atol=10 * tolerance, rtol=tolerance)
        np.testing.assert_allclose(found[b, :n].numpy(), marginals(law, n, V), atol=tolerance)
        # what is given is what all accepted sequences share
        support = {i: {x[i] for x, weight in law.items() if weight > 0} for i in range(n)}
        assert {i: int(known[b, i]) for i in range(n) if frozen[b, i]} == {
            i: next(iter(tokens)) for i, tokens in support.items() if len(tokens) == 1
        }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@given(languages(), st.integers(0, 2**31))
def test_draws_on_a_grid(dtype: torch.dtype, language: Language, seed: int) -> None:
    """u on a grid of 24^3: shares of sequences equal the law to within the grid, exactly, without chance."""
    draw = np.random.default_rng(seed)
    p = draw.dirichlet(np.full(V, 1.0), size=3)
    law = enumerated(language, p)
    if not law:
        return
    side = 24
    axis = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    u = torch.cartesian_prod(axis, axis, axis)
    rows = len(u)
    constraint = Automaton(language).bound(torch.full((rows,), 3))
    prediction = said(np.broadcast_to(p, (rows, 3, V)).copy(), dtype)
    drawn = constraint.draw(prediction, everywhere(torch.full((rows,), 3)), u).reshape(rows, 3)
    seen: dict[tuple[int, ...], float] = dict.fromkeys(law, 0.0)
    for x in map(tuple, drawn.tolist()):
        assert x in law
        seen[x] += 1 / rows
    z = sum(law.values())
    for x, weight in law.items():
        assert seen[x] == pytest.approx(weight / z, abs=3.5 / side)
    # marginals of the first position are read off one axis alone
    first = np.bincount(drawn[:, 0].numpy(), minlength=V) / rows
    np.testing.assert_allclose(first, marginals(law, 3, V)[0], atol=2 / side)


LANGUAGE = avoids([[{2}, {2}]], V) & count({0}, 1, 2, V)


def law_of(tokens: torch.Tensor) -> dict[tuple[int, ...], float]:
    values, counts = tokens.unique(dim=0, return_counts=True)
    return {tuple(x): int(c) / len(tokens) for x, c in zip(values.tolist(), counts, strict=True)}


def drawn_law(
    constraint: Automaton | Truncated, p: Array, dtype: torch.dtype, tilt: Array | None = None
) -> dict[tuple[int, ...], float]:
    rows, n = 40_000, len(p)
    lengths = torch.full((rows,), n)
    u = torch.rand(rows, n, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    where = everywhere(lengths)
    tilts = None if tilt is None else torch.from_numpy(np.broadcast_to(tilt, (rows, n, V)).copy()).reshape(-1, V)
    prediction = said(np.broadcast_to(p, (rows, n, V)).copy(), dtype)
    return law_of(constraint.bound(lengths).draw(prediction, where, u, tilt=tilts).reshape(rows, n))


def distance(found: dict[tuple[int, ...], float], law: dict[tuple[int, ...], float]) -> float:
    z = sum(law.values())
    assert set(found) <= {x for x, w in law.items() if w > 0}
    return 0.5 * sum(abs(found.get(x, 0.0) - w / z) for x, w in law.items())


SURE = np.array([[1e-30, 1e-12, 1.0], [1e-36, 1e-30, 1.0], [1e-25, 1e-37, 1.0], [1e-33, 1e-20, 1.0]]) ** 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_near_certain_models(dtype: torch.dtype) -> None:
    """A model sure of what is forbidden: float32 underflows, logarithms take over. TV < 0.02 of 40,000 draws."""
    law = enumerated(LANGUAGE, SURE)
    rows = 3
    constraint = Automaton(LANGUAGE).bound(torch.full((rows,), L))
    prediction = said(np.broadcast_to(SURE, (rows, L, V)).copy(), dtype)
    where = everywhere(torch.full((rows,), L))
    np.testing.assert_allclose(constraint.log_total(prediction).numpy(), np.log(sum(law.values())), rtol=1e-6)
    found = constraint.log_marginals(prediction, where).double().exp().reshape(rows, L, V)[0].numpy()
    np.testing.assert_allclose(found, marginals(law, L, V), atol=1e-4)
    assert distance(drawn_law(Automaton(LANGUAGE), SURE, dtype), law) < 0.02


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_tilts(dtype: torch.dtype) -> None:
    """A tilt multiplies the denoiser; one that leaves nothing is not heeded."""
    draw = np.random.default_rng(0)
    p, tilt = draw.dirichlet(np.ones(V), size=L), draw.normal(size=(L, V))
    law = enumerated(LANGUAGE, p * np.exp(tilt))
    assert distance(drawn_law(Automaton(LANGUAGE), p, dtype, tilt), law) < 0.02
    tilt = np.tile([-np.inf, 0.0, 0.0], (L, 1))
    assert distance(drawn_law(Automaton(LANGUAGE), p, dtype, tilt), enumerated(LANGUAGE, p)) < 0.02


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_models_that_rule_out_all_that_is_accepted(dtype: torch.dtype) -> None:
    """All mass on 1111, one 0 asked for: it holds with a single token against the model, each place alike."""
    p = np.tile([0.0, 1.0, 0.0], (L, 1))
    ones = {tuple(0 if i == k else 1 for i in range(L)): 0.25 for k in range(L)}
    assert distance(drawn_law(Automaton(LANGUAGE), p, dtype), ones) < 0.02
    constraint = Automaton(LANGUAGE).bound(torch.full((2,), L))
    prediction = said(np.stack([p, p]), dtype)
    assert torch.isneginf(constraint.log_total(prediction)).all()
    found = constraint.log_marginals(prediction, everywhere(torch.full((2,), L))).exp().reshape(2, L, V)
    np.testing.assert_allclose(found[0].numpy(), marginals(ones, L, V), atol=1e-5)


@pytest.mark.parametrize(("top_k", "top_p"), [(1, None), (2, None), (None, 0.6)])
def test_truncation(top_k: int | None, top_p: float | None) -> None:
    """It acts on the constrained marginals, and what they leave together is drawn, or else the whole law."""
    p = np.random.default_rng(3).dirichlet(np.ones(V), size=L)
    law = enumerated(LANGUAGE, p)
    each = marginals(law, L, V)
    keep = np.zeros((L, V), dtype=bool)
    for i, row in enumerate(each):
        order = np.argsort(-row, kind="stable")[:top_k]
        if top_p is not None:
            order = order[: int((np.cumsum(row[order]) < top_p).sum()) + 1]
        keep[i, order] = True
    kept = {x: w for x, w in law.items() if all(keep[i, t] for i, t in enumerate(x))}
    found = drawn_law(Truncated(Automaton(LANGUAGE), top_k=top_k, top_p=top_p), p, torch.float64)
    assert distance(found, kept or law) < 0.02


def test_argmax() -> None:
    model = build("absorbing", "conditional")
    drawn = sample(
        model, 3, length=3, sampler=Argmax(), steps=1, constraint=Automaton(LANGUAGE), generator=torch.Generator()
    ).lists()
    assert drawn[0] == drawn[1] == drawn[2]
    assert LANGUAGE.accepts(drawn[0])


def test_index() -> None:
    lengths = torch.tensor([2, 4, 3, 4])
    given_at = torch.zeros(4, 4, dtype=torch.bool).index_fill(1, torch.tensor([0]), True)
    tokens = torch.tensor([[0], [1], [2], [0]]).expand(-1, 4)
    whole = Automaton(LANGUAGE, Clamp(tokens, given_at)).bound(lengths)
    part = whole.index(torch.tensor([3, 2]))
    p = np.random.default_rng(1).dirichlet(np.ones(V), size=(4, 4))
    assert isinstance(part, Automaton)
    assert part.given(2, 4)[0][:, 0].tolist() == [0, 2]
    torch.testing.assert_close(part.log_total(said(p[[3, 2]])), whole.log_total(said(p))[[3, 2]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Automaton({"motif": nothing(V)}), "motif: no sequence satisfies it"),
        (lambda: Automaton({"motif": contains([[{0}]], V), "sites": avoids([[{0}]], V)}), "sites cannot hold .* motif"),
        (lambda: Automaton({"size": span_of_lengths(5, 8, V)}), r"size: no sequence of 3 tokens .* 5 to 8 tokens"),
        (
            lambda: (
                Automaton({"a": span_of_lengths(3, 9, V), "zeros": count({0}, 3, 3, V)})
                & Clamp(torch.tensor([1, 0, 0]), torch.tensor([True, False, False]))
            ),
            "zeros cannot hold with what is given",
        ),
    ],
)
def test_conflicts_are_named(make: object, message: str) -> None:
    def run() -> None:
        constraint = make()  # type: ignore[operator]
        sample(
            build("absorbing", "conditional"), 2, length=3, constraint=constraint, sampler=Ancestral(), steps=2,
            generator=torch.Generator(),
        )  # fmt: skip

    with pytest.raises(EmptyLanguageError, match=message):
        run()


def test_vocabularies_must_fit() -> None:
    with pytest.raises(IncompatibleError, match="got a language over 4 tokens, expected 3"):
        sample(
            build("absorbing", "conditional"), 2, length=3, constraint=Automaton(count({0}, 1, 2, 4)),
            generator=torch.Generator(),
        )  # fmt: skip
