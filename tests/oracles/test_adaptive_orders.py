"""Orders that depend on what is revealed: which positions they take, and the laws that follow."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from discdiff.constraints import Allowed
from discdiff.errors import IncompatibleError
from discdiff.model import Diffusion, Model
from discdiff.networks import Network
from discdiff.networks.markov import sparse_chain
from discdiff.parameterizations import Conditional
from discdiff.processes import Absorbing
from discdiff.randomness import Keys
from discdiff.samplers import Confidence, EntropyBounded, Sampler, State
from discdiff.samplers import certainty as certainties
from discdiff.samplers.certainty import entropy, log_margin
from discdiff.samplers.confidence import Measure
from discdiff.samplers.entropy_bounded import within_bound
from discdiff.sampling import sample
from discdiff.schedules import LogLinear
from tests.cases import build
from tests.forced import every, forced, law
from tests.laws import divergence
from tests.oracles.test_o13_block_schedules import REPEATED_BIT
from tests.toy_networks import Tabulated, Wrong
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
    index_of,
    total_variation,
)

DRAWS = 200_000


def wrong(toy: Toy, num_states: int) -> Network:
    return Tabulated(Wrong(toy, num_states), toy.length)


def denoisers(model: Model, length: int) -> Array:
    """p(x0_i | xt) of all states, `[S^L, L, V]`."""
    states = torch.from_numpy(every_sequence(model.process.num_states, length))
    return model.predict(states, torch.ones(len(states), 1, dtype=torch.float64)).log_denoiser().exp().numpy()


def certainty(p: Array, by: Measure) -> Array:
    """Of each position, from its law `[..., V]`."""
    ordered = np.sort(p)
    with np.errstate(divide="ignore", invalid="ignore"):
        plogp = np.where(p > 0, p * np.log(p), 0).sum(-1)
    return {"max_probability": ordered[..., -1], "margin": ordered[..., -1] - ordered[..., -2], "entropy": plogp}[by]


# ---- which positions ------------------------------------------------------------------------------------------------
def wrong_choices(sampler: Confidence, by: Measure, sizes: list[int]) -> int:
    """How often a run over all sequences of four tokens reveals other positions than the surest ones."""
    toy = dense(3, 4, seed=5)
    model = build("absorbing", "conditional", toy=toy, network=wrong)
    known, faults = denoisers(model, 4), 0
    before = torch.full((len(toy.sequences), 4), 3)
    for size, after in zip(sizes, forced(model, sampler, every(toy), steps=len(sizes)).tokens, strict=True):
        sure = certainty(known[index_of(before, 4).numpy()], by)
        hidden = (before == 3).numpy()
        best = np.argsort(np.where(hidden, -sure, np.inf), -1)[:, :size]
        revealed = hidden & (after != 3).numpy()
        faults += int((revealed.sum(-1) != size).sum() + (~np.take_along_axis(revealed, best, -1)).any(-1).sum())
        before = after
    return faults


@pytest.mark.parametrize("by", ["max_probability", "margin", "entropy"])
@pytest.mark.parametrize("sizes", [[1, 1, 1, 1], [2, 2], [1, 1, 2]], ids=str)
def test_the_surest_positions_come_first(by: Measure, sizes: list[int]) -> None:
    """At every state of every path, one or several a call."""
    assert wrong_choices(Confidence(by, sizes), by, sizes) == 0
    if sizes != [1, 1, 2]:
        assert wrong_choices(Confidence(by), by, sizes) == 0


def test_within_bound() -> None:
    """The largest set that the bound allows, by trying all sets of the most certain positions."""
    draw = np.random.default_rng(0)
    for _ in range(50):
        values = draw.gamma(1.0, size=6) * (draw.random(6) < 0.8)
        for gamma in (0.0, 0.3, 1.0, 10.0):
            ascending = np.sort(values)
            sizes = [n for n in range(1, 7) if ascending[:n].sum() - ascending[:n].max() <= gamma]
            chosen = within_bound(torch.from_numpy(values)[None], gamma)[0].numpy()
            assert chosen.sum() == max(sizes)
            assert values[chosen].max() <= (values[~chosen].min() if (~chosen).any() else np.inf)


def test_readings() -> None:
    """Entropy and margin of certain, even and general laws, in float32 too."""
    p = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.6, 0.3, 0.1]])
    torch.testing.assert_close(entropy(p.log()), torch.tensor([0.0, np.log(2), 0.8979457]).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(log_margin(p.log()).exp(), torch.tensor([1.0, 0.0, 0.3]).double(), rtol=0, atol=1e-6)


def test_certainty_is_of_the_constrained_law() -> None:
    """Where a set forbids the tokens that the model likes, it is unsure; else position 0 would come first."""
    joint = np.zeros((3, 3))
    joint[0, :2] = 0.45
    joint[1:, 0] = 0.05
    model = build("absorbing", "conditional", toy=Toy("sure", joint / joint.sum()))
    table = torch.tensor([[False, True, True], [True, True, False]])
    first: list[State] = []
    for constraint in (None, Allowed(table)):
        sample(
            model,
            1,
            length=2,
            sampler=Confidence(),
            constraint=constraint,
            generator=torch.Generator().manual_seed(0),
            on_step=lambda step, total, state: first.append(state) if step == 1 else None,
        )
    assert [(state.tokens[0] < 3).tolist() for state in first] == [[True, False], [False, True]]


@pytest.mark.parametrize(
    "sampler", [Confidence(), Confidence("sampled"), EntropyBounded(0.5)], ids=["surest", "sampled", "bound"]
)
def test_memory_in_parts(monkeypatch: pytest.MonkeyPatch, sampler: Sampler) -> None:
    """Marginals read one position at a time say the same as all at once."""
    model, runs = build("absorbing", "conditional", network=wrong), []
    for chunk in (1 << 24, 1, 7):
        monkeypatch.setattr(certainties, "CHUNK", chunk)
        runs.append(sample(model, 50, length=3, sampler=sampler, generator=Keys(0, torch.arange(50))).tokens)
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])


# ---- laws -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("sampler", "steps"),
    [
        (Confidence(), None),
        (Confidence("margin"), 2),
        (Confidence("entropy", "cosine"), 2),
        (Confidence("entropy", [2, 1]), None),
        (EntropyBounded(0.0), None),
        (EntropyBounded(0.9), None),
    ],
    ids=["surest", "margin", "entropy, cosine", "entropy, given sizes", "bound 0", "bound 0.9"],
)
def test_draws_follow_the_enumerated_law(sampler: Sampler, steps: int | None) -> None:
    """A wrong network, 200,000 draws; p > 1e-4 catches 1%."""
    model = build("absorbing", "conditional", network=wrong)
    expected = law(model, sampler, DENSE, steps=steps)
    assert expected.sum() == pytest.approx(1, abs=1e-12)
    assert caught_error(DRAWS, 27) < 0.01
    generator = torch.Generator().manual_seed(2)
    drawn = sample(model, DRAWS, length=3, sampler=sampler, steps=steps, generator=generator)
    assert chi_square(counts_of(drawn.tokens, 3), expected) > P_VALUE


def sampled_law(model: Model, toy: Toy) -> Array:
    """Draw every hidden position, keep the one whose token is the likeliest, again and again: by walking all paths."""
    known, mask = denoisers(model, toy.length), toy.vocab_size
    law = {(mask,) * toy.length: 1.0}
    for _ in range(toy.length):
        after: dict[tuple[int, ...], float] = {}
        for state, chance in law.items():
            hidden = [i for i, token in enumerate(state) if token == mask]
            p = known[np.ravel_multi_index(state, (mask + 1,) * toy.length)]
            for drawn in itertools.product(range(mask), repeat=len(hidden)):
                each = [p[i, token] for i, token in zip(hidden, drawn, strict=True)]
                best = int(np.argmax(each))
                moved = tuple(drawn[best] if i == hidden[best] else token for i, token in enumerate(state))
                after[moved] = after.get(moved, 0.0) + chance * float(np.prod(each))
        law = after
    return np.array([law.get(tuple(row), 0.0) for row in toy.sequences.tolist()])


def test_sampled_confidence_is_not_exact() -> None:
    """One position a call, the exact network: the law is the enumerated one, and far from the data's."""
    model = build("absorbing", "conditional")
    expected = sampled_law(model, DENSE)
    assert total_variation(expected, DENSE.probabilities) > 0.05
    generator = torch.Generator().manual_seed(3)
    drawn = sample(model, DRAWS, length=3, sampler=Confidence("sampled"), generator=generator)
    assert chi_square(counts_of(drawn.tokens, 3), expected) > P_VALUE


@pytest.mark.parametrize("toy", ["dense3x3", "repeat3x3", "parity2x4", "near-independent3x3", "bit"])
@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.7, 1.5])
def test_entropy_bound_bounds_the_error(gamma: float, toy: str) -> None:
    """KL(p0 ‖ sampler) ≤ γ E[calls]; 0 at γ = 0. It takes fewer calls as γ grows: one at last."""
    table = REPEATED_BIT if toy == "bit" else TOYS[toy]
    model = build("absorbing", "conditional", toy=table)
    course = forced(model, EntropyBounded(gamma), every(table))
    calls = float((course.calls * table.probabilities).sum())
    kl = divergence(table.probabilities, np.exp(course.log_p))
    assert kl <= gamma * calls + 1e-12
    most = float((forced(model, EntropyBounded(0.0), every(table)).calls * table.probabilities).sum())
    assert calls <= most
    assert (forced(model, EntropyBounded(100.0), every(table)).calls == 1).all()


def test_what_is_certain_comes_together() -> None:
    """All positions equal: two calls at γ = 0 + rounding, and no error."""
    table = TOYS["repeat3x3"]
    model = build("absorbing", "conditional", toy=table)
    course = forced(model, EntropyBounded(1e-9), every(table))
    np.testing.assert_allclose(np.exp(course.log_p), table.probabilities, atol=1e-12)
    assert (course.calls[table.probabilities > 0] == 2).all()


def test_entropy_bound_on_a_chain() -> None:
    """The sparse chain at γ = 3: each row its own number of calls, fewer than half of L, a loss within the bound."""
    network = sparse_chain(16, 17)
    model = Diffusion(network, Absorbing(16), LogLinear(), Conditional())
    tokens = network.sample(300, 32, generator=torch.Generator().manual_seed(0))
    course = forced(model, EntropyBounded(3.0), tokens)
    assert 6 < course.calls.mean() < 16
    assert course.calls.std() > 0.2
    loss = network.log_prob(tokens).numpy() - course.log_p
    assert 5 * loss.std() / np.sqrt(300) < loss.mean() < 3.0 * course.calls.mean()


# ---- noise on the order ---------------------------------------------------------------------------------------------
def test_noise_picks_positions_in_proportion_to_certainty() -> None:
    """With Gumbel noise of scale 1 the first position is i with probability c_i / Σ c; 200,000 rows catch 1%."""
    model = build("absorbing", "conditional", network=wrong)
    first = torch.zeros(0)

    def watch(step: int, total: int, state: State) -> None:
        nonlocal first
        first = (state.tokens < 3).int().argmax(-1) if step == 1 else first

    sample(
        model,
        DRAWS,
        length=3,
        sampler=Confidence(noise=1.0),
        generator=Keys(0, torch.arange(DRAWS)),
        on_step=watch,
    )
    c = certainty(denoisers(model, 3)[-1], "max_probability")
    assert np.ptp(c) > 0.05
    assert chi_square(np.bincount(first.numpy(), minlength=3), c / c.sum()) > P_VALUE


# ---- refusals -------------------------------------------------------------------------------------------------------
def test_refusals() -> None:
    with pytest.raises(IncompatibleError, match="got 'luck', expected max_probability, margin, entropy, sampled"):
        Confidence("luck")  # type: ignore[arg-type]
    for noise in (-1.0, float("nan"), float("inf")):
        with pytest.raises(IncompatibleError, match="expected 0 or more"):
            Confidence(noise=noise)
    for gamma in (-0.1, float("nan"), float("inf")):
        with pytest.raises(IncompatibleError, match="expected 0 nats or more"):
            EntropyBounded(gamma)
    with pytest.raises(IncompatibleError, match="got steps=3, expected no steps: the bound says"):
        sample(
            build("absorbing", "conditional"),
            2,
            length=3,
            sampler=EntropyBounded(),
            steps=3,
            generator=torch.Generator().manual_seed(0),
        )
