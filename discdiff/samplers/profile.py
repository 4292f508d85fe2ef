"""`Profile`: what a model loses by revealing several positions at once, as measured; schedules chosen by it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from discdiff.errors import CheckpointError, IncompatibleError
from discdiff.samplers.block_table import BlockTable
from discdiff.samplers.certificate import Certificate, Plan
from discdiff.samplers.mask_fractions import CELLS, time_table
from discdiff.schedules import Schedule

Made = TypeVar("Made")


GIVEN = "given positions count as if revealed at random"


@dataclass(frozen=True)
class LengthGroup:
    """The curves of sequences of similar lengths.

    Attributes:
        shortest, longest: the lengths that were measured, both included.
        sequences: how many.
        at: s_k, increasing from 0 to 1, K of them: the share j / (L − 1) of all other positions that is known.
        curves: float64 `[G, K]` nats: f at s_k by G disjoint groups of sequences, none of which ever rises.
    """

    shortest: int
    longest: int
    sequences: int
    at: tuple[float, ...]
    curves: Tensor

    def of(self, length: int) -> Tensor:
        """f[j], j = 0 .. L − 1, of each group: float64 `[G, L]`, linear between the s_k."""
        share = torch.arange(length, dtype=torch.float64) / max(length - 1, 1)
        at = torch.tensor(self.at, dtype=torch.float64)
        right = torch.searchsorted(at, share.clamp(max=at[-1]) - 1e-12).clamp(1, len(at) - 1)
        weight = ((share - at[right - 1]) / (at[right] - at[right - 1])).clamp(0, 1)
        return torch.lerp(self.curves[:, right - 1], self.curves[:, right], weight)


@dataclass(frozen=True)
class Profile:
    """The information curve of a model, f[j] = E H(x_π(j+1) | x_π(1..j)), with its statistics; `measure_profile` makes
    one.

    What a block loses is a sum of differences f[n] − f[j]. They are measured as divergences,
    f[j] − f[j+1] = E KL(p(x_i | x_π(≤j+1)) ‖ p(x_i | x_π(≤j))), over open positions i, by the model's own predictions:
    no difference is ever negative. For an exact denoiser they are those of entropies; for a trained one they are what
    its sampler loses, which entropies understate.

    **What is certified.** E_π KL(one position a call ‖ blocks) of the model itself; the law of samples, a mixture over
    orders, is at least as near. With states from the model's own draws this is exact for blocks of one or two
    positions, and for any blocks of a network whose predictions are the conditionals of one joint law, as those of the
    exact denoiser are; `block_divergence` measures it for any blocks of any network, at L calls a sequence. With states
    from data the expectation is over data, which is the same as far as the model has learnt them. Nothing is said of
    what the model itself is off by.

    **What is assumed beside.** The curve depends on the share j / (L − 1) of the other positions that is known, not on
    the length within one of `groups`, and is linear between the shares measured. With one length, of at most 129
    positions or from draws, all shares are measured and nothing is assumed. A length that was not measured is served
    by the nearest group.

    **Statistics.** Sequences are in disjoint groups. Half of them choose a schedule, the other half say what it loses,
    so that no schedule is praised for the noise that it was chosen by; the standard error is over groups. A number of
    calls is chosen such that the estimate and two standard errors are at most the error asked for.

    Attributes:
        groups: by length, shortest first.
        source: "draws" of the model or "data".
        seconds: what measuring took.
        weights: checksum of the weights that were measured, or "".
    """

    groups: tuple[LengthGroup, ...]
    source: str
    seconds: float = 0.0
    weights: str = ""
    _plans: dict[tuple[int, int, float | None, int | None], Plan] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    # ---- the curve ---------------------------------------------------------------------------------------------------
    @property
    def sequences(self) -> int:
        """How many were measured."""
        return sum(group.sequences for group in self.groups)

    def _of(self, length: int) -> Tensor:
        nearest = min(self.groups, key=lambda g: (max(g.shortest - length, length - g.longest, 0), g.shortest))
        return nearest.of(length)

    def curve(self, length: int) -> Tensor:
        """f of sequences of a length: float64 `[L]` nats."""
        return self._of(length).mean(0)

    def standard_errors(self, length: int) -> Tensor:
        """Of each f[j], float64 `[L]` nats. They move together: a difference of two is known much better."""
        curves = self._of(length)
        return curves.std(0) / math.sqrt(len(curves))

    def __str__(self) -> str:
        what = "draws of the model" if self.source == "draws" else "sequences of data"
        return f"a profile of {self.sequences} {what}, measured in {self.seconds:.1f} s"

    # ---- blocks ------------------------------------------------------------------------------------------------------
    def certificate(self, sizes: Sequence[int], length: int | None = None) -> Certificate:
        """What a schedule that was not chosen by this profile loses, by all groups.

        Args:
            sizes: positions revealed in each call, n in all.
            length: positions of the row; L − n of them are given, as if revealed at random. By default n.
        """
        total = sum(sizes) if length is None else length
        found = _certificate(self._of(total)[:, total - sum(sizes) :], sizes)
        return found.but(*[GIVEN] * (total > sum(sizes)), *self._notes)

    def blocks(
        self, length: int, *, error: float | None = None, steps: int | None = None, hidden: int | None = None
    ) -> Plan:
        """The best schedule of `steps` calls, or of the fewest calls that lose at most `error`.

        Args:
            length: positions of the row.
            error: nats a sequence: the estimate and two standard errors are at most this. One position a call loses
                nothing, so that any error can be had.
            steps: calls; a row with fewer positions takes one for each.
            hidden: positions to reveal; by default all. The others count as if revealed at random.

        Raises:
            IncompatibleError: not one of error and steps, or out of range.
        """
        if (error is None) == (steps is None):
            raise IncompatibleError(
                "Schedule",
                got="error and steps" if error is not None else "neither error nor steps",
                expected="one of the two",
                remedy="An error chooses the number of steps.",
            )
        if (error is not None and not error >= 0) or (steps is not None and steps < 1):
            raise IncompatibleError(
                "Schedule",
                got=f"error={error:g}" if error is not None else f"steps={steps}",
                expected="an error of at least 0 nats, or at least one step",
                remedy="0.01 to 1 nats are usual.",
            )
        count = length if hidden is None else hidden
        if not 0 <= count <= length:
            raise IncompatibleError(
                "Schedule", got=f"{count} hidden positions", expected=f"0 to {length}", remedy="Count what is open."
            )
        asked = (length, count, error, steps)
        if asked not in self._plans:
            self._plans[asked] = self._plan(*asked)
        return self._plans[asked]

    def _plan(self, length: int, count: int, error: float | None, steps: int | None) -> Plan:
        given = count < length
        if count <= 1:
            return Plan((1,) * count, Certificate(0.0, 0.0, count, count).but(*[GIVEN] * given))
        curves = self._of(length)[:, length - count :]
        table, judges = BlockTable(curves[::2].mean(0).cummin(-1).values), curves[1::2]  # no rise by rounding

        def plan(calls: int) -> Plan:
            sizes = tuple(table.sizes(calls))
            return Plan(sizes, _certificate(judges, sizes).but(*[GIVEN] * given, *self._notes))

        if error is None:
            assert steps is not None
            return plan(min(steps, count))
        fewest = table.fewest(error)
        return _first(plan, fewest, count, lambda made: made.certificate.upper <= error)

    @property
    def _notes(self) -> list[str]:
        """What sets it apart from the model's own law: data need not be where the model goes."""
        return [] if self.source == "draws" else ["measured on data"]

    # ---- times -------------------------------------------------------------------------------------------------------
    def times(
        self,
        schedule: Schedule,
        lengths: Iterable[int] | Mapping[int, int],
        *,
        error: float | None = None,
        steps: int | None = None,
    ) -> tuple[list[float], Certificate]:
        """The best times for samplers on a grid (absorbing): the network is looked at with the mask fraction m_k left.

        Each position is revealed on its own, so that blocks are of random size. With F(m) = E f[n], n ~ Bin(L − 1,
        1 − m), a step from m to m' loses (m − m') L F(m) − L ∫ F over it: the blocks of m lose what those of j do.

        Args:
            schedule: the model's.
            lengths: of the rows, or how often each occurs; one grid serves all of them, and the error is their average.
            error: nats a sequence, on average: the estimate and two standard errors are at most this.
            steps: intervals; fewer where so many do not fit above the schedule's t_min.

        Returns:
            Times for `Ancestral(grid=…)`, from 1 down to t_min at the lowest, and what they lose.

        Raises:
            IncompatibleError: not one of error and steps; an error that no grid of at most 512 times reaches.
        """
        if (error is None) == (steps is None):
            self.blocks(1, error=error, steps=steps)  # refuses
        occur = Counter(lengths)
        if not occur:
            raise IncompatibleError("Times", got="no lengths", expected="one or more", remedy="Name the rows' lengths.")
        curves = [(length, count / occur.total(), self._of(length)) for length, count in sorted(occur.items())]
        low, high = (-math.expm1(-sigma) for sigma in schedule.ends())
        latest = int((1 - low / high) * CELLS)  # the network is not looked at below t_min
        table, price = time_table(
            [(length, share, half[::2]) for length, share, half in curves],
            [(length, share, half[1::2]) for length, share, half in curves],
            latest,
        )
        mean = math.fsum(length * share for length, share, _ in curves)

        def plan(calls: int) -> tuple[Tensor, Certificate]:
            starts = torch.tensor([0, *table.sizes(calls)[:-1]]).cumsum(0).clamp(max=latest).unique()
            nats, spread = price(starts.diff(append=torch.tensor([CELLS])).tolist())
            judges = min(len(half) // 2 for _, _, half in curves)
            return starts, Certificate(nats, spread, len(starts), mean, judges=judges).but(*self._notes)

        if error is None:
            assert steps is not None
            if steps > CELLS:
                raise IncompatibleError(
                    "steps", got=steps, expected=f"at most {CELLS}", remedy='Use grid="mask_fraction".'
                )
            starts, certificate = plan(steps)
        else:
            starts, certificate = _first(plan, table.fewest(error), CELLS, lambda made: made[1].upper <= error)
            if certificate.upper > error:
                raise IncompatibleError(
                    "error on a time grid",
                    got=f"{error:g} nats",
                    expected=f"at least {certificate.upper:.2g}, what {certificate.calls:g} steps lose",
                    remedy="AnyOrder reaches any error, in at most one call a position.",
                )
        masked = ((1 - starts.double() / CELLS) * high).clamp(min=low)
        times = schedule.time(-torch.log1p(-masked)).clamp(min=schedule.t_min)
        times[0] = 1.0
        return times.tolist(), certificate

    # ---- as a file ---------------------------------------------------------------------------------------------------
    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        groups = [
            {**vars(group), "at": list(group.at), "curves": [[float(f"{f:.7g}") for f in row] for row in group.curves]}
            for group in self.groups
        ]
        named = {"source": self.source, "seconds": round(self.seconds, 2), "weights": self.weights}
        return {"format_version": 1, **named, "groups": groups}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Profile:
        """Read what `to_json` gave.

        Raises:
            CheckpointError: it is no profile, or one of another version.
        """
        try:
            version = saved["format_version"]
            groups = tuple(
                LengthGroup(
                    int(group["shortest"]),
                    int(group["longest"]),
                    int(group["sequences"]),
                    tuple(float(s) for s in group["at"]),
                    torch.tensor(group["curves"], dtype=torch.float64),
                )
                for group in saved["groups"]
            )
            found = cls(groups, str(saved["source"]), float(saved["seconds"]), str(saved["weights"]))
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
            raise CheckpointError(f"profile: cannot be read ({type(error).__name__}: {error})") from error
        shapes = all(g.curves.ndim == 2 and g.curves.shape[1] == len(g.at) >= 2 for g in groups)
        if version != 1 or not groups or not shapes or min(len(group.curves) for group in groups) < 4:
            raise CheckpointError(f"profile: format version {version}, or damaged; measure it anew")
        return found


def _certificate(curves: Tensor, sizes: Sequence[int]) -> Certificate:
    """The cost of blocks by each group's curve `[G, n]`: mean and standard error."""
    starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
    costs = (curves[:, starts.repeat_interleave(torch.tensor(sizes))] - curves).sum(-1)
    spread = float(costs.std()) / math.sqrt(len(costs))
    return Certificate(float(costs.mean()), spread, len(sizes), sum(sizes), judges=len(costs))


def _first(make: Callable[[int], Made], low: int, high: int, enough: Callable[[Made], bool]) -> Made:
    """What is made of the smallest number that is enough, by strides that double, then by halves; else of `high`."""
    stride, made = 1, make(low)
    if enough(made):
        return made
    while low + stride < high and not enough(make(low + stride)):
        low, stride = low + stride, 2 * stride
    high = min(low + stride, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(make(middle)) else (middle, high)
    return make(high)


__all__ = ["LengthGroup", "Profile"]
