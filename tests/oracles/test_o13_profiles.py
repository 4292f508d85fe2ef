"""O13, measured: the profile of a model, the schedules that it chooses and what it says they lose."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from discdiff.errors import CheckpointError, IncompatibleError
from discdiff.model import Diffusion
from discdiff.networks.base import Context, Network
from discdiff.networks.exact import Exact
from discdiff.networks.markov import MarkovChain, sparse_chain
from discdiff.networks.transformer import Transformer
from discdiff.parameterizations import Conditional, Parameterization
from discdiff.processes import Absorbing, Process
from discdiff.randomness import Keys
from discdiff.samplers import (
    Ancestral,
    AnyOrder,
    Certificate,
    Profile,
    block_cost,
    block_divergence,
    measure_profile,
    optimal_blocks,
    profiling,
)
from discdiff.samplers.block_table import BlockTable, fewest_blocks
from discdiff.samplers.profile import LengthGroup
from discdiff.sampling import sample
from discdiff.schedules import Linear, LogLinear, Schedule
from discdiff.sequences import Sequences
from tests.cases import SCHEDULES, build
from tests.forced import laws_by_order, mean_divergence
from tests.laws import divergence, grid_law, prior_law
from tests.oracles.test_o13_block_schedules import REPEATED_BIT, curve_of, entropy, joint_entropy
from tests.toy_networks import Tabulated, ToyNetwork, Wrong
from tests.toys import TOYS, Array, Toy, dense, repeat

SIX = dense(2, 6, seed=3)
LIMIT = 4.7  # standard errors of 32 groups: Student's t with 31 degrees of freedom, p = 5e-5 two-sided


def keys(count: int, seed: int = 0) -> Keys:
    return Keys(seed, torch.arange(count))


def measured(toy: Toy, count: int, seed: int = 0) -> Profile:
    network = Tabulated(Exact(torch.from_numpy(toy.joint), toy.vocab_size + 1), toy.length)
    model = Diffusion(network, Absorbing(toy.vocab_size), LogLinear(), Conditional())
    lengths = torch.full((count,), toy.length)
    return measure_profile(model, lengths=lengths, generator=keys(count, seed), batch_size=20_000)


def true_profile(toy: Toy) -> Profile:
    """The enumerated curve as a profile without noise."""
    at = tuple(j / (toy.length - 1) for j in range(toy.length))
    curves = torch.from_numpy(curve_of(toy)).expand(4, -1)
    return Profile((LengthGroup(toy.length, toy.length, 8, at, curves),), "draws")


# ---- the table ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("length", [3, 17, 64, 100])
def test_divide_and_conquer_finds_what_all_pairs_do(length: int) -> None:
    """Falling curves, with flat stretches and without, against the recursion over every start: 1e-12."""
    draw = np.random.default_rng(length)
    for flat in (False, True):
        falls = draw.gamma(0.5, size=length) * (draw.random(length) < (0.3 if flat else 1))
        curve = np.cumsum(falls[::-1])[::-1]
        best = np.full(length + 1, np.inf)
        best[0], table = 0.0, BlockTable(torch.from_numpy(curve.copy()))
        for steps in range(1, length + 1):
            best = np.array(
                [min((best[a] + (b - a) * curve[a] for a in range(b)), default=np.inf) for b in range(length + 1)]
            )
            assert table.cost(steps) == pytest.approx(best[-1] - curve.sum(), abs=1e-12 * curve.sum())
            assert block_cost(torch.from_numpy(curve.copy()), table.sizes(steps)) == pytest.approx(
                table.cost(steps), abs=1e-11 * curve.sum()
            )


def test_fewest_blocks() -> None:
    """One call fewer would lose more than is allowed; the repeated bit takes two."""
    curve = torch.from_numpy(curve_of(SIX))
    for error in (0.0, 0.005, 0.03, 0.2, 1.0):
        sizes = fewest_blocks(curve, error)
        assert block_cost(curve, sizes) <= error + 1e-12
        if len(sizes) > 1:
            assert block_cost(curve, optimal_blocks(curve, len(sizes) - 1)) > error
    assert fewest_blocks(torch.from_numpy(curve_of(REPEATED_BIT)), 1e-9) == [1, 7]


# ---- measuring ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("toy", [SIX, TOYS["repeat3x3"], TOYS["parity2x4"], REPEATED_BIT], ids=lambda toy: toy.name)
def test_curve_of_own_draws(toy: Toy) -> None:
    """The enumerated curve, each point within its own standard error; where all orders are alike, exactly."""
    profile = measured(toy, 8_192)
    wrong = (profile.curve(toy.length) - torch.from_numpy(curve_of(toy))).abs()
    assert (wrong <= LIMIT * profile.standard_errors(toy.length) + 1e-12).all()
    assert profile.standard_errors(toy.length).max() < 0.006
    assert (profile.curve(toy.length).diff() <= 0).all()


@pytest.mark.parametrize("sizes", [[3, 1], [2, 1, 1], [4]], ids=str)
def test_certificate_to_one_percent(sizes: list[int]) -> None:
    """What a schedule loses, against the sampler's own laws, order by order. An error of 1 % would show, at 99 %."""
    toy = TOYS["dense2x4"]
    laws = laws_by_order(build("absorbing", "conditional", toy=toy), AnyOrder(sizes), toy)
    truth, certificate = mean_divergence(toy.probabilities, laws), large_profile().certificate(sizes)
    assert (LIMIT + 2.5) * certificate.standard_error < 0.01 * truth
    assert abs(certificate.nats - truth) < LIMIT * certificate.standard_error


@cache
def large_profile() -> Profile:
    return measured(TOYS["dense2x4"], 600_000)


def six_model() -> Diffusion:
    return build("absorbing", "conditional", toy=SIX)


@pytest.mark.parametrize("error", [0.003, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("name", ["dense2x6", "bit", "parity2x4", "dense2x4"])
def test_error_is_kept(name: str, error: float) -> None:
    """The enumerated law of the sampler that an error chooses is within it; one call fewer, the best, is not."""
    toy = {"dense2x6": SIX, "bit": REPEATED_BIT}.get(name) or TOYS[name]
    model, plan = build("absorbing", "conditional", toy=toy), measured(toy, 2_048).blocks(toy.length, error=error)
    if toy.length == 8:  # 8! orders, all alike: one row of each sequence does
        lost = block_cost(torch.from_numpy(curve_of(toy)), plan.sizes)
    else:
        laws = laws_by_order(model, AnyOrder(list(plan.sizes)), toy)
        lost = mean_divergence(toy.probabilities, laws)
        assert divergence(toy.probabilities, laws.mean(0)) <= lost + 1e-12  # the mixture is at least as near
    assert lost <= error + 1e-12
    assert plan.certificate.upper <= error
    if len(plan.sizes) > 1:
        curve = torch.from_numpy(curve_of(toy))
        assert block_cost(curve, optimal_blocks(curve, len(plan.sizes) - 1)) > 0.95 * error


def selection_bias(profiles: Sequence[Profile], steps: int) -> float:
    """How far certificates of chosen schedules are off on average, in standard errors of that average."""
    curve = torch.from_numpy(curve_of(SIX))
    plans = [profile.blocks(6, steps=steps) for profile in profiles]
    assert len({plan.sizes for plan in plans}) > 1
    off = np.array([plan.certificate.nats - block_cost(curve, plan.sizes) for plan in plans])
    return float(off.mean() / (off.std(ddof=1) / math.sqrt(len(off))))


@cache
def small_profiles() -> list[Profile]:
    return [measured(SIX, 8, seed=seed) for seed in range(1000)]


def test_a_schedule_is_not_praised_for_its_own_noise() -> None:
    """1,000 profiles of 8 sequences: certificates are right on average, though each schedule was chosen by noise."""
    assert abs(selection_bias(small_profiles(), 2)) < 4
    assert abs(selection_bias(small_profiles(), 3)) < 4


def test_data_and_draws_agree() -> None:
    """Sequences drawn from the exact law by enumeration measure the same as the model's own draws."""
    chosen = np.random.default_rng(0).choice(64, 8_192, p=SIX.probabilities)
    data = Sequences.full(torch.from_numpy(SIX.sequences[chosen]))
    found = measure_profile(six_model(), sequences=data, generator=keys(8_192), batch_size=8_192)
    assert found.source == "data"
    for sizes in ([3, 3], [4, 1, 1]):
        one, truth = found.certificate(sizes), block_cost(torch.from_numpy(curve_of(SIX)), sizes)
        assert one.standard_error < 0.02 * truth
        assert abs(one.nats - truth) < LIMIT * one.standard_error


def test_rows_are_their_own() -> None:
    """By keys the profile does not depend on the batches."""
    one, two = (
        measure_profile(six_model(), lengths=torch.full((40,), 6), generator=keys(40), batch_size=size)
        for size in (7, 40)
    )
    torch.testing.assert_close(one.groups[0].curves, two.groups[0].curves, rtol=0, atol=1e-12)


def test_divergence_of_an_inconsistent_network() -> None:
    """Predictions that are conditionals of no joint law: the direct measurement is that of the enumerated laws, order
    by order, at one position a call and in blocks."""
    toy = TOYS["dense2x4"]
    model = Diffusion(Wrong(toy, 3), Absorbing(2), LogLinear(), Conditional())
    alone = laws_by_order(model, AnyOrder(), toy)
    for sizes in ([3, 1], [1, 3], [4]):
        truth = np.mean(
            [divergence(p, q) for p, q in zip(alone, laws_by_order(model, AnyOrder(sizes), toy), strict=True)]
        )
        found = block_divergence(model, sizes, count=40_000, generator=keys(40_000), batch_size=20_000)
        assert found.standard_error < 0.02 * truth
        assert abs(found.nats - truth) < 4 * found.standard_error


@pytest.mark.parametrize("sizes", [[2, 2], [1, 2, 1]], ids=str)
def test_pairs_need_no_consistency(sizes: list[int]) -> None:
    """The same network: certificates of blocks of at most two positions are those of the enumerated laws, to 6 %."""
    toy = TOYS["dense2x4"]
    model = Diffusion(Wrong(toy, 3), Absorbing(2), LogLinear(), Conditional())
    alone, together = laws_by_order(model, AnyOrder(), toy), laws_by_order(model, AnyOrder(sizes), toy)
    truth = np.mean([divergence(p, q) for p, q in zip(alone, together, strict=True)])
    lengths = torch.full((60_000,), 4)
    found = measure_profile(model, lengths=lengths, generator=keys(60_000), batch_size=20_000).certificate(sizes)
    assert (LIMIT + 2.5) * found.standard_error < 0.06 * truth
    assert abs(found.nats - truth) < LIMIT * found.standard_error


class ByLabel(ToyNetwork):
    """A network for each class."""

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.networks, self.num_states = list(networks), networks[0].num_states

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        for network in self.networks:
            network.configure(process, parameterization)
        self.num_outputs = parameterization.num_outputs(process)

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        assert context.labels is not None
        answers = torch.stack([network.hidden(tokens, sigma, Context()) for network in self.networks])
        return answers[context.labels, torch.arange(len(tokens))]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("classes", [2, 4])
def test_classes_in_turn_are_in_both_halves(classes: int, order: int) -> None:
    """Every other sequence of a class whose positions are all equal, the rest independent: all at once loses half of
    5 ln 2, to 4 standard errors that are not zero, and whichever class comes first."""
    joints = [repeat(2, 6).joint, np.full((2,) * 6, 2.0**-6)][::order] * (classes // 2)
    network = ByLabel([Exact(torch.from_numpy(joint), 3) for joint in joints])
    model, labels = Diffusion(network, Absorbing(2), LogLinear(), Conditional()), torch.arange(256) % classes
    profile = measure_profile(model, lengths=torch.full((256,), 6), labels=labels, generator=keys(256))
    found = profile.blocks(6, steps=1).certificate
    assert 0.1 < found.standard_error < 0.4
    assert abs(found.nats - 2.5 * math.log(2)) < 4 * found.standard_error


# ---- lengths --------------------------------------------------------------------------------------------------------
CHAIN = sparse_chain(4, 5, successors=2)
CHAIN_MODEL = Diffusion(CHAIN, Absorbing(4), LogLinear(), Conditional())


def chain_curve(network: MarkovChain, length: int) -> Array:
    """f of a stationary chain: an open position is told of by the nearest known ones, at random distances a and b."""
    pi, powers = network.initial.numpy(), [np.eye(len(network.initial))]
    for _ in range(length):
        powers.append(powers[-1] @ network.transition.numpy())

    @cache
    def given(a: int | None, b: int | None) -> float:
        joint = pi[None, :, None] if a is None else (pi[:, None] * powers[a])[:, :, None]
        joint = joint if b is None else joint * powers[b][None]
        return entropy(joint.reshape(-1)) - entropy(joint.sum(1).reshape(-1))

    f = np.zeros(length)
    for i in range(length):
        for a, b in itertools.product([*range(1, i + 1), None], [*range(1, length - i), None]):
            free = length - 1 - (a or i) - (b or length - 1 - i)
            nearest = (a is not None) + (b is not None)
            for j in range(nearest, nearest + free + 1):
                share = math.comb(free, j - nearest) / math.comb(length - 1, j)
                f[j] += share * given(a, b) / length
    return f


def test_chain_curve() -> None:
    """The test's own truth, against enumeration of all 4^5 sequences."""
    law = np.exp(CHAIN.log_prob(torch.cartesian_prod(*[torch.arange(4)] * 5)).numpy())
    np.testing.assert_allclose(chain_curve(CHAIN, 5), curve_of(Toy("chain", law.reshape((4,) * 5))), atol=1e-12)


@pytest.mark.parametrize("calls", [1, 4, 12])
def test_lengths_share_a_curve_by_the_share_that_is_known(calls: int) -> None:
    """A chain at lengths 24 to 36, four groups of them: the certificate at any length is the exact chain's, to 5 % and
    its own noise."""
    profile = mixed_profile()
    assert len(profile.groups) == 4
    for length in (25, 30, 35):
        curve = torch.from_numpy(chain_curve(CHAIN, length))
        sizes = optimal_blocks(curve, calls)
        truth, found = block_cost(curve, sizes), profile.certificate(sizes)
        assert abs(found.nats - truth) < 0.05 * truth + 4 * found.standard_error
        assert found.standard_error < 0.05 * truth


@cache
def mixed_profile() -> Profile:
    lengths = 24 + torch.arange(512) % 13
    return measure_profile(CHAIN_MODEL, lengths=lengths, generator=keys(512), batch_size=256)


@pytest.mark.parametrize("calls", [1, 5, 20])
def test_linear_between_what_is_looked_at(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Data of 60 tokens, looked at with 17 numbers of known positions in place of 60: 3 % and noise."""
    for name, value in {"EVERY": 20, "_DENSE": 5, "_MIDDLE": 6}.items():
        monkeypatch.setattr(profiling, name, value)
    length = 60
    data = Sequences.full(CHAIN.sample(512, length, generator=torch.Generator().manual_seed(1)))
    profile = measure_profile(CHAIN_MODEL, sequences=data, generator=keys(512), batch_size=512)
    assert len(profile.groups[0].at) == 17
    curve = torch.from_numpy(chain_curve(CHAIN, length))
    sizes = optimal_blocks(curve, calls)
    truth, found = block_cost(curve, sizes), profile.certificate(sizes)
    assert abs(found.nats - truth) < 0.03 * truth + 4 * found.standard_error
    assert found.standard_error < 0.03 * truth


def test_given_positions_take_the_end_of_the_curve() -> None:
    """Of 6 positions 2 known at random: the enumerated cost of the rest."""
    curve = torch.from_numpy(curve_of(SIX))
    plan = true_profile(SIX).blocks(6, steps=2, hidden=4)
    assert plan.certificate.nats == pytest.approx(block_cost(curve[2:], plan.sizes), abs=1e-12)
    assert list(plan.sizes) == optimal_blocks(curve[2:], 2)
    assert plan.certificate.claim == "estimate"
    assert "as if revealed at random" in str(plan.certificate)


def test_rows_take_the_blocks_that_fit() -> None:
    """Several lengths in a batch, each with its own schedule."""
    plans = [mixed_profile().blocks(length, error=0.5) for length in (24, 30, 36)]
    sampler = AnyOrder([list(plan.sizes) for plan in plans])
    drawn = sample(CHAIN_MODEL, 3, lengths=torch.tensor([24, 30, 36]), sampler=sampler, generator=keys(3))
    assert drawn.calls is not None
    assert drawn.calls.tolist() == [len(plan.sizes) for plan in plans]
    with pytest.raises(IncompatibleError, match="expected 20, the positions to reveal in a row"):
        sample(CHAIN_MODEL, 1, length=20, sampler=sampler, generator=keys(1))
    with pytest.raises(IncompatibleError, match=r"got .* sizes, expected steps=3"):
        sample(CHAIN_MODEL, 1, length=24, sampler=sampler, steps=3, generator=keys(1))


# ---- times ----------------------------------------------------------------------------------------------------------
def cost_of_times(toy: Toy, schedule: Schedule, times: list[float]) -> float:
    """Σ over who is revealed when, P(it) KL(p0 ‖ law given it): every assignment of positions to steps."""
    alpha = torch.exp(-schedule.total_noise(torch.tensor([*times, 0.0], dtype=torch.float64))).numpy()
    alpha[-1] = 1.0
    stays = np.cumprod([1, *((1 - alpha[1:]) / (1 - alpha[:-1]))])
    at = stays[:-1] - stays[1:]
    total = 0.0
    for steps in itertools.product(range(len(times)), repeat=toy.length):
        marginal = -entropy(toy.probabilities)
        for i, step in enumerate(steps):
            known = tuple(k for k in range(toy.length) if steps[k] < step)
            marginal += joint_entropy(toy, tuple(sorted((*known, i)))) - joint_entropy(toy, known)
        total += float(np.prod(at[list(steps)])) * marginal
    return total


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_cost_of_times(schedule: str, steps: int) -> None:
    """What a grid loses, by enumeration: 1e-6 (the schedules' inverses); the law of `Ancestral` is at least as near;
    no other grid that was tried loses less."""
    toy, made = TOYS["dense2x4"], SCHEDULES[schedule]()
    times, certificate = true_profile(toy).times(made, [4], steps=steps)
    assert len(times) == steps
    assert cost_of_times(toy, made, times) == pytest.approx(certificate.nats, abs=1e-6)
    for k, factor in itertools.product(range(1, steps), (0.9, 1.1)):
        other = [t * (factor if i == k else 1) for i, t in enumerate(times)]
        if sorted({*other}, reverse=True) == other and other[-1] > made.t_min:
            assert cost_of_times(toy, made, other) > certificate.nats - 1e-6


@pytest.mark.parametrize(("schedule", "steps"), [(LogLinear(t_min=0.2), 4), (Linear(t_min=0.2), 4), (Linear(), 400)])
def test_no_step_begins_below_t_min(schedule: Schedule, steps: int) -> None:
    """Where the best times would lie below, `Ancestral` takes those that are found, and they are priced as they are:
    by enumeration to 1e-6, where they are few."""
    toy = TOYS["dense2x4"]
    times, certificate = true_profile(toy).times(schedule, [4], steps=steps)
    assert Ancestral(grid=times).grid == times
    assert times[-1] >= schedule.t_min
    assert certificate.calls == len(times) <= steps
    if steps == 4:
        assert cost_of_times(toy, schedule, times) == pytest.approx(certificate.nats, abs=1e-6)


def test_ancestral_keeps_the_error() -> None:
    """The enumerated law of `Ancestral` on the times that an error chooses."""
    toy = TOYS["dense2x4"]
    model = build("absorbing", "conditional", toy=toy)
    for error in (0.2, 0.05):
        times, certificate = true_profile(toy).times(model.schedule, [4], error=error)
        states = grid_law(model, Ancestral(grid=times), len(times), 4)
        index = np.ravel_multi_index(tuple(toy.sequences.T), (3,) * 4)
        assert states[index].sum() == pytest.approx(1, abs=1e-9)
        assert divergence(toy.probabilities, states[index]) <= certificate.nats <= error
    assert prior_law(model, 4).sum() == pytest.approx(1)


def test_times_of_several_lengths() -> None:
    """One grid for all rows; the figure is the average of theirs."""
    profile = mixed_profile()
    times, together = profile.times(LogLinear(), [24, 36, 36], steps=6)
    assert together.calls == 6
    assert together.positions == pytest.approx(32)
    alone = [profile.times(LogLinear(), [length], steps=6)[1].nats for length in (24, 36, 36)]
    assert together.nats >= sum(alone) / 3 - 0.02  # each alone has the grid that suits it
    assert together.nats < 1.1 * sum(alone) / 3
    assert times[0] == 1.0


# ---- files and words ------------------------------------------------------------------------------------------------
def test_as_a_file() -> None:
    """The same plans and certificates after JSON; what is damaged is refused."""
    profile = mixed_profile()
    saved = profile.to_json()
    back = Profile.from_json(saved)
    for error in (0.1, 1.0):
        one, two = profile.blocks(30, error=error), back.blocks(30, error=error)
        assert one.sizes == two.sizes
        assert one.certificate.nats == pytest.approx(two.certificate.nats, abs=1e-5)
    changes: list[dict[str, Any]] = [{"format_version": 2}, {"groups": []}, {"groups": [{}]}, {"seconds": None}]
    for change in changes:
        with pytest.raises(CheckpointError, match="profile"):
            Profile.from_json({**saved, **change})


def test_words() -> None:
    assert str(Certificate(0.00981, 0.00036, 9, 37)) == ("KL ≤ 0.0098 ± 0.0004 nats a sequence (9 calls instead of 37)")
    assert str(Certificate(12.34, 0.21, 2, 37)) == "KL ≤ 12.3 ± 0.3 nats a sequence (2 calls instead of 37)"
    assert str(Certificate(0.0, 0.0, 37, 37)) == "KL ≤ 0 (exact) nats a sequence (37 calls instead of 37)"
    both = Certificate.mean([Certificate(0.1, 0.01, 4, 10), Certificate(0.3, 0.02, 6, 20, "estimate")])
    assert both.nats == pytest.approx(0.2)
    assert (both.calls, both.positions, both.claim) == (5, 15, "estimate")
    assert both.standard_error == pytest.approx(0.015)


def test_refusals() -> None:
    profile = mixed_profile()
    with pytest.raises(IncompatibleError, match="got error and steps, expected one of the two"):
        profile.blocks(30, error=0.1, steps=3)
    with pytest.raises(IncompatibleError, match="got neither error nor steps"):
        profile.times(LogLinear(), [30])
    with pytest.raises(IncompatibleError, match="got error=-1"):
        profile.blocks(30, error=-1.0)
    with pytest.raises(IncompatibleError, match="got 31 hidden positions, expected 0 to 30"):
        profile.blocks(30, steps=3, hidden=31)
    with pytest.raises(IncompatibleError, match=r"error on a time grid: got 1e-06 nats, expected at least .*AnyOrder"):
        profile.times(LogLinear(), [30], error=1e-6)
    with pytest.raises(IncompatibleError, match="got 7 sequences of two tokens or more, expected 8 or more"):
        measure_profile(CHAIN_MODEL, lengths=torch.tensor([1] * 9 + [2] * 7), generator=keys(16))
    with pytest.raises(IncompatibleError, match="got 1 sequences of two tokens or more"):  # it has no standard error
        block_divergence(CHAIN_MODEL, [2, 2], count=1, generator=keys(1))
    blocks = Transformer(5, dim=16, depth=1, heads=2, block_size=2)
    causal = Diffusion(blocks, Absorbing(4), LogLinear(), Conditional())
    with pytest.raises(IncompatibleError, match="got a block-causal network"):
        measure_profile(causal, lengths=torch.full((9,), 4), generator=keys(9))
    with pytest.raises(IncompatibleError, match="Profile: got the process Uniform, expected the absorbing process"):
        measure_profile(build("uniform", "denoiser"), lengths=torch.full((9,), 3), generator=keys(9))


@pytest.mark.parametrize(("judges", "expected"), [(4, 3.307), (8, 2.429), (16, 2.183), (1000, 2.003)])
def test_few_judges_ask_for_more_errors(judges: int, expected: float) -> None:
    """What Student's t exceeds as seldom as a normal number exceeds 2: to a percent of scipy's quantile."""
    exact = scipy.stats.t.isf(scipy.stats.norm.sf(2), judges - 1)
    assert exact == pytest.approx(expected, abs=2e-3)
    assert Certificate(1.0, 1.0, 3, 9, judges=judges).upper - 1 == pytest.approx(exact, rel=0.01)
    assert Certificate(1.0, 1.0, 3, 9).upper == 3.0


def test_what_differs_is_said() -> None:
    plain = Certificate(0.1, 0.01, 4, 10, judges=9)
    assert plain.but() is plain
    noted = plain.but("measured on data").but("measured on data", "profiled in float32")
    assert noted.claim == "estimate"
    assert str(noted).endswith("(4 calls instead of 10; measured on data; profiled in float32)")
    assert noted.to_json()["notes"] == "measured on data; profiled in float32"
    assert Certificate.mean([plain, noted]).notes == noted.notes
    assert Certificate.mean([plain, noted]).judges == 9
