"""Block-wise sampling: the law of blocks from left to right, what networks are shown, randomness of each block."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.constraints import Clamp
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.randomness import Keys
from discdiff.samplers import (
    Ancestral,
    AnyOrder,
    Blockwise,
    Euler,
    FirstHitting,
    Ordered,
    Sampler,
    State,
    Uniformization,
)
from discdiff.sampling import sample
from tests.cases import build
from tests.laws import all_orders, revealed_law
from tests.toy_networks import Tabulated, Watched, Wrong
from tests.toys import DENSE, P_VALUE, TOYS, Toy, chi_square, counts_of

DRAWS = 200_000


def wrong(toy: Toy) -> Model:
    return build("absorbing", "conditional", toy=toy, network=lambda t, states: Tabulated(Wrong(t, states), t.length))


@pytest.mark.parametrize(
    ("sampler", "steps", "orders"),
    [
        (Blockwise(block_size=2), None, [(0, 1, 2), (1, 0, 2)]),
        (Blockwise(FirstHitting(), 2), None, [(0, 1, 2), (1, 0, 2)]),
        (Blockwise(Ordered(torch.tensor([2, 1, 0])), 2), None, [(1, 0, 2)]),
        (Blockwise(Ancestral(), 1), 3, [(0, 1, 2)]),
        (Blockwise(AnyOrder(), 3), None, all_orders(3)),
    ],
    ids=["any order", "first hitting", "given order", "one position a block", "one block"],
)
def test_wrong_network_shows_the_order(sampler: Sampler, steps: int | None, orders: list[tuple[int, ...]]) -> None:
    """A wrong network's law depends on the order: here the mean over those that go block by block. Catches 1%."""
    model = wrong(DENSE)
    law, others = revealed_law(model, DENSE, orders), revealed_law(model, DENSE, [(2, 0, 1)])
    assert np.abs(law - others).sum() / 2 > 0.03
    generator = torch.Generator().manual_seed(5)
    drawn = sample(model, DRAWS, length=3, sampler=sampler, steps=steps, generator=generator)
    assert chi_square(counts_of(drawn.tokens, 3), law) > P_VALUE


def test_positions_drawn_together_are_those_of_a_block() -> None:
    """One call a block: p(x0) p(x1) independently, then p(x2 | x0, x1), enumerated."""
    joint = DENSE.joint
    law = np.einsum("a,b->ab", joint.sum((1, 2)), joint.sum((0, 2)))[:, :, None] * joint / joint.sum(2, keepdims=True)
    for inner in (AnyOrder(), Ancestral()):
        generator = torch.Generator().manual_seed(6)
        drawn = sample(
            build("absorbing", "conditional"),
            DRAWS,
            length=3,
            sampler=Blockwise(inner, 2),
            steps=1,
            generator=generator,
        )
        assert chi_square(counts_of(drawn.tokens, 3), law.reshape(-1)) > P_VALUE
        assert drawn.calls is not None
        assert drawn.calls.tolist() == [2] * DRAWS


def test_networks_are_shown_the_share_of_masks_in_the_row() -> None:
    """Not that of the block: 1, 3/4, 1/2, 1/4 in blocks of two; with a given token 3/4 to 1/4. Noise ends at 0.999."""
    model = Watched(build("absorbing", "denoiser", toy=TOYS["dense2x4"]))
    given = Clamp(torch.zeros(4, dtype=torch.int64), torch.tensor([False, True, False, False]))
    for constraint, shares in ((None, [1, 0.75, 0.5, 0.25]), (given, [0.75, 0.5, 0.25])):
        model.shown.clear()
        generator = torch.Generator().manual_seed(9)
        sample(model, 3, length=4, sampler=Blockwise(block_size=2), constraint=constraint, generator=generator)
        assert [float(each.mean()) for each in model.shown] == pytest.approx(shares, abs=1.1e-3)


def test_a_grid_shows_the_share_of_masks_to_expect() -> None:
    """λ of the block's two positions, and the two that come later: within four standard errors of what is masked."""
    model = Watched(build("absorbing", "denoiser", toy=TOYS["dense2x4"]))
    generator = torch.Generator().manual_seed(9)
    sample(model, 20_000, length=4, sampler=Blockwise(Ancestral(), 2), steps=4, generator=generator)
    assert len(model.shown) == 8
    for shown, masked in zip(model.shown, model.masked, strict=True):
        assert float(shown.mean()) == pytest.approx(float(masked.mean()), abs=4 * 0.36 / 20_000**0.5 + 1e-3)


@pytest.mark.parametrize("parameterization", ["score", "denoiser"])
@pytest.mark.parametrize("inner", [Ancestral(), Euler()], ids=["ancestral", "euler"])
def test_noise_that_is_shown_changes_no_rate(inner: Sampler, parameterization: str) -> None:
    """A perfect network knows what any noise means: the law of the time-free one, blocks of two in three steps."""
    counts = []
    for said in ("conditional", parameterization):
        model, generator = build("absorbing", said), torch.Generator().manual_seed(7)
        drawn = sample(model, 100_000, length=3, sampler=Blockwise(inner, 2), steps=3, generator=generator)
        counts.append(counts_of(drawn.tokens, 3))
    plain, shown = counts
    assert np.abs(plain - shown).sum() / 200_000 < 0.005  # the same numbers: all but rounding


@pytest.mark.parametrize("inner", [AnyOrder(), FirstHitting()], ids=["any order", "first hitting"])
def test_blocks_have_numbers_of_their_own(inner: Sampler) -> None:
    """Keys: the same of two positions comes first in both blocks for half of the rows, within four standard errors."""
    count = 3_000
    model = build("absorbing", "conditional", toy=TOYS["dense2x4"])
    seen: list[torch.Tensor] = []

    def watch(step: int, total: int, state: State) -> None:
        seen.append(state.tokens != 2)

    keys = Keys(3, torch.arange(count))
    sample(model, count, length=4, sampler=Blockwise(inner, 2), generator=keys, on_step=watch)
    first, second = seen[0][:, :2].int().argmax(-1), (seen[2] & ~seen[1])[:, 2:].int().argmax(-1)
    assert abs(float((first == second).double().mean()) - 1 / 2) < 4 * 0.5 / count**0.5


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(IncompatibleError, match="got Uniformization, expected an inner sampler by events"):
        Blockwise(Uniformization(), 2)
    with pytest.raises(IncompatibleError, match="got Blockwise, expected an inner sampler by events"):
        Blockwise(Blockwise(), 2)
    for size in (0, 2.5, "64", True):
        with pytest.raises(IncompatibleError, match=rf"block_size: got {size!r}, expected an integer of at least 1"):
            Blockwise(block_size=size)  # type: ignore[arg-type]
    for given in ("Ancestral", Ancestral):  # a name, a class
        with pytest.raises(IncompatibleError, match=r"got .*Ancestral.*, expected a sampler\. Such as"):
            Blockwise(given)  # type: ignore[arg-type]
    with pytest.raises(IncompatibleError, match="got Uniform, expected the absorbing process"):
        sample(build("uniform", "denoiser"), 2, length=3, sampler=Blockwise(Ancestral()), generator=torch.Generator())
