"""Draws and marginals under an automaton against enumeration, whatever is kept and in whatever pieces."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.constraints import Allowed, Automaton, filtered
from discdiff.constraints.base import PositionWise
from discdiff.constraints.class_sums import Classes
from discdiff.languages import Language, anything, count
from discdiff.languages.unrolled import unroll
from discdiff.prediction import DenoiserPrediction, Positions, Prediction, positions_of
from discdiff.processes import Absorbing, Uniform
from tests.cases import build
from tests.constraints.test_automaton import said
from tests.toys import P_VALUE, TOYS, caught_error, chi_square

VOCAB, LENGTH, ROWS = 5, 4, 3
MASK = VOCAB


def language(seed: int) -> Language:
    """A random one, in which a token leads nowhere and two are of a class; some sequence of four tokens is in it."""
    draw = np.random.default_rng(seed)
    while True:
        table = draw.integers(-1, 4, size=(4, 4))
        table[:, 3] = -1
        found = Language.of(table, draw.random(4) < 0.5, [0, 1, 1, 2, 3])
        if found.lengths(LENGTH)[LENGTH] and found.num_classes >= 3:
            return found


def prediction(
    seed: int, *, uniform: bool = False, dtype: torch.dtype = torch.float64, scale: float = 2.0
) -> Prediction:
    """Independent positions of three rows: all hidden, one shown, and one with tokens that have no mass."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(ROWS, LENGTH, VOCAB, dtype=dtype, generator=generator)
    logits[2, :, seed % 3] = -torch.inf
    process = Uniform(VOCAB) if uniform else Absorbing(VOCAB)
    tokens = torch.full((ROWS, LENGTH), 0 if uniform else MASK)

    def log_p(where: Positions | None) -> Tensor:
        return logits if where is None else logits[where]

    return DenoiserPrediction(
        process, tokens, torch.ones(ROWS, 1, dtype=dtype), None, log_p=log_p,
        calls=lambda: torch.ones(ROWS, dtype=torch.int64),
    )  # fmt: skip


def joint(found: Language, said: Prediction, row: int, within: Tensor | None = None) -> dict[tuple[int, ...], float]:
    """p(x0 | accepted) of a row, by enumeration; nothing where no accepted sequence has mass."""
    log_p = said.log_denoiser()[row].double().numpy()
    law = {}
    for word in itertools.product(range(VOCAB), repeat=LENGTH):
        if found.accepts(word) and (within is None or all(within[i, t] for i, t in enumerate(word))):
            law[word] = float(np.sum([log_p[i, t] for i, t in enumerate(word)]))
    most = max(law.values())
    if np.isneginf(most):
        return {}
    total = sum(np.exp(mass - most) for mass in law.values())
    return {word: float(np.exp(mass - most) / total) for word, mass in law.items()}


def pieces(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how in ("pieces", "pieces, nothing kept"):
        monkeypatch.setattr(filtered, "CHUNK", 2 * VOCAB)
    if how in ("nothing kept", "pieces, nothing kept"):
        monkeypatch.setattr(filtered, "KEPT", 0)


HOW = ["at once", "pieces", "nothing kept", "pieces, nothing kept"]
EVERYWHERE = positions_of(torch.ones(ROWS, LENGTH, dtype=torch.bool))


def marginal_error(seed: int, *, sets: bool = False, uniform: bool = False, **how: Any) -> float:
    """The greatest error of a marginal, over rows that can be accepted at all."""
    found, said = language(seed), prediction(seed, uniform=uniform, **how)
    within: PositionWise | None = None
    allowed = None
    if sets:
        allowed = torch.ones(LENGTH, VOCAB, dtype=torch.bool)
        allowed[1, seed % VOCAB] = False
        within = Allowed(allowed)
    constraint = Automaton(found, within).bound(torch.full((ROWS,), LENGTH))
    marginals = constraint.log_marginals(said, EVERYWHERE).double().exp().reshape(ROWS, LENGTH, VOCAB)
    worst, checked = 0.0, 0
    for row in range(ROWS):
        law = joint(found, said, row, allowed)
        expected = np.zeros((LENGTH, VOCAB))
        for word, mass in law.items():
            expected[np.arange(LENGTH), word] += mass
        if law:
            checked += 1
            worst = max(worst, float(np.abs(marginals[row].numpy() - expected).max()))
    assert checked
    return worst


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("seed", [0, 1, 4])
def test_marginals(monkeypatch: pytest.MonkeyPatch, how: str, seed: int) -> None:
    pieces(monkeypatch, how)
    for uniform in (False, True):
        assert marginal_error(seed, uniform=uniform) < 1e-12
        assert marginal_error(seed, sets=True, uniform=uniform) < 1e-12


@pytest.mark.parametrize(("scale", "dtype"), [(60.0, torch.float32), (400.0, torch.float32), (400.0, torch.float64)])
def test_digits(monkeypatch: pytest.MonkeyPatch, scale: float, dtype: torch.dtype) -> None:
    """Accepted sequences e^-100 or e^-1000 as likely as others: made again in float64, then in logarithms."""
    made: set[bool] = set()
    finer = filtered.Filtered._finer

    def watched(self: filtered.Filtered, rows: Tensor, step: int) -> Any:
        found = finer(self, rows, step)
        made.add(found[2].log)
        return found

    monkeypatch.setattr(filtered.Filtered, "_finer", watched)
    for seed in range(12):
        assert marginal_error(seed, scale=scale, dtype=dtype) < (2e-4 if dtype == torch.float32 else 1e-10)
    assert made == ({True, False} if dtype == torch.float32 else {True})


@torch.no_grad()
def test_rows_that_are_not_asked_for() -> None:
    """The network sees only rows with a position to draw, and says the same of them."""
    model = build("absorbing", "conditional", toy=TOYS["dense3x3"])
    constraint = Automaton(count([0], 1, 2, 3)).bound(torch.full((4,), 3))
    tokens = torch.full((4, 3), 3)
    u = torch.rand(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    everywhere = positions_of(tokens == 3)
    whole = model.predict(tokens, torch.ones(4, 1, dtype=torch.float64))
    drawn = constraint.draw(whole, everywhere, u).reshape(4, 3)
    said = model.predict(tokens, torch.ones(4, 1, dtype=torch.float64))
    some = (torch.tensor([1, 1, 3]), torch.tensor([0, 2, 1]))
    assert constraint.draw(said, some, u).tolist() == drawn[some].tolist()
    assert said.calls.tolist() == [0, 1, 0, 1]
    constraint.log_marginals(said, (torch.tensor([0]), torch.tensor([1])))
    assert said.calls.tolist() == [1, 1, 0, 1]
    assert constraint.draw(said, everywhere, u).tolist() == drawn.reshape(-1).tolist()


def drawn_law(seed: int, *, draws: int = 40_000) -> float:
    """The p-value of draws of the first row against the law by enumeration."""
    found, said = language(seed), prediction(seed)
    law = joint(found, said, 0)
    words = list(law)
    assert caught_error(draws, len(words)) < 0.05
    tokens = torch.full((draws, LENGTH), MASK)
    logits = said.log_denoiser()[0]
    many = DenoiserPrediction(
        said.process, tokens, torch.ones(draws, 1, dtype=torch.float64), None,
        log_p=lambda where: logits.expand(draws, LENGTH, VOCAB) if where is None else logits[where[1]],
        calls=lambda: torch.ones(draws, dtype=torch.int64),
    )  # fmt: skip
    constraint = Automaton(found).bound(torch.full((draws,), LENGTH))
    u = torch.rand(draws, LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    rows = constraint.draw(many, positions_of(torch.ones_like(tokens, dtype=torch.bool)), u).reshape(draws, LENGTH)
    place = {word: k for k, word in enumerate(words)}
    counts = np.bincount([place[tuple(row)] for row in rows.tolist()], minlength=len(words))
    return chi_square(counts, np.array(list(law.values())))


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_draws(seed: int) -> None:
    """40,000 joint draws; p > 1e-4."""
    assert drawn_law(seed) > P_VALUE


@pytest.mark.parametrize("how", HOW[1:])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_whatever_is_kept(monkeypatch: pytest.MonkeyPatch, how: str, dtype: torch.dtype) -> None:
    """Draws at all positions, at some, after marginals, and under a tilt: token for token."""
    u = torch.rand(ROWS, LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    some = (torch.tensor([0, 1, 2, 2]), torch.tensor([3, 0, 1, 2]))
    tilt = torch.randn(4, VOCAB, dtype=dtype, generator=torch.Generator().manual_seed(5))

    def everything() -> list[list[int]]:
        found = []
        for seed in range(6):
            constraint = Automaton(language(seed)).bound(torch.full((ROWS,), LENGTH))
            said = prediction(seed, dtype=dtype)
            found.append(constraint.draw(said, EVERYWHERE, u).tolist())
            found.append(constraint.draw(prediction(seed, dtype=dtype), some, u).tolist())
            again = prediction(seed, dtype=dtype)
            constraint.log_marginals(again, some)
            found.append(constraint.draw(again, EVERYWHERE, u).tolist())
            found.append(constraint.draw(again, some, u, tilt=tilt).tolist())
        return found

    before = everything()
    assert before[0] == before[2]
    pieces(monkeypatch, how)
    assert everything() == before


def test_no_prediction_outlives_the_next() -> None:
    """A constraint holds the reading of one step, not of all."""
    constraint = Automaton(language(0)).bound(torch.full((ROWS,), LENGTH))
    u = torch.rand(ROWS, LENGTH, dtype=torch.float64)
    import gc
    import weakref

    said = prediction(0)
    gone = weakref.ref(said)
    constraint.draw(said, EVERYWHERE, u)
    del said
    constraint.draw(prediction(1), EVERYWHERE, u)
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_of_classes(dtype: torch.dtype) -> None:
    """Short and long classes, empty ones and tokens that lead nowhere, against the definition."""
    draw = np.random.default_rng(0)
    classes = np.concatenate([np.zeros(500), np.full(300, 1), np.arange(200) % 9 + 2]).astype(int)
    draw.shuffle(classes)
    table = draw.integers(0, 12, size=(12, 11))
    table[:, 5] = -1
    language = Language.of(table, np.arange(12) % 2 == 0, classes)
    assert language.num_classes == 11
    made = Classes(unroll([language], {4}), torch.device("cpu"))
    values = torch.rand(7, 1000, dtype=dtype, generator=torch.Generator().manual_seed(1))
    sums, logs = made.sums(made.side_by_side(values)), made.log_sums(made.side_by_side(values).log())
    for c in range(language.num_classes):
        mine = torch.as_tensor(language.classes) == c
        dead = (language.table[:, c] < 0).all()
        expected = torch.zeros(7, dtype=torch.float64) if dead else values[:, mine].double().sum(1)
        tolerance = 1e-6 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(sums[:, c].double(), expected, rtol=tolerance, atol=0)
        torch.testing.assert_close(logs[:, c].double().exp(), expected, rtol=tolerance, atol=0)
    by_product = made._sums_by_product(made.side_by_side(values))
    torch.testing.assert_close(by_product, sums, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=0)


def test_the_ways_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does in place of reductions gives the same marginals."""
    monkeypatch.setattr(Classes, "_sums_in_place", Classes._sums_by_product)
    for seed in (0, 1, 4):
        assert marginal_error(seed, sets=True) < 1e-12


@pytest.mark.parametrize("lengths", [(4, 4, 4), (1, 3, 4)])
def test_where_all_is_accepted_nothing_is_read(lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same draws and totals as through the filter, from probabilities at the positions asked for alone."""
    p = np.random.default_rng(0).dirichlet(np.ones(5), size=(3, 4))
    asked = (torch.tensor([0, 1, 2]), torch.tensor([0, 0, 0]))
    u = torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    constraint = Automaton(anything(5)).bound(torch.tensor(lengths))
    prediction = said(p)
    seen: list[int] = []
    plain = prediction.log_denoiser

    def counted(where: Positions) -> Tensor:
        seen.append(len(where[0]))
        return plain(where)

    monkeypatch.setattr(prediction, "log_denoiser", counted)
    quick, total = constraint.draw(prediction, asked, u), constraint.log_total(prediction)
    assert seen == [3]
    other = Automaton(anything(5), Allowed(torch.ones(4, 5, dtype=torch.bool))).bound(torch.tensor(lengths))
    torch.testing.assert_close(other.log_total(said(p)), total, rtol=0, atol=1e-12)
    assert torch.equal(other.draw(said(p), asked, u), quick)
