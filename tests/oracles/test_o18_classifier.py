"""O18: guidance by a classifier that is right at every noise is p0(x | y); by its slope, as far as that is straight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import discdiff as dd
from discdiff.errors import CheckpointError, IncompatibleError
from discdiff.guidance import Classifier, FirstOrderClassifier, Predictor, Temperature, fit_predictor
from discdiff.guidance.classifier import ClassifierGuidance, LogLikelihood
from discdiff.model import Model
from discdiff.networks import Context
from discdiff.prediction import Positions
from discdiff.processes import Process
from discdiff.randomness import Keys
from discdiff.samplers import Ancestral, Euler, FirstHitting
from discdiff.sequences import Sequences
from tests.cases import build
from tests.oracles.test_o17_particles import chi_square
from tests.toys import DENSE, Array, counts_of, every_sequence, total_variation

V, L = DENSE.vocab_size, DENSE.length
SEQUENCES = every_sequence(V, L)
CLASS = np.random.default_rng(5).uniform(0.05, 0.95, size=V**L)
"""p(y | x0)."""
TARGET = DENSE.probabilities * CLASS / (DENSE.probabilities * CLASS).sum()
COUNT = 20_000


def right(process: Process) -> LogLikelihood:
    """log p(y | xt) of the toy, by enumeration of x0; multilinear in the one-hot states."""
    joint, numerator = (torch.as_tensor(p) for p in (DENSE.probabilities, DENSE.probabilities * CLASS))
    x0 = torch.as_tensor(SEQUENCES)

    def log_likelihood(states: Tensor, sigma: Tensor, context: Context) -> Tensor:
        each = process.transition(torch.arange(V)[:, None], sigma[:1, :1].double().expand(V, 1))[:, 0]  # [V, S]
        like = torch.einsum("bls,vs->blv", states.double(), each)
        whole = torch.stack([like[:, i, x0[:, i]] for i in range(L)]).prod(0)
        return (whole @ numerator).log() - (whole @ joint).log()

    return log_likelihood


def drawn(model: Model, sampler: dd.samplers.Sampler, *, count: int = COUNT, **options: object) -> Array:
    out = dd.sample(
        model, count, length=L, sampler=sampler, generator=torch.Generator().manual_seed(3), **options,  # type: ignore[arg-type]
    )  # fmt: skip
    return counts_of(out.tokens, V).astype(float)


def test_gamma_one_is_the_class() -> None:
    """20,000 draws see 1.3 % of total variation; the unguided law is farther."""
    model = build("absorbing", "conditional")
    assert total_variation(TARGET, DENSE.probabilities) > 0.1
    guided = Classifier(model, right(model.process))
    assert chi_square(drawn(guided, FirstHitting()), TARGET) < 3.7


@pytest.mark.parametrize(("process", "sampler"), [("absorbing", Ancestral()), ("uniform", Euler())])
def test_steps_lead_to_the_class(process: str, sampler: dd.samplers.Sampler) -> None:
    """On a grid the distance falls with the steps, off the absorbing process too, where the score is guided."""
    model = build(process, "denoiser")
    guided = Classifier(model, right(model.process))
    errors = []
    for steps in (4, 64):
        observed = drawn(guided, sampler, steps=steps)
        errors.append(total_variation(observed / observed.sum(), TARGET))
    noise = 0.5 * np.sqrt(2 * TARGET / np.pi / COUNT).sum()
    assert errors[0] > 3 * noise
    assert errors[1] < min(0.5 * errors[0], 2.5 * noise), (errors, noise)


def test_guidance_of_the_sequence() -> None:
    """γ = 2: plain guidance is off by more than draws explain; 16 particles follow p0(x) p(y | x)²."""
    target = DENSE.probabilities * CLASS**2
    target /= target.sum()
    model = build("absorbing", "conditional")
    guided = Classifier(model, right(model.process), 2.0)
    few = drawn(guided, FirstHitting(), count=COUNT // 2, particles=16)
    assert chi_square(few, target) < 3.7
    assert chi_square(drawn(guided, FirstHitting()), target) > 5


def test_wrong_classifiers_are_corrected() -> None:
    """What a classifier says on the way does not matter with particles: its word on clean sequences counts."""
    model = build("absorbing", "conditional")
    truth = right(model.process)

    def hasty(states: Tensor, sigma: Tensor, context: Context) -> Tensor:
        masked = states[..., V].sum(-1)
        return truth(states, sigma, context) * (1 + 0.5 * masked) - 0.3 * masked

    guided = Classifier(model, hasty)
    assert chi_square(drawn(guided, FirstHitting(), count=COUNT // 2, particles=16), TARGET) < 3.7
    assert chi_square(drawn(guided, FirstHitting()), TARGET) > 5


def test_classifiers_that_are_told_the_noise_say_one_thing_of_a_sequence() -> None:
    """What it makes of the noise level cancels on the way, as does all that it says of noised sequences."""
    model = build("absorbing", "conditional")
    truth = right(model.process)

    def noisy(states: Tensor, sigma: Tensor, context: Context) -> Tensor:
        return truth(states, sigma, context) * (1 + sigma[:, 0]) - 0.5 * torch.sin(3 * sigma[:, 0])

    guided = Classifier(model, noisy)
    assert chi_square(drawn(guided, FirstHitting(), count=COUNT // 2, particles=16), TARGET) < 3.7


SLOPES = torch.as_tensor(np.random.default_rng(7).normal(size=(L, V + 1)))


def straight(states: Tensor, sigma: Tensor, context: Context) -> Tensor:
    return (states.double() * SLOPES).sum((1, 2))


def log_p(guided: ClassifierGuidance, tokens: Tensor) -> Tensor:
    sigma = torch.full((len(tokens), 1), 0.7, dtype=torch.float64)
    return guided.predict(tokens, sigma).log_denoiser((torch.arange(len(tokens)), torch.ones(len(tokens)).long()))


def test_slopes_are_changes_where_nothing_bends() -> None:
    """The first-order form equals the exact one of a linear log-likelihood, and is near that of a curved one."""
    model = build("absorbing", "conditional").double()
    tokens = torch.tensor([[0, V, 1], [V, V, V], [2, V, V]])
    exact, first = (kind(model, straight, 1.3) for kind in (Classifier, FirstOrderClassifier))
    torch.testing.assert_close(log_p(first, tokens), log_p(exact, tokens), rtol=1e-10, atol=1e-10)
    expected = model.predict(tokens, torch.full((3, 1), 0.7)).log_denoiser((torch.arange(3), torch.ones(3).long()))
    expected = (expected + 1.3 * SLOPES[1, :V]).log_softmax(-1)
    torch.testing.assert_close(log_p(exact, tokens), expected, rtol=1e-6, atol=1e-6)
    truth = right(model.process)
    exact, first = (kind(model, truth, 1.0) for kind in (Classifier, FirstOrderClassifier))
    bent = (log_p(first, tokens) - log_p(exact, tokens)).abs().max()
    plain = model.predict(tokens, torch.full((3, 1), 0.7)).log_denoiser((torch.arange(3), torch.ones(3).long()))
    assert 1e-6 < bent < (log_p(exact, tokens) - plain).abs().max()


class Flipped(Classifier):
    def log_ratios(self, tokens: Tensor, sigma: Tensor, context: Context, where: Positions) -> Tensor:
        return -super().log_ratios(tokens, sigma, context, where)


class Elsewhere(Classifier):
    """Changes the position beside the one that is asked for."""

    def log_ratios(self, tokens: Tensor, sigma: Tensor, context: Context, where: Positions) -> Tensor:
        return super().log_ratios(tokens, sigma, context, (where[0], (where[1] + 1) % L))


class Unlike(Classifier):
    """Forgets that the present state is the measure: harmless to draws, not to weights."""

    def log_ratios(self, tokens: Tensor, sigma: Tensor, context: Context, where: Positions) -> Tensor:
        now = torch.nn.functional.one_hot(tokens, V + 1).double()
        base = self.judged(now, sigma, context)[where[0], None]
        return super().log_ratios(tokens, sigma, context, where) + base


@pytest.mark.parametrize(("mutant", "particles"), [(Flipped, 1), (Elsewhere, 1), (Unlike, 8)])
def test_mutants(mutant: type[Classifier], particles: int) -> None:
    model = build("absorbing", "conditional")
    gamma = 1.0 if particles == 1 else 2.0
    target = DENSE.probabilities * CLASS**gamma
    count = COUNT // 2 if particles > 1 else COUNT
    found = drawn(mutant(model, right(model.process), gamma), FirstHitting(), count=count, particles=particles)
    assert chi_square(found, target / target.sum()) > 5


@pytest.mark.parametrize("kind", [Classifier, FirstOrderClassifier])
def test_rows_stand_alone(kind: type[Classifier]) -> None:
    """With keys and padding, under a constraint and a temperature; a predictor of classes that was never trained."""
    model = build("absorbing", "conditional")
    predictor = Predictor(V + 1, 2, dim=8, depth=2)
    guided = Temperature(kind(model, predictor.of(-1), 2.0), 0.8)
    constraint = dd.constraints.Allowed(torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1]]).bool())
    labels = torch.tensor([0, 1, 0, 1, 1])

    def rows(chosen: Tensor) -> list[list[int]]:
        return dd.sample(
            guided, len(chosen), sampler=FirstHitting(), constraint=constraint, labels=labels[chosen],
            generator=Keys(2, chosen),
        ).lists()  # fmt: skip

    every = torch.arange(5)
    assert rows(every.flip(0)) == rows(every)[::-1]
    assert rows(every[:2]) + rows(every[2:]) == rows(every)


def test_padding_is_not_seen() -> None:
    predictor = Predictor(5, 3, dim=16, depth=4).eval()
    states = torch.nn.functional.one_hot(torch.randint(5, (2, 9)), 5).float()
    longer = torch.cat([states, torch.rand(2, 4, 5)], 1)
    padding = torch.arange(13).expand(2, -1) >= 9
    torch.testing.assert_close(
        predictor(longer, torch.ones(2, 13), padding), predictor(states, torch.ones(2, 9)), rtol=1e-5, atol=1e-6
    )


def test_a_predictor_learns_and_is_kept(tmp_path: Path) -> None:
    """Sequences of two classes: trained for seconds, it is nearly as sure as it may be, and after loading."""
    model = build("absorbing", "conditional")
    draw = torch.Generator().manual_seed(0)
    x0 = torch.as_tensor(SEQUENCES)[torch.multinomial(torch.as_tensor(DENSE.probabilities), 4000, True, generator=draw)]
    chance = torch.as_tensor(CLASS)[(x0 @ torch.tensor([V * V, V, 1]))]
    labels = (torch.rand(4000, generator=draw) < chance).long()
    predictor = Predictor(V + 1, 2, dim=32, depth=2)
    sequences = Sequences(x0, torch.full((4000,), L), labels)
    losses = fit_predictor(predictor, model, sequences, generator=draw, steps=400, batch_size=128, learning_rate=5e-3)
    assert np.mean(losses[-50:]) < np.mean(losses[:5])
    truth = right(model.process)
    tokens = torch.as_tensor(every_sequence(V + 1, L))
    states, sigma = torch.nn.functional.one_hot(tokens, V + 1).float(), torch.full((len(tokens), L), 0.7)
    with torch.no_grad():
        error = (predictor.of(1)(states, sigma, Context()).exp() - truth(states, sigma, Context()).exp()).abs()
    assert error.mean() < 0.08
    predictor.save(tmp_path / "p.safetensors")
    again = Predictor.load(tmp_path / "p.safetensors")
    torch.testing.assert_close(again(states, sigma), predictor(states, sigma))
    assert list(tmp_path.iterdir()) == [tmp_path / "p.safetensors"]
    (tmp_path / "p.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="predictor"):
        Predictor.load(tmp_path / "p.safetensors")


def test_what_does_not_fit_is_refused() -> None:
    model = build("absorbing", "conditional")
    with pytest.raises(IncompatibleError, match="gamma=-1"):
        Classifier(model, straight, -1)
    with pytest.raises(IncompatibleError, match="not finite"):
        drawn(Classifier(model, lambda states, sigma, context: states.sum((1, 2)) * torch.nan), FirstHitting(), count=2)
    with pytest.raises(IncompatibleError, match=r"\[2, 3\]"):
        drawn(Classifier(model, lambda states, sigma, context: states.sum(2)), FirstHitting(), count=2)
    with pytest.raises(IncompatibleError, match="without a label"):
        drawn(Classifier(model, Predictor(V + 1, 2).of(-1)), FirstHitting(), count=2)
    with pytest.raises(IncompatibleError, match="labels"):
        fit_predictor(Predictor(V + 1, 2), model, Sequences.full(torch.zeros(2, 3).long()), generator=torch.Generator())
    with pytest.raises(IncompatibleError, match="num_states=9"):
        fit_predictor(
            Predictor(9, 2), model, Sequences(torch.zeros(2, 3).long(), torch.tensor([3, 3]), torch.tensor([0, 1])),
            generator=torch.Generator(),
        )  # fmt: skip
    with pytest.raises(IncompatibleError, match="two classes"):
        Predictor(4, 1)
    uniform = build("uniform", "denoiser")
    with pytest.raises(IncompatibleError, match="denoiser"):
        drawn(
            Classifier(uniform, right(uniform.process)), Ancestral(), count=2, steps=2,
            constraint=dd.constraints.Allowed(torch.tensor([[1, 1, 0]] * 3).bool()),
        )  # fmt: skip
