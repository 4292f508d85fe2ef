"""Sums over the states that each row can reach are those over all states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from discdiff.constraints import alive
from discdiff.constraints.alive import AliveWays, alive_ways
from discdiff.constraints.trellis import TINY, Trellis
from discdiff.languages import Language
from discdiff.languages.unrolled import unroll

CLASSES, WIDTH = 4, 7


def trellis(states: int, lengths: list[int], seed: int = 0) -> Trellis:
    """A random language over the positions of rows of these lengths."""
    draw = np.random.default_rng(seed)
    table = draw.integers(0, states, (states, CLASSES))
    language = Language.of(table, draw.random(states) < 0.4, np.arange(CLASSES))
    sizes = torch.tensor(lengths)
    return Trellis(unroll([language], set(lengths)), sizes)


def partly_decided(rows: int, share: float, classes: int, seed: int) -> Tensor:
    """Weights `[L, C, B]` in which that share of positions has one class alone, and a few others none of some class."""
    draw = torch.Generator().manual_seed(seed)
    weights = torch.rand(WIDTH, classes, rows, generator=draw, dtype=torch.float64)
    only = torch.nn.functional.one_hot(torch.randint(0, classes, (WIDTH, rows), generator=draw), classes)
    decided = torch.rand(WIDTH, 1, rows, generator=draw) < share
    weights = weights * (torch.rand(weights.shape, generator=draw) < 0.9)
    return torch.where(decided, only.permute(0, 2, 1).double(), weights)


def walk_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alive, "SMALL", 0)
    monkeypatch.setattr(alive, "SHARE", 0)
    monkeypatch.setattr(alive, "MOSTLY", 0)


def check(tables: Trellis, weights: Tensor) -> None:
    """Z, draws and marginals by both."""
    tiny = TINY[weights.dtype]
    found, expected = alive_ways(tables, weights, tiny), tables.all_ways(weights)
    assert isinstance(found, AliveWays)
    torch.testing.assert_close(found.log_total, expected.log_total, rtol=1e-10, atol=1e-10)
    assert torch.equal(found.sound, expected.sound)
    u = torch.rand(weights.shape[2], WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for one, other in zip(tables.sample(weights, found, u), tables.sample(weights, expected, u), strict=True):
        torch.testing.assert_close(one[expected.sound], other[expected.sound], rtol=1e-6, atol=1e-8)
    used = torch.arange(WIDTH)[:, None, None] < tables.lengths
    mine, sure = found.marginals(weights, tiny)
    theirs, as_sure = tables.marginals(weights, expected)
    assert torch.equal(sure, as_sure)
    kept = (used & sure).expand_as(mine)
    torch.testing.assert_close(mine[kept], theirs[kept], rtol=1e-9, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.floats(0, 1), st.integers(0, 10**6))
def test_both_passes_agree(states: int, share: float, seed: int) -> None:
    """Rows of several lengths, rows without any accepted sequence among them."""
    draw = np.random.default_rng(seed)
    lengths = [*draw.integers(1, WIDTH + 1, 7).tolist(), WIDTH]
    with pytest.MonkeyPatch.context() as patch:
        walk_always(patch)
        tables = trellis(states, lengths, seed)
        if len(tables.final[0]):
            check(tables, partly_decided(len(lengths), share, tables.language.num_classes, seed))


def test_a_walk_is_taken_where_it_is_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,000 states: most positions decided, each by one class, or none."""
    monkeypatch.setattr(alive, "SMALL", 10_000)
    tables = trellis(1_000, [WIDTH] * 16)
    classes = tables.language.num_classes
    decided, open_ = (partly_decided(16, share, classes, 0) for share in (1.0, 0.0))
    assert isinstance(tables.ways(decided), AliveWays)
    assert not isinstance(tables.ways(open_), AliveWays)
    assert isinstance(tables.ways(decided.log(), log=True), type(tables.all_ways(decided)))


def test_work_follows_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decided positions before and after the open ones have one move a row; the count of moves says so."""
    walk_always(monkeypatch)
    tables = trellis(200, [WIDTH] * 3)
    classes = tables.language.num_classes
    weights = partly_decided(3, 1.0, classes, 0)
    weights[3] = 1.0
    found = alive_ways(tables, weights, TINY[weights.dtype])
    assert found is not None
    counts = [len(layer.rows) for layer in found.layers]
    assert all(count <= 3 for count in counts[:3])
    assert all(count <= 3 * classes for count in counts[3:])
