"""The discrete-time bound of D3PM."""

from __future__ import annotations

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.losses.base import Loss, context_of
from discdiff.losses.timed import needs_denoiser
from discdiff.losses.times import corrupted
from discdiff.model import Model
from discdiff.prediction import Positions, positions_of
from discdiff.processes.base import exp_excess
from discdiff.randomness import Randomness, time_points
from discdiff.schedules import Schedule
from discdiff.sequences import Sequences


class D3PM(Loss):
    """Σ_{k=1}^T E_xt Σ_i KL(q(x_{k−1} | x_k, x0) ‖ p(x_{k−1} | x_k)) + a E_{k~U{1..T}} E_xt Σ_i −log p(x0_i | x_k).

    p(x_{k−1} | x_k) = Σ_x0 p(x0_i | x_k) q(· | x_k, x0); one k a row is drawn, and its term multiplied by T. The step
    k = 1 ends at σ = 0, where the KL is the reconstruction −log p(x0 | x_1). With a = 0 and KL(q(x_T|x0) ‖ π) it is the
    bound on −log p(x0) of an ancestral sampler of T steps on the same levels; T → ∞ gives `ContinuousELBO`. Both parts
    are least at the posterior. A score on the absorbing process is read as its normalised denoiser, and its scale is
    not trained.

    Austin et al. 2021 (D3PM), equations 1 and 5.

    Args:
        steps: T; t = max(t_min, 1/T) … 1 in equal steps.
        auxiliary: the cross-entropy's coefficient a ≥ 0; the paper has 0.001 for text and 0.01 for images.

    Raises:
        IncompatibleError: fewer than one step, or a negative coefficient.
    """

    def __init__(self, steps: int = 1000, auxiliary: float = 0.0) -> None:
        if steps < 1 or not 0 <= auxiliary < float("inf"):
            raise IncompatibleError(
                "D3PM loss",
                got=f"steps={steps}, auxiliary={auxiliary}",
                expected="at least one step, and a finite coefficient of at least 0",
                remedy="The paper uses 1000 steps and 0.001.",
            )
        self.steps, self.auxiliary = steps, auxiliary

    def check(self, model: Model) -> None:
        needs_denoiser(model, self)

    def levels(self, schedule: Schedule) -> Tensor:
        """σ_0 = 0, σ_1, …, σ_T: float64 `[T + 1]`."""
        t = torch.linspace(max(schedule.t_min, 1 / self.steps), 1, self.steps, dtype=torch.float64)
        if self.steps == 1:
            t = torch.ones(1, dtype=torch.float64)
        return torch.cat([torch.zeros(1, dtype=torch.float64), schedule.total_noise(t)])

    def __call__(self, model: Model, sequences: Sequences, *, generator: Randomness) -> Tensor:
        self.check(model)
        process = model.process
        points = time_points(len(sequences), generator=generator, device=sequences.device)
        k = 1 + (points * self.steps).long().clamp(max=self.steps - 1)
        levels = self.levels(model.schedule).to(sequences.device)
        sigma, sigma_next = (levels[step][:, None].to(model.dtype) for step in (k, k - 1))
        xt = corrupted(model, sequences, sigma, generator=generator)
        prediction = model.predict(xt, sigma, context_of(sequences))
        where = positions_of(process.active(xt) & sequences.unknown)

        def terms(some: Positions) -> Tensor:
            log_p = prediction.log_denoiser(some)
            # In float64: on a chain of neighbours far states have probabilities below float32's range.
            now, later = (level.expand(xt.shape)[some].double() for level in (sigma, sigma_next))
            x, x0 = xt[some], sequences.tokens[some]
            said = process.posterior_from_denoiser(log_p.double(), x, now, later)
            each = (self.steps * kl(process.bridge(x, x0, now, later), said)).to(log_p.dtype)
            if self.auxiliary > 0:
                each = each - self.auxiliary * log_p.gather(-1, x0[:, None])[:, 0]
            return each

        return prediction.totals(terms, where)

    def __repr__(self) -> str:
        given = {"steps": (self.steps, 1000), "auxiliary": (self.auxiliary, 0.0)}
        return f"D3PM({', '.join(f'{name}={value:g}' for name, (value, usual) in given.items() if value != usual)})"


def kl(q: Tensor, p: Tensor) -> Tensor:
    """KL(q ‖ p) of laws `[..., S]` as Σ q (e^d − 1 − d), d = log p/q: no term is negative, none cancels."""
    positive = q > 0
    d = torch.where(positive, p, 1.0).log() - torch.where(positive, q, 1.0).log()
    return torch.where(positive, q * exp_excess(d), p).sum(-1)
