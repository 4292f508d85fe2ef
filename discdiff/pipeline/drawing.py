"""Strings drawn from a model: what it takes to prepare them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from discdiff.constraints import Checked, Clamp, Constraint
from discdiff.data.lengths import LengthModel
from discdiff.domain import Domain
from discdiff.errors import DiscdiffError, DiscdiffWarning
from discdiff.particles import Reward
from discdiff.pipeline.draws import Draws
from discdiff.pipeline.inputs import Classes, Labels, with_end
from discdiff.pipeline.results import Method
from discdiff.sequences import Sequences

StringCheck = Callable[[str], bool]
"""Whether a string will do."""

StringReward = Callable[[list[str]], Sequence[float]]
"""A number for each of some strings; finite, whatever the strings are."""


@dataclass(frozen=True)
class Drawing:
    """What it takes to draw strings: the domain, the lengths and the classes of a run.

    Attributes:
        domain: tokens to strings.
        lengths: how long samples are.
        max_length: content tokens in the longest one.
        classes: what the model is conditioned on.
        device: where the model is.
    """

    domain: Domain
    lengths: LengthModel
    max_length: int
    classes: Classes
    device: torch.device

    def prepare(
        self,
        constraint: Constraint,
        length: int | None,
        method: Method,
        *,
        seed: int,
        labels: Labels,
        batch_size: int,
    ) -> Draws:
        """Strings under a constraint, of `length` tokens or of lengths drawn among those that fit; drawn when asked."""
        if batch_size < 1:
            raise DiscdiffError(f"sample: got batch_size={batch_size}; expected at least 1")
        if method.particles < 1:
            raise DiscdiffError(f"sample: got particles={method.particles}; expected a whole number from 1 on")
        if method.check is not None and not callable(method.check):
            raise DiscdiffError(f"sample: got check={method.check!r}; expected a function of a string")
        constraint, law = self._lengths(constraint, length)
        constraint = self._checked(constraint, method)
        reward = None if method.reward is None else Reward(self._of_strings(method.reward), method.reward_strength)
        return Draws(self, constraint, law, method, reward, seed, labels, batch_size)

    def _lengths(self, constraint: Constraint, length: int | None) -> tuple[Constraint, int | LengthModel]:
        """The constraint on all positions of the model, and the positions of each row, or their law."""
        if self.lengths.end is not None:
            if length is not None and constraint.length is None:
                free = Clamp(torch.zeros(length, dtype=torch.int64), torch.zeros(length, dtype=torch.bool))
                constraint = constraint & free
            constraint = with_end(constraint, longest=self.lengths.longest, end=self.lengths.end)
            return constraint, self.lengths.longest
        if length is not None:
            self._tell_of_unseen(length)
            return constraint, length
        possible = constraint.possible_lengths(self.max_length)
        if possible is not None and len(possible):
            self._tell_of_unseen(int(possible.min()))
        return constraint, self.lengths if possible is None else self.lengths.among(possible)

    def _tell_of_unseen(self, shortest: int) -> None:
        if shortest > self.lengths.longest:
            warnings.warn(
                f"{shortest} tokens or more are asked for; the longest sequence of the training set has "
                f"{self.lengths.longest}, so that the model knows nothing of these lengths",
                DiscdiffWarning,
                stacklevel=6,
            )

    def _checked(self, constraint: Constraint, method: Method) -> Constraint:
        """The constraint, and what is asked of whole strings."""
        checks: list[tuple[str, StringCheck]] = []
        if method.valid:
            checks.append((f"validity ({self.domain.name})", lambda text: self.domain.invalid(text) is None))
        if method.check is not None:
            checks.append(("the check", method.check))
        for name, check in checks:
            constraint = Checked(self._of_each(name, check), name=name) & constraint
        return constraint

    def _of_each(self, name: str, check: StringCheck) -> Callable[[Sequences], Tensor]:
        def of_tokens(sequences: Sequences) -> Tensor:
            return torch.tensor([_answer(name, check(text), text) for text in self.texts(sequences)], dtype=torch.bool)

        return of_tokens

    def texts(self, sequences: Sequences) -> list[str]:
        """The strings of some rows of tokens."""
        return [self.domain.decode(tokens) for tokens in self.lengths.cut(sequences).lists()]

    def _of_strings(self, reward: StringReward) -> Callable[[Sequences], Tensor]:
        def of_tokens(sequences: Sequences) -> Tensor:
            found = reward(self.texts(sequences))
            try:
                return torch.tensor([float(value) for value in found], dtype=torch.float64)
            except TypeError as error:
                raise DiscdiffError(
                    f"reward: got {found!r}; expected a number for each of a list of strings, such as "
                    "lambda texts: [text.count('A') for text in texts]"
                ) from error

        return of_tokens


def _answer(name: str, found: object, text: str) -> bool:
    """Whether a string will do, refusing what is neither yes nor no, such as a number or a forgotten return."""
    one = bool(found) if isinstance(found, np.bool_) or _is_truth(found) else found
    if isinstance(one, bool):
        return one
    raise DiscdiffError(
        f"{name}: got {found!r} for {text!r}; expected True or False, such as lambda text: text.count('A') > 3"
    )


def _is_truth(found: object) -> bool:
    return isinstance(found, Tensor) and found.dtype == torch.bool and found.numel() == 1


__all__ = ["Drawing", "StringCheck", "StringReward"]
