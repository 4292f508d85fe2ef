"""Predictor-corrector sampling: any sampler, and moves between its steps that do not change the law they start from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from discdiff.constraints.base import Constraint
from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.randomness import Randomness, at_step, fork
from discdiff.samplers.base import GridSampler, Level, Sampler, State
from discdiff.samplers.first_hitting import FirstHitting


class Corrector(ABC):
    """A move that leaves the law at one noise level as it is, while it repairs what the predictor got wrong."""

    @abstractmethod
    def check(self, model: Model, predictor: Sampler, *, final: bool) -> None:
        """Refuse a model or predictor that it cannot correct; `final`: at σ = 0 too.

        Raises:
            IncompatibleError: got, expected, remedy.
        """

    def unweighable(self, model: Model, sweeps: float, final_sweeps: float) -> str | None:
        """Why particles cannot weigh its moves, to be read after "got"; None if they can."""
        return f"the {type(self).__name__} corrector, whose moves may leave what can be accepted and come back"

    @abstractmethod
    def moves(self, model: Model, state: State, sweeps: float) -> Tensor:
        """How many moves make up so many sweeps: int64 `[B]`."""

    @abstractmethod
    def move(
        self, model: Model, constraint: Constraint, state: State, predictor: Sampler, level: Level, rows: Tensor
    ) -> State:
        """One move of the `rows` (bool `[B]`) at the noise that `level` ends at; the state's randomness is its own."""


@dataclass(frozen=True)
class Final(Level):
    """One corrector move on clean sequences.

    Attributes:
        number: counts the moves from 1.
    """

    number: int = 0


class PredictorCorrector(Sampler):
    """Steps of a predictor, each followed by sweeps of a corrector at the noise level reached; then sweeps at σ = 0.

    With the exact network the sweeps remove the predictor's factorisation error as they grow in number; with a trained
    one they make neighbouring tokens agree, which independent draws need not.

    Campbell et al. 2022, section 4.4; Zhao et al. 2024, "Informed correctors for discrete diffusion models".

    Args:
        predictor: any other sampler; `FirstHitting()` by default. `steps` are the predictor's.
        corrector: `Gibbs()` by default.
        sweeps: corrector sweeps after each step of the predictor, ≥ 0, fractions allowed.
        final_sweeps: sweeps over the clean sequences, ≥ 0.

    Raises:
        IncompatibleError: negative numbers of sweeps, or a predictor that is one of these.
    """

    law = "the predictor's, its factorisation error removed as sweeps grow"

    def __init__(
        self,
        predictor: Sampler | None = None,
        corrector: Corrector | None = None,
        sweeps: float = 0.0,
        final_sweeps: float = 1.0,
    ) -> None:
        from discdiff.samplers.gibbs import Gibbs

        self.predictor = FirstHitting() if predictor is None else predictor
        self.corrector = Gibbs() if corrector is None else corrector
        self.sweeps, self.final_sweeps = sweeps, final_sweeps
        self.takes_steps = self.predictor.takes_steps
        if isinstance(self.predictor, PredictorCorrector):
            raise IncompatibleError(
                "PredictorCorrector",
                got="a predictor that corrects already",
                expected="a plain sampler",
                remedy="Give the sampler within it.",
            )
        for name, value in (("sweeps", sweeps), ("final_sweeps", final_sweeps)):
            if not 0 <= value < float("inf"):
                raise IncompatibleError(
                    f"PredictorCorrector {name}", got=value, expected="0 or more", remedy="1 redraws each token once."
                )

    def check(self, model: Model, constraint: Constraint) -> None:
        self.predictor.check(model, constraint)
        if self.sweeps > 0 and not model.process.reveals_noise and not isinstance(self.predictor, GridSampler):
            # Rows at times of their own would be corrected at another row's noise.
            raise IncompatibleError(
                "PredictorCorrector sweeps",
                got=f"{type(self.predictor).__name__} with {type(model.process).__name__}",
                expected="a predictor on a time grid, where the process does not reveal its noise",
                remedy="Use Ancestral as predictor, or set sweeps=0.",
            )
        self.corrector.check(model, self.predictor, final=self.final_sweeps > 0)

    def unweighable(self, model: Model) -> str | None:
        reason, sweeps = self.predictor.unweighable(model), (self.sweeps, self.final_sweeps)
        return self.corrector.unweighable(model, *sweeps) if reason is None and any(sweeps) else reason

    def plan(self, model: Model, state: State, steps: int | None) -> tuple[State, Sequence[Level]]:
        state, levels = self.predictor.plan(model, state, steps)
        # As if all were clean already: what is to be corrected at the end.
        clean = replace(state, tokens=torch.zeros_like(state.tokens))
        count = int(self.corrector.moves(model, clean, self.final_sweeps).max()) if self.final_sweeps else 0
        end = model.schedule.t_min
        final = [Final(end, 0.0, 0.0, 0.0, 0.0, number=k + 1) for k in range(count)]
        return state, [*levels, *final]

    def step(self, model: Model, constraint: Constraint, state: State, level: Level) -> State:
        if isinstance(level, Final):
            rows = self.corrector.moves(model, state, self.final_sweeps) >= level.number
            # How many steps the predictor took may depend on the longest row of the batch: its count is no key here.
            return self._move(model, constraint, state, level, rows, at_step(state.generator, level.number), "final")
        # Rows that were done before this step are left alone: how long others go on must not matter to them.
        busy = (state.movable & model.process.active(state.tokens)).any(-1)
        state = self.predictor.step(model, constraint, state, level)
        if self.sweeps == 0 or (level.last and not model.process.reveals_noise):
            return state
        counts = self.corrector.moves(model, state, self.sweeps) * busy
        for number in range(1, int(counts.max()) + 1):
            rows = counts >= number
            state = self._move(model, constraint, state, level, rows, state.generator, f"corrector {number}")
        return state

    def _move(
        self,
        model: Model,
        constraint: Constraint,
        state: State,
        level: Level,
        rows: Tensor,
        generator: Randomness,
        name: str,
    ) -> State:
        inner = replace(state, generator=fork(generator, name))
        moved = self.corrector.move(model, constraint, inner, self.predictor, level, rows)
        return replace(moved, generator=state.generator)
