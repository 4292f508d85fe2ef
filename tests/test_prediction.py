"""Prediction: lazy, read in any form, certain where positions are given."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from discdiff.model import Diffusion
from discdiff.networks import Context, Network
from discdiff.networks.exact import Exact
from discdiff.parameterizations import Denoiser, Parameterization
from discdiff.prediction import DenoiserPrediction, positions_of
from discdiff.processes import Process, Uniform
from discdiff.schedules import LogLinear
from tests.cases import MODELS, PROCESSES, build
from tests.toy_networks import Wrong
from tests.toys import DENSE, every_sequence


@pytest.fixture(autouse=True)
def _sampling() -> Iterator[None]:
    """As in sampling: with gradients on, row 0 is always evaluated, so that a loss of nothing has a gradient too."""
    with torch.no_grad():
        yield


class Watched(Network):
    """Another network, and what it was asked: token batches, noise, contexts, positions at the head."""

    def __init__(self, inner: Network) -> None:
        super().__init__()
        self.inner, self.num_states = inner, inner.num_states
        self.asked: list[tuple[Tensor, Tensor | None, Context]] = []
        self.heads: list[int] = []

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.inner.configure(process, parameterization)
        self.num_outputs = self.inner.num_outputs

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        self.asked.append((tokens, sigma, context))
        return self.inner.hidden(tokens, sigma, context)

    def head(self, hidden: Tensor) -> Tensor:
        self.heads.append(hidden.shape[:-1].numel())
        return self.inner.head(hidden)


def watched(process: str, parameterization: str) -> tuple[Diffusion, Watched]:
    model = build(process, parameterization, network=lambda toy, states: Watched(Wrong(toy, states)))
    assert isinstance(model.network, Watched)
    return model, model.network


def states(model: Diffusion) -> tuple[Tensor, Tensor]:
    """All states, and a noise level of their own for each row."""
    every = torch.from_numpy(every_sequence(model.process.num_states, DENSE.length))
    # as far as the score of a wrong network can be inverted
    highest = 2.5 if model.process.reveals_noise or isinstance(model.process, Uniform) else 0.5
    return every, torch.linspace(0.1, highest, len(every), dtype=torch.float64)[:, None]


READINGS = ["log_denoiser", "log_score", "posterior"]


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_positions_are_the_whole_cut(process: str, parameterization: str, reading: str) -> None:
    """At positions: the same numbers as everywhere; the network runs for their rows only, the head for them only."""
    model, network = watched(process, parameterization)
    tokens, sigma = states(model)
    extra = (sigma / 3,) if reading == "posterior" else ()
    whole = getattr(model.predict(tokens, sigma), reading)(*extra)
    assert whole.shape[:2] == tokens.shape
    chosen = torch.zeros_like(tokens, dtype=torch.bool)
    chosen[3, 1] = chosen[5, 0] = chosen[5, 2] = True
    where = positions_of(chosen)
    network.asked.clear()
    network.heads.clear()
    prediction = model.predict(tokens, sigma)
    assert not network.asked
    torch.testing.assert_close(getattr(prediction, reading)(*extra, where), whole[where])
    assert [len(batch) for batch, _, _ in network.asked] == [2]
    assert network.heads == [3]
    assert prediction.calls.sum() == 2
    assert prediction.calls[[3, 5]].tolist() == [1, 1]
    # Asking again, for more rows, runs the network for the new ones only.
    chosen[7, 0] = True
    torch.testing.assert_close(getattr(prediction, reading)(*extra, positions_of(chosen)), whole[chosen])
    assert [len(batch) for batch, _, _ in network.asked] == [2, 1]
    torch.testing.assert_close(getattr(prediction, reading)(*extra), whole)
    assert prediction.calls.tolist() == [1] * len(tokens)


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_nothing_asked_costs_nothing(process: str, parameterization: str) -> None:
    model, network = watched(process, parameterization)
    tokens, sigma = states(model)
    prediction = model.predict(tokens, sigma)
    nowhere = positions_of(torch.zeros_like(tokens, dtype=torch.bool))
    assert prediction.log_denoiser(nowhere).shape == (0, 3)
    assert prediction.log_score(nowhere).shape == (0, model.process.num_states)
    assert prediction.nll(tokens, nowhere).shape == (0,)
    assert not network.asked
    assert prediction.calls.sum() == 0


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_readings_are_laws(process: str, parameterization: str) -> None:
    """Denoiser and posterior sum to one; no denoiser gives the mask anything; the score is 1 at home."""
    model, _ = watched(process, parameterization)
    tokens, sigma = states(model)
    prediction = model.predict(tokens, sigma)
    assert prediction.log_denoiser().shape == (*tokens.shape, 3)
    torch.testing.assert_close(prediction.log_denoiser().exp().sum(-1), torch.ones(tokens.shape).double())
    torch.testing.assert_close(prediction.posterior(sigma / 2).sum(-1), torch.ones(tokens.shape).double())
    assert (prediction.log_score().gather(-1, tokens[..., None]) == 0).all()
    if process == "absorbing":
        shown = tokens < 3
        assert (prediction.log_denoiser()[shown].exp().max(-1).values == 1).all()
        assert prediction.log_score()[shown].isneginf().sum(-1).eq(3).all()


@pytest.mark.parametrize("process", PROCESSES)
def test_both_forms_of_the_truth_agree(process: str) -> None:
    """An exact network as a score and as a denoiser: the same score, denoiser and score entropy, to 1e-9."""
    one, two = (build(process, name) for name in ("score", "denoiser"))
    tokens, sigma = states(one)
    score, denoiser = one.predict(tokens, sigma), two.predict(tokens, sigma)
    torch.testing.assert_close(score.log_score(), denoiser.log_score(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(score.log_denoiser().exp(), denoiser.log_denoiser().exp(), rtol=1e-9, atol=1e-12)
    where = positions_of(one.process.active(tokens))
    x0 = torch.where(tokens < 3, tokens, 1)
    torch.testing.assert_close(score.score_entropy(x0, where), denoiser.score_entropy(x0, where), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("parameterization", ["score", "denoiser", "conditional"])
def test_reveal_loss_is_the_score_entropy_over_its_weight(parameterization: str) -> None:
    """(e^σ − 1) · score entropy at masked positions, for unnormalised scores too."""
    model, _ = watched("absorbing", parameterization)
    tokens, sigma = states(model)
    prediction, where = model.predict(tokens, sigma), positions_of(tokens == 3)
    x0 = torch.where(tokens < 3, tokens, 2)
    weighted = torch.expm1(sigma).expand(tokens.shape)[where] * prediction.score_entropy(x0, where)
    torch.testing.assert_close(prediction.reveal_loss(x0, where), weighted, rtol=1e-10, atol=1e-12)
    if parameterization != "score":
        torch.testing.assert_close(prediction.reveal_loss(x0, where), prediction.nll(x0, where))


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_given_positions_are_certain(process: str, parameterization: str) -> None:
    """Their denoiser and posterior are the token; their score lets nothing move. The others are as they were told."""
    model, network = watched(process, parameterization)
    tokens, sigma = states(model)
    tokens = tokens[(tokens[:, 1] < 3)]
    sigma = sigma[: len(tokens)]
    frozen = torch.tensor([False, True, False]).expand_as(tokens)
    prediction = model.predict(tokens, sigma, Context(frozen=frozen))
    here = torch.nn.functional.one_hot(tokens[:, 1], 3).double()
    assert torch.equal(prediction.log_denoiser()[:, 1].exp(), here)
    assert torch.equal(prediction.posterior(sigma / 2)[:, 1, :3], here)
    assert torch.equal(prediction.log_score()[:, 1, :3].exp(), here)
    shown = network.asked[-1][2].frozen
    assert (shown is None) == model.process.reveals_noise


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_noise_that_the_network_is_shown(process: str, parameterization: str) -> None:
    """None where it is time-free, else σ cut to the schedule's ends."""
    model, network = watched(process, parameterization)
    low, high = model.schedule.ends()
    tokens = torch.zeros(3, 3, dtype=torch.int64)
    sigma = torch.tensor([[low / 10], [1.0], [high * 2]], dtype=torch.float64)
    model.predict(tokens, sigma).log_score()
    shown = network.asked[-1][1]
    if not model.time_conditioned:
        assert shown is None
    else:
        assert shown is not None
        assert shown.flatten().tolist() == [low, 1.0, high]


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_encode_inverts_predict(process: str, parameterization: str) -> None:
    """The logits of a prediction's reading, given back, say the same."""
    model = build(process, parameterization)
    tokens, sigma = states(model)
    prediction = model.predict(tokens, sigma)
    logits = model.parameterization.encode(prediction)
    again = model.parameterization.predict(
        model.process,
        tokens,
        sigma,
        None,
        lambda where: logits if where is None else logits[where],  # type: ignore[arg-type]
    )
    torch.testing.assert_close(again.log_score(), prediction.log_score())


def test_noise_for_each_position() -> None:
    """`sigma` `[B, L]`: each position is read at its own level."""
    model, _ = watched("uniform", "denoiser")
    tokens = torch.tensor([[0, 1, 2]])
    levels = torch.tensor([[0.3, 1.0, 2.0]], dtype=torch.float64)
    log_p = torch.randn(1, 3, 3, dtype=torch.float64)

    def prediction(sigma: Tensor) -> DenoiserPrediction:
        return DenoiserPrediction(
            model.process,
            tokens,
            sigma,
            None,
            log_p=lambda where: log_p if where is None else log_p[where],
            calls=lambda: torch.zeros(1, dtype=torch.int64),
        )

    whole = prediction(levels)
    for i in range(3):
        alone = prediction(levels[:, i : i + 1])
        torch.testing.assert_close(whole.log_score()[:, i], alone.log_score()[:, i])
        torch.testing.assert_close(whole.posterior(levels / 2)[:, i], alone.posterior(levels[:, i : i + 1] / 2)[:, i])


def test_context_gathers_rows() -> None:
    context = Context(padding=torch.eye(3).bool(), labels=torch.arange(3))
    picked = context.index(torch.tensor([2, 0]))
    assert picked.labels is not None
    assert picked.labels.tolist() == [2, 0]
    assert picked.frozen is None
    assert picked.padding is not None
    assert picked.padding.tolist() == [[False, False, True], [True, False, False]]


def test_dtype_follows_the_weights() -> None:
    """At least float32; a network without weights is enumerated in float64."""
    model = Diffusion(Exact(torch.from_numpy(DENSE.joint), 3), PROCESSES["uniform"].make(3), LogLinear(), Denoiser())
    assert model.dtype == torch.float64
    for dtype, want in itertools.product((torch.float32, torch.bfloat16), (torch.float32,)):
        model.network.register_parameter("weight", torch.nn.Parameter(torch.ones((), dtype=dtype)))
        assert model.dtype == want
    assert model.device == torch.device("cpu")
