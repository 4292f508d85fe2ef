"""Markov chains of several lengths in one batch: posteriors, likelihoods and samples against their own tables."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from discdiff.likelihood import nelbo, ordered_likelihood
from discdiff.model import Diffusion
from discdiff.networks import Context
from discdiff.networks.exact import Exact
from discdiff.randomness import Keys
from discdiff.samplers import Ancestral, FirstHitting, Sampler, Uniformization
from discdiff.sampling import sample
from discdiff.schedules import LogLinear
from discdiff.sequences import Sequences
from tests.cases import MODELS, PARAMETERIZATIONS, PROCESSES
from tests.networks.test_markov import chain, table
from tests.toys import P_VALUE, chi_square, counts_of, every_sequence

VOCAB, LENGTHS = 3, (1, 2, 3, 4)
LONGEST = max(LENGTHS)
# sequences of all lengths, the lengths mixed
CLEAN = [list(x) for n in LENGTHS for x in itertools.product(range(VOCAB), repeat=n)][::-1]
CLEAN = CLEAN[::2] + CLEAN[1::2]


def model_of(process: str, parameterization: str) -> Diffusion:
    made = PROCESSES[process].make(VOCAB)
    return Diffusion(chain(made.num_states), made, LogLinear(), PARAMETERIZATIONS[parameterization]())


def log_p0(rows: list[list[int]]) -> torch.Tensor:
    network = chain(VOCAB)
    return torch.tensor([float(np.log(table(network, len(row))[tuple(row)])) for row in rows], dtype=torch.float64)


@pytest.mark.parametrize("given", [False, True], ids=["free", "given"])
@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_posteriors(process: str, parameterization: str, given: bool) -> None:
    """All noised sequences of 1 to 4 positions in one batch, anything in the padding: the enumerated posteriors, 1e-10.

    With `given`, a position is frozen in each row that is long enough.
    """
    model = model_of(process, parameterization)
    states = model.process.num_states
    rows = [list(x) for n in LENGTHS for x in itertools.product(range(states), repeat=n)]
    lengths = torch.tensor([len(row) for row in rows])
    padding = torch.arange(LONGEST) >= lengths[:, None]
    xt = torch.randint(states, padding.shape, generator=torch.Generator().manual_seed(0))
    for i, row in enumerate(rows):
        xt[i, : len(row)] = torch.tensor(row)
    frozen = (torch.arange(LONGEST) == 1) & ~padding & (xt < VOCAB) if given else None
    shuffle = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    noise = torch.full((len(rows), 1), 0.4, dtype=torch.float64)
    found = torch.empty(len(rows), LONGEST, VOCAB, dtype=torch.float64)
    context = Context(frozen=None if frozen is None else frozen[shuffle], padding=padding[shuffle])
    found[shuffle] = model.predict(xt[shuffle], noise, context).log_denoiser().exp()
    for n in LENGTHS:
        alike = lengths == n
        exact = Exact(torch.from_numpy(table(chain(states), n)), states)
        alone = Diffusion(exact, model.process, model.schedule, PARAMETERIZATIONS[parameterization]())
        context = Context(frozen=None if frozen is None else frozen[alike, :n])
        want = alone.predict(xt[alike, :n], noise[alike], context).log_denoiser().exp()
        torch.testing.assert_close(found[alike, :n], want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("order", ["left_to_right", "random"])
def test_ordered_likelihoods(order: str) -> None:
    """−log p0 of every sequence of every length, in whatever order; 1e-10."""
    model = model_of("absorbing", "conditional")
    rows = Sequences.from_lists(CLEAN)
    keys = Keys(0, torch.arange(len(CLEAN)))
    found = ordered_likelihood(model, rows, order=order, generator=keys, batch_size=50)  # type: ignore[arg-type]
    torch.testing.assert_close(found.total, -log_p0(CLEAN), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("process", PROCESSES)
def test_bounds(process: str) -> None:
    """A row's bound is that of the row alone, to 1e-9; on average over p0 of each length it is the entropy.

    With the exact network only t_min and the prior's misfit lie between: 4 errors and 0.03 nats.
    """
    model = model_of(process, "denoiser")
    keys = Keys(2, torch.arange(len(CLEAN)))
    bound = nelbo(model, Sequences.from_lists(CLEAN), generator=keys, samples=16)
    for i in range(0, len(CLEAN), 13):
        alone = nelbo(model, Sequences.from_lists([CLEAN[i]]), generator=keys.index(torch.tensor([i])), samples=16)
        torch.testing.assert_close(alone.total[0], bound.total[i], rtol=1e-9, atol=1e-10)
    log_p, lengths = log_p0(CLEAN), torch.tensor([len(row) for row in CLEAN])
    for n in LENGTHS:
        weight = torch.where(lengths == n, log_p.exp(), 0.0)
        error = float((weight * bound.standard_errors).square().sum().sqrt())
        assert abs(float((weight * (bound.total + log_p)).sum())) < 4 * error + 0.03


@pytest.mark.parametrize(
    ("process", "sampler", "steps"),
    [("absorbing", FirstHitting(), None), ("uniform", Uniformization(), None), ("hybrid", Ancestral(), 64)],
    ids=["first_hitting", "uniformization", "ancestral"],
)
def test_samples(process: str, sampler: Sampler, steps: int | None) -> None:
    """20,000 rows of mixed lengths: each length has its chain's law; chi-square, p > 1e-4, sees 5% of it move."""
    model = model_of(process, "denoiser")
    count = 20_000
    lengths = torch.arange(count) % 3 + 1
    drawn = sample(model, count, lengths=lengths, sampler=sampler, steps=steps, generator=Keys(4, torch.arange(count)))
    assert torch.equal(drawn.lengths, lengths)
    for n in (1, 2, 3):
        law = table(chain(VOCAB), n).reshape(-1)
        assert len(law) == len(every_sequence(VOCAB, n))
        assert chi_square(counts_of(drawn.tokens[lengths == n, :n], VOCAB), law) > P_VALUE
