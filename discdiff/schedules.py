"""Noise schedules: total noise σ(t) and its rate σ'(t) for diffusion time t in [0, 1] (0 is data, 1 is noise)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from discdiff.errors import DiscdiffError


def _check_positive(name: str, value: float) -> float:
    if not 0.0 < value < math.inf:
        raise DiscdiffError(f"{name}: got {value}, expected a positive number")
    return float(value)


def _check_open_unit(name: str, value: float) -> float:
    if not 0.0 < value < 1.0:
        raise DiscdiffError(f"{name}: got {value}, expected a number between 0 and 1 (both excluded)")
    return float(value)


class Schedule(ABC):
    """σ(t), increasing, and σ'(t).

    Attributes:
        t_min: the smallest time that training, likelihood bounds and samplers evaluate a network at.
    """

    t_min: float

    @abstractmethod
    def total_noise(self, t: Tensor) -> Tensor:
        """σ(t), dimensionless, same shape and dtype as `t`."""

    @abstractmethod
    def noise_rate(self, t: Tensor) -> Tensor:
        """σ'(t) = dσ/dt, same shape and dtype as `t`."""

    @abstractmethod
    def time(self, sigma: Tensor) -> Tensor:
        """The inverse of σ: the t at which the total noise is `sigma`."""

    def ends(self) -> tuple[float, float]:
        """(σ(t_min), σ(1)): the range of noise that a time-conditioned network is trained on."""
        low, high = self.total_noise(torch.tensor([self.t_min, 1.0], dtype=torch.float64)).tolist()
        return low, high

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value:g}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"


class LogLinear(Schedule):
    """σ(t) = −log(1 − (1 − ε) t): on the absorbing process the mask fraction is (1 − ε) t.

    Lou, Meng and Ermon 2024 (SEDD), section 5.1.
    """

    def __init__(self, eps: float = 1e-3, t_min: float = 1e-3) -> None:
        self.eps = _check_open_unit("eps", eps)
        self.t_min = _check_open_unit("t_min", t_min)

    def total_noise(self, t: Tensor) -> Tensor:
        return -torch.log1p(-(1 - self.eps) * t)

    def noise_rate(self, t: Tensor) -> Tensor:
        return (1 - self.eps) / (1 - (1 - self.eps) * t)

    def time(self, sigma: Tensor) -> Tensor:
        return -torch.expm1(-sigma) / (1 - self.eps)


class Geometric(Schedule):
    """σ(t) = σ_min^(1−t) σ_max^t, so σ'(t) = σ(t) log(σ_max / σ_min).

    Lou, Meng and Ermon 2024 (SEDD), section 5.1.
    """

    def __init__(self, sigma_min: float = 1e-4, sigma_max: float = 20.0, t_min: float = 1e-3) -> None:
        if not 0.0 < sigma_min < sigma_max < math.inf:
            raise DiscdiffError(f"Geometric: got sigma_min={sigma_min}, sigma_max={sigma_max}, expected 0 < min < max")
        self.sigma_min, self.sigma_max = float(sigma_min), float(sigma_max)
        self.t_min = _check_open_unit("t_min", t_min)

    def total_noise(self, t: Tensor) -> Tensor:
        return torch.exp(math.log(self.sigma_min) + t * math.log(self.sigma_max / self.sigma_min))

    def noise_rate(self, t: Tensor) -> Tensor:
        return self.total_noise(t) * math.log(self.sigma_max / self.sigma_min)

    def time(self, sigma: Tensor) -> Tensor:
        return (torch.log(sigma) - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)


class Cosine(Schedule):
    """α(t) = ε + (1 − ε) cos(π t / 2), σ = −log α.

    The mask fraction grows slowly near the data. Sahoo et al. 2024 (MDLM), appendix on noise schedules.
    """

    def __init__(self, eps: float = 1e-3, t_min: float = 1e-3) -> None:
        self.eps = _check_open_unit("eps", eps)
        self.t_min = _check_open_unit("t_min", t_min)

    def _lost(self, t: Tensor) -> Tensor:
        """1 − α, without the cancellation at small t."""
        return 2 * (1 - self.eps) * torch.sin(math.pi / 4 * t).square()

    def total_noise(self, t: Tensor) -> Tensor:
        return -torch.log1p(-self._lost(t))

    def noise_rate(self, t: Tensor) -> Tensor:
        return (1 - self.eps) * math.pi / 2 * torch.sin(math.pi / 2 * t) / (1 - self._lost(t))

    def time(self, sigma: Tensor) -> Tensor:
        half = torch.sqrt(-torch.expm1(-sigma) / (2 * (1 - self.eps)))
        return 4 / math.pi * torch.asin(half.clamp(max=math.sqrt(0.5)))


class CosineSquared(Schedule):
    """α(t) = ε + (1 − ε) cos²(π t / 2), σ = −log α: slow near the data and near the noise; σ'(1) = 0.

    Nichol and Dhariwal 2021, equation 17 (without its offset); Sahoo et al. 2024 (MDLM), appendix on noise schedules.
    """

    def __init__(self, eps: float = 1e-3, t_min: float = 1e-3) -> None:
        self.eps = _check_open_unit("eps", eps)
        self.t_min = _check_open_unit("t_min", t_min)

    def _lost(self, t: Tensor) -> Tensor:
        return (1 - self.eps) * torch.sin(math.pi / 2 * t).square()

    def _alpha(self, t: Tensor) -> Tensor:
        return self.eps + (1 - self.eps) * torch.sin(math.pi / 2 * (1 - t)).square()

    def total_noise(self, t: Tensor) -> Tensor:
        lost = self._lost(t)
        return torch.where(lost < 0.5, -torch.log1p(-lost), -torch.log(self._alpha(t)))

    def noise_rate(self, t: Tensor) -> Tensor:
        cosine = torch.sin(math.pi / 2 * (1 - t))
        return (1 - self.eps) * math.pi * torch.sin(math.pi / 2 * t) * cosine / self._alpha(t)

    def time(self, sigma: Tensor) -> Tensor:
        # tan²(π t / 2) = (1 − α) / (α − ε), both without cancellation
        lost, left = -torch.expm1(-sigma), (torch.exp(-sigma) - self.eps).clamp(min=0.0)
        return 2 / math.pi * torch.atan2(lost.sqrt(), left.sqrt())


class Linear(Schedule):
    """σ(t) = σ_min + (σ_max − σ_min) t: events at a constant rate.

    Campbell et al. 2022, section 4 (a constant rate); Sahoo et al. 2024 (MDLM), appendix on noise schedules.
    """

    def __init__(self, sigma_min: float = 0.0, sigma_max: float = 10.0, t_min: float = 1e-3) -> None:
        if not 0.0 <= sigma_min < sigma_max < math.inf:
            raise DiscdiffError(f"Linear: got sigma_min={sigma_min}, sigma_max={sigma_max}, expected 0 <= min < max")
        self.sigma_min, self.sigma_max = float(sigma_min), float(sigma_max)
        self.t_min = _check_open_unit("t_min", t_min)

    def total_noise(self, t: Tensor) -> Tensor:
        return self.sigma_min + (self.sigma_max - self.sigma_min) * t

    def noise_rate(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.sigma_max - self.sigma_min)

    def time(self, sigma: Tensor) -> Tensor:
        return (sigma - self.sigma_min) / (self.sigma_max - self.sigma_min)


class Polynomial(Schedule):
    """α(t) = 1 − (1 − ε) t^k, σ = −log α: on the absorbing process the mask fraction is (1 − ε) t^k.

    k = 1 is log-linear; k > 1 lingers near the data. Shi et al. 2024 (MD4), table of schedules.
    """

    def __init__(self, power: float = 2.0, eps: float = 1e-3, t_min: float = 1e-3) -> None:
        self.power = _check_positive("power", power)
        self.eps = _check_open_unit("eps", eps)
        self.t_min = _check_open_unit("t_min", t_min)

    def total_noise(self, t: Tensor) -> Tensor:
        return -torch.log1p(-(1 - self.eps) * t**self.power)

    def noise_rate(self, t: Tensor) -> Tensor:
        return (1 - self.eps) * self.power * t ** (self.power - 1) / (1 - (1 - self.eps) * t**self.power)

    def time(self, sigma: Tensor) -> Tensor:
        return (-torch.expm1(-sigma) / (1 - self.eps)) ** (1 / self.power)
