"""`Draws`: strings that are drawn by their numbers, batch by batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from discdiff.constraints import Checked, Constraint
from discdiff.data.lengths import LengthModel
from discdiff.errors import DiscdiffError, DiscdiffWarning, IncompatibleError, check_type
from discdiff.particles import Reward
from discdiff.pipeline.inputs import Labels
from discdiff.pipeline.planning import Planned
from discdiff.pipeline.results import Method, Samples
from discdiff.progress import progress as show_progress
from discdiff.randomness import Keys
from discdiff.samplers import Certificate, State
from discdiff.sampling import OnStep, sample

if TYPE_CHECKING:
    from discdiff.pipeline.drawing import Drawing


@dataclass(frozen=True)
class Draws:
    """Strings that can be drawn in any order and division: string i follows from the seed and from i alone.

    Attributes:
        drawing: the domain, the lengths and the classes of the run.
        constraint: on all positions of the model.
        law: positions of every row, or the law that its number draws them from.
        method: how to sample.
        reward: of tokens, or None.
        seed: any integer.
        labels: a class, by name or number, one a row, or None for all in turn.
        batch_size: runs at once.
    """

    drawing: Drawing
    constraint: Constraint
    law: int | LengthModel
    method: Method
    reward: Reward | None
    seed: int
    labels: Labels
    batch_size: int

    def __call__(self, n: int, *, progress: bool) -> Samples:
        """The first `n` strings."""
        check_type("sample: n", n, Integral, "It is how many strings to make.")
        if n < 1:
            raise DiscdiffError(f"sample: got n={n}; expected at least 1")
        self.drawing.classes.numbers(self.labels, n, in_turn=True)  # one a row, if they are several
        with show_progress(f"sampling {n}", enabled=progress) as report:
            found = self.rows(torch.arange(n), report)
        tell(self.constraint)
        return found

    def chunks(self, n: int, size: int, *, progress: bool) -> Iterator[Samples]:
        """The first `n` strings in order, so many in memory at a time."""
        with show_progress(f"sampling {n:,}", enabled=progress, total=n) as report:
            for rows in torch.arange(n).split(size):
                yield self.rows(rows, _within(report, int(rows[0]), len(rows), n))
        tell(self.constraint)

    def rows(self, rows: Tensor, report: Callable[[float], None]) -> Samples:
        """Strings by their numbers.

        Batches follow from the rows that are asked for together: the same rows in the same batches are drawn with the
        same sums, in other batches up to rounding.

        Args:
            rows: int64 `[n]`, numbers from 0 on.
            report: takes the share that is done.
        """
        method, constraint, n = self.method, self.constraint, len(rows)
        lengths = self._lengths(rows)
        classes = self.drawing.classes.of_rows(self.labels, rows)
        # the longest first: if memory does not suffice, that shows at once
        order, size = lengths.argsort(descending=True, stable=True), self.batch_size // method.particles
        if constraint.rows == 1:
            constraint.check(vocab_size=method.model.process.vocab_size, length=int(lengths.max()))
            most = constraint.most_rows(lengths[order[: max(1, size)]])
            size = size if most is None else min(size, most // method.particles)
        batches = order.split(max(1, size))
        found, calls = [""] * n, [0] * n
        certificates: list[Certificate | None] = [None] * n
        claims, notes = _claims(method, constraint), _notes(method, classes)
        for k, at in enumerate(batches):
            watched = _Watched(_reporter(report, k, len(batches)))
            drawn = sample(
                method.model,
                len(at),
                lengths=lengths[at] if constraint.length is None else None,
                sampler=method.sampler,
                steps=method.steps,
                constraint=constraint,
                top_k=method.top_k,
                top_p=method.top_p,
                particles=method.particles,
                reward=self.reward,
                precision=method.precision,
                compiled=method.compiled,
                labels=None if classes is None else classes[at],
                generator=Keys(self.seed, rows[at].to(self.drawing.device)),
                on_step=watched,
            )
            made = [None] * len(at) if not claims else watched.certificates(method.planned, len(at), notes)
            spent = [0] * len(at) if drawn.calls is None else drawn.calls.tolist()
            texts = self.drawing.texts(drawn)
            for i, place in enumerate(at.tolist()):
                found[place], calls[place], certificates[place] = texts[i], spent[i], made[i]
        known = [each for each in certificates if each is not None]
        return Samples(found, calls, known if len(known) == n else [])

    def names(self, rows: Tensor) -> list[str] | None:
        """The class of each of some rows, by name; None for a model without labels."""
        classes = self.drawing.classes
        numbers = classes.of_rows(self.labels, rows)
        if numbers is None:
            return None
        return [classes.names[i] if classes.names else str(i) for i in numbers.tolist()]

    def check(self) -> None:
        """Refuse, before anything is drawn, labels that the run does not have and certificates that cannot be.

        Raises:
            IncompatibleError: see `Pipeline.sample`.
        """
        self.drawing.classes.of_rows(self.labels, torch.arange(1))
        _claims(self.method, self.constraint)

    def _lengths(self, rows: Tensor) -> Tensor:
        if isinstance(self.law, int):
            return torch.full((len(rows),), self.law)
        return self.law.sample(len(rows), Keys(self.seed, rows))


def tell(constraint: Constraint) -> None:
    """Say where a check was passed by few draws, so that samples lean on one another."""
    alone = constraint.untruncated
    if isinstance(alone, Checked) and alone.draws["moved"] > alone.draws["exact"]:
        share = alone.draws["moved"] / sum(alone.draws.values())
        warnings.warn(
            f"{alone.name}: of {share:.0%} of the draws none of {alone.tries} passed, and the last one that did was "
            "changed instead; all samples pass, but their law is a rough one (add rules that bring draws closer)",
            DiscdiffWarning,
            stacklevel=4,
        )


def _claims(method: Method, constraint: Constraint) -> bool:
    """Whether a profile speaks of what is drawn: the model's own law, free or with positions given.

    Raises:
        IncompatibleError: an error is asked for, and it does not.
    """
    changes = [*method.changes, *(["rules, or a template that restricts open positions"] * constraint.restricts_draws)]
    times = method.planned.certificate is not None
    if times and constraint.length is not None and bool(constraint.given(1, constraint.length)[1].any()):
        changes.append("given positions on a time grid")
    if changes and method.planned.error is not None:
        raise IncompatibleError(
            "error",
            got=f"{method.planned.error:g} nats with {' and '.join(changes)}",
            expected="free samples at temperature 1, or a template of given positions: the law that was profiled",
            remedy="Leave these out, or choose steps: grid 'optimised' takes them, and then claims nothing.",
        )
    return not changes


def _notes(method: Method, classes: Tensor | None) -> list[str]:
    """What differs from what was profiled, and is not refused."""
    notes = ["profiled over the classes together"] if classes is not None else []
    if method.planned.certificate is not None and method.model.time_conditioned:
        notes.append("profiled at the noise of what is known, not at the grid's")
    return [*notes, *(["profiled in float32"] if method.precision not in (None, "float32") else [])]


class _Watched:
    """Passes steps on, and remembers which positions were given."""

    def __init__(self, report: OnStep) -> None:
        self.report = report
        self.state: State | None = None

    def __call__(self, step: int, total: int, state: State) -> None:
        self.state = state
        self.report(step, total, state)

    def certificates(self, plan: Planned, rows: int, notes: list[str]) -> list[Certificate | None]:
        """What each row's schedule loses, and what differs from what was profiled."""
        if self.state is None:  # all was given
            return [None] * rows
        return [each and each.but(*notes) for each in plan.certificates(self.state)]


def _within(report: Callable[[float], None], first: int, count: int, n: int) -> Callable[[float], None]:
    return lambda share: report((first + share * count) / n)


def _reporter(report: Callable[[float], None], batch: int, batches: int) -> OnStep:
    def on_step(step: int, total: int, state: State) -> None:
        report((batch + step / total) / batches)

    return on_step


__all__ = ["Draws", "tell"]
