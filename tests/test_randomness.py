"""Randomness: draws from weights, counter-based keys, stratified times."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from discdiff.errors import IncompatibleError
from discdiff.randomness import Keys, at_step, categorical, index_rows, random_order, time_points, uniform
from tests.toys import P_VALUE, chi_square, index_of

ALMOST_ONE = 1 - 2.0**-53
PURPOSES = ["who", "token", "move", "time", "corrupt", "corrupt token", "mask", "prior", "order"]


def keys(rows: int, seed: int = 0, first: int = 0) -> Keys:
    return Keys(seed, torch.arange(first, first + rows))


def flat(values: torch.Tensor) -> np.ndarray:
    return values.double().numpy().ravel()


# ---- categorical ----------------------------------------------------------------------------------------------------
@given(
    weights=st.lists(st.one_of(st.just(0.0), st.floats(1e-30, 1e3)), min_size=2, max_size=6).filter(any),
    u=st.floats(0, ALMOST_ONE),
    double=st.booleans(),
)
def test_weightless_entries_are_never_drawn(weights: list[float], u: float, double: bool) -> None:
    table = torch.tensor(weights, dtype=torch.float64 if double else torch.float32)
    for point in (u, 0.0, ALMOST_ONE):
        drawn = int(categorical(table, torch.tensor(point, dtype=torch.float64)))
        assert 0 <= drawn < len(weights)
        assert table[drawn] > 0


def law_of_draw(weights: torch.Tensor) -> np.ndarray:
    """The exact law: the draw is monotone in u, so each entry's last u is found by bisection to 2^-53."""
    size = len(weights)
    low, high = torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.float64)
    entry = torch.arange(size)
    for _ in range(54):
        middle = (low + high) / 2
        below = categorical(weights.expand(size, -1), middle.clamp(max=ALMOST_ONE)) <= entry
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return np.diff(low.numpy(), prepend=0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_law_is_that_of_the_weights(dtype: torch.dtype) -> None:
    """Exactly, by bisection in u: 1e-12 absolute, in float32 too, where the weights themselves are the truth."""
    weights = torch.rand(50, generator=torch.Generator().manual_seed(0)).to(dtype) ** 4
    truth = weights.double() / weights.double().sum()
    np.testing.assert_allclose(law_of_draw(weights), truth, atol=1e-12)


def test_small_weights_behind_a_large_one_survive_float32() -> None:
    """A token of probability 1e-9 keeps it: sums in float32 would round it away, as a lower temperature does."""
    weights = torch.full((300,), 1e-9)
    weights[0] = 1.0
    truth = weights.double() / weights.double().sum()
    np.testing.assert_allclose(law_of_draw(weights), truth, atol=1e-15)


MANY = {
    "skewed": torch.rand(1300, generator=torch.Generator().manual_seed(1)) ** 8,
    "small behind large": torch.full((1300,), 1e-9).index_fill(0, torch.tensor([3]), 1.0),
    "large behind small": torch.full((1300,), 1e-9).index_fill(0, torch.tensor([1299]), 1.0),
    "few": torch.zeros(1300).index_fill(0, torch.tensor([0, 255, 256, 1023, 1299]), 1e-20),
    "whole chunks": torch.rand(1024, generator=torch.Generator().manual_seed(2)),
}


@pytest.mark.parametrize("weights", MANY.values(), ids=MANY)
def test_law_of_many_entries(weights: torch.Tensor) -> None:
    """Float32 in two stages: each entry has its probability to 1e-6 of it, however small; by bisection in u."""
    truth = weights.double() / weights.double().sum()
    np.testing.assert_allclose(law_of_draw(weights), truth, rtol=1e-6, atol=3e-16)
    for point in (0.0, ALMOST_ONE):
        assert weights[categorical(weights, torch.tensor(point, dtype=torch.float64))] > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
def test_draws_from_many_entries_fail_as_from_few(bad: float) -> None:
    weights = torch.ones(2, 1300)
    weights[1, 700 if bad else slice(None)] = bad
    assert categorical(weights, torch.tensor([0.5, 0.5])).tolist()[1] == 1300
    assert int(categorical(weights, torch.tensor([0.5, 0.5]))[0]) in (649, 650)


def test_rounding_of_a_parallel_sum_draws_nothing_impossible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums on a GPU may differ in the last digit across an entry of no weight; here, by a tenth."""
    weights, u = torch.tensor([[0.5, 0.0, 0.5]]), torch.tensor([0.55], dtype=torch.float64)
    uneven = torch.tensor([[0.5, 0.6, 1.0]], dtype=torch.float64)
    monkeypatch.setattr(torch.Tensor, "cumsum", lambda *_, **__: uneven)
    assert int(categorical(weights, u)) in (0, 2)


def test_shapes_of_draws() -> None:
    weights = torch.rand(4, 5, 7)
    assert categorical(weights, torch.rand(4, 5)).shape == (4, 5)
    assert categorical(weights[:0], torch.rand(0, 5)).shape == (0, 5)
    assert categorical(weights, torch.rand(4, 5)).dtype == torch.int64


# ---- keys -----------------------------------------------------------------------------------------------------------
def test_numbers_follow_from_row_step_purpose_and_place() -> None:
    """Whatever the batch, its order, its width or the rows left out."""
    everything = keys(20).at(3).uniform((20, 9), "who", torch.float64)
    order = torch.tensor([7, 0, 19, 7])
    assert torch.equal(keys(20).at(3).index(order).uniform((4, 9), "who", torch.float64), everything[order])
    assert torch.equal(keys(5, first=10).at(3).uniform((5, 4), "who", torch.float64), everything[10:15, :4])
    assert torch.equal(keys(20).at(3).uniform((20,), "who", torch.float64), everything[:, 0])
    assert torch.equal(keys(20).at(1).at(3).uniform((20, 9), "who", torch.float64), everything)


def test_other_seed_step_or_purpose_gives_other_numbers() -> None:
    one = keys(5).uniform((5, 6), "who", torch.float64)
    for other in (
        keys(5, seed=1).uniform((5, 6), "who", torch.float64),
        keys(5, seed=-1).uniform((5, 6), "who", torch.float64),
        keys(5, seed=1 << 70 | 1).uniform((5, 6), "who", torch.float64),
        keys(5).at(1).uniform((5, 6), "who", torch.float64),
        keys(5).uniform((5, 6), "token", torch.float64),
        keys(5, first=5).uniform((5, 6), "who", torch.float64),
    ):
        assert not (one == other).any()


def test_numbers_stay_the_same_between_versions() -> None:
    """A sample is named by its seed and number: these constants may not change without a note in the changelog."""
    values = Keys(7, torch.tensor([0, 1, 1 << 40])).at(2).uniform((3, 2), "token", torch.float64)
    assert [f"{v:.12f}" for v in flat(values)] == FIRST_NUMBERS


FIRST_NUMBERS = [
    "0.513412258409",
    "0.295191998495",
    "0.490919722564",
    "0.399610646107",
    "0.660474836724",
    "0.517446750957",
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_uniformity(dtype: torch.dtype) -> None:
    """300,000 numbers in [0, 1): Kolmogorov-Smirnov catches 0.4% of mass displaced; last digits are fair coins."""
    values = keys(300).uniform((300, 1000), "token", dtype)
    assert values.dtype == dtype
    assert values.min() >= 0
    assert values.max() < 1
    assert scipy.stats.kstest(flat(values), "uniform").pvalue > P_VALUE
    digits = 53 if dtype == torch.float64 else 24
    for bit in (1, 2, 8, digits - 1, digits):
        ones = int((torch.floor(values.double() * 2.0**bit) % 2).sum())
        assert scipy.stats.binomtest(ones, values.numel()).pvalue > P_VALUE, bit


@pytest.mark.parametrize("rows", [torch.arange(400), torch.arange(400) * 1024, (torch.arange(400) << 32) + 5])
def test_independence(rows: torch.Tensor) -> None:
    """Between neighbours in row, place, step, purpose and seed: chi-square on 8 x 8 cells, 40,000 pairs, catches 3%."""
    shape = (400, 100)
    base = Keys(0, rows).uniform(shape, "who", torch.float64)
    pairs = {
        "row": (base[:-1], base[1:]),
        "place": (base[:, :-1], base[:, 1:]),
        "step": (base, Keys(0, rows).at(1).uniform(shape, "who", torch.float64)),
        "seed": (base, Keys(1, rows).uniform(shape, "who", torch.float64)),
        **{p: (base, Keys(0, rows).uniform(shape, p, torch.float64)) for p in PURPOSES[1:]},
    }
    for name, (a, b) in pairs.items():
        cells = index_of((torch.stack([a, b], -1) * 8).long(), 8).flatten()
        counts = np.bincount(cells.numpy(), minlength=64)
        assert chi_square(counts, np.full(64, 1 / 64)) > P_VALUE, name


def test_number_of_rows_must_match() -> None:
    with pytest.raises(IncompatibleError, match="Keys: got 5 rows, expected 6"):
        uniform((6, 2), generator=keys(5), purpose="who")


def test_helpers_leave_generators_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    assert at_step(generator, 4) is generator
    assert index_rows(generator, torch.tensor([0])) is generator
    first = uniform((3,), generator=generator, purpose="who")
    assert not torch.equal(first, uniform((3,), generator=generator, purpose="who"))


def test_random_orders_are_uniform() -> None:
    """All 6 permutations equally likely; 60,000 draws catch 1%."""
    order = random_order((60_000, 3), generator=keys(60_000), purpose="order", device=torch.device("cpu"))
    counts = np.bincount(index_of(order, 3).numpy(), minlength=27)
    law = np.zeros(27)
    for permutation in itertools.permutations(range(3)):
        law[index_of(torch.tensor(permutation), 3)] = 1 / 6
    assert chi_square(counts, law) > P_VALUE


# ---- times ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_one_time_in_each_stratum(batch: int) -> None:
    """Once the shift is taken out, exactly one point in each of `batch` equal parts, and a random row for each."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(20):
        t = time_points(batch, generator=generator)
        assert t.dtype == torch.float64
        assert ((t >= 0) & (t < 1)).all()
        gaps = torch.diff(torch.cat([t.sort().values, t.min()[None] + 1]))
        torch.testing.assert_close(gaps, torch.full_like(gaps, 1 / batch))
        rows.append(int(t.argmin()))
    assert batch == 1 or len(set(rows)) > 1


def test_each_time_is_uniform() -> None:
    """For each row by itself, with every kind of randomness: 4,000 batches, Kolmogorov-Smirnov catches 4%."""
    generator = torch.Generator().manual_seed(0)
    plain = torch.stack([time_points(4, generator=generator) for _ in range(4000)])
    keyed = time_points(16_000, generator=keys(16_000)).reshape(4000, 4)
    strata = torch.arange(4) / 4
    slotted = torch.stack(
        [time_points(4, generator=Keys(0, torch.arange(4), step, strata.double())) for step in range(4000)]
    )
    for values, row in itertools.product((plain, keyed, slotted), range(4)):
        assert scipy.stats.kstest(flat(values[:, row]), "uniform").pvalue > P_VALUE


def test_strata_share_one_shift() -> None:
    """Slots of the global batch: two halves drawn on two machines are the points of the whole."""
    strata = torch.arange(8).double() / 8
    whole = Keys(3, torch.arange(8), 5, strata)
    parts = [time_points(4, generator=whole.index(torch.arange(4) + start)) for start in (0, 4)]
    points = time_points(8, generator=whole)
    assert torch.equal(torch.cat(parts), points)
    torch.testing.assert_close(torch.diff(points.sort().values), torch.full((7,), 1 / 8).double())


@pytest.mark.gpu
def test_keys_are_the_same_on_a_gpu() -> None:
    """Numbers, draws and times, digit by digit; no draw of weight zero."""
    for dtype in (torch.float32, torch.float64):
        numbers = keys(100).uniform((100, 37), "token", dtype)
        there = uniform((100, 37), generator=keys(100), purpose="token", dtype=dtype, device="cuda")
        assert torch.equal(there.cpu(), numbers)
    held = Keys(0, torch.arange(100, device="cuda")).uniform((100, 37), "token", torch.float64)
    assert torch.equal(held.cpu(), keys(100).uniform((100, 37), "token", torch.float64))
    weights = torch.rand(100, 37, 50) * (torch.rand(50) < 0.5)
    weights[..., 0] = 1e-6
    drawn = categorical(weights.cuda(), held)
    assert (weights.gather(-1, drawn.cpu()[..., None]) > 0).all()
    assert (drawn.cpu() == categorical(weights, held.cpu())).double().mean() > 0.9999


@pytest.mark.parametrize(
    "bad", [[torch.nan, 0.5, 0.0], [0.5, torch.nan, 0.0], [0.5, 0.0, torch.nan], [torch.inf, 1.0, 0.0]]
)
def test_a_draw_from_what_is_no_distribution_is_out_of_range(bad: list[float]) -> None:
    """Wherever the fault stands, so that the caller's check of the range finds it."""
    weights = torch.tensor([bad, [0.2, 0.3, 0.5]])
    drawn = categorical(weights, torch.tensor([0.1, 0.1]))
    assert drawn.tolist() == [3, 0]
