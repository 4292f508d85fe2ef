"""nelbo: unbiased against the bound by quadrature in NumPy, its standard error honest, padding never scored."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from discdiff.guidance import Temperature
from discdiff.likelihood import Bound, nelbo
from discdiff.likelihood.scored import Scored
from discdiff.likelihood.terms import reconstruction
from discdiff.model import Diffusion
from discdiff.networks import Context, Network
from discdiff.randomness import Keys
from discdiff.schedules import Cosine, CosineSquared, Geometric, Linear, LogLinear, Polynomial, Schedule
from discdiff.sequences import Sequences
from tests.cases import MODELS, PROCESSES, SCHEDULES, build
from tests.toy_networks import ByLength, Sure, Wrong
from tests.toys import TOYS, Z_LIMIT, Array, Toy, dense, every_sequence, index_of, legendre, z_score

TOY = TOYS["dense3x2"]
X0 = torch.from_numpy(TOY.sequences)
COPIES = 300


def logits(model: Diffusion, sigma: float) -> Array:
    """What the network says in every state when shown this noise: `[S^L, L, outputs]`."""
    states = torch.from_numpy(every_sequence(model.process.num_states, TOY.length))
    shown = torch.full((len(states), 1), sigma, dtype=torch.float64) if model.time_conditioned else None
    return model.network.head(model.network.hidden(states, shown, Context())).numpy()


def normalised(values: Array) -> Array:
    p = np.exp(values)
    return np.asarray(p / p.sum(-1, keepdims=True))


# ---- the bound by quadrature, every formula written out here once more -----------------------------------------------
def masked_bound(model: Diffusion, parameterization: str) -> Array:
    """Absorbing: ∫ dλ/λ E Σ_masked (Σ p̃ − log p̃_x0 − 1), the network shown the noise clipped to the ends: `[V^L]`."""
    low, high = model.schedule.ends()
    edges = [0.0, -np.expm1(-low), -np.expm1(-high), 1.0]  # pieces: clipping has kinks
    x, mask, total = TOY.sequences, TOY.vocab_size, np.zeros(len(X0))
    hidden = every_sequence(2, TOY.length).astype(bool)
    for start, end in itertools.pairwise(edges):
        # u⁵ resolves a network that changes with log σ over the whole range of a geometric schedule
        u, w = legendre(40)
        for fraction, weight in zip(start + (end - start) * u**5, (end - start) * 5 * u**4 * w, strict=True):
            sigma = float(np.clip(-np.log1p(-fraction), low, high))
            said = logits(model, sigma)
            if parameterization == "score":
                p = np.exp(said[..., :mask]) / mask  # the head's zero is s₀ = 1/(V (e^σ − 1)), and p̃ = s (e^σ − 1)
            else:
                p = normalised(said)
            for pattern in hidden:
                xt = index_of(torch.from_numpy(np.where(pattern, mask, x)), mask + 1).numpy()
                here = p[xt]
                nll = -np.log(np.take_along_axis(here, x[..., None], -1)[..., 0]) + here.sum(-1) - 1
                chance = fraction ** (pattern.sum() - 1) * (1 - fraction) ** (~pattern).sum() if pattern.any() else 0
                total += weight * chance * (nll * pattern).sum(-1)
    return total


def score_terms(model: Diffusion, process: str, parameterization: str, points: int = 60) -> tuple[Array, Array, Array]:
    """A process known by its rates alone; the three terms of the bound, each `[V^L]`.

    ∫ dt σ' E Σ_i Σ_y Q (s − r log s + K(r)); KL(q(x_1|x0) ‖ π); E −log p(x0 | x at t_min).
    """
    case, size, schedule = PROCESSES[process], TOY.vocab_size, model.schedule
    every = case.rates(size)
    states = len(every)
    x0, xt = TOY.sequences, every_sequence(states, TOY.length)
    same = np.eye(states)
    rates = every * (1 - same)

    def at(sigma: float) -> tuple[Array, Array, Array]:
        transition, said = case.transition(size, sigma), logits(model, sigma)
        chance = transition[xt[:, None], x0[None]].prod(-1)  # [xt, x0]
        content = transition[:, :size]
        if parameterization == "score":
            zero = model.process.log_score_scale(torch.tensor([sigma], dtype=torch.float64)).item()
            score = np.exp(said + zero)
        elif parameterization == "leave_one_out":  # of the other positions alone: s_y = Σ p P[y, x0] / Σ p P[x, x0]
            into = normalised(said) @ content.T
            score = into / np.take_along_axis(into, xt[..., None], -1)
        else:
            ratio = content[None, :, :] / content[:, None, :]  # [x, y, x0]
            score = np.einsum("niv,niyv->niy", normalised(said), ratio[xt])
        return transition, chance, np.where(same[xt] > 0, 1.0, score)

    u, w = legendre(points)
    times = schedule.t_min + (1 - schedule.t_min) * u**3
    diffusion = np.zeros(len(x0))
    for t, weight in zip(times, (1 - schedule.t_min) * 3 * u**2 * w, strict=True):
        time = torch.tensor(t, dtype=torch.float64)
        sigma, rate = float(schedule.total_noise(time)), float(schedule.noise_rate(time))
        transition, chance, s = at(sigma)
        for k, clean in enumerate(x0):
            r = transition[:, clean].T[None] / transition[xt, clean[None]][..., None]  # [xt, i, y]
            terms = (rates[xt] * (s - r * np.log(s) + r * (np.log(r) - 1))).sum((-1, -2))
            diffusion[k] += weight * rate * (chance[:, k] * terms).sum()
    # π spans the null space of Q
    limit = np.linalg.svd(every)[2][-1]
    limit = limit / limit.sum()
    last = case.transition(size, schedule.ends()[1])[:, :size]
    prior = (last * np.log(last / limit[:, None])).sum(0)[x0].sum(-1)
    transition, chance, s = at(schedule.ends()[0])
    back = np.linalg.inv(transition)
    posterior = (np.einsum("zy,niy->niz", back, s) * transition[xt])[..., :size]  # no mask in a clean sequence
    posterior = np.clip(posterior, 0, None) / np.clip(posterior, 0, None).sum(-1, keepdims=True)
    picked = posterior[:, np.arange(TOY.length), x0]  # [xt, x0, i]
    reconstruction = -(chance * np.log(picked).sum(-1)).sum(0)
    return diffusion, prior, reconstruction


def estimate(model: Diffusion, *, samples: int = 4, keyed: bool = True, copies: int = COPIES) -> Bound:
    """Bounds of `copies` copies of every sequence, in rows that share nothing."""
    rows = Sequences.full(X0.repeat(copies, 1))
    generator = Keys(5, torch.arange(len(rows))) if keyed else torch.Generator().manual_seed(5)
    return nelbo(model, rows, generator=generator, samples=samples, batch_size=1 << 20)


def by_copy(values: torch.Tensor) -> Array:
    """Averages over the sequences, one for each copy: `[COPIES]` independent numbers."""
    return values.reshape(-1, len(X0)).mean(-1).numpy()


# Ends at which noise is no rare event: an average over some thousand draws can then be judged by its own spread.
ENDS: dict[str, Schedule] = {
    "log_linear": LogLinear(t_min=0.05),
    "geometric": Geometric(0.05, 20.0),
    "cosine": Cosine(t_min=0.15),
    "cosine_squared": CosineSquared(t_min=0.15),
    "linear": Linear(t_min=0.1),
    "polynomial": Polynomial(t_min=0.2),
}
# Every schedule on two processes, every process on one schedule.
BOUNDED = [
    (*model, schedule)
    for model in MODELS
    for schedule in SCHEDULES
    if schedule == "log_linear" or model[0] in ("absorbing", "uniform")
]


def erring(process: str, parameterization: str, schedule: Schedule) -> Diffusion:
    """A wrong network, as wrong as its bound stays finite: inverting exp(σQ) can cut a wrong score's x0 to 0."""
    for strength in (0.3, 0.1, 0.03, 0.01):
        network = functools.partial(Wrong, strength=strength)
        model = build(process, parameterization, toy=TOY, schedule=schedule, network=network)
        if model.process.reveals_noise or np.isfinite(score_terms(model, process, parameterization, points=1)[2]).all():
            return model
    raise AssertionError("every wrong network has an infinite bound")


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
    monkeypatch.setattr(model.process, "corrupt", lambda x0, sigma, *, generator: xt)
    scored = Scored.of(model, Sequences.full(clean), None, "nelbo")
    values = reconstruction(model, scored, torch.Generator()).sum(-1).numpy()
    chance = transition[xt.numpy(), clean.numpy()].prod(-1)
    np.testing.assert_allclose((chance * values).reshape(len(X0), -1).sum(-1), want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_bound_bounds_the_likelihood(process: str, parameterization: str) -> None:
    """Averaged over the data: the entropy for the exact network, within 0.1 nats; clearly more for a wrong one."""
    entropy = float(-(TOY.probabilities * np.log(TOY.probabilities)).sum())

    def average(network: Callable[[Toy, int], Network] | None) -> float:
        model = build(process, parameterization, toy=TOY, schedule=ENDS["log_linear"], network=network)
        return float(estimate(model).total.reshape(COPIES, -1).numpy().mean(0) @ TOY.probabilities)

    assert average(None) == pytest.approx(entropy, abs=0.1)
    assert average(Wrong) > entropy + 0.1


@pytest.mark.parametrize("keyed", [True, False], ids=["keys", "generator"])
@pytest.mark.parametrize("process", PROCESSES)
def test_error_falls_with_samples(process: str, keyed: bool) -> None:
    """Four times the samples: at most half the error, between copies; replicates share no noise, in no term.

    The reconstruction term is large here, at t_min = 0.3, and each replicate must draw it anew.
    """
    schedule = LogLinear(t_min=0.3)
    model = build(process, "denoiser", toy=TOY, schedule=schedule, network=lambda t, s: Wrong(t, s, 0.3))

    def deviation(samples: int) -> float:
        bound = estimate(model, samples=samples, keyed=keyed, copies=200)
        each = bound.total.reshape(200, -1)
        true, stated = float(each.var(0).mean()), float(bound.standard_errors.square().mean())
        assert stated > 0.85 * true
        return true**0.5

    assert deviation(16) < 0.6 * deviation(4)


@pytest.mark.parametrize("keyed", [True, False], ids=["keys", "generator"])
def test_error_of_the_whole_is_honest(keyed: bool) -> None:
    """As many rows as noise levels, all the same sequence: rows that shared their times would err together.

    The network is sure of a wrong token at every noise level, so the integrand grows like 1/t and its error is that of
    the times. The deviation over 150 bounds is known to 6%; with a shared lattice 0.38 of it was stated.
    """
    model = build("uniform", "denoiser", toy=TOY, network=lambda t, s: Sure(s, 1))
    rows = Sequences.full(X0[:1].repeat(8, 1))
    bounds = [
        nelbo(model, rows, generator=Keys(s, torch.arange(8)) if keyed else torch.Generator().manual_seed(s))
        for s in range(150)
    ]
    true = float(np.std([bound.nats_per_token for bound in bounds], ddof=1))
    stated = float(np.sqrt(np.mean([bound.standard_error**2 for bound in bounds])))
    assert 0.75 < stated / true < 1.6


@pytest.mark.parametrize("schedule", [LogLinear(), Cosine(), Geometric()], ids=repr)
def test_time_free_bound_does_not_depend_on_the_schedule(schedule: Schedule) -> None:
    model = build("absorbing", "conditional", toy=TOY, schedule=schedule, network=Wrong)
    reference = build("absorbing", "conditional", toy=TOY, network=Wrong)
    assert torch.equal(estimate(model, copies=2).total, estimate(reference, copies=2).total)


# ---- rows, lengths, batches -----------------------------------------------------------------------------------------
TOYS_BY_LENGTH = {length: dense(3, length, seed=length) for length in (1, 2, 3)}


def mixed(process: str, parameterization: str) -> Diffusion:
    return build(
        process,
        parameterization,
        toy=TOYS_BY_LENGTH[3],
        network=lambda toy, states: ByLength({n: Wrong(t, states, 0.3) for n, t in TOYS_BY_LENGTH.items()}),
    )


@pytest.mark.parametrize(("process", "parameterization"), MODELS)
def test_padding_is_never_scored(process: str, parameterization: str) -> None:
    """A padded row has the bound of its unpadded self, digit by digit, in whatever batch; NaN waits in the padding."""
    model = mixed(process, parameterization)
    rows = [[0, 1, 2], [2], [1, 1], [2, 0, 1], [0], [2, 2]]
    whole = nelbo(model, Sequences.from_lists(rows), generator=Keys(1, torch.arange(6)), samples=4)
    for i, row in enumerate(rows):
        alone = nelbo(model, Sequences.from_lists([row]), generator=Keys(1, torch.tensor([i])), samples=4)
        for name in ("diffusion", "prior", "reconstruction", "standard_errors"):
            torch.testing.assert_close(getattr(whole, name)[i], getattr(alone, name)[0], rtol=1e-12, atol=1e-13)
        assert whole.tokens[i] == len(row)
    garbage = Sequences.from_lists(rows)
    garbage.tokens[garbage.padding] = 1
    again = nelbo(model, garbage, generator=Keys(1, torch.arange(6)), samples=4, batch_size=2)
    torch.testing.assert_close(again.total, whole.total, rtol=1e-12, atol=1e-13)


def test_averages_are_over_tokens() -> None:
    """Sum of nats over sum of tokens; bits are nats / ln 2; the error likewise."""
    bound = Bound(
        diffusion=torch.tensor([3.0, 10.0]),
        prior=torch.tensor([0.5, 0.5]),
        reconstruction=torch.tensor([0.5, 1.5]),
        standard_errors=torch.tensor([0.3, 0.4]),
        tokens=torch.tensor([2, 6]),
        method="by hand",
    )
    assert bound.total.tolist() == [4.0, 12.0]
    assert bound.nats_per_token == 2.0
    assert bound.bits_per_token == pytest.approx(2 / np.log(2))
    assert bound.standard_error == pytest.approx(0.5 / 8)
    assert repr(bound).startswith("Bound(2.0000 ± 0.0625 nats/token, 2.8854 bits/token, 2 sequences; by hand)")


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
