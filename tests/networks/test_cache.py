"""A cache of finished blocks: the same states as without, whatever rows come, go, and repeat."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.constraints import Automaton, Clamp, Constraint
from discdiff.errors import DiscdiffWarning, IncompatibleError
from discdiff.guidance import Labels, Temperature
from discdiff.languages import avoids, contains
from discdiff.losses import Blockwise as Loss
from discdiff.model import Diffusion, Model
from discdiff.networks import Context, blocks
from discdiff.networks.cache import Cache
from discdiff.networks.transformer import Transformer
from discdiff.parameterizations import Conditional, Denoiser, Parameterization, Score
from discdiff.particles import Reward
from discdiff.prediction import positions_of
from discdiff.processes import Absorbing
from discdiff.randomness import Keys
from discdiff.samplers import (
    Ancestral,
    AnyOrder,
    Blockwise,
    Confidence,
    Euler,
    FirstHitting,
    PredictorCorrector,
    Remasking,
    Sampler,
)
from discdiff.sampling import sample
from discdiff.schedules import LogLinear
from discdiff.sequences import Sequences
from tests.cases import build, exact
from tests.toy_networks import Blocked, Tabulated, Wrong
from tests.toys import P_VALUE, TOYS, chi_square, counts_of

V, L, B = 5, 11, 6
KINDS: dict[str, type[Parameterization]] = {"conditional": Conditional, "denoiser": Denoiser, "score": Score}


def transformer(
    size: int | None, said: str = "conditional", *, kernel: int = 5, labels: int | None = None, double: bool = True
) -> Diffusion:
    """A small network, every weight away from where it starts."""
    network = Transformer(
        V + 1, dim=16, depth=3, heads=2, cond_dim=8, kernel=kernel, num_labels=labels, block_size=size
    )
    model = Diffusion(network, Absorbing(V), LogLinear(), KINDS[said]()).eval()
    model = model.double() if double else model
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype), alpha=0.2)
    return model


def masked(tokens: Tensor, start: int, stop: int, generator: torch.Generator) -> Tensor:
    """Clean before the block, half masked in it, masked after it."""
    place = torch.arange(tokens.shape[1])
    hidden = (place >= stop) | ((place >= start) & (torch.rand(tokens.shape, generator=generator) < 0.5))
    return torch.where(hidden, V, tokens)


@pytest.mark.parametrize(("double", "tolerance"), [(True, 1e-10), (False, 1e-5)], ids=["float64", "float32"])
@pytest.mark.parametrize("kernel", [0, 1, 5, 9])
@pytest.mark.parametrize("said", ["conditional", "denoiser"])
@pytest.mark.parametrize("size", [1, 3, 4, 11, 20])
def test_states_are_those_of_training(
    size: int, said: str, kernel: int, double: bool, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Block after block, twice each: what the network says beside the clean sequence, and what it says from a cache.

    Rows of several lengths; rows that are left out for a while, in another order, and come back.
    """
    if kernel in (1, 9):
        monkeypatch.setitem(blocks._TOGETHER, "cpu", 4)
    model = transformer(size, said, kernel=kernel, double=double)
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(V, (B, L), generator=generator)
    padding = torch.arange(L) >= torch.tensor([11, 4, 11, 7, 1, 10])[:, None]
    cache, network = Cache(B, L, size), model.network
    for start in range(0, L, size):
        stop = min(start + size, L)
        for turn in range(2):
            xt = masked(tokens, start, stop, generator)
            sigma = torch.rand(B, 1, generator=generator).to(model.dtype) if said == "denoiser" else None
            whole = network.hidden(xt, sigma, Context(clean=tokens, padding=padding))[:, start:stop]
            shown = Context(padding=padding, cache=cache.window(start, stop))
            rows = torch.arange(B)
            if turn == 0 and start // size % 2 == 1:
                rows = torch.tensor([4, 0, 3])
            mine = shown if len(rows) == B else shown.index(rows)
            found = network.hidden(xt[rows], None if sigma is None else sigma[rows], mine)
            real = ~padding[rows, start:stop]
            assert found.shape == (len(rows), stop - start, 16)
            torch.testing.assert_close(found[real], whole[rows][real], rtol=tolerance, atol=tolerance)


def test_only_what_is_new_is_evaluated() -> None:
    """The block at hand; with it, the first time, the one that was finished before."""
    model, seen = transformer(3), []
    network = model.network
    assert isinstance(network, Transformer)
    network.blocks[0].register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[1]))
    tokens = torch.zeros(2, L, dtype=torch.int64)
    cache = Cache(2, L, 3)
    for start in range(0, L, 3):
        for _ in range(3):
            network.hidden(tokens, None, Context(cache=cache.window(start, min(start + 3, L))))
    assert seen == [3, 3, 3, 6, 3, 3, 6, 3, 3, 5, 2, 2]


def test_each_condition_has_keys_of_its_own() -> None:
    """The same tokens with labels, without, and with others: each as beside the clean sequence under its own."""
    model, generator = transformer(3, labels=3), torch.Generator().manual_seed(8)
    tokens = torch.randint(V, (B, L), generator=generator)
    cache = Cache(B, L, 3)
    some, other = torch.tensor([0, 1, 2, 0, -1, 1]), torch.tensor([2, 1, 0, 1, 0, 0])
    for start in range(0, L, 3):
        stop = min(start + 3, L)
        found = []
        for labels in (some, None, other):
            context = Context(labels=labels, cache=cache.window(start, stop))
            whole = model.network.hidden(tokens, None, Context(labels=labels, clean=tokens))[:, start:stop]
            found.append(model.network.hidden(tokens, None, context))
            torch.testing.assert_close(found[-1], whole, rtol=1e-10, atol=1e-10)
        assert min((found[0] - each).abs().max() for each in found[1:]) > 1e-3


def test_repeated_rows_go_their_own_ways() -> None:
    """A row's descendants share its past; what one writes the other does not read."""
    model, generator = transformer(3), torch.Generator().manual_seed(6)
    tokens = torch.randint(V, (3, L), generator=generator)
    cache = Cache(3, L, 3)
    model.network.hidden(tokens, None, Context(cache=cache.window(0, 3)))
    model.network.hidden(tokens, None, Context(cache=cache.window(3, 6)))
    chosen = torch.tensor([1, 1, 0])
    heirs = torch.randint(V, (3, L), generator=generator)
    heirs[:, :3] = tokens[chosen, :3]
    after = cache[chosen]
    for start in (3, 6, 9):
        stop = min(start + 3, L)
        whole = model.network.hidden(heirs, None, Context(clean=heirs))[:, start:stop]
        for rows in (torch.tensor([0]), torch.tensor([2, 1])):
            found = model.network.hidden(heirs[rows], None, Context(cache=after.window(start, stop)).index(rows))
            torch.testing.assert_close(found, whole[rows], rtol=1e-10, atol=1e-10)


def test_logits_outside_of_the_block_say_nothing() -> None:
    model = transformer(3)
    context = Context(cache=Cache(2, L, 3).window(0, 3))
    tokens = torch.full((2, L), V)
    every = model.predict(tokens, torch.ones(2, 1, dtype=torch.float64), context).log_denoiser()
    assert (every[:, :3].std(-1) > 1e-3).all()
    torch.testing.assert_close(every[:, 3:], torch.full((2, L - 3, V), -np.log(V), dtype=torch.float64))
    where = positions_of(torch.ones(2, L, dtype=torch.bool))
    again = model.predict(tokens, torch.ones(2, 1, dtype=torch.float64), context).log_denoiser(where)
    torch.testing.assert_close(again.view(2, L, V), every)


# ---- samplers --------------------------------------------------------------------------------------------------------
INNER: dict[str, tuple[Sampler, int | None]] = {
    "any order": (AnyOrder(), None),
    "two a call": (AnyOrder(), 2),
    "first hitting": (FirstHitting(), None),
    "ancestral": (Ancestral(), 4),
    "euler": (Euler(), 4),
    "confidence": (Confidence(), 2),
    "remasking": (Remasking(), 4),
    "gibbs": (PredictorCorrector(sweeps=0.5), None),
}
LENGTHS = torch.tensor([11, 4, 11, 7, 1, 10])
LANGUAGE = avoids([[{1}, {1}]], V) & contains([[{0, 2}]], V)


def drawn(
    model: Model, inner: str, cache: bool, rows: Tensor, *, constraint: Constraint | None = None, particles: int = 1
) -> Sequences:
    """Particles are steered towards zeros, so that some are resampled."""
    sampler, steps = INNER[inner]
    return sample(
        model, len(rows), lengths=LENGTHS[rows] if constraint is None or constraint.length is None else None,
        sampler=Blockwise(sampler, cache=cache), steps=steps, constraint=constraint, particles=particles,
        reward=Reward(lambda rows: (rows.tokens == 0).sum(-1), 1.5) if particles > 1 else None, generator=Keys(1, rows),
    )  # fmt: skip


@pytest.mark.parametrize("said", ["conditional", "denoiser", "score"])
@pytest.mark.parametrize("inner", INNER)
def test_samples_are_the_same(inner: str, said: str) -> None:
    """With the cache, without, alone, in another order: tokens and numbers of calls."""
    model, rows = transformer(3, said), torch.arange(B)
    plain = drawn(model, inner, False, rows)
    cached = drawn(model, inner, True, rows)
    assert plain.lists() == cached.lists()
    assert plain.calls is not None
    assert cached.calls is not None
    assert torch.equal(plain.calls, cached.calls)
    assert drawn(model, inner, True, rows.flip(0)).lists() == cached.lists()[::-1]
    for i in range(B):
        assert drawn(model, inner, True, rows[i : i + 1]).lists() == [cached.lists()[i]]


@pytest.mark.parametrize("inner", ["any order", "ancestral", "gibbs"])
def test_constraints_hold_and_rows_stand_alone(inner: str) -> None:
    """Under an automaton over all blocks, which sees nothing of later ones, with particles and without."""
    model, rows = transformer(3), torch.arange(B)
    for particles in (1, 4):
        plain, cached = (
            drawn(model, inner, cache, rows[[0, 2, 5]], constraint=Automaton(LANGUAGE), particles=particles)
            for cache in (False, True)
        )
        assert plain.lists() == cached.lists()
        assert all(LANGUAGE.accepts(row) for row in cached.lists())
        if particles > 1:
            torch.testing.assert_close(plain.log_weights, cached.log_weights)
            assert float(torch.as_tensor(cached.effective).min()) < particles / 2  # some were resampled


def test_given_positions() -> None:
    """They hold; those that come first are seen, and of later ones one is told that they are not."""
    model, rows = transformer(3), torch.arange(B)
    first = Clamp(torch.full((L,), 2), torch.arange(L) < 4)
    late = Clamp(torch.full((L,), 2), torch.arange(L) > 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, cached = (drawn(model, "ancestral", cache, rows, constraint=first) for cache in (False, True))
    assert plain.lists() == cached.lists()
    assert (cached.tokens[:, :4] == 2).all()
    with pytest.warns(DiscdiffWarning, match="given positions in later blocks"):
        cached = drawn(model, "ancestral", True, rows, constraint=late)
    assert (cached.tokens[:, 7:] == 2).all()


@pytest.mark.parametrize("guide", ["labels", "label", "temperature"])
def test_guided(guide: str) -> None:
    """Each condition has keys and values of its own: with label guidance those with a label and without."""
    model = transformer(3, labels=3)
    kinds: dict[str, Model] = {"labels": Labels(model, 2.0), "label": model, "temperature": Temperature(model, 0.5)}
    guided = kinds[guide]
    runs = [
        sample(
            guided, B, length=L, sampler=Blockwise(Ancestral(), cache=cache), steps=4,
            labels=torch.tensor([0, 1, 2, 0, -1, 1]), generator=Keys(1, torch.arange(B)),
        )
        for cache in (False, True)
    ]  # fmt: skip
    assert torch.equal(runs[0].tokens, runs[1].tokens)
    assert torch.equal(torch.as_tensor(runs[0].calls), torch.as_tensor(runs[1].calls))


def test_another_block_size_is_refused() -> None:
    with pytest.raises(IncompatibleError, match="block_size: got 4, expected 3"):
        sample(transformer(3), 2, length=L, sampler=Blockwise(block_size=4), generator=torch.Generator())


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu(dtype: torch.dtype) -> None:
    """States as on the CPU, those from a cache as those beside the clean sequence, and samples with and without it."""
    model, generator = transformer(4, double=False), torch.Generator().manual_seed(7)
    tokens = torch.randint(V, (B, L), generator=generator)
    padding = torch.arange(L) >= LENGTHS[:, None]
    plain = model.network.hidden(tokens, None, Context(clean=tokens, padding=padding))
    model = model.cuda()
    tokens, padding = tokens.cuda(), padding.cuda()
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.bfloat16):
        whole = model.network.hidden(tokens, None, Context(clean=tokens, padding=padding))
        cache = Cache(B, L, 4)
        for start in range(0, L, 4):
            stop = min(start + 4, L)
            for rows in (torch.arange(B).cuda(), torch.tensor([4, 0], device="cuda")):
                context = Context(padding=padding, cache=cache.window(start, stop)).index(rows)
                found = model.network.hidden(tokens[rows], None, context)
                real = ~padding[rows, start:stop]
                torch.testing.assert_close(found[real], whole[rows, start:stop][real], rtol=tolerance, atol=tolerance)
    if dtype == torch.float32:
        real = ~padding.cpu()
        torch.testing.assert_close(whole.cpu()[real], plain.detach()[real], rtol=1e-3, atol=1e-3)
        for inner in ("any order", "ancestral"):
            rows = torch.arange(B)
            assert drawn(model, inner, True, rows).lists() == drawn(model, inner, False, rows).lists()


# ---- laws ------------------------------------------------------------------------------------------------------------
def test_a_perfect_network_gives_the_law() -> None:
    """200,000 rows by a network that is asked for blocks only."""
    toy = TOYS["dense2x4"]
    model = build("absorbing", "conditional", toy=toy, network=lambda t, s: Blocked(exact(t, s), 2))
    generator = torch.Generator().manual_seed(3)
    rows = sample(model, 200_000, length=4, sampler=Blockwise(), generator=generator)
    assert chi_square(counts_of(rows.tokens, 2), toy.probabilities) > P_VALUE


def test_particles_weigh_what_is_drawn_by_blocks() -> None:
    """Σ w 1[x] / N is the plain law of each accepted x: no two ones in a row; a filter takes later tokens for alike."""
    toy = TOYS["dense2x4"]
    model = build("absorbing", "conditional", toy=toy, network=lambda t, s: Blocked(Tabulated(Wrong(t, s), 4), 2))
    free = sample(model, 200_000, length=4, sampler=Blockwise(), generator=torch.Generator().manual_seed(1))
    law = counts_of(free.tokens, 2) / 200_000
    language = avoids([[{1}, {1}]], 2)
    weighed = sample(
        model, 20_000, length=4, sampler=Blockwise(), constraint=Automaton(language), particles=2,
        generator=torch.Generator().manual_seed(2),
    )  # fmt: skip
    weights = torch.as_tensor(weighed.log_weights).exp().numpy()
    cells = (weighed.tokens * torch.tensor([8, 4, 2, 1])).sum(-1).numpy()
    for cell, row in enumerate(toy.sequences.tolist()):
        mine = np.where(cells == cell, weights, 0.0)
        if language.accepts(row):
            assert abs(mine.mean() - law[cell]) < 4.5 * (mine.std() / 20_000**0.5 + (law[cell] / 200_000) ** 0.5)
        else:
            assert not mine.any()


def test_trained_by_blocks() -> None:
    """Sequences whose second half repeats the first: a few hundred steps learn it, samples from the cache show it."""
    network = Transformer(V + 1, dim=32, depth=2, heads=2, block_size=4)
    model = Diffusion(network, Absorbing(V), LogLinear(), Conditional())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        half = torch.randint(V, (64, 4), generator=generator)
        rows = Sequences(half.repeat(1, 2), torch.full((64,), 8))
        loss = Loss()(model, rows, generator=generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 4 * np.log(V) + 1.0
    made = sample(model.eval(), 100, length=8, sampler=Blockwise(), generator=generator).tokens
    assert float((made[:, :4] == made[:, 4:]).double().mean()) > 0.9
