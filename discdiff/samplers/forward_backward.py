"""Forward-backward moves: some noise, and back by the predictor."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.samplers.base import GridSampler, Level, Sampler, State
from discdiff.samplers.predictor_corrector import Corrector


class ForwardBackward(Corrector):
    """From time s up to u = min(1, s + rise) by the forward process, and back to s in one step of the predictor.

    The way up carries p_s to p_u exactly; the way back errs as the predictor does in one step, for every token of the
    sequence at once. A sweep is one move. For predictors with a grid of steps.

    Campbell et al. 2022, section 4.4; Wang et al. 2025 (ReMDM), section 4, relate it to remasking.

    Args:
        rise: u − s in diffusion time, 0 < rise ≤ 1.

    Raises:
        IncompatibleError: `rise` is out of range.
    """

    def __init__(self, rise: float = 0.1) -> None:
        if not 0 < rise <= 1:
            raise IncompatibleError(
                "ForwardBackward rise", got=rise, expected="a time above 0, at most 1", remedy="Try 0.1."
            )
        self.rise = rise

    def check(self, model: Model, predictor: Sampler, *, final: bool) -> None:
        if not isinstance(predictor, GridSampler):
            raise IncompatibleError(
                "ForwardBackward corrector",
                got=type(predictor).__name__,
                expected="a predictor with a grid of steps",
                remedy="Use the Gibbs corrector with this predictor, or Ancestral as predictor.",
            )

    def moves(self, model: Model, state: State, sweeps: float) -> Tensor:
        return torch.full((len(state.tokens),), -int(-sweeps // 1), dtype=torch.int64, device=state.tokens.device)

    def move(
        self, model: Model, constraint: Constraint, state: State, predictor: Sampler, level: Level, rows: Tensor
    ) -> State:
        chosen = rows.nonzero()[:, 0]
        if len(chosen) == 0:
            return state
        back = self.interval(model, level)
        part = state.index(chosen)
        rise = torch.full((len(chosen), 1), back.sigma - back.sigma_next, dtype=model.dtype, device=chosen.device)
        noised = model.process.corrupt(part.tokens, rise, generator=part.generator)
        part = replace(part, tokens=torch.where(part.movable, noised, part.tokens))
        part = predictor.step(model, constraint.index(chosen), part, back)
        extras = {name: value.index_copy(0, chosen, part.extras[name]) for name, value in state.extras.items()}
        return replace(
            state,
            tokens=state.tokens.index_copy(0, chosen, part.tokens),
            calls=state.calls.index_copy(0, chosen, part.calls),
            extras=extras,
        )

    def interval(self, model: Model, level: Level) -> Level:
        """The interval of the way back, to where `level` ends."""
        u = torch.tensor(min(1.0, level.s + self.rise), dtype=torch.float64)
        sigma, rate = float(model.schedule.total_noise(u)), float(model.schedule.noise_rate(u))
        return Level(float(u), level.s, sigma, level.sigma_next, rate)
