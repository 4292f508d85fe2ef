"""The leave-one-out law, the posterior and the score: each read from each, against enumeration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.errors import IncompatibleError
from discdiff.networks import Context
from discdiff.parameterizations import LeaveOneOut
from discdiff.prediction import DenoiserPrediction, positions_of
from discdiff.schedules import LogLinear
from tests.cases import MODELS, NO_DENOISER, PROCESSES, build, exact_asked_anew
from tests.toys import TOYS, Array, Toy, every_sequence

SIGMAS = [1e-4, 0.1, 1.0, 2.5]


def leave_one_out(toy: Toy, transition: Array) -> Array:
    """p(x0_i | xt without position i), `[S^L, L, V]`; NaN where the rest of xt cannot occur."""
    noised, onehot = every_sequence(len(transition), toy.length), np.eye(toy.vocab_size)[toy.sequences]
    out = np.empty((*noised.shape, toy.vocab_size))
    for i in range(toy.length):
        others = [transition[noised[:, j][:, None], toy.sequences[:, j]] for j in range(toy.length) if j != i]
        weights = np.prod(others, axis=0) * toy.probabilities
        with np.errstate(invalid="ignore"):
            out[:, i] = weights @ onehot[:, i] / weights.sum(-1)[:, None]
    return out


@pytest.mark.parametrize("toy", ["dense3x3", "repeat3x3", "parity2x4"])
@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_reading(process: str, parameterization: str, toy: str) -> None:
    """Where xt_i could have come from any token, from every native form: 1e-10; from scores as far as they reach."""
    table = TOYS[toy]
    model = build(process, parameterization, toy=table, network=exact_asked_anew, schedule=LogLinear(1e-9, t_min=1e-9))
    states = torch.from_numpy(every_sequence(model.process.num_states, table.length))
    for sigma in SIGMAS:
        transition = PROCESSES[process].transition(table.vocab_size, sigma)
        truth = leave_one_out(table, transition)
        # A state that cannot occur has no posterior, though it may have a leave-one-out law.
        possible = np.asarray(~np.isnan(table.denoiser(transition)).any((-1, -2)))
        open_to_all = np.asarray((transition[:, : table.vocab_size] > 0).all(-1))[states.numpy()]
        where = positions_of(torch.from_numpy(np.logical_and(possible[:, None], open_to_all)))
        prediction = model.predict(states, torch.full((len(states), 1), sigma, dtype=torch.float64))
        if (process, parameterization) in NO_DENOISER and sigma * PROCESSES[process].fastest_rate(3) > 3:
            with pytest.raises(IncompatibleError, match="Denoiser reading of a score"):
                prediction.log_leave_one_out(where)
            continue
        got = prediction.log_leave_one_out(where).exp().numpy()
        want = truth[where[0].numpy(), where[1].numpy()]
        assert len(want) > 0
        np.testing.assert_allclose(got, want, atol=1e-10)


@pytest.mark.parametrize("process", PROCESSES)
def test_the_two_denoisers_differ(process: str) -> None:
    """Where a token says something of its own past: mean total variation above 0.1; at masks, which say nothing: 0."""
    model = build(process, "leave_one_out")
    states = torch.from_numpy(every_sequence(model.process.num_states, 3))
    prediction = model.predict(states, torch.full((len(states), 1), 0.5, dtype=torch.float64))
    assert not isinstance(prediction, DenoiserPrediction)
    telling = model.process.content(model.process.likelihood(states, prediction.sigma))
    masked = states >= model.process.vocab_size
    where = positions_of((telling > 0).all(-1))
    distance = 0.5 * (prediction.log_leave_one_out(where).exp() - prediction.log_denoiser(where).exp()).abs().sum(-1)
    assert (distance[masked[where]] < 1e-12).all()
    telltale = distance[~masked[where]]
    assert (telltale > 0.01).all()
    assert len(telltale) == 0 or telltale.mean() > 0.1


@pytest.mark.parametrize("parameterization", ["score", "denoiser", "conditional", "leave_one_out"])
def test_unmasked_positions_have_no_reading(parameterization: str) -> None:
    """On the absorbing process the posterior there is certain, and says nothing of what the others say."""
    model = build("absorbing", parameterization)
    prediction = model.predict(torch.tensor([[0, 3, 3]]), torch.ones(1, 1, dtype=torch.float64))
    with pytest.raises(IncompatibleError, match=r"got 1 positions .* expected positions .* Mask the positions again"):
        prediction.log_leave_one_out()


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_given_positions_are_certain(process: str, parameterization: str) -> None:
    model = build(process, parameterization)
    tokens = torch.full((1, 3), model.process.num_states - 1)
    tokens[0, 1] = 0
    frozen = torch.tensor([[False, True, False]])
    prediction = model.predict(tokens, torch.ones(1, 1, dtype=torch.float64), Context(frozen=frozen))
    assert prediction.log_leave_one_out()[0, 1].exp().tolist() == [1, 0, 0]
    assert prediction.log_leave_one_out()[0, 0].isfinite().all()


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", [1e-6, 1e-3, 1.0, 20.0])
def test_extremes(process: str, dtype: torch.dtype, sigma: float) -> None:
    """Readings and gradients stay finite; float32 keeps four digits of the score."""
    made, size = PROCESSES[process].make(5), 5
    x = torch.tensor([[made.num_states - 1, made.num_states - 1]])
    logits = torch.randn(1, 2, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    scores = []
    for each in (dtype, torch.float64):
        said = logits.to(each).requires_grad_()
        noise = torch.full((1, 1), sigma, dtype=each)
        prediction = LeaveOneOut().predict(
            made,
            x,
            noise,
            None,
            lambda where, said=said: said if where is None else said[where],  # type: ignore[arg-type]
        )
        log_s = prediction.log_score()[..., :size]
        for reading in (log_s, prediction.log_denoiser(), prediction.log_leave_one_out()):
            (gradient,) = torch.autograd.grad(reading.sum(), said, retain_graph=True)
            assert reading.isfinite().all()
            assert gradient.isfinite().all()
        scores.append(log_s.detach().double())
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-4)
