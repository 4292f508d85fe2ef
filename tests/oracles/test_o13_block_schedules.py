"""O13: what is lost by revealing several positions at once, and the schedule of blocks that loses least."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from discdiff.errors import IncompatibleError
from discdiff.model import Diffusion
from discdiff.networks.markov import sparse_chain
from discdiff.parameterizations import Conditional
from discdiff.processes import Absorbing
from discdiff.randomness import Keys
from discdiff.samplers import AnyOrder, block_cost, information_curve, optimal_blocks
from discdiff.samplers.block_schedule import block_ends
from discdiff.sampling import sample
from discdiff.schedules import LogLinear
from discdiff.sequences import Sequences
from tests.cases import build
from tests.forced import forced, laws_by_order, mean_divergence
from tests.laws import divergence
from tests.toys import DENSE, P_VALUE, TOYS, Array, Toy, caught_error, chi_square, counts_of, dense

DRAWS = 200_000
TOYS_HERE = ["dense3x3", "repeat3x3", "parity2x4", "dense2x4"]
REPEATED_BIT = Toy("bit", np.eye(2**8)[[0, -1]].sum(0).reshape((2,) * 8) / 2)


def entropy(p: Array) -> float:
    """−Σ p log p, nats."""
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def joint_entropy(toy: Toy, positions: tuple[int, ...]) -> float:
    """H of some positions."""
    others = tuple(i for i in range(toy.length) if i not in positions)
    return entropy(toy.joint.sum(others).reshape(-1))


def curve_of(toy: Toy) -> Array:
    """f[j]: the average of H(x_i | x_S) over all sets S of j positions and all i outside, by the chain rule."""
    f = []
    for j in range(toy.length):
        gains = [
            joint_entropy(toy, tuple(sorted((*chosen, i)))) - joint_entropy(toy, chosen)
            for chosen in itertools.combinations(range(toy.length), j)
            for i in range(toy.length)
            if i not in chosen
        ]
        f.append(np.mean(gains))
    return np.array(f)


def compositions(total: int, parts: int) -> list[list[int]]:
    """All ways to write a number as an ordered sum of positive parts."""
    cuts = itertools.combinations(range(1, total), parts - 1)
    return [np.diff([0, *cut, total]).tolist() for cut in cuts]


# ---- what blocks cost -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", TOYS_HERE)
def test_one_parallel_step_costs_the_total_correlation(name: str) -> None:
    """KL(p0 ‖ one call) = Σ H(x_i) − H(x): 1e-12."""
    toy = TOYS[name]
    model = build("absorbing", "conditional", toy=toy)
    correlation = sum(joint_entropy(toy, (i,)) for i in range(toy.length)) - entropy(toy.probabilities)
    laws = laws_by_order(model, AnyOrder(), toy, steps=1)
    assert np.ptp(laws, axis=0).max() == 0  # the order plays no part
    assert divergence(toy.probabilities, laws[0]) == pytest.approx(correlation, abs=1e-12)
    assert block_cost(torch.from_numpy(curve_of(toy)), [toy.length]) == pytest.approx(correlation, abs=1e-12)


def cost_error(sampler: AnyOrder, name: str, sizes: list[int]) -> float:
    """|E_π KL(p0 ‖ sampler) by running it − the schedule's cost from the information curve|."""
    toy = TOYS[name]
    model = build("absorbing", "conditional", toy=toy)
    found = mean_divergence(toy.probabilities, laws_by_order(model, sampler, toy))
    return abs(found - block_cost(torch.from_numpy(curve_of(toy)), sizes))


@pytest.mark.parametrize("name", TOYS_HERE)
def test_cost_of_every_schedule(name: str) -> None:
    """Every composition of L: the sampler's own law, order by order, costs what the curve says; 1e-9."""
    for parts in range(1, TOYS[name].length + 1):
        for sizes in compositions(TOYS[name].length, parts):
            assert cost_error(AnyOrder(sizes), name, sizes) < 1e-9


@pytest.mark.parametrize("blocks", ["uniform", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 9])
def test_named_schedules_cost_what_their_sizes_do(blocks: str, steps: int) -> None:
    toy = TOYS["dense2x4"]
    model = build("absorbing", "conditional", toy=toy)
    ends = block_ends(torch.tensor([4]), blocks, steps)[0].tolist()  # type: ignore[arg-type]
    sizes = np.diff([0, *ends]).tolist()
    found = mean_divergence(toy.probabilities, laws_by_order(model, AnyOrder(blocks), toy, steps=steps))  # type: ignore[arg-type]
    assert found == pytest.approx(block_cost(torch.from_numpy(curve_of(toy)), sizes), abs=1e-9)
    assert (found < 1e-12) == (steps >= 4)


def test_real_sampler_in_blocks() -> None:
    """200,000 draws in two calls follow the enumerated mixture over orders; p > 1e-4 catches 1%."""
    model = build("absorbing", "conditional")
    mixture = laws_by_order(model, AnyOrder([1, 2]), DENSE).mean(0)
    assert caught_error(DRAWS, 27) < 0.01
    assert np.abs(mixture - DENSE.probabilities).sum() / 2 > 0.02
    for sampler, steps in ((AnyOrder([1, 2]), None), (AnyOrder(), 2)):
        generator = torch.Generator().manual_seed(1)
        drawn = sample(model, DRAWS, length=3, sampler=sampler, steps=steps, generator=generator)
        assert chi_square(counts_of(drawn.tokens, 3), mixture) > P_VALUE
        assert drawn.calls is not None
        assert (drawn.calls == 2).all()


@pytest.mark.parametrize("blocks", ["uniform", "cosine"])
def test_rows_of_several_lengths(blocks: str) -> None:
    """Each row its own blocks: n positions take min(n, steps) calls; given positions take none."""
    network = sparse_chain(3, 4, successors=3)
    model = Diffusion(network, Absorbing(3), LogLinear(), Conditional())
    lengths = torch.arange(1, 10)
    tokens = torch.zeros(9, 9, dtype=torch.int64)
    for steps in (1, 4, 20):
        made = AnyOrder(blocks)  # type: ignore[arg-type]
        assert forced(model, made, tokens, lengths=lengths, steps=steps).calls.tolist() == [
            min(n, steps) for n in range(1, 10)
        ]
    known = torch.arange(9) < torch.arange(9)[:, None]
    assert forced(model, AnyOrder(), tokens, known=known, steps=4).calls.tolist() == [4] * 6 + [3, 2, 1]


# ---- the schedule that costs least ----------------------------------------------------------------------------------
def test_repeated_bit() -> None:
    """L = 8, T = 2: (1, 7) costs nothing, two equal blocks 3 ln 2 = 2.079 nats."""
    curve = torch.from_numpy(curve_of(REPEATED_BIT))
    np.testing.assert_allclose(curve, [math.log(2)] + [0.0] * 7, atol=1e-12)
    assert optimal_blocks(curve, 2) == [1, 7]
    assert block_cost(curve, [1, 7]) == pytest.approx(0, abs=1e-12)
    assert block_cost(curve, [4, 4]) == pytest.approx(2.0794415, abs=1e-7)
    model = build("absorbing", "conditional", toy=REPEATED_BIT)
    for blocks, steps, broken in ((optimal_blocks(curve, 2), None, 0.0), ("uniform", 2, 7 / 8)):
        made = AnyOrder(blocks)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(0)
        tokens = sample(model, 20_000, length=8, sampler=made, steps=steps, generator=generator).tokens
        # Of 4 independent bits all agree with probability 1/8.
        assert float((tokens != tokens[:, :1]).any(-1).double().mean()) == pytest.approx(broken, abs=0.01)


@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_no_schedule_costs_less(length: int) -> None:
    """Against every composition, for random curves, falling and not: 1e-12."""
    draw = np.random.default_rng(length)
    for falling in (True, False):
        for _ in range(5):
            values = draw.gamma(1.0, size=length)
            curve = torch.from_numpy(np.sort(values)[::-1].copy() if falling else values)
            for steps in range(1, length + 1):
                sizes = optimal_blocks(curve, steps)
                assert len(sizes) == steps
                best = min(block_cost(curve, other) for other in compositions(length, steps))
                assert block_cost(curve, sizes) == pytest.approx(best, abs=1e-12)


def test_named_schedules() -> None:
    """Every call reveals something, all is revealed at the end; uniform sizes differ by one, cosine's grow."""
    counts = torch.tensor([0, 1, 2, 7, 10, 33])
    for blocks in ("uniform", "cosine"):
        for steps in (None, 1, 2, 3, 7, 40):
            ends = block_ends(counts, blocks, steps)
            for n, row in zip(counts.tolist(), ends, strict=True):
                calls = min(n, steps or n)
                sizes = torch.diff(row, prepend=torch.zeros(1, dtype=torch.int64))
                assert int(sizes.sum()) == n
                assert (sizes[:calls] >= 1).all()
                assert (sizes[calls:] == 0).all()
                if blocks == "uniform" and n:
                    assert int(sizes[:calls].max() - sizes[:calls].min()) <= 1
    cosine = block_ends(torch.tensor([100]), "cosine", 5)[0]
    assert cosine.tolist() == [int(100 * (1 - math.cos(math.pi * k / 10)) + 1e-9) for k in range(1, 6)]


# ---- the curve from data --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("toy", [TOYS["parity2x4"], REPEATED_BIT], ids=lambda toy: toy.name)
def test_curve_where_every_order_is_alike(toy: Toy) -> None:
    """Each sequence of the support once: no noise of any kind; 1e-12."""
    model = build("absorbing", "conditional", toy=toy)
    data = Sequences.full(torch.from_numpy(toy.support))
    curve = information_curve(model, data, generator=torch.Generator().manual_seed(0), batch_size=3)
    np.testing.assert_allclose(curve, curve_of(toy), atol=1e-12)


def test_curve_from_samples() -> None:
    """20,000 sequences of a joint where all depends on all: 0.02 nats; the best blocks follow from it. The same by
    keys, whatever the batches."""
    toy = dense(2, 5, seed=3)
    model = build("absorbing", "denoiser", toy=toy)
    draw = np.random.default_rng(0).choice(len(toy.sequences), 20_000, p=toy.probabilities)
    data = Sequences.full(torch.from_numpy(toy.sequences[draw]))
    keys = Keys(0, torch.arange(len(data)))
    curve = information_curve(model, data, generator=keys, batch_size=5_000)
    np.testing.assert_allclose(curve, curve_of(toy), atol=0.02)
    assert curve_of(toy)[0] - curve_of(toy)[-1] > 0.05
    assert optimal_blocks(curve, 3) == optimal_blocks(torch.from_numpy(curve_of(toy)), 3)
    torch.testing.assert_close(information_curve(model, data, generator=keys, batch_size=20_000), curve)


# ---- refusals -------------------------------------------------------------------------------------------------------
def test_refusals() -> None:
    model, data = build("absorbing", "conditional"), Sequences.full(torch.zeros(2, 3, dtype=torch.int64))
    generator = torch.Generator().manual_seed(0)
    for blocks in ("linear", [], [2, 0]):
        with pytest.raises(IncompatibleError, match=r"blocks: got .*, expected 'uniform' or 'cosine', or sizes"):
            AnyOrder(blocks)  # type: ignore[arg-type]
    with pytest.raises(IncompatibleError, match="got sizes that add up to 4, expected 3, the positions"):
        sample(model, 2, length=3, sampler=AnyOrder([2, 2]), generator=generator)
    with pytest.raises(IncompatibleError, match="got 2 sizes, expected steps=3 of them"):
        sample(model, 2, length=3, sampler=AnyOrder([1, 2]), steps=3, generator=generator)
    with pytest.raises(IncompatibleError, match="steps: got 0, expected at least 1"):
        sample(model, 2, length=3, sampler=AnyOrder(), steps=0, generator=generator)
    with pytest.raises(IncompatibleError, match="expected 1 to 3, the positions"):
        optimal_blocks(torch.ones(3), 4)
    with pytest.raises(IncompatibleError, match="sizes that add up to 3"):
        block_cost(torch.ones(3), [2, 2])
    with pytest.raises(IncompatibleError, match="under Uniform, expected sequences of one length"):
        information_curve(build("uniform", "denoiser"), data, generator=generator)
    with pytest.raises(IncompatibleError, match="expected sequences of one length"):
        information_curve(model, Sequences.from_lists([[0], [1, 2]]), generator=generator)
