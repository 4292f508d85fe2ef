"""The loss and the bound of block-causal models, against enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.likelihood import any_order_likelihood, conditional_likelihood, nelbo, ordered_likelihood
from discdiff.losses import AnyOrder, Blockwise
from discdiff.model import Diffusion
from discdiff.networks import Context, Network, blocks
from discdiff.networks.transformer import Transformer
from discdiff.parameterizations import Conditional, Denoiser, Parameterization, Score
from discdiff.processes import Absorbing, Process
from discdiff.randomness import Keys
from discdiff.samplers import Ancestral
from discdiff.sampling import sample
from discdiff.schedules import LogLinear
from discdiff.sequences import Sequences
from tests.cases import build, exact
from tests.toy_networks import Blocked, Tabulated, ToyNetwork, Wrong
from tests.toys import TOYS, Z_LIMIT, Array, Toy, z_score

DENSE4 = TOYS["dense2x4"]
DRAWS = 40_000


def blocked(
    size: int, inner: Callable[[Toy, int], Network], *, toy: Toy = DENSE4, said: str = "conditional"
) -> Diffusion:
    return build("absorbing", said, toy=toy, network=lambda t, states: Blocked(inner(t, states), size))


def wrong(toy: Toy, states: int) -> Network:
    return Tabulated(Wrong(toy, states), toy.length)


def enumerated(size: int, x0: Array) -> float:
    """Σ_b, mean over the block's orders, of −Σ log p(x_i | earlier blocks, earlier in the order); the wrong network."""
    plain = build("absorbing", "conditional", toy=DENSE4, network=wrong)
    total = 0.0
    for start in range(0, 4, size):
        block = range(start, min(start + size, 4))
        orders = list(itertools.permutations(block))
        for order in orders:
            state = np.full(4, 2)
            state[:start] = x0[:start]
            for position in order:
                log_p = plain.predict(torch.from_numpy(state)[None], torch.ones(1, 1)).log_denoiser()
                total -= float(log_p[0, position, x0[position]]) / len(orders)
                state[position] = x0[position]
    return total


class ByShare(ToyNetwork):
    """A block-causal network that gives every token 0 −log p = 0.5 + 2 (share of its block that is masked)."""

    def __init__(self, block_size: int) -> None:
        super().__init__()
        self.block_size, self.num_states = block_size, 3

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.num_outputs = parameterization.num_outputs(process)

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        assert self.block_size is not None
        share = (tokens == 2).double().unflatten(1, (-1, self.block_size)).mean(-1)
        log_p = -(0.5 + 2 * share).repeat_interleave(self.block_size, 1)
        return torch.stack([log_p, torch.log(-torch.expm1(log_p))], -1)


@pytest.mark.parametrize("count", [2, 5, 8])
def test_standard_errors_of_many_blocks_are_on_the_safe_side(count: int) -> None:
    """Blocks of 64, 8 samples, 4,000 rows: the true error, to 5 %, is no larger than the one that is told."""
    model = Diffusion(ByShare(64), Absorbing(2), LogLinear(), Conditional())
    rows = Sequences.full(torch.zeros(4_000, 64 * count, dtype=torch.int64))
    bound = nelbo(model, rows, generator=Keys(0, torch.arange(4_000)), batch_size=500)
    truth = count * 64 * (0.5 + 65 / 64)
    off = (bound.total - truth).numpy()
    assert abs(z_score(off, 0.0)) < Z_LIMIT
    assert np.mean(off**2) < 0.9 * float(bound.standard_errors.square().mean())


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_perfect_network_has_the_likelihood(size: int) -> None:
    """Its bound is tight for any blocks: the mean loss of 40,000 draws is −log p(x0), to 1% and 3.9 standard errors."""
    model = blocked(size, exact)
    for index in (0, 5, 14):
        x0 = torch.from_numpy(DENSE4.sequences[index]).expand(DRAWS, -1)
        lengths = torch.full((DRAWS,), 4)
        losses = Blockwise()(model, Sequences(x0, lengths), generator=torch.Generator().manual_seed(index)).numpy()
        truth = -np.log(DENSE4.probabilities[index])
        assert losses.mean() == pytest.approx(truth, rel=0.01)
        assert losses.std() < 1e-12 if size == 1 else abs(z_score(losses, truth)) < Z_LIMIT


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_wrong_network_has_its_enumerated_bound(size: int) -> None:
    """Loss and `nelbo` estimate the mean over the orders that go block by block: 1%, and 3.9 standard errors."""
    model, x0 = blocked(size, wrong), DENSE4.sequences[6]
    truth = enumerated(size, x0)
    rows = Sequences(torch.from_numpy(x0).expand(DRAWS, -1), torch.full((DRAWS,), 4))
    losses = Blockwise()(model, rows, generator=torch.Generator().manual_seed(1)).numpy()
    assert losses.mean() == pytest.approx(truth, rel=0.01)
    assert losses.std() < 1e-12 if size == 1 else abs(z_score(losses, truth)) < Z_LIMIT
    few = Sequences(rows.tokens[:500], rows.lengths[:500])
    totals = nelbo(model, few, generator=torch.Generator().manual_seed(2), samples=8).total.numpy()
    assert totals.mean() == pytest.approx(truth, rel=0.01)
    assert totals.std() < 1e-12 if size == 1 else abs(z_score(totals, truth)) < Z_LIMIT


def test_blocks_matter() -> None:
    """What is compared above differs between block sizes by more than it is compared to."""
    found = [enumerated(size, DENSE4.sequences[6]) for size in (1, 2, 4)]
    assert min(abs(a - b) / a for a, b in itertools.combinations(found, 2)) > 0.015


# ---- the transformer -------------------------------------------------------------------------------------------------
ROWS = Sequences(
    torch.randint(5, (6, 11), generator=torch.Generator().manual_seed(3)), torch.tensor([11, 4, 11, 7, 1, 10])
)


def transformer(size: int | None, said: str = "conditional", *, kernel: int = 5, length: int = 11) -> Diffusion:
    """A small network of float64, every weight away from where it starts."""
    parameterization = {"conditional": Conditional, "denoiser": Denoiser, "score": Score}[said]()
    network = Transformer(6, dim=16, depth=2, heads=2, cond_dim=8, kernel=kernel, block_size=size)
    model = Diffusion(network, Absorbing(5), LogLinear(), parameterization).double().eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype), alpha=0.2)
    return model


@pytest.mark.parametrize("said", ["conditional", "denoiser", "score"])
@pytest.mark.parametrize("size", [11, 64])
def test_one_block_is_the_ordinary_loss(size: int, said: str) -> None:
    """Sample by sample with the same noise, rows of several lengths, gradients too; with keys and with a generator."""
    plain, blocks = transformer(None, said), transformer(size, said)
    for generator in (lambda: Keys(5, torch.arange(6)), lambda: torch.Generator().manual_seed(5)):
        one = AnyOrder()(plain, ROWS, generator=generator())
        two = Blockwise()(blocks, ROWS, generator=generator())
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)
        assert (one > 0).all()
        one.sum().backward()
        two.sum().backward()
        for first, second in zip(plain.parameters(), blocks.parameters(), strict=True):
            if first.grad is not None:
                torch.testing.assert_close(first.grad, second.grad, rtol=1e-8, atol=1e-8)
        plain.zero_grad()
        blocks.zero_grad()


@pytest.mark.parametrize("together", [1, 4, 128])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_nothing_comes_from_later_blocks_or_noised_earlier_ones(
    size: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Position i sees noised tokens of its block and clean ones of earlier blocks, all of them, and nothing else.

    A token changed at j, in the noised sequence or in the clean one, changes states exactly where it is seen, however
    many blocks meet their keys at once.
    """
    monkeypatch.setitem(blocks._TOGETHER, "cpu", together)
    model, generator = transformer(size), torch.Generator().manual_seed(6)
    clean = torch.randint(5, (1, 11), generator=generator)
    noised = torch.where(torch.rand(1, 11, generator=generator) < 0.5, 5, clean)
    padding = torch.arange(11)[None] >= 10

    def states(clean: torch.Tensor, noised: torch.Tensor) -> torch.Tensor:
        return model.network.hidden(noised, None, Context(clean=clean, padding=padding))

    base, block = states(clean, noised), torch.arange(11) // size
    for j in range(11):
        for stream in (0, 1):
            pair = [clean.clone(), noised.clone()]
            pair[stream][0, j] = (pair[stream][0, j] + 1) % 5
            changed = (states(*pair) - base).abs().amax(-1)[0] > 1e-9
            seen = (block > block[j]) if stream == 0 else (block == block[j])
            if j == 10:
                seen = torch.zeros(11, dtype=torch.bool) if stream == 0 else torch.arange(11) == j
            assert torch.equal(changed[:10], seen[:10]), (j, stream)


@pytest.mark.parametrize("said", ["conditional", "denoiser"])
def test_a_block_is_told_its_own_noise(said: str) -> None:
    """The same loss row by row as in a batch with other rows, times and lengths: keys."""
    model = transformer(3, said)
    together = Blockwise()(model, ROWS, generator=Keys(7, torch.arange(6)))
    for i in range(6):
        row = Sequences(ROWS.tokens[i : i + 1, : int(ROWS.lengths[i])], ROWS.lengths[i : i + 1])
        alone = Blockwise()(model, row, generator=Keys(7, torch.tensor([i])))
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-10, atol=1e-10)


# ---- what must not be reported ---------------------------------------------------------------------------------------
def test_the_ordinary_way_is_refused() -> None:
    """A block-causal network shown noised earlier blocks would answer, and be wrong."""
    model, keys = transformer(3), Keys(0, torch.arange(6))
    with pytest.raises(IncompatibleError, match=r"got a noised sequence alone.*losses.Blockwise"):
        AnyOrder()(model, ROWS, generator=keys)
    with pytest.raises(IncompatibleError, match=r"Ancestral sampler: got a block-causal network.*samplers\.Blockwise"):
        sample(model, 6, length=11, generator=keys, sampler=Ancestral())
    with pytest.raises(IncompatibleError, match="got packed sequences, expected one sequence a row"):
        model.network.hidden(ROWS.tokens, None, Context(clean=ROWS.tokens, segments=torch.zeros(6, 11).long()))
    with pytest.raises(IncompatibleError, match="got position ids, expected one sequence a row"):
        model.network.hidden(ROWS.tokens, None, Context(clean=ROWS.tokens, positions=ROWS.tokens))
    with pytest.raises(IncompatibleError, match="got backend 'reference', expected auto or sdpa"):
        Transformer(6, block_size=2, backend="reference")
    with pytest.raises(IncompatibleError, match="got clean blocks apart from noised ones"):
        transformer(None).network.hidden(ROWS.tokens, None, Context(clean=ROWS.tokens))
    with pytest.raises(IncompatibleError, match="got a block-causal network, which is to see earlier blocks clean"):
        ordered_likelihood(model, ROWS)
    with pytest.raises(IncompatibleError, match="got a block-causal network, which is to see earlier blocks clean"):
        any_order_likelihood(model, ROWS, generator=keys)
    with pytest.raises(IncompatibleError, match="got a network that sees every position"):
        Blockwise()(transformer(None), ROWS, generator=keys)
    with pytest.raises(IncompatibleError, match="got Uniform, expected a process whose tokens show"):
        Diffusion(Transformer(3, dim=8, heads=2, block_size=2), build("uniform", "score").process, LogLinear(), Score())
    for size in (0, 2.5, "64", True):
        with pytest.raises(IncompatibleError, match=rf"block_size: got {size!r}, expected an integer of at least 1"):
            Transformer(3, block_size=size)  # type: ignore[arg-type]


def test_spans_end_their_sequences() -> None:
    """Scored given what comes first, by enumeration; what is given in later blocks is refused."""
    model = blocked(2, exact)
    x0 = DENSE4.sequences[9]
    rows = Sequences(torch.from_numpy(x0).expand(4_000, -1), torch.full((4_000,), 4))
    span = torch.tensor([False, True, True, True]).expand(4_000, -1)
    bound = conditional_likelihood(model, rows, span, generator=torch.Generator().manual_seed(8))
    joint = DENSE4.joint
    truth = -np.log(joint[tuple(x0)] / joint[x0[0]].sum())
    assert bound.total.mean() == pytest.approx(truth, rel=0.01)
    with pytest.raises(IncompatibleError, match="got tokens that are given in later blocks"):
        conditional_likelihood(model, rows, ~span, generator=torch.Generator())


def test_validation_and_training_share_the_bound() -> None:
    """The mean loss over many draws is `nelbo` of the same rows: 4 standard errors."""
    model = transformer(3)
    rows = replace(ROWS, tokens=ROWS.tokens.repeat(2_000, 1), lengths=ROWS.lengths.repeat(2_000))
    with torch.no_grad():
        losses = Blockwise()(model, rows, generator=torch.Generator().manual_seed(1)).view(2_000, 6)
    bound = nelbo(model, ROWS, generator=torch.Generator().manual_seed(2), samples=512)
    error = (losses.std(0) / 2_000**0.5).numpy() + bound.standard_errors.numpy()
    assert (np.abs((losses.mean(0) - bound.total).numpy()) < 4 * error + 1e-9).all()
