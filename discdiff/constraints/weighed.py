"""A constraint that keeps the importance weights of the runs that it steers."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from discdiff.constraints.automaton import Automaton
from discdiff.constraints.base import Constraint
from discdiff.constraints.filtered import Filtered, Tilt
from discdiff.errors import DiscdiffWarning, IncompatibleError
from discdiff.prediction import Positions, Prediction, positions_of


class Ahead(NamedTuple):
    """What is open after a step.

    Attributes:
        filtered: p̃ given acceptance.
        rows: int64 `[R]`, the rows that it was made for.
    """

    filtered: Filtered
    rows: Tensor

    def guess(self, tokens: Tensor, u: Tensor) -> Tensor:
        """A clean sequence for each of its rows, drawn from p̃ given acceptance: int64 `[B, L]`; others as they are."""
        where = self.filtered.open
        return tokens.index_put(where, self.filtered.draw(where, u))


class Weighed(Constraint):
    """Draws as the automaton does, and adds up log w = Σ log Z[p(·|x_t)] − log Z[p̃], a step at a time.

    A step draws x0 ~ ∏ p_i · 1[accepted] / Z and moves to x_s. Its probability of x_s is the unconstrained sampler's
    times Z[p̃] / Z[p], with p̃_i(x0) ∝ p(x0_i | xt) q(x_s,i | xt_i, x0_i): what is still open once x_s is known. The
    product of the inverse over a run weighs it towards the unconstrained law given acceptance; its mean is the
    probability of acceptance. Where the model is guided and the process absorbing, each token revealed also counts what
    its guided law summed to before it was normalised, so that the guided law of the whole sequence is meant.

    Twisted sequential Monte Carlo, as Wu et al. 2023 and Zhao et al. 2024.

    Args:
        constraint: bound to the rows' lengths.
    """

    restricts_draws = True

    def __init__(self, constraint: Automaton) -> None:
        assert constraint.lengths is not None, "bound to lengths"
        self.constraint = constraint
        self.length, self.rows = constraint.length, constraint.rows
        self.log_weights = torch.zeros(len(constraint.lengths), dtype=torch.float64)
        # log Z[p̃] that a row has been divided by, and not yet multiplied by its stand-in, Z[p(·|x_s)] of the next call
        self.log_ahead = torch.zeros_like(self.log_weights)
        self._last: tuple[Prediction, Tensor] | None = None
        self._warned = False

    def given(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        return self.constraint.given(batch, length)

    def log_marginals(self, prediction: Prediction, where: Positions) -> Tensor:
        return self.constraint.log_marginals(prediction, where)

    def index(self, rows: Tensor) -> Weighed:
        raise IncompatibleError(
            "Particles",
            got="a sampler that moves some rows apart from others",
            expected="one move of all rows a step",
            remedy="Use FirstHitting, Ordered or Ancestral.",
        )

    def draw(self, prediction: Prediction, where: Positions, u: Tensor, *, tilt: Tensor | None = None) -> Tensor:
        if tilt is not None and tilt.shape[-1] > 1:
            raise IncompatibleError(
                "Particles",
                got="draws of x0 tilted by jump rates",
                expected="a sampler that draws x0 from the denoiser",
                remedy="Use FirstHitting, Ordered or Ancestral.",
            )
        moving = torch.zeros(len(prediction.tokens), dtype=torch.bool, device=prediction.tokens.device)
        moving[where[0]] = True
        if bool(moving.any()):  # where nothing moves both Z are one and the same
            rows = moving.nonzero()[:, 0]
            self.log_weights[rows.cpu()] += self.constraint.log_total(prediction, rows).cpu()
            self.log_ahead[rows.cpu()] = 0.0
            self._last = prediction, rows
            if not prediction.process.reveals_noise:
                self._warn_of_guidance(prediction, where)
            elif (mass := prediction.log_mass(where)) is not None:
                self.log_weights.index_add_(0, where[0].cpu(), mass.double().cpu())
        return self.constraint.draw(prediction, where, u)

    def _warn_of_guidance(self, prediction: Prediction, where: Positions) -> None:
        """Once a run: what guided laws sum to is not counted off the absorbing process."""
        if self._warned or prediction.log_mass((where[0][:1], where[1][:1])) is None:
            return
        self._warned = True
        warnings.warn(
            f"particles under {type(prediction.process).__name__}: guidance (or temperature) acts position by position "
            "there and has no weights, so that particles tend to the guided sampler's own law given what is asked, and "
            "not to a guided law of whole sequences (use Absorbing)",
            DiscdiffWarning,
            stacklevel=2,
        )

    def settle(self, tokens: Tensor, sigma_next: float) -> Ahead | None:
        """Account for where a step has led: x_s `[B, L]` at noise `sigma_next`; None where nothing moved."""
        if self._last is None:
            return None
        prediction, rows = self._last
        self._last = None
        filtered, scale = self._ahead(prediction, rows, tokens, sigma_next)
        total, at = (filtered.log_total() - scale[rows]).cpu(), rows.cpu()
        before = self.log_weights[at]
        # A particle without weight stays without: −∞ − (−∞) is no number.
        self.log_weights[at] = torch.where(torch.isneginf(before), before, before - total)
        self.log_ahead[at] = total
        return Ahead(filtered, rows)

    def _ahead(
        self, prediction: Prediction, rows: Tensor, tokens: Tensor, sigma_next: float
    ) -> tuple[Filtered, Tensor]:
        """∏ p̃_i · 1[accepted], and log ∏ Σ p̃_i as it stands before it is normalised: `[B]`."""
        whole = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
        process = prediction.process
        if process.reveals_noise:  # p̃ is p, with what has been revealed
            return self.constraint.filter(prediction.beside(tokens), None, rows), whole
        moving = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device).index_fill(0, rows, True)
        open_ = process.active(prediction.tokens) & moving[:, None]
        if prediction.frozen is not None:
            open_ &= ~prediction.frozen
        assert self.constraint.lengths is not None
        used = torch.arange(tokens.shape[1], device=tokens.device)
        where = positions_of(open_ & (used < self.constraint.lengths.to(tokens.device)[:, None]))
        # q(x_s | x_t, x0) ∝ P_s[x_s, x0] / P_t[x_t, x0] over x0
        sigma = prediction.sigma[where].double()
        later = process.likelihood(tokens[where], torch.full_like(sigma, sigma_next))
        now = process.likelihood(prediction.tokens[where], sigma)
        later, now = process.content(later).log(), process.content(now).log()
        tilt = torch.where(torch.isneginf(now), now, later - now)  # what x_t rules out stays ruled out
        log_p = prediction.log_denoiser(where).double() + tilt
        whole.index_add_(0, where[0], log_p.logsumexp(-1))
        return self.constraint.filter(prediction, Tilt(where, tilt), rows), whole


__all__ = ["Weighed"]
