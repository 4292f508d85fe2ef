"""How a loss draws its time: uniformly, or more often where it varies most."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.randomness import Randomness, time_points
from discdiff.schedules import Schedule
from discdiff.sequences import Sequences


class TimeSampling(ABC):
    """A density over [t_min, 1]; integrals over t stay unbiased, each value being divided by it."""

    @abstractmethod
    def place(self, points: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """Times for low-discrepancy points, and one over their density.

        Args:
            points: float64 `[B]` in [0, 1), each uniform by itself.

        Returns:
            t float64 `[B]`, and the weight 1 / density(t), float64 `[B]`; the weights' mean is 1 − t_min.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class UniformTimes(TimeSampling):
    """t ~ U[t_min, 1]; the weight is 1 − t_min."""

    def place(self, points: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        width = 1 - schedule.t_min
        return schedule.t_min + width * points, torch.full_like(points, width)


class PiecewiseTimes(TimeSampling):
    """A density constant on K equal pieces of [t_min, 1]: piece k is drawn with probability mass_k.

    Importance sampling of time. The variance is least where mass_k ∝ √E[loss² | piece k], which `fit_times` measures;
    Kingma et al. 2021, appendix I.2, Nichol and Dhariwal 2021, section 3.3. All its state is `mass`: a list that a
    configuration file can hold.

    Args:
        mass: K non-negative numbers, their scale immaterial; none of them zero, or a part of the integral is lost.

    Raises:
        IncompatibleError: no piece, or one whose mass is not positive and finite.
    """

    def __init__(self, mass: Sequence[float]) -> None:
        wrong = [value for value in mass if not 0 < value < math.inf]
        if wrong or not mass:
            raise IncompatibleError(
                "PiecewiseTimes",
                got=f"mass {wrong[0]}" if wrong else "no piece",
                expected="a positive number for each piece",
                remedy="Mix the mass with a uniform one, as fit_times does.",
            )
        total = math.fsum(mass)
        self.mass = [value / total for value in mass]

    def place(self, points: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        mass = torch.tensor(self.mass, dtype=torch.float64, device=points.device)
        ends = mass.cumsum(0)
        piece = torch.searchsorted(ends, points, right=True).clamp(max=len(mass) - 1)
        within = ((points - (ends - mass)[piece]) / mass[piece]).clamp(0, 1)
        width = 1 - schedule.t_min
        return schedule.t_min + width * (piece + within) / len(mass), width / (len(mass) * mass[piece])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mass={[round(value, 6) for value in self.mass]})"


@dataclass(frozen=True)
class Noised:
    """One draw of time and noise for each row.

    Attributes:
        t: float64 `[B, 1]`.
        weight: float64 `[B]`, dt: one over the density of t.
        sigma: total noise `[B, 1]`, in the model's dtype.
        rate: float64 `[B]`, σ'(t).
        tokens: xt, int64 `[B, L]`.
    """

    t: Tensor
    weight: Tensor
    sigma: Tensor
    rate: Tensor
    tokens: Tensor

    @property
    def dsigma(self) -> Tensor:
        """σ'(t) dt: float64 `[B]`."""
        return self.weight * self.rate


def noised(model: Model, sequences: Sequences, times: TimeSampling, *, generator: Randomness) -> Noised:
    """Draw t by `times` and xt ~ q(· | x0) at σ(t)."""
    points = time_points(len(sequences), generator=generator, device=sequences.device)
    t, weight = times.place(points, model.schedule)
    t = t[:, None]
    sigma = model.schedule.total_noise(t).to(model.dtype)
    xt = corrupted(model, sequences, sigma, generator=generator)
    return Noised(t, weight, sigma, model.schedule.noise_rate(t)[:, 0], xt)


def corrupted(model: Model, sequences: Sequences, sigma: Tensor, *, generator: Randomness) -> Tensor:
    """xt ~ q(· | x0) at `sigma` `[B, 1]`; given positions stay clean. int64 `[B, L]`."""
    xt = model.process.corrupt(sequences.tokens, sigma, generator=generator)
    return xt if sequences.given is None else torch.where(sequences.given, sequences.tokens, xt)


@torch.no_grad()
def fit_times(values: Tensor, t: Tensor, schedule: Schedule, *, pieces: int = 32, floor: float = 0.1) -> PiecewiseTimes:
    """The density that makes a loss's variance least, from measured values of its integrand.

    mass_k ∝ (1 − floor) √mean(f² in piece k) / Σ + floor / K: no weight exceeds 1/floor times the uniform one's.

    Args:
        values: the integrand f at times t, per unit of t, float `[N]`.
        t: its times, `[N]` in [t_min, 1].
        schedule: gives t_min.
        pieces: K.
        floor: the share of draws that stay uniform, in (0, 1].

    Raises:
        IncompatibleError: a piece without a value, or values that are not finite.
    """
    where = ((t.double() - schedule.t_min) / (1 - schedule.t_min) * pieces).long().clamp(0, pieces - 1).cpu()
    counts = torch.bincount(where, minlength=pieces)
    squares = torch.zeros(pieces, dtype=torch.float64).index_add(0, where, values.double().cpu().square())
    if bool((counts == 0).any()) or not bool(squares.isfinite().all()):
        raise IncompatibleError(
            "fit_times",
            got="values that are not finite"
            if bool((counts > 0).all())
            else f"no value in piece {int(counts.argmin())}",
            expected=f"finite values in each of {pieces} pieces of [t_min, 1]",
            remedy="Measure at more times, or ask for fewer pieces.",
        )
    root = (squares / counts).sqrt()
    share = root / root.sum() if float(root.sum()) > 0 else torch.full_like(root, 1 / pieces)
    return PiecewiseTimes(((1 - floor) * share + floor / pieces).tolist())
