"""O20: the same seed gives the same tokens; with keys, sample i depends on no batch, order, padding or compaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from discdiff.constraints import Automaton, Checked, Clamp, Constraint, Unconstrained
from discdiff.languages import avoids, contains
from discdiff.model import Diffusion
from discdiff.networks.transformer import Transformer
from discdiff.parameterizations import Conditional, Denoiser
from discdiff.processes import Absorbing, Uniform
from discdiff.randomness import Keys, at_step
from discdiff.samplers import Sampler, State
from discdiff.sampling import sample
from discdiff.schedules import LogLinear
from discdiff.sequences import Sequences
from tests.cases import LOSSES, SAMPLED, SAMPLERS, build, ends_alike, runs
from tests.toy_networks import ByLength, Wrong
from tests.toys import dense

LENGTHS = torch.tensor([3, 1, 2, 3, 2, 1, 3, 3, 2, 3, 1, 2])
ROWS = len(LENGTHS)
TOYS_BY_LENGTH = {length: dense(3, length, seed=length) for length in (1, 2, 3)}
PLANS = [(*model, name) for model in SAMPLED for name, case in SAMPLERS.items() if runs(case, *model)]


def mixed(process: str, parameterization: str) -> Diffusion:
    """A model of sequences of 1 to 3 tokens, each length with its own wrong network; NaN at padding."""
    return build(
        process,
        parameterization,
        toy=TOYS_BY_LENGTH[3],
        network=lambda toy, states: ByLength({n: Wrong(t, states) for n, t in TOYS_BY_LENGTH.items()}),
    )


def keys(rows: torch.Tensor, seed: int = 9) -> Keys:
    return Keys(seed, rows)


def run(
    model: Diffusion,
    sampler: str,
    rows: torch.Tensor,
    *,
    seed: int = 9,
    constraint: Constraint | None = None,
    particles: int = 1,
) -> list[list[int]]:
    made = SAMPLERS[sampler].make()
    return sample(
        model,
        len(rows),
        lengths=LENGTHS[rows],
        sampler=made,
        steps=4 if made.takes_steps else None,
        constraint=constraint,
        particles=particles,
        generator=keys(rows, seed),
    ).lists()


@pytest.mark.parametrize(("process", "parameterization", "sampler"), PLANS)
def test_rows_stand_alone(process: str, parameterization: str, sampler: str) -> None:
    """Every token equal: in other batches, in another order, alone without its padding."""
    model = mixed(process, parameterization)
    every = torch.arange(ROWS)
    whole = run(model, sampler, every)
    assert [len(row) for row in whole] == LENGTHS.tolist()
    assert run(model, sampler, every) == whole
    assert run(model, sampler, every.flip(0)) == whole[::-1]
    assert run(model, sampler, every[:5]) + run(model, sampler, every[5:]) == whole
    for i in range(ROWS):
        assert run(model, sampler, every[i : i + 1]) == [whole[i]]
    assert (run(model, sampler, every, seed=10) != whole) == SAMPLERS[sampler].random


LANGUAGE = avoids([[{1}, {1}]], 3) & contains([[{0, 2}]], 3)
BOUND: dict[str, Callable[[], Constraint]] = {
    "automaton": lambda: Automaton(LANGUAGE),
    "checked": lambda: Checked(ends_alike, Automaton(LANGUAGE), tries=2),
}


@pytest.mark.parametrize("kind", BOUND)
@pytest.mark.parametrize("sampler", ["ancestral", "first_hitting", "confidence", "euler", "gibbs", "forward_backward"])
def test_constrained_rows_stand_alone(sampler: str, kind: str) -> None:
    """Lengths mixed, under an automaton and a check."""
    model, every = mixed("absorbing", "denoiser"), torch.arange(ROWS)
    whole = run(model, sampler, every, constraint=BOUND[kind]())
    assert all(LANGUAGE.accepts(row) for row in whole)
    assert run(model, sampler, every.flip(0), constraint=BOUND[kind]()) == whole[::-1]
    for i in range(ROWS):
        assert run(model, sampler, every[i : i + 1], constraint=BOUND[kind]()) == [whole[i]]


@pytest.mark.parametrize("sampler", ["ancestral", "first_hitting", "ordered"])
def test_populations_stand_alone(sampler: str) -> None:
    """A row's particles are its own: with lengths mixed, in any batch."""
    model, every = mixed("absorbing", "denoiser"), torch.arange(ROWS)
    whole = run(model, sampler, every, constraint=BOUND["automaton"](), particles=3)
    assert run(model, sampler, every.flip(0), constraint=BOUND["automaton"](), particles=3) == whole[::-1]
    for i in range(ROWS):
        assert run(model, sampler, every[i : i + 1], constraint=BOUND["automaton"](), particles=3) == [whole[i]]


def compacted(model: Diffusion, sampler: Sampler, constraint: Constraint, steps: int | None) -> torch.Tensor:
    """The loop of `sample`, but rows are shuffled at every step, and half of them run behind the others."""
    rows = torch.arange(ROWS)
    tokens = model.process.sample_prior((ROWS, 3), generator=at_step(keys(rows), 0))
    constraint = constraint.bound(torch.full((ROWS,), 3))
    known, frozen = constraint.given(ROWS, 3)
    padding = torch.zeros_like(frozen)
    zero = torch.zeros(ROWS)
    state = State(torch.where(frozen, known, tokens), frozen, padding, None, zero.long(), zero, at_step(keys(rows), 0))
    state, plan = sampler.plan(model, state, steps)
    shuffle = torch.Generator().manual_seed(1)
    out = torch.zeros_like(tokens)
    for part in (rows[::2], rows[1::2]):
        now, cut, ids = state.index(part), constraint.index(part), part
        for k, level in enumerate(plan):
            order = torch.randperm(len(part), generator=shuffle)
            now, cut, ids = now.index(order), cut.index(order), ids[order]
            now = sampler.step(model, cut, replace(now, generator=at_step(now.generator, k + 1)), level)
        out[ids] = now.tokens
    return out


FEWER = {("absorbing", "conditional"), ("uniform", "denoiser"), ("reversible", "denoiser")}
COMPACTED = [(plan, kind) for plan in PLANS for kind in ("free", "clamped", *(BOUND if plan[:2] in FEWER else ()))]


@pytest.mark.parametrize(
    ("process", "parameterization", "sampler", "kind"), [(*plan, kind) for plan, kind in COMPACTED]
)
def test_compaction(process: str, parameterization: str, sampler: str, kind: str) -> None:
    """Rows gathered and permuted in mid-run, a clamp for each row among them, end as they would have in the batch."""
    model = build(process, parameterization, network=Wrong)
    made = SAMPLERS[sampler].make()
    steps = 4 if made.takes_steps else None
    constraint: Constraint = BOUND[kind]() if kind in BOUND else Unconstrained()
    if kind == "clamped":
        tokens = torch.arange(ROWS)[:, None].expand(-1, 3) % 3
        constraint = Clamp(tokens, torch.arange(3).expand(ROWS, -1) == torch.arange(ROWS)[:, None] % 3)
    whole = sample(
        model,
        ROWS,
        length=3,
        sampler=made,
        steps=steps,
        constraint=constraint,
        generator=keys(torch.arange(ROWS)),
    )
    assert torch.equal(compacted(model, made, constraint, steps), whole.tokens)


def test_state_index_takes_every_field() -> None:
    """Rows in any order, repeated or not; nothing is left behind."""
    draw = torch.Generator().manual_seed(0)
    state = State(
        torch.randint(3, (4, 2), generator=draw),
        torch.rand(4, 2, generator=draw) < 0.5,
        torch.rand(4, 2, generator=draw) < 0.5,
        torch.arange(4),
        torch.arange(4) * 10,
        torch.rand(4, generator=draw),
        keys(torch.arange(4)),
        {"rank": torch.arange(8).reshape(4, 2), "mask_fraction": torch.rand(4, generator=draw)},
    )
    rows = torch.tensor([2, 0, 2])
    picked = state.index(rows)
    for name in ("tokens", "frozen", "padding", "labels", "calls", "log_weights"):
        assert torch.equal(getattr(picked, name), getattr(state, name)[rows])
    for name, value in state.extras.items():
        assert torch.equal(picked.extras[name], value[rows])
    assert torch.equal(picked.uniform("who"), state.uniform("who")[rows])
    assert torch.equal(picked.movable, state.movable[rows])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_torch_generators_repeat(sampler: str) -> None:
    model, made = build("absorbing", "conditional", network=Wrong), SAMPLERS[sampler].make()

    def once(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        steps = 4 if made.takes_steps else None
        return sample(model, 50, length=3, sampler=made, steps=steps, generator=generator).tokens

    assert torch.equal(once(1), once(1))
    assert torch.equal(once(1), once(2)) != SAMPLERS[sampler].random


def test_global_state_is_not_read() -> None:
    """Nothing draws from torch's own generator."""
    model = build("absorbing", "conditional", network=Wrong)
    before = torch.random.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    sample(model, 4, length=3, steps=3, generator=generator)
    for case in LOSSES.values():
        case.make()(model, Sequences.full(torch.zeros(4, 3, dtype=torch.int64)), generator=generator)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_rows_stand_alone(loss: str) -> None:
    """With keys a sequence's loss is the same in any batch, in any order, with any padding: 1e-12."""
    model, made = mixed("absorbing", "denoiser"), LOSSES[loss].make()
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randint(3, (int(n),), generator=draw) for n in LENGTHS]
    whole = made(model, Sequences.from_lists(rows), generator=keys(torch.arange(ROWS)))
    order = torch.randperm(ROWS, generator=draw)
    mixed_up = made(model, Sequences.from_lists([rows[i] for i in order.tolist()]), generator=keys(order))
    torch.testing.assert_close(mixed_up, whole[order], rtol=1e-12, atol=1e-13)
    for i in range(ROWS):
        alone = made(model, Sequences.from_lists([rows[i]]), generator=keys(torch.tensor([i])))
        torch.testing.assert_close(alone[0], whole[i], rtol=1e-12, atol=1e-13)


# ---- float32 --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("process", ["absorbing", "uniform"])
def test_transformer(process: str) -> None:
    """float32, lengths mixed, batches of 32 and of 5: at least 99.9% of tokens equal; same batch shapes: all."""
    made = Absorbing(6) if process == "absorbing" else Uniform(6)
    parameterization = Conditional() if process == "absorbing" else Denoiser()
    network = Transformer(made.num_states, dim=16, depth=2, heads=2)
    model = Diffusion(network, made, LogLinear(), parameterization)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)
    model.eval()
    count = 64
    lengths = torch.randint(8, 25, (count,), generator=draw)

    def in_batches(size: int) -> list[int]:
        tokens: list[int] = []
        for rows in torch.arange(count).split(size):
            drawn = sample(model, len(rows), lengths=lengths[rows], steps=8, generator=keys(rows))
            tokens += [token for row in drawn.lists() for token in row]
        return tokens

    whole, parts = in_batches(32), in_batches(5)
    assert in_batches(32) == whole
    assert len(set(whole)) == 6
    assert sum(a == b for a, b in zip(whole, parts, strict=True)) >= 0.999 * len(whole)
