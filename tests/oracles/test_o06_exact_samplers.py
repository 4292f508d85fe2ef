"""O6: first-hitting, and any fixed order, are exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.constraints import Clamp
from discdiff.model import Model
from discdiff.samplers import AnyOrder, Confidence, EntropyBounded, FirstHitting, Ordered, Sampler
from discdiff.sampling import sample
from tests.cases import PARAMETERIZATIONS, SAMPLERS, build
from tests.laws import all_orders, revealed_law
from tests.toy_networks import Tabulated, Watched, Wrong
from tests.toys import DENSE, P_VALUE, TOYS, Toy, caught_error, chi_square, counts_of

DRAWS = 200_000


def order_error(model: Model, toy: Toy) -> float:
    """The largest difference between p0 and the law of any fixed order."""
    return max(
        float(np.abs(revealed_law(model, toy, [order]) - toy.probabilities).max()) for order in all_orders(toy.length)
    )


@pytest.mark.parametrize("toy", ["dense3x3", "repeat3x3", "parity2x4"])
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_every_order_by_enumeration(parameterization: str, toy: str) -> None:
    """1e-12, each of the L! orders: hence any mixture of them too, which is what random reveals are."""
    assert order_error(build("absorbing", parameterization, toy=TOYS[toy]), TOYS[toy]) < 1e-12


@pytest.mark.parametrize("toy", ["dense3x3", "parity2x4"])
@pytest.mark.parametrize("name", [name for name, case in SAMPLERS.items() if case.exact])
def test_real_sampler(name: str, toy: str) -> None:
    """200,000 draws against p0; chi-square p > 1e-4 catches 1% in total variation (power 0.99)."""
    table = TOYS[toy]
    assert caught_error(DRAWS, len(table.support)) < 0.01
    model = build("absorbing", "conditional", toy=table)
    drawn = sample(
        model, DRAWS, length=table.length, sampler=SAMPLERS[name].make(), generator=torch.Generator().manual_seed(2)
    )
    assert chi_square(counts_of(drawn.tokens, table.vocab_size), table.probabilities) > P_VALUE
    assert drawn.calls is not None
    # a corrector's move that meets a state which the row has just been in costs no call
    assert (drawn.calls >= table.length if SAMPLERS[name].corrects else drawn.calls == table.length).all()
    assert bool((drawn.calls > table.length).any()) == SAMPLERS[name].corrects


@pytest.mark.parametrize("parameterization", ["score", "denoiser"])
def test_first_hitting_when_shown_the_noise(parameterization: str) -> None:
    """The same where every row has its own noise level; 50,000 draws catch 2%."""
    model = build("absorbing", parameterization)
    drawn = sample(model, 50_000, length=3, sampler=FirstHitting(), generator=torch.Generator().manual_seed(4))
    assert chi_square(counts_of(drawn.tokens, 3), DENSE.probabilities) > P_VALUE


@pytest.mark.parametrize(
    ("sampler", "orders"),
    [
        (FirstHitting(), all_orders(3)),
        (Ordered("random"), all_orders(3)),
        (Ordered("left_to_right"), [(0, 1, 2)]),
        (Ordered(torch.tensor([2, 0, 1])), [(2, 0, 1)]),
    ],
    ids=["first hitting", "random", "left to right", "given"],
)
def test_wrong_network_shows_the_order(sampler: Sampler, orders: list[tuple[int, ...]]) -> None:
    """With a wrong network the law depends on the order: the sampler's is the enumerated one. Catches 1%."""
    model = build("absorbing", "conditional", network=lambda toy, states: Tabulated(Wrong(toy, states), toy.length))
    law = revealed_law(model, DENSE, orders)
    others = revealed_law(model, DENSE, [(1, 2, 0)])
    assert np.abs(law - others).sum() / 2 > 0.03
    drawn = sample(model, DRAWS, length=3, sampler=sampler, generator=torch.Generator().manual_seed(5))
    assert chi_square(counts_of(drawn.tokens, 3), law) > P_VALUE


def test_order_for_each_row() -> None:
    """Orders `[B, L]`: odd rows from the left, even rows from the right."""
    model = build("absorbing", "conditional", network=lambda toy, states: Tabulated(Wrong(toy, states), toy.length))
    rows = torch.arange(100_000) % 2 == 1
    orders = torch.where(rows[:, None], torch.tensor([0, 1, 2]), torch.tensor([2, 1, 0]))
    drawn = sample(
        model, len(rows), length=3, sampler=Ordered(orders), generator=torch.Generator().manual_seed(6)
    ).tokens
    for chosen, order in ((rows, (0, 1, 2)), (~rows, (2, 1, 0))):
        assert chi_square(counts_of(drawn[chosen], 3), revealed_law(model, DENSE, [order])) > P_VALUE


def test_first_hitting_times() -> None:
    """The mask fractions of the L events are the order statistics of L uniform numbers: means k/(L + 1); 5 errors."""
    model, fractions = build("absorbing", "conditional"), []
    sample(
        model,
        40_000,
        length=3,
        sampler=FirstHitting(),
        generator=torch.Generator().manual_seed(8),
        on_step=lambda step, total, state: fractions.append(state.extras["mask_fraction"]),
    )
    for k, fraction in zip((3, 2, 1), fractions, strict=True):
        deviation = np.sqrt(k * (4 - k) / (16 * 5))
        assert float(fraction.mean()) == pytest.approx(k / 4, abs=5 * deviation / np.sqrt(40_000))
        assert float(fraction.std()) == pytest.approx(deviation, rel=0.02)


def shown_under_clamps(sampler: Sampler) -> Watched:
    """40,000 rows of four positions, two of them given."""
    model = Watched(build("absorbing", "conditional", toy=TOYS["dense2x4"]))
    given = Clamp(torch.zeros(4, dtype=torch.int64), torch.tensor([True, False, False, True]))
    generator = torch.Generator().manual_seed(9)
    sample(model, 40_000, sampler=sampler, constraint=given, generator=generator)
    return model


@pytest.mark.parametrize(
    "sampler", [AnyOrder(), Ordered(), Confidence(), EntropyBounded(0.0)], ids=lambda each: type(each).__name__
)
def test_networks_are_shown_the_share_of_masks(sampler: Sampler) -> None:
    """Given positions count among those that are not masked: 1/2 and 1/4 here, to 1e-12."""
    model = shown_under_clamps(sampler)
    assert [float(share.mean()) for share in model.masked] == [0.5, 0.25]
    for shown, masked in zip(model.shown, model.masked, strict=True):
        torch.testing.assert_close(shown, masked, rtol=0, atol=1e-12)


def test_first_hitting_shows_the_share_of_masks() -> None:
    """n of L positions free: (n/L) times the order statistics of n uniform numbers, means 1/3 and 1/6; 5 errors."""
    model = shown_under_clamps(FirstHitting())
    for k, shown in zip((2, 1), model.shown, strict=True):
        deviation = np.sqrt(k * (3 - k) / (9 * 4)) / 2
        assert float(shown.mean()) == pytest.approx(k / 3 / 2, abs=5 * deviation / np.sqrt(40_000))
        assert float(shown.std()) == pytest.approx(deviation, rel=0.02)
