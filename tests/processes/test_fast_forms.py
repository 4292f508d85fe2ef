"""Every fast form that a process has equals the generic one that it replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.processes import Process
from tests.cases import PROCESSES
from tests.scripted import scripted
from tests.toys import Array

VOCAB = 3
GRID = 4096
U = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID
"""Uniform numbers that leave no gap: integrating over them errs by at most 1/GRID for each piece of a draw."""

Arguments = dict[str, Tensor]


def situations(process: Process, case_name: str) -> Iterator[Arguments]:
    """All (x, x0) that can occur together, at several noise levels, with random predictions."""
    draw = torch.Generator().manual_seed(3)
    x, x0 = torch.cartesian_prod(torch.arange(process.num_states), torch.arange(VOCAB)).unbind(-1)
    for sigma, share in ((1e-3, 0.2), (0.2, 0.0), (0.7, 0.9), (3.0, 0.5), (12.0, 0.97)):
        noise = torch.full(x.shape, sigma, dtype=torch.float64)
        possible = PROCESSES[case_name].transition(VOCAB, sigma)[x, x0] > 0
        log_p = torch.randn(len(x), VOCAB, generator=draw, dtype=torch.float64)
        log_loo, log_p = log_p.log_softmax(-1), process.restrict(log_p, x).log_softmax(-1)
        given = {"x": x, "x0": x0, "sigma": noise, "sigma_next": noise * share, "log_p": log_p, "log_loo": log_loo}
        kept = {name: value[possible] for name, value in given.items()}
        kept["log_s"] = process.score_from_denoiser(kept["log_p"], kept["x"], kept["sigma"])
        yield kept


# Methods of the base that are formulas: name -> the arguments that they take.
FORMULAS: dict[str, tuple[str, ...]] = {
    "staying": ("x", "sigma"),
    "log_likelihood": ("x", "sigma"),
    "conditional_ratio": ("x", "x0", "sigma"),
    "bridge": ("x", "x0", "sigma", "sigma_next"),
    "log_jump_rate": ("x", "sigma"),
    "score_from_denoiser": ("log_p", "x", "sigma"),
    "score_from_leave_one_out": ("log_loo", "x", "sigma"),
    "denoiser_from_score": ("log_s", "x", "sigma"),
    "posterior_from_score": ("log_s", "x", "sigma", "sigma_next"),
    "posterior_from_denoiser": ("log_p", "x", "sigma", "sigma_next"),
    "reverse_rate": ("log_s", "x"),
    "score_entropy": ("log_s", "x", "x0", "sigma"),
    "elbo_rate": ("log_loo", "x", "x0", "sigma"),
    "prior_kl": ("x0", "sigma"),
    "max_jump_rate": ("sigma",),
}
# At unmasked absorbing positions these are conventions (nothing moves), tested by themselves.
CONVENTIONS = {"score_from_denoiser", "score_entropy", "elbo_rate", "log_jump_rate"}
# Methods that draw; their laws are compared below. The rest are statements, not formulas.
DRAWS = {"corrupt", "may_move", "move", "jump"}
STATEMENTS = {"active", "comparable", "log_score_scale", "content", "states", "extra_repr", "_weights", "fit"}


def overridden(process: Process) -> set[str]:
    """Names of the base's own methods that the process replaces."""
    names = {name for name, value in vars(Process).items() if callable(value) and not name.startswith("__")}
    abstract: frozenset[str] = Process.__abstractmethods__
    return {name for name in names - abstract if getattr(type(process), name) is not getattr(Process, name)}


@pytest.mark.parametrize("name", PROCESSES)
def test_overrides_are_all_compared(name: str) -> None:
    process = PROCESSES[name].make(VOCAB)
    assert overridden(process) <= set(FORMULAS) | DRAWS | STATEMENTS


@pytest.mark.parametrize(
    ("name", "method"),
    [(name, m) for name, case in PROCESSES.items() for m in FORMULAS if m in overridden(case.make(VOCAB))],
)
def test_formula(name: str, method: str) -> None:
    """float64, 1e-9 relative: the generic forms, which cancel, lose the digits between that and 1e-16."""
    process = PROCESSES[name].make(VOCAB)
    for given in situations(process, name):
        arguments = [given[argument] for argument in FORMULAS[method]]
        if name == "absorbing" and method in CONVENTIONS:
            arguments = [argument[given["x"] == process.mask_id] for argument in arguments]
        generic = getattr(Process, method)(process, *arguments)
        fast = getattr(process, method)(*arguments)
        torch.testing.assert_close(fast.expand(generic.shape), generic, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["absorbing"])
def test_score_of_positions_that_cannot_move(name: str) -> None:
    """−∞ off the diagonal, 0 on it; their score entropy is 0."""
    process = PROCESSES[name].make(VOCAB)
    x = torch.arange(VOCAB)
    noise = torch.full(x.shape, 0.5, dtype=torch.float64)
    log_p = process.restrict(torch.randn(VOCAB, VOCAB, dtype=torch.float64), x).log_softmax(-1)
    log_s = process.score_from_denoiser(log_p, x, noise)
    assert torch.equal(log_s.exp(), torch.eye(VOCAB, VOCAB + 1, dtype=torch.float64))
    assert torch.equal(process.score_entropy(log_s, x, x, noise), torch.zeros(VOCAB, dtype=torch.float64))


def law_of(draw: Callable[..., Tensor], size: int, *arguments: Tensor) -> Array:
    """The law of a draw of int64 `[GRID]`, integrated over its last argument, the uniform number."""
    return np.bincount(draw(*arguments, U).numpy(), minlength=size) / GRID


@pytest.mark.parametrize("name", PROCESSES)
def test_posterior_step_follows_the_bridge(name: str) -> None:
    """`may_move`, then x0, then `move`: the law is q(x_s | x_t, x0), within the grid's 1/4096 a piece."""
    process = PROCESSES[name].make(VOCAB)
    for given in situations(process, name):
        transition = PROCESSES[name].transition
        for x, x0, sigma, sigma_next in zip(*(given[k] for k in ("x", "x0", "sigma", "sigma_next")), strict=True):
            wide = [value.expand(GRID) for value in (x, x0, sigma, sigma_next)]
            moving = process.may_move(wide[0], wide[2], wide[3], U).double().mean().item()
            moved = law_of(process.move, process.num_states, *wide)
            law = moving * moved + (1 - moving) * np.eye(process.num_states)[x]
            step = transition(VOCAB, float(sigma - sigma_next))[x]
            truth = step * transition(VOCAB, float(sigma_next))[:, x0]
            np.testing.assert_allclose(law, truth / truth.sum(), atol=4 / GRID)


@pytest.mark.parametrize("name", PROCESSES)
def test_last_step_takes_the_clean_token(name: str) -> None:
    """At σ_next = 0 every position that can be noise moves to x0, for every u."""
    process = PROCESSES[name].make(VOCAB)
    for given in situations(process, name):
        for x, x0, sigma in zip(given["x"], given["x0"], given["sigma"], strict=True):
            for dtype in (torch.float64, torch.float32):
                noise = sigma.to(dtype).expand(GRID)
                edges = torch.cat([U[:-2], torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)])
                moving = process.may_move(x.expand(GRID), noise, 0 * noise, edges)
                moved = process.move(x.expand(GRID), x0.expand(GRID), noise, 0 * noise, edges)
                assert torch.equal(torch.where(moving, moved, x), x0.expand(GRID))


@pytest.mark.parametrize("name", PROCESSES)
def test_jump_follows_the_conditional_rate(name: str) -> None:
    """Total rate and destination: R(x → y | x0) = Q[x, y] P[y, x0] / P[x, x0], from SciPy."""
    process, case = PROCESSES[name].make(VOCAB), PROCESSES[name]
    rates = case.rates(VOCAB)
    for given in situations(process, name):
        log_rate = process.log_jump_rate(given["x"], given["sigma"]).expand(-1, VOCAB)
        for n, (x, x0, sigma) in enumerate(zip(given["x"], given["x0"], given["sigma"], strict=True)):
            if not bool(process.active(x)):
                assert log_rate[n].isneginf().all()
                continue
            transition = case.transition(VOCAB, float(sigma))
            truth = rates[x] * transition[:, x0] / transition[x, x0]
            truth[x] = 0
            np.testing.assert_allclose(log_rate[n, x0].exp(), truth.sum(), rtol=1e-9)
            wide = [value.expand(GRID) for value in (x, x0, sigma)]
            law = law_of(process.jump, process.num_states, *wide)
            np.testing.assert_allclose(law, truth / truth.sum(), atol=4 / GRID)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", PROCESSES)
def test_corrupt_follows_the_transition(name: str, dtype: torch.dtype) -> None:
    """On a grid of 256 x 256 uniform numbers, within 1/256 for each of them."""
    process, side = PROCESSES[name].make(VOCAB), 256
    points = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    event, token = torch.cartesian_prod(points, points).unbind(-1)
    keys = scripted(side * side, corrupt=event[:, None], corrupt_token=token[:, None])
    for x0 in range(VOCAB):
        for sigma in (0.05, 0.7, 4.0):
            noise = torch.full((side * side, 1), sigma, dtype=dtype)
            clean = torch.full((side * side, 1), x0)
            xt = process.corrupt(clean, noise, generator=keys)
            law = np.bincount(xt[:, 0].numpy(), minlength=process.num_states) / len(xt)
            np.testing.assert_allclose(law, PROCESSES[name].transition(VOCAB, sigma)[:, x0], atol=2 / side)


@pytest.mark.parametrize("name", PROCESSES)
def test_generic_corrupt_follows_the_transition(name: str) -> None:
    """The base's own `corrupt`, which a process without a fast form uses."""
    process = PROCESSES[name].make(VOCAB)
    noise = torch.full((GRID, 1), 0.7, dtype=torch.float64)
    for x0 in range(VOCAB):
        clean = torch.full((GRID, 1), x0)
        xt = Process.corrupt(process, clean, noise, generator=scripted(GRID, corrupt=U[:, None]))
        law = np.bincount(xt[:, 0].numpy(), minlength=process.num_states) / GRID
        np.testing.assert_allclose(law, PROCESSES[name].transition(VOCAB, 0.7)[:, x0], atol=2 / GRID)
