"""O18: guidance by labels and rewards: plain guidance has a plateau, populations tend to the tilted target."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import discdiff as dd
from discdiff import losses
from discdiff.constraints import Automaton
from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.guidance import Labels, Temperature
from discdiff.languages import compile_expression, regex
from discdiff.model import Diffusion, Model
from discdiff.networks import Context, Network
from discdiff.networks.exact import Exact
from discdiff.parameterizations import Parameterization
from discdiff.processes import Absorbing, Process
from discdiff.samplers import Ancestral, Euler, FirstHitting, Ordered, Uniformization
from discdiff.sequences import Sequences
from tests.cases import build
from tests.oracles.test_o17_particles import chi_square
from tests.toy_networks import ToyNetwork
from tests.toys import DENSE, TOYS, Array, counts_of, total_variation

V, L = DENSE.vocab_size, DENSE.length
FIRST, SECOND = DENSE.joint, np.flip(DENSE.joint.transpose(2, 0, 1), axis=(0, 2)).copy()
MIXED = 0.6 * FIRST + 0.4 * SECOND
COUNT = 20_000


class TwoClasses(ToyNetwork):
    """The perfect network of two classes and of both together."""

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.num_states = num_states
        tables = (MIXED, FIRST, SECOND)
        self.parts = torch.nn.ModuleList(Exact(torch.from_numpy(t), num_states) for t in tables)

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        for part in self.parts:
            assert isinstance(part, Network)
            part.configure(process, parameterization)
            self.num_outputs = part.num_outputs

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        inner = Context(frozen=context.frozen)
        answers = torch.stack([part.hidden(tokens, sigma, inner) for part in self.parts])  # type: ignore[operator]
        labels = torch.full_like(tokens[:, 0], -1) if context.labels is None else context.labels
        chosen: Tensor = answers[labels + 1, torch.arange(len(tokens))]
        return chosen


def two_classes() -> Diffusion:
    return Diffusion(TwoClasses(V + 1), Absorbing(V), dd.LogLinear(), dd.Conditional())


def drawn(model: Model, *, particles: int = 1, count: int = COUNT, **options: object) -> Array:
    out = dd.sample(
        model, count, length=L, particles=particles, generator=torch.Generator().manual_seed(3),
        **{"sampler": FirstHitting(), **options},  # type: ignore[arg-type]
    )  # fmt: skip
    return counts_of(out.tokens, V).astype(float)


def normalized(weights: Array) -> Array:
    return np.asarray(weights / weights.sum()).reshape(-1)


LABELS = torch.ones(COUNT, dtype=torch.int64)


def test_gamma_one_is_the_class() -> None:
    """20,000 draws see 1.3 % of total variation."""
    assert chi_square(drawn(Labels(two_classes(), 1.0), labels=LABELS), SECOND.reshape(-1)) < 3.7
    assert chi_square(drawn(Labels(two_classes(), 0.0), labels=LABELS), MIXED.reshape(-1)) < 3.7


@pytest.mark.parametrize("sampler", [FirstHitting(), Ordered()])
def test_guidance_of_the_sequence(sampler: dd.samplers.Sampler) -> None:
    """Plain guidance at γ = 2 is off by more than draws explain; 16 particles are not."""
    gamma = 2.0
    target = normalized(SECOND**gamma * MIXED ** (1 - gamma))
    model = Labels(two_classes(), gamma)
    assert chi_square(drawn(model, labels=LABELS, sampler=sampler), target) > 6
    few = COUNT // 2
    assert chi_square(drawn(model, count=few, labels=LABELS[:few], particles=16, sampler=sampler), target) < 3.7


def test_plain_guidance_has_a_plateau() -> None:
    """More steps do not help: TV at γ = 2 stays."""
    target = normalized(SECOND**2.0 / MIXED)
    model = Labels(two_classes(), 2.0)
    errors = []
    for steps in (16, 128):
        observed = drawn(model, labels=LABELS, sampler=Ancestral(), steps=steps)
        errors.append(total_variation(observed / observed.sum(), target))
    assert errors[1] > 0.02


def test_temperature_of_the_sequence() -> None:
    target = normalized(DENSE.joint ** (1 / 0.6))
    model = Temperature(build("absorbing", "conditional"), 0.6)
    assert chi_square(drawn(model), target) > 6
    assert chi_square(drawn(model, particles=32, count=COUNT // 2), target) < 3.7


@pytest.mark.parametrize("sampler", [Ancestral(), Euler(), Uniformization()])
def test_labels_under_a_constraint(sampler: dd.samplers.Sampler) -> None:
    """What a sampler asks a model before it runs, it asks without a row's labels."""
    language = compile_expression(regex("(ab|c)+a?b*", "abc"), V)
    out = dd.sample(
        Labels(two_classes(), 2.0), 200, length=L, sampler=sampler, steps=4 if sampler.takes_steps else None,
        labels=LABELS[:200], constraint=Automaton(language), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert all(language.accepts(row) for row in out.tokens.tolist())


def ones(sequences: Sequences) -> Tensor:
    return (sequences.tokens == 1).sum(-1).double()


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("constrained", [False, True])
def test_rewards(every: int, constrained: bool) -> None:
    """p0(x) e^(λ r(x)), and given acceptance; weights average to the normaliser."""
    language = compile_expression(regex("(ab|c)+a?b*", "abc"), V)
    kept = [not constrained or language.accepts(row) for row in DENSE.sequences.tolist()]
    weights = DENSE.probabilities * np.exp(0.8 * (DENSE.sequences == 1).sum(-1)) * kept
    options = {"constraint": Automaton(language)} if constrained else {}
    out = dd.sample(
        build("absorbing", "conditional"), 10_000, length=L, sampler=FirstHitting(), particles=32,
        reward=dd.Reward(ones, 0.8, every), generator=torch.Generator().manual_seed(1), **options,  # type: ignore[arg-type]
    )  # fmt: skip
    assert chi_square(counts_of(out.tokens, V).astype(float), normalized(weights)) < 3.7
    assert out.log_weights is not None
    found = out.log_weights.exp()
    assert abs(float(found.mean()) - weights.sum()) < 4 * float(found.std()) / 100
    assert out.effective is not None
    assert float(out.effective.min()) >= 1
    assert float(out.effective.max()) <= 32


def test_rewards_off_the_absorbing_process() -> None:
    """A run of 32 steps has an error of its own; what is steered comes within 4 %."""
    weights = DENSE.probabilities * np.exp(0.8 * (DENSE.sequences == 1).sum(-1))
    target = normalized(weights)
    assert total_variation(DENSE.probabilities, target) > 0.1
    out = dd.sample(
        build("uniform", "denoiser"), 2000, length=L, sampler=Ancestral(), steps=32, particles=16,
        reward=dd.Reward(ones, 0.8, 4), generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    assert total_variation(counts_of(out.tokens, V) / 2000, target) < 0.06


def test_label_dropout() -> None:
    """The share of rows whose label is left out; the rest keep theirs."""
    seen: list[Tensor] = []

    class Watch(losses.ScoreEntropy):
        def __call__(self, model: object, sequences: Sequences, *, generator: object) -> Tensor:
            assert sequences.labels is not None
            seen.append(sequences.labels)
            return torch.zeros(len(sequences))

    labels = torch.arange(40_000) % 5
    rows = Sequences(torch.zeros(40_000, 2, dtype=torch.int64), torch.full((40_000,), 2), labels=labels)
    model = build("uniform", "denoiser", toy=TOYS["dense3x2"])
    losses.LabelDropout(Watch(), 0.3)(model, rows, generator=torch.Generator().manual_seed(0))
    dropped = seen[0] == -1
    assert float(dropped.double().mean()) == pytest.approx(0.3, abs=0.01)
    assert (seen[0][~dropped] == labels[~dropped]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Labels(two_classes(), -1.0), "gamma=-1"),
        (lambda: drawn(Labels(two_classes(), 2.0), count=2), "no labels"),
        (lambda: losses.LabelDropout(losses.AnyOrder(), 1.0), "share=1"),
        (lambda: drawn(two_classes(), count=2, reward=dd.Reward(ones)), "particles=2 or more"),
        (
            lambda: drawn(two_classes(), count=2, particles=2, reward=dd.Reward(lambda s: ones(s) / 0)),
            "not finite",
        ),
    ],
)
def test_refusals(make: Callable[[], object], message: str) -> None:
    with pytest.raises((DiscdiffError, IncompatibleError), match=message):
        make()
