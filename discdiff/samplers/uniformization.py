"""Uniformization: the reverse process, simulated event by event without any discretisation of time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.model import Model
from discdiff.prediction import positions_of
from discdiff.processes.base import Process
from discdiff.randomness import at_step, fork
from discdiff.samplers.ancestral import posterior_step
from discdiff.samplers.base import Level, Sampler, State, has_denoiser

BLOCK = 1.1
"""Ratio of the noise levels at the ends of a block: within one the bound stands still."""
MOST_TICKS = 1e8
"""Candidate events of a row; beyond, their times alone would fill the memory."""


class Uniformization(Sampler):
    """Candidate events come from a Poisson clock under a bound of the rates that no state exceeds, and are thinned.

    The clock of a row of n positions ticks at n B(σ), where B bounds the total rate Σ_y Q[x,y] P_σ[y,x0]/P_σ[x,x0] over
    all x and x0, hence that of any denoiser. At a tick one position, drawn at random, jumps with probability R(x)/B, to
    y with probability R(x → y)/R(x). Each row has its own times. Below σ(t_min) the rest is one draw of x0. Network
    calls: at most one a tick, and one.

    Chen and Ying 2024, "Convergence analysis of discrete diffusion model: exact implementation through uniformization".
    """

    law = "exact up to TV(p_1, π) and t_min"

    def check(self, model: Model, constraint: Constraint) -> None:
        if not has_denoiser(model):
            raise IncompatibleError(
                "Uniformization sampler",
                got="a score network off the absorbing process, whose rates have no bound",
                expected="a model with a denoiser",
                remedy="Train with Denoiser, or use Euler.",
            )

    def plan(self, model: Model, state: State, steps: int | None) -> tuple[State, Sequence[Level]]:
        if steps is not None:
            raise IncompatibleError(
                "Uniformization sampler",
                got=f"steps={steps}",
                expected="no steps: its events come at random times",
                remedy="Leave steps out, or use Ancestral to choose the number of calls.",
            )
        low, high = model.schedule.ends()
        edges, bounds = blocks(model.process, low, high)
        measure = torch.cat([torch.zeros(1, dtype=torch.float64), ((edges[:-1] - edges[1:]) * bounds).cumsum(0)])
        movable = state.movable.sum(-1).double().cpu()
        ticks = float(movable.max() * measure[-1])
        if not ticks <= MOST_TICKS:
            raise IncompatibleError(
                "Uniformization sampler",
                got=f"a bound of the rates that takes about {ticks:.2g} candidate events a row",
                expected=f"at most {MOST_TICKS:.0g}: no likelihood of the process far below the others",
                remedy="Use Ancestral with this process, or a schedule with a larger σ at t_min.",
            )
        arrivals = self._arrivals(state, movable * measure[-1])
        # From ticks of a unit clock to noise levels: the inverse of n ∫ B dσ, linear within a block.
        point = arrivals / movable.clamp(min=1)[:, None]
        block = (torch.searchsorted(measure, point, right=True) - 1).clamp(0, len(bounds) - 1)
        sigma = edges[block] - (point - measure[block]) / bounds[block]
        over = point >= measure[-1]
        count = int((~over).sum(-1).max())
        device = state.tokens.device
        extras = {
            "sigma": sigma.masked_fill(over, 0.0)[:, :count].to(device),
            "bound": bounds[block][:, :count].to(device),
            "tick": torch.zeros(len(movable), dtype=torch.int64, device=device),
        }
        tick = Level(1.0, model.schedule.t_min, high, low, 0.0)
        last = Level(model.schedule.t_min, 0.0, low, 0.0, 0.0)
        return replace(state, extras=extras), [*([tick] * count), last]

    def _arrivals(self, state: State, total: Tensor) -> Tensor:
        """Times of a unit-rate Poisson clock, beyond `total` in every row: float64 `[B, K]`."""
        size = 16 + int(float(total.max()) + 8 * math.sqrt(float(total.max())))
        while True:
            wide = replace(state, tokens=torch.zeros(len(total), size, dtype=torch.int64))
            times = (-torch.log1p(-wide.uniform("clock").cpu())).cumsum(-1)
            if bool((times[:, -1] > total).all()):
                return times
            size *= 2

    def step(self, model: Model, constraint: Constraint, state: State, level: Level) -> State:
        if level.last:
            # How many ticks came before depends on the batch: their count is no key here.
            inner = replace(state, generator=fork(at_step(state.generator, 0), "last"))
            sigma, sigma_next = level.noise(state, model.dtype)
            prediction = model.predict(state.tokens, sigma, state.context())
            done = posterior_step(prediction, constraint, inner, sigma, sigma_next)
            return replace(done, generator=state.generator)
        tick, process = state.extras["tick"][:, None], model.process
        sigma, bound = (state.extras[name].gather(-1, tick)[:, 0] for name in ("sigma", "bound"))
        ticking = sigma > 0
        movable = state.movable
        rank = (state.uniform("position", per_row=True) * movable.sum(-1)).long()
        chosen = movable & (movable.cumsum(-1) - 1 == rank[:, None]) & ticking[:, None]
        where = positions_of(chosen & process.active(state.tokens))
        shown = torch.where(ticking, sigma, level.sigma_next).to(model.dtype)[:, None]
        prediction = model.predict(state.tokens, shown, state.context())
        x, noise = state.tokens[where], shown.expand(state.tokens.shape)[where]
        log_rate = process.log_jump_rate(x, noise)
        if log_rate.shape[-1] == 1:
            log_total = log_rate[:, 0]
        else:
            log_total = (constraint.log_marginals(prediction, where) + log_rate).logsumexp(-1)
        chance = log_total.double().exp() / bound[where[0]]
        if bool((chance > 1 + 1e-4).any()):
            raise DiscdiffError(
                f"Uniformization: a rate exceeds its bound by {float(chance.max()) - 1:.1%}; the process's "
                "max_jump_rate is no bound"
            )
        jumping = state.uniform("who")[where] < chance
        at = (where[0][jumping], where[1][jumping])
        x0 = constraint.draw(prediction, at, state.uniform("token"), tilt=log_rate[jumping])
        tokens = process.jump(x[jumping], x0, noise[jumping], state.uniform("move")[at])
        return state.moved(at, tokens.to(torch.int64), prediction, x0=x0, tick=self._next(state))

    def _next(self, state: State) -> Tensor:
        return (state.extras["tick"] + 1).clamp(max=state.extras["sigma"].shape[1] - 1)


def blocks(process: Process, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Noise levels from `high` down to `low`, float64 `[K + 1]`, and bounds of a position's rate between, `[K]`."""
    count = max(1, math.ceil(math.log(high / low) / math.log(BLOCK)))
    edges = torch.logspace(math.log10(high), math.log10(low), count + 1, dtype=torch.float64)
    edges[0], edges[-1] = high, low
    rates = process.max_jump_rate(edges)
    return edges, torch.maximum(rates[:-1], rates[1:])
