"""Guidance by a classifier of noised sequences: exact over changes of one position, or by first-order expansion."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.guidance.base import Guided
from discdiff.model import Model
from discdiff.networks.base import Context
from discdiff.prediction import DenoiserPrediction, Positions, Prediction, ScorePrediction

LogLikelihood = Callable[[Tensor, Tensor, Context], Tensor]
"""log p(y | xt) of each row, `[B]`: of states one-hot `[B, L, S]` (float), total noise `[B, L]`, and the context.

It must not mix rows, and must not look at padded positions. `Predictor.of` makes one.
"""

ROOM = 1 << 24
"""Numbers in the one-hot sequences that are shown to a classifier at once."""


class ClassifierGuidance(Guided):
    """Rates of the reverse process times (p(y | x') / p(y | x))^γ, for a change of one position from x to x'.

    On the absorbing process, where xt reveals what is noise: p(x0_i | xt) p(y | xt with x0_i at i)^γ, normalised. On
    others the score is guided, s(x', x) · (p(y | x') / p(y | x))^γ, so that constraints other than clamps are refused.

    γ = 1 is p0(x | y) for a classifier that is right at every noise, and exact samplers. With `sample(particles=)` on
    the absorbing process the law of samplers of one position a step tends to p0(x) p(y | x)^γ, normalised, whatever the
    classifier says on the way, where its changes are read exactly. For that it must say one thing of one sequence: on
    the absorbing process it is shown the noise that the sequence's own masks amount to, not the step's.

    Dhariwal and Nichol 2021; for discrete states Nisonoff et al. 2024 (equation 2) and Schiff et al. 2024.

    Args:
        model: any.
        log_likelihood: log p(y | xt) of the y that is wanted.
        gamma: γ ≥ 0.

    Raises:
        IncompatibleError: γ is negative or not finite.
    """

    def __init__(self, model: Model, log_likelihood: LogLikelihood, gamma: float = 1.0) -> None:
        if not 0 <= gamma < math.inf:
            raise IncompatibleError(
                type(self).__name__,
                got=f"gamma={gamma}",
                expected="0 or more",
                remedy="1 is p(x | y); 0 is no guidance.",
            )
        super().__init__(model)
        self.log_likelihood, self.gamma = log_likelihood, gamma

    def predict(self, tokens: Tensor, sigma: Tensor, context: Context | None = None) -> Prediction:
        inner = self.model.predict(tokens, sigma, context)
        if self.gamma == 0:
            return inner
        process, changes = self.process, Changes(self, tokens, inner.sigma, context or Context())
        place = (process, tokens, sigma, inner.frozen)
        if process.reveals_noise:
            return DenoiserPrediction(
                *place,
                log_p=lambda where: self._unnormalised(inner, where) + self.gamma * process.content(changes(where)),
                calls=lambda: inner.calls,
                weighed=True,
            )
        return ScorePrediction(
            *place,
            log_s=lambda where: inner.log_score(where) + self.gamma * changes(where),
            calls=lambda: inner.calls,
        )

    @abstractmethod
    def log_ratios(self, tokens: Tensor, sigma: Tensor, context: Context, where: Positions) -> Tensor:
        """log p(y | x with y' at i) − log p(y | x) for all states y', `[N, S]` at N positions i of rows of `tokens`."""

    def judged(self, states: Tensor, sigma: Tensor, context: Context) -> Tensor:
        """log p(y | x), checked."""
        found = self.log_likelihood(states, self._noise(states, sigma, context), context)
        if found.shape != states.shape[:1] or not bool(torch.isfinite(found).all()):
            raise IncompatibleError(
                type(self).__name__,
                got=f"log-likelihoods {list(found.shape)}, {int((~torch.isfinite(found)).sum())} of them not finite",
                expected=f"{len(states)} finite numbers, one a row",
                remedy="Return log p(y | xt) for each row; bound it from below where y is impossible.",
            )
        return found

    def _noise(self, states: Tensor, sigma: Tensor, context: Context) -> Tensor:
        """The noise to show it, `[B, L]`: where masks tell, −log(1 − the share of them), within the schedule's ends."""
        process = self.process
        if not process.reveals_noise:
            return sigma
        inside = torch.ones_like(sigma) if context.padding is None else (~context.padding).to(sigma.dtype)
        masks = (states.detach()[..., process.mask_id] * inside).sum(-1, keepdim=True)
        own = -torch.log1p(-masks / inside.sum(-1, keepdim=True))
        return own.clamp(*self.schedule.ends()).to(sigma.dtype).expand_as(sigma)


class Changes:
    """Log ratios of one prediction, worked out for the positions that are asked for, once."""

    def __init__(self, guide: ClassifierGuidance, tokens: Tensor, sigma: Tensor, context: Context) -> None:
        self.guide, self.tokens, self.sigma, self.context = guide, tokens, sigma, context
        self._slot = torch.full(tokens.shape, -1, dtype=torch.int64, device=tokens.device)
        self._values: Tensor | None = None

    def __call__(self, where: Positions | None) -> Tensor:
        """`[N, S]` at `where`, or `[B, L, S]`."""
        if where is None:
            full = torch.ones_like(self.tokens, dtype=torch.bool).nonzero(as_tuple=True)
            return self((full[0], full[1])).view(*self.tokens.shape, -1)
        fresh = torch.zeros_like(self.tokens, dtype=torch.bool).index_put(where, self._slot[where] < 0)
        rows, positions = fresh.nonzero(as_tuple=True)
        if self._values is None or len(rows):
            values = self.guide.log_ratios(self.tokens, self.sigma, self.context, (rows, positions))
            start = 0 if self._values is None else len(self._values)
            self._values = values if self._values is None else torch.cat([self._values, values])
            self._slot[rows, positions] = torch.arange(start, start + len(rows), device=rows.device)
        return self._values[self._slot[where]]


class Classifier(ClassifierGuidance):
    """The classifier is shown every change of every position that is asked for: N · S sequences."""

    def log_ratios(self, tokens: Tensor, sigma: Tensor, context: Context, where: Positions) -> Tensor:
        size, width = self.process.num_states, tokens.shape[1]
        now = torch.nn.functional.one_hot(tokens, size).to(self.dtype)
        base = self.judged(now, sigma, context)
        found = base.new_empty(len(where[0]), size)
        states = torch.eye(size, dtype=now.dtype, device=now.device)
        for part in torch.arange(len(where[0]), device=tokens.device).split(max(ROOM // (size * size * width), 1)):
            rows = where[0][part].repeat_interleave(size)
            changed = now[rows].view(len(part), size, width, size)
            changed[torch.arange(len(part), device=rows.device), :, where[1][part]] = states
            judged = self.judged(changed.view(-1, width, size), sigma[rows], context.index(rows))
            found[part] = judged.view(len(part), size) - base[where[0][part], None]
        return found


class FirstOrderClassifier(ClassifierGuidance):
    """The change of log p(y | x) by its gradient in the one-hot states: one evaluation, forwards and backwards.

    Off by the curvature of log p(y | x); with particles its law is not the tilted one. Grathwohl et al. 2021
    (Gibbs-with-gradients), equation 3; Vignac et al. 2023 for diffusion.
    """

    def log_ratios(self, tokens: Tensor, sigma: Tensor, context: Context, where: Positions) -> Tensor:
        rows, place = where[0].unique(return_inverse=True)
        with torch.enable_grad():
            states = torch.nn.functional.one_hot(tokens[rows], self.process.num_states).to(self.dtype).requires_grad_()
            judged = self.judged(states, sigma[rows], context.index(rows)) if len(rows) else states.sum((1, 2))
            (slope,) = torch.autograd.grad(judged.sum(), states)
        at = slope[place, where[1]]
        return at - at.gather(1, tokens[where][:, None])


__all__ = ["Classifier", "ClassifierGuidance", "FirstOrderClassifier", "LogLikelihood"]
