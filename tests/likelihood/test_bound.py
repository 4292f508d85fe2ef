"""nelbo is unbiased against the bound by quadrature, and bounds −log p."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.guidance import Temperature
from discdiff.likelihood import nelbo, terms
from discdiff.likelihood.scored import Scored
from discdiff.likelihood.terms import reconstruction
from discdiff.networks import Network
from discdiff.processes import Process
from discdiff.randomness import Keys
from discdiff.schedules import Cosine, Geometric, LogLinear, Schedule
from discdiff.sequences import Sequences
from tests.cases import MODELS, PROCESSES, SCHEDULES, build
from tests.likelihood.quadrature import COPIES, ENDS, TOY, X0, by_copy, erring, estimate, masked_bound, score_terms
from tests.toy_networks import Wrong
from tests.toys import Z_LIMIT, Toy, every_sequence, legendre, z_score

BOUNDED = [
    (*model, schedule)
    for model in MODELS
    for schedule in SCHEDULES
    if schedule == "log_linear" or model[0] in ("absorbing", "uniform")
]


@pytest.mark.parametrize(("process", "parameterization", "schedule"), BOUNDED)
def test_unbiased_and_honest(process: str, parameterization: str, schedule: str) -> None:
    """A wrong network: mean within p > 1e-4 of the quadrature; the stated error is not below the true one.

    300 copies of 9 sequences x 4 samples: a bias of 5 standard errors of their mean, 0.2 nats of 3, is caught.
    """
    model = erring(process, parameterization, ENDS[schedule])
    bound = estimate(model)
    if model.process.reveals_noise:
        want = masked_bound(model, parameterization)
        assert (bound.prior == 0).all()
        assert (bound.reconstruction == 0).all()
    else:
        diffusion, prior, reconstruction = score_terms(model, process, parameterization)
        want = diffusion + prior + reconstruction
        np.testing.assert_allclose(bound.prior[: len(X0)], prior, rtol=1e-6, atol=1e-12)
        assert abs(z_score(by_copy(bound.diffusion), diffusion.mean())) < Z_LIMIT
        assert abs(z_score(by_copy(bound.reconstruction), reconstruction.mean())) < Z_LIMIT
    assert abs(z_score(by_copy(bound.total), want.mean())) < Z_LIMIT
    each = bound.total.reshape(COPIES, -1).numpy()
    spread = each.std(0, ddof=1) / np.sqrt(COPIES)
    assert (np.abs((each.mean(0) - want) / spread) < Z_LIMIT + 1).all()
    assert spread.mean() < 0.15
    # Honest: mean of the squared errors against the variance between copies, which is itself known to about 5%.
    assert float(bound.standard_errors.square().mean()) > 0.85 * each.var(0, ddof=1).mean()


NOISY = [pair for pair in MODELS if not PROCESSES[pair[0]].make(2).reveals_noise]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("process", "parameterization"), NOISY)
def test_reconstruction_at_the_real_ends(
    process: str, parameterization: str, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the schedules' own t_min noise is rare: every noised sequence in turn instead of draws; 1e-9."""
    model = erring(process, parameterization, SCHEDULES[schedule]())
    _, _, want = score_terms(model, process, parameterization, points=1)
    transition = PROCESSES[process].transition(3, model.schedule.ends()[0])
    every = torch.from_numpy(every_sequence(model.process.num_states, TOY.length))
    xt, clean = every.repeat(len(X0), 1), X0.repeat_interleave(len(every), 0)
    ones = torch.ones(len(xt), dtype=torch.float64)
    monkeypatch.setattr(terms, "noised", lambda process, x0, where, sigma, coin, *, generator: (xt, ones))
    scored = Scored.of(model, Sequences.full(clean), None, "nelbo")
    values = reconstruction(model, scored, ones, torch.Generator()).sum(-1).numpy()
    chance = transition[xt.numpy(), clean.numpy()].prod(-1)
    np.testing.assert_allclose((chance * values).reshape(len(X0), -1).sum(-1), want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("process", "parameterization"), NOISY)
def test_diffusion_over_the_whole_range(
    process: str, parameterization: str, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the schedules' own t_min to 1: nodes of a quadrature for the draws, every noised sequence in turn; 1e-5.

    The truth is integrated over t, the bound over σ.
    """
    model = erring(process, parameterization, SCHEDULES[schedule]())
    want, _, _ = score_terms(model, process, parameterization, points=100)
    every = torch.from_numpy(every_sequence(model.process.num_states, TOY.length))
    xt, clean = every.repeat(len(X0), 1), X0.repeat_interleave(len(every), 0)

    def all_noised(
        process: Process, x0: Tensor, where: Tensor, sigma: Tensor, coin: Tensor, *, generator: object
    ) -> tuple[Tensor, Tensor]:
        """q(xt | x0) for a weight, so that sums over xt are expectations."""
        transition = PROCESSES[name].transition(3, float(sigma[0]))
        return xt, torch.from_numpy(transition[xt.numpy(), clean.numpy()].prod(-1))

    name, (nodes, weights) = process, legendre(40)
    points = [(torch.full((len(xt),), node, dtype=torch.float64), torch.Generator()) for node in nodes]
    monkeypatch.setattr(terms, "noised", all_noised)
    monkeypatch.setattr(terms, "_replicates", lambda part, generator, samples, first: points)
    scored = Scored.of(model, Sequences.full(clean), None, "nelbo")
    diffusion, _, _ = terms.by_score_entropy(model, scored, torch.Generator(), len(nodes))
    found = np.tensordot(weights, diffusion.sum(-1).numpy(), 1).reshape(len(X0), -1).sum(-1)
    np.testing.assert_allclose(found, want, rtol=1e-5)


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_bound_bounds_the_likelihood(process: str, parameterization: str) -> None:
    """Averaged over the data: the entropy for the exact network, within 0.1 nats; clearly more for a wrong one."""
    entropy = float(-(TOY.probabilities * np.log(TOY.probabilities)).sum())

    def average(network: Callable[[Toy, int], Network] | None) -> float:
        model = build(process, parameterization, toy=TOY, schedule=ENDS["log_linear"], network=network)
        return float(estimate(model).total.reshape(COPIES, -1).numpy().mean(0) @ TOY.probabilities)

    assert average(None) == pytest.approx(entropy, abs=0.1)
    assert average(Wrong) > entropy + 0.1


@pytest.mark.parametrize("schedule", [LogLinear(), Cosine(), Geometric()], ids=repr)
def test_time_free_bound_does_not_depend_on_the_schedule(schedule: Schedule) -> None:
    model = build("absorbing", "conditional", toy=TOY, schedule=schedule, network=Wrong)
    reference = build("absorbing", "conditional", toy=TOY, network=Wrong)
    assert torch.equal(estimate(model, copies=2).total, estimate(reference, copies=2).total)


def test_progress_is_reported() -> None:
    seen: list[tuple[int, int]] = []
    clean = Sequences.full(X0)
    nelbo(
        build("absorbing", "conditional", toy=TOY),
        clean,
        generator=torch.Generator().manual_seed(0),
        samples=2,
        batch_size=4,
        on_batch=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(4, 9), (8, 9), (9, 9)]


def test_wrapped_models_are_scored() -> None:
    """A temperature of 1 changes nothing; another makes a good model worse."""
    model = build("absorbing", "conditional", toy=TOY)
    plain, same, hot = (
        nelbo(m, Sequences.full(X0), generator=Keys(0, torch.arange(9)), samples=16)
        for m in (model, Temperature(model, 1.0), Temperature(model, 3.0))
    )
    torch.testing.assert_close(plain.total, same.total)
    assert float(hot.total @ torch.from_numpy(TOY.probabilities)) > float(
        plain.total @ torch.from_numpy(TOY.probabilities)
    )
