"""Blocks of a random order, entropy-bounded calls, intersections of constraints: their laws in NumPy, path by path."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from discdiff.constraints import Allowed, Clamp, Constraint
from discdiff.prediction import positions_of
from discdiff.samplers import AnyOrder, EntropyBounded, Sampler
from discdiff.sampling import sample
from tests.cases import build
from tests.forced import every, forced, laws_by_order
from tests.laws import all_orders, divergence
from tests.toys import (
    DENSE,
    P_VALUE,
    TOYS,
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
Known = tuple[int, ...]
"""A token at each position, −1 where nothing is known."""


def consistent(toy: Toy, known: Known) -> Array:
    """p0(· | known) over all sequences, `[V^L]`."""
    return toy.given({i: token for i, token in enumerate(known) if token >= 0})


def marginals(toy: Toy, known: Known) -> Array:
    """p0(x_i | known), `[L, V]`."""
    onehot = np.eye(toy.vocab_size)[toy.sequences]
    return np.asarray(np.einsum("k,kiv->iv", consistent(toy, known), onehot))


def entropies(p: Array) -> Array:
    """−Σ p log p along the last axis, nats."""
    return np.asarray(-(p * np.log(np.where(p > 0, p, 1))).sum(-1))


def drawn_law(
    sampler: Sampler, toy: Toy, *, steps: int | None = None, constraint: Constraint | None = None, seed: int = 1
) -> Array:
    """How often each sequence is drawn."""
    tokens = sample(
        build("absorbing", "conditional", toy=toy),
        DRAWS,
        length=None if constraint else toy.length,
        sampler=sampler,
        steps=steps,
        constraint=constraint,
        generator=torch.Generator().manual_seed(seed),
    ).tokens
    return counts_of(tokens, toy.vocab_size).astype(np.float64)


# ---- blocks ---------------------------------------------------------------------------------------------------------
def blocks_law(toy: Toy, sizes: list[int]) -> Array:
    """The average over all orders of Π over blocks of Π p0(x_i | blocks before): `[V^L]`."""
    total, cuts = np.zeros(len(toy.sequences)), [0, *itertools.accumulate(sizes)]
    for order in all_orders(toy.length):
        for k, x in enumerate(toy.sequences):
            p = 1.0
            for start, end in itertools.pairwise(cuts):
                known = tuple(int(x[i]) if i in order[:start] else -1 for i in range(toy.length))
                if p > 0:
                    law = marginals(toy, known)
                    p *= float(np.prod([law[i, x[i]] for i in order[start:end]]))
            total[k] += p
    return np.asarray(total / len(all_orders(toy.length)))


def blocks_error(sampler: AnyOrder, toy: Toy, sizes: list[int]) -> float:
    """The largest difference of the sampler's law, averaged over the orders that it may draw, from that mixture."""
    model = build("absorbing", "conditional", toy=toy)
    steps = len(sizes) if isinstance(sampler.blocks, str) else None
    found = laws_by_order(model, sampler, toy, steps=steps).mean(0)
    return float(np.abs(found - blocks_law(toy, sizes)).max())


@pytest.mark.parametrize("toy", ["dense3x3", "near-independent3x3"])
@pytest.mark.parametrize("sizes", [[3], [1, 2], [2, 1], [1, 1, 1]], ids=str)
def test_blocks_of_a_random_order(sizes: list[int], toy: str) -> None:
    """1e-12 for every sequence; it is the data's law at one position a call alone."""
    assert blocks_error(AnyOrder(sizes), TOYS[toy], sizes) < 1e-12
    off = total_variation(blocks_law(TOYS[toy], sizes), TOYS[toy].probabilities)
    assert (off < 1e-12) == (len(sizes) == 3)


@pytest.mark.parametrize(("blocks", "sizes"), [("uniform", [2, 2]), ("cosine", [1, 3])])
def test_named_blocks(blocks: str, sizes: list[int]) -> None:
    """Two calls of four positions: the halves, and by the cosine ⌊4 (1 − cos π/4)⌋ = 1 first."""
    assert blocks_error(AnyOrder(blocks), TOYS["dense2x4"], sizes) < 1e-12  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [[3], [1, 2], [2, 1]], ids=str)
def test_draws_in_blocks(sizes: list[int]) -> None:
    """200,000 draws; p > 1e-4 catches 1% in total variation."""
    assert caught_error(DRAWS, 27) < 0.01
    assert chi_square(drawn_law(AnyOrder(sizes), DENSE), blocks_law(DENSE, sizes)) > P_VALUE


# ---- entropy-bounded ------------------------------------------------------------------------------------------------
def bounded_law(toy: Toy, gamma: float) -> tuple[Array, float, float]:
    """The law; Σ over calls of E_p0 KL(p0(x_U | known) ‖ Π p0(x_i | known)); and the largest such KL of any call."""
    start: Known = (-1,) * toy.length
    law, truth = {start: 1.0}, {start: 1.0}
    lost, worst = 0.0, 0.0
    while any(-1 in known for known in law):
        after: dict[Known, float] = {}
        met: dict[Known, float] = {}
        for known, chance in law.items():
            hidden = [i for i, token in enumerate(known) if token < 0]
            if not hidden:
                after[known] = after.get(known, 0.0) + chance
                met[known] = truth.get(known, 0.0)
                continue
            p, joint = marginals(toy, known), consistent(toy, known)
            h = entropies(p)
            surest = sorted(hidden, key=lambda i: h[i])
            chosen = max(
                (surest[:n] for n in range(1, len(surest) + 1) if sum(h[i] for i in surest[: n - 1]) <= gamma), key=len
            )
            kl = 0.0
            for tokens in itertools.product(range(toy.vocab_size), repeat=len(chosen)):
                product = float(np.prod([p[i, token] for i, token in zip(chosen, tokens, strict=True)]))
                exact = float(joint[(toy.sequences[:, chosen] == tokens).all(-1)].sum())
                kl += exact * np.log(exact / product) if exact > 0 else 0.0
                revealed = dict(zip(chosen, tokens, strict=True))
                new = tuple(revealed.get(i, token) for i, token in enumerate(known))
                if product > 0:
                    after[new] = after.get(new, 0.0) + chance * product
                    met[new] = met.get(new, 0.0) + truth.get(known, 0.0) * exact
            assert kl <= sum(h[i] for i in chosen) - max(h[i] for i in chosen) + 1e-12
            lost, worst = lost + truth.get(known, 0.0) * kl, max(worst, kl)
        law, truth = after, met
    return np.array([law.get(tuple(map(int, x)), 0.0) for x in toy.sequences]), lost, worst


EVERY_BOUND = [0.0, 0.3, 0.7, 1.0, 1.5, 3.0]


def bounded_error(toy: Toy, gamma: float) -> float:
    """The largest difference of the sampler's law from the one above."""
    model = build("absorbing", "conditional", toy=toy)
    found = np.exp(forced(model, EntropyBounded(gamma), every(toy)).log_p)
    return float(np.abs(found - bounded_law(toy, gamma)[0]).max())


@pytest.mark.parametrize("toy", [DENSE, TOYS["dense2x4"], dense(2, 5, seed=3)], ids=lambda toy: toy.name)
def test_entropy_bounded_law(toy: Toy) -> None:
    """1e-12; no call loses more than γ, and KL(p0 ‖ law) is what the calls lose, to the digit."""
    losses = []
    for gamma in EVERY_BOUND:
        law, lost, worst = bounded_law(toy, gamma)
        assert bounded_error(toy, gamma) < 1e-12
        assert worst <= gamma + 1e-12
        assert divergence(toy.probabilities, law) == pytest.approx(lost, abs=1e-12)
        losses.append(lost)
    assert losses[0] < 1e-12
    assert losses[-1] > 0.01
    assert len({round(lost, 9) for lost in losses}) > 2  # the bounds tell laws apart


@pytest.mark.parametrize("gamma", [0.7, 1.0])
def test_entropy_bounded_draws(gamma: float) -> None:
    """200,000 draws; p > 1e-4 catches 1% in total variation."""
    toy = TOYS["dense2x4"]
    law = bounded_law(toy, gamma)[0]
    assert total_variation(law, toy.probabilities) > 0.02
    assert chi_square(drawn_law(EntropyBounded(gamma), toy), law) > P_VALUE


# ---- intersections --------------------------------------------------------------------------------------------------
def table(*rows: str) -> torch.Tensor:
    """Allowed tokens `[L, V]`, a position a string of 0 and 1."""
    return torch.tensor([[mark == "1" for mark in row] for row in rows])


FIRST, SECOND = table("110", "111", "011"), table("011", "101", "111")
GIVEN = Clamp(torch.tensor([0, 2, 0]), torch.tensor([False, True, False]))
INTERSECTIONS: dict[str, tuple[Constraint, torch.Tensor]] = {
    "two tables": (Allowed(FIRST) & Allowed(SECOND), table("010", "101", "011")),
    "table and clamp": (Allowed(FIRST) & GIVEN, table("110", "001", "011")),
    "clamp and table": (GIVEN & Allowed(FIRST), table("110", "001", "011")),
    "three": (Allowed(table("111", "110", "011")) & Allowed(table("110", "111", "111")) & Allowed(SECOND),
              table("010", "100", "011")),
}  # fmt: skip


def intersection_law(toy: Toy, allowed: Array, orders: list[tuple[int, ...]]) -> Array:
    """Positions of one allowed token known, the others one at a time from p0(x_i | known) cut to their sets."""
    single = {i: int(row.argmax()) for i, row in enumerate(allowed) if row.sum() == 1}
    total = np.zeros(len(toy.sequences))
    for order in orders:
        for k, x in enumerate(toy.sequences):
            known = dict(single)
            p = float(all(x[i] == token for i, token in single.items()))
            for i in order:
                if i not in known and p > 0:
                    law = marginals(toy, tuple(known.get(j, -1) for j in range(toy.length)))[i] * allowed[i]
                    p *= float(law[x[i]] / law.sum())
                    known[i] = int(x[i])
            total[k] += p
    return total / len(orders)


@pytest.mark.parametrize("name", INTERSECTIONS)
def test_draws_under_an_intersection(name: str) -> None:
    """200,000 draws in a random order follow the enumerated law, no token outside; p > 1e-4 catches 1%."""
    constraint, allowed = INTERSECTIONS[name]
    law = intersection_law(DENSE, allowed.numpy(), all_orders(3))
    assert law.sum() == pytest.approx(1, abs=1e-12)
    assert chi_square(drawn_law(AnyOrder(), DENSE, constraint=constraint), law) > P_VALUE


def intersection_error(constraint: Constraint, allowed: torch.Tensor) -> float:
    """The largest difference of a draw's law at any state from the denoiser's own, cut to both sets."""
    model = build("absorbing", "conditional")
    states = torch.from_numpy(every_sequence(4, 3))
    prediction = model.predict(states, torch.ones(len(states), 1, dtype=torch.float64))
    where = positions_of(states == 3)
    found = constraint.log_marginals(prediction, where).exp().numpy()
    worst = 0.0
    for row, position, law in zip(*(part.tolist() for part in where), found, strict=True):
        known = tuple(-1 if token == 3 else token for token in states[row].tolist())
        want = marginals(DENSE, known)[position] * allowed[position].numpy()
        worst = max(worst, float(np.abs(law - want / want.sum()).max()))
    return worst


def test_every_draw_is_cut_to_both() -> None:
    """At every state and masked position: 1e-12. (A clamp's own positions are given, and never drawn.)"""
    assert intersection_error(*INTERSECTIONS["two tables"]) < 1e-12
    assert intersection_error(*INTERSECTIONS["three"]) < 1e-12
