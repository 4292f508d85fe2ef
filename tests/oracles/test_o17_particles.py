"""O17: with particles a constrained run follows p0 given acceptance; with one it is a proposal, and is biased."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import discdiff as dd
from discdiff.constraints import Allowed, Automaton, Constraint
from discdiff.errors import IncompatibleError
from discdiff.languages import compile_expression, regex
from discdiff.model import Diffusion
from discdiff.networks import Context
from discdiff.networks.exact import Exact
from discdiff.particles import effective_size, systematic
from tests.cases import build
from tests.toy_networks import ByLength, Tabulated
from tests.toys import DENSE, Array, dense

V, L = DENSE.vocab_size, DENSE.length
LANGUAGE = compile_expression(regex("(ab|c)+a?b*", "abc"), V)
SETS = torch.tensor([[True, True, False], [True, False, True], [True, True, True]])
CONSTRAINTS = {"automaton": Automaton(LANGUAGE), "sets": Allowed(SETS)}
SAMPLERS = {"first hitting": dd.samplers.FirstHitting(), "ordered": dd.samplers.Ordered()}


def accepted(name: str) -> Array:
    """1 where a sequence is accepted, `[V] * L`, by a rule of its own."""
    found = np.zeros([V] * L)
    for sequence in itertools.product(range(V), repeat=L):
        sets = all(SETS[i, token] for i, token in enumerate(sequence))
        found[sequence] = LANGUAGE.accepts(sequence) if name == "automaton" else sets
    return found


def truth(name: str) -> tuple[Array, float]:
    """p0(· | accepted), flat, and p0(accepted)."""
    weights = (DENSE.joint * accepted(name)).reshape(-1)
    return weights / weights.sum(), float(weights.sum())


def run(
    constraint: Constraint, sampler: dd.samplers.Sampler, particles: int, count: int, process: str = "absorbing"
) -> dd.Sequences:
    model = build(process, "conditional" if process == "absorbing" else "denoiser")
    steps = 24 if sampler.takes_steps else None
    generator = torch.Generator().manual_seed(17)
    return dd.sample(
        model, count, length=L, sampler=sampler, steps=steps, constraint=constraint, particles=particles,
        generator=generator,
    )  # fmt: skip


def counts(drawn: dd.Sequences) -> Array:
    flat = np.ravel_multi_index(tuple(drawn.tokens.T.numpy()), [V] * L)
    return np.bincount(flat, minlength=V**L).astype(float)


def chi_square(observed: Array, law: Array) -> float:
    """Pearson's statistic as a normal deviate (Wilson and Hilferty 1931); infinite where the law has no mass."""
    expected = observed.sum() * law
    if observed[expected == 0].any():
        return np.inf
    kept = expected > 0
    degrees = kept.sum() - 1
    statistic = (np.square(observed - expected)[kept] / expected[kept]).sum()
    return float(((statistic / degrees) ** (1 / 3) - 1 + 2 / (9 * degrees)) / np.sqrt(2 / (9 * degrees)))


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_one_run_is_biased_and_populations_are_not(name: str, sampler: dd.samplers.Sampler) -> None:
    """10,000 samples: a deviate of 3.7 (p = 1e-4) sees 0.02 of total variation; one run is off by twice that."""
    law = truth(name)[0]
    one = counts(run(CONSTRAINTS[name], sampler, 1, 10_000))
    assert 0.5 * np.abs(one / one.sum() - law).sum() > 0.04
    many = counts(run(CONSTRAINTS[name], sampler, 64, 10_000))
    assert chi_square(one, law) > 10
    assert chi_square(many, law) < 3.7


@pytest.mark.parametrize("particles", [2, 8])
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_weights_average_to_the_probability_of_acceptance(name: str, particles: int) -> None:
    """Unbiased at any number of particles: within 4 standard errors, which are below 1 %."""
    drawn = run(CONSTRAINTS[name], SAMPLERS["first hitting"], particles, 10_000)
    assert drawn.log_weights is not None
    weights = drawn.log_weights.exp()
    error = float(weights.std()) / len(weights) ** 0.5
    probability = truth(name)[1]
    assert error < 0.01 * probability
    assert abs(float(weights.mean()) - probability) < 4 * error


@pytest.mark.parametrize("process", ["uniform", "hybrid", "marginal"])
def test_every_process_comes_closer(process: str) -> None:
    """Off the absorbing process a run of 24 steps has an error of its own; particles take away most of the rest."""
    law = truth("automaton")[0]

    def error(particles: int) -> float:
        drawn = counts(run(CONSTRAINTS["automaton"], dd.samplers.Ancestral(), particles, 3000, process))
        return float(0.5 * np.abs(drawn / drawn.sum() - law).sum())

    assert error(1) > 0.08
    assert error(16) < 0.055


def test_a_population_that_agrees_has_its_full_size() -> None:
    drawn = run(Automaton(dd.languages.anything(V)), SAMPLERS["ordered"], 4, 16)
    assert drawn.effective is not None
    assert drawn.log_weights is not None
    torch.testing.assert_close(drawn.effective, torch.full((16,), 4.0, dtype=torch.float64))
    torch.testing.assert_close(drawn.log_weights, torch.zeros(16, dtype=torch.float64))
    assert drawn.calls is not None
    assert (drawn.calls == 4 * L).all()


def test_effective_size_and_systematic_resampling() -> None:
    log_w = torch.tensor([[0.5, 0.25, 0.25, 0.0]], dtype=torch.float64).log()
    assert float(effective_size(log_w)) == pytest.approx(1 / (0.25 + 0.0625 + 0.0625))
    for u in (0.0, 0.3, 0.999):
        assert systematic(log_w, torch.tensor([u], dtype=torch.float64)).tolist() == [[0, 0, 1, 2]]


def test_keys_make_a_sample_independent_of_the_batch() -> None:
    model = build("absorbing", "conditional")

    def drawn(rows: list[int]) -> torch.Tensor:
        keys = dd.Keys(5, torch.tensor(rows))
        options = {"sampler": SAMPLERS["first hitting"], "constraint": CONSTRAINTS["automaton"], "particles": 4}
        return dd.sample(model, len(rows), length=L, generator=keys, **options).tokens  # type: ignore[arg-type]

    whole = drawn(list(range(12)))
    assert (drawn([7, 3]) == whole[[7, 3]]).all()


def test_the_effective_size_does_not_depend_on_how_long_others_go_on() -> None:
    """A reward of every second step does not see the last step of a short row: what is done counts at the end."""
    toys = {length: dense(3, length, seed=length) for length in (2, 4)}
    network = ByLength({length: Exact(torch.from_numpy(toy.joint), 4) for length, toy in toys.items()})
    model = Diffusion(network, dd.Absorbing(3), dd.LogLinear(), dd.Conditional())

    def ones(rows: dd.Sequences) -> torch.Tensor:
        return ((rows.tokens == 1) & (torch.arange(rows.tokens.shape[1]) < rows.lengths[:, None])).sum(-1).double()

    def effective(lengths: list[int]) -> torch.Tensor:
        out = dd.sample(
            model, len(lengths), lengths=torch.tensor(lengths), sampler=SAMPLERS["ordered"], particles=4,
            constraint=Automaton(dd.languages.contains([[{2}]], 3)), reward=dd.Reward(ones, 2.0, every=2),
            generator=dd.Keys(0, torch.arange(len(lengths))),
        )  # fmt: skip
        assert out.effective is not None
        return out.effective[:40]

    torch.testing.assert_close(effective([2] * 40 + [4]), effective([2] * 40))


def test_network_evaluations_are_counted_where_they_were_made() -> None:
    """A step that reveals nothing takes none, so that particles differ: those of one that goes are not forgotten."""

    class Counted(Tabulated):
        count = 0

        def hidden(self, tokens: torch.Tensor, sigma: torch.Tensor | None, context: Context) -> torch.Tensor:
            Counted.count += len(tokens)
            return super().hidden(tokens, sigma, context)

    toy = dense(3, 5)
    model = build(
        "absorbing", "conditional", toy=toy, network=lambda t, n: Counted(Exact(torch.from_numpy(t.joint), n), 5)
    )
    out = dd.sample(
        model, 200, length=5, sampler=dd.samplers.Ancestral(), steps=6, particles=8,
        constraint=Automaton(dd.languages.count([2], 4, None, 3)), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert out.calls is not None
    assert int(out.calls.sum()) == Counted.count


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        (dd.samplers.Argmax(), {}, "Argmax, whose steps have no known weights"),
        (dd.samplers.Remasking(), {}, "Remasking, which may leave what can be accepted"),
        (dd.samplers.Confidence("sampled"), {}, "by what it drew"),
        (dd.samplers.PredictorCorrector(dd.samplers.Remasking()), {}, "Remasking, which"),
        (
            dd.samplers.PredictorCorrector(dd.samplers.Ancestral(), dd.samplers.ForwardBackward(0.2), sweeps=1.0),
            {},
            "the ForwardBackward corrector, whose moves",
        ),
        (dd.samplers.FirstHitting(), {"top_p": 0.9}, "top-k or top-p"),
        (dd.samplers.FirstHitting(), {"particles": 0}, "at least 1"),
    ],
)
def test_what_has_no_weights_is_refused(sampler: dd.samplers.Sampler, options: dict[str, float], message: str) -> None:
    options = {"particles": 2, **options}
    with pytest.raises(IncompatibleError, match=message):
        dd.sample(
            build("absorbing", "conditional"), 2, length=L, sampler=sampler, constraint=CONSTRAINTS["automaton"],
            generator=torch.Generator(), **options,  # type: ignore[arg-type]
        )  # fmt: skip
