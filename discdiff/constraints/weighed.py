"""A constraint that keeps the importance weights of the runs that it steers."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from discdiff.constraints.automaton import Automaton
from discdiff.constraints.base import Constraint, Evidence, Tilt, Unconstrained
from discdiff.constraints.filtered import Filtered
from discdiff.errors import DiscdiffWarning, IncompatibleError
from discdiff.prediction import Positions, Prediction


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
    """Draws as the automaton does, and adds up log of the plain sampler's probability of a run over the steered one's.

    A step draws x0 ~ ∏ p_i · 1[accepted] / Z[p] and moves to x_s. Its probability of x_s is the plain sampler's times
    Z[p̃] / Z[p], with p̃_i(x0) ∝ p(x0_i | xt) q(x_s,i | xt_i, x0_i): what is still open once x_s is known. Jumps, of x0
    drawn in proportion to p r, r its rate, and y to P_σ[y, x0] Q[x, y], have Z[p r] and Z[p r(→ y)] in the place of the
    two, and who jumps by steered rates counts by itself (`account`). A Gibbs move, which leaves the plain law as it is,
    is to leave that law times Z[p(· | x)] as it is: from x to x' it weighs Z[p̃(x)] / Z[p̃(x')], both by what the
    network says with the position masked. So it is right where the steps before have that law; where they err, so do
    the weights. Those of each move's own probabilities would not do: steered moves do not leave what is accepted and
    come back, as plain ones may.

    The product over a run weighs it towards the plain law given acceptance; its mean is the probability of acceptance.
    Where the model is guided and the process absorbing, each token revealed also counts what its guided law summed to
    before it was normalised, so that the guided law of the whole sequence is meant.

    Twisted sequential Monte Carlo, as Wu et al. 2023 and Zhao et al. 2024; moves: Del Moral, Doucet and Jasra 2006,
    section 3.3.2.3.

    Args:
        constraint: bound to the rows' lengths.
    """

    restricts_draws = True
    weighs = True

    def __init__(self, constraint: Automaton) -> None:
        assert constraint.lengths is not None, "bound to lengths"
        self.constraint = constraint
        self.length, self.rows = constraint.length, constraint.rows
        self.log_weights = torch.zeros(len(constraint.lengths), dtype=torch.float64)
        # log Z[p̃] that a row has been divided by, and not yet multiplied by its stand-in, Z[p(·|x_s)] of the next call
        self.log_ahead = torch.zeros_like(self.log_weights)
        self._rows: Tensor | None = None
        self._ahead: Ahead | None = None
        self._warned = False

    def given(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        return self.constraint.given(batch, length)

    @property
    def aside(self) -> Constraint:
        return Unconstrained()

    def log_marginals(self, prediction: Prediction, where: Positions) -> Tensor:
        return self.constraint.log_marginals(prediction, where)

    def index(self, rows: Tensor) -> Weighed:
        raise IncompatibleError(
            "Particles",
            got="a sampler that moves some rows apart from others",
            expected="one move of all rows a step",
            remedy="Use FirstHitting, Ordered or Ancestral.",
        )

    def take_ahead(self) -> Ahead | None:
        """What is open after the step that was settled last, once; None where nothing moved."""
        ahead, self._ahead = self._ahead, None
        return ahead

    def draw(self, prediction: Prediction, where: Positions, u: Tensor, *, tilt: Tensor | None = None) -> Tensor:
        rows = where[0].unique()
        if len(rows) == 0:  # where nothing moves both Z are one and the same
            return self.constraint.draw(prediction, where, u, tilt=tilt)
        self._rows, at = rows, rows.cpu()
        if tilt is None or tilt.shape[-1] == 1:
            drawn = self.constraint.draw(prediction, where, u, tilt=tilt)  # first: it keeps what it reads
            total = self.constraint.log_total(prediction, rows)
        else:
            total, drawn = self._tilted(prediction, Tilt(where, tilt), rows, u)
        self.log_weights[at] += total.cpu()
        self.log_ahead[at] = 0.0
        if not prediction.process.reveals_noise:
            self._warn_of_guidance(prediction)
        elif (mass := prediction.log_mass(where)) is not None:
            self.log_weights.index_add_(0, where[0].cpu(), mass.double().cpu())
        return drawn

    def _warn_of_guidance(self, prediction: Prediction) -> None:
        """Once a run: what guided laws sum to is not counted off the absorbing process."""
        if self._warned or not prediction.guided:
            return
        self._warned = True
        warnings.warn(
            f"particles under {type(prediction.process).__name__}: guidance (or temperature) acts position by position "
            "there and has no weights, so that particles tend to the guided sampler's own law given what is asked, and "
            "not to a guided law of whole sequences (use Absorbing)",
            DiscdiffWarning,
            stacklevel=2,
        )

    def account(self, rows: Tensor, log_ratio: Tensor) -> None:
        self.log_weights.index_add_(0, rows.cpu(), log_ratio.double().cpu())

    def settle(self, prediction: Prediction, tokens: Tensor, evidence: Evidence | None = None) -> None:
        rows, self._rows = self._rows, None
        if rows is not None:
            total = self._look(prediction, tokens, rows, evidence)
            self._divide(rows, total)
            self.log_ahead[rows.cpu()] = total

    def foresee(self, prediction: Prediction, tokens: Tensor, rows: Tensor, evidence: Evidence) -> None:
        """As `settle`, of steps that have been accounted for as a whole: only what lies ahead is worked out."""
        if len(rows):
            total = self._look(prediction, tokens, rows, evidence)
            # A guess that says "never" would take away runs that may go on.
            self.log_ahead[rows.cpu()] = torch.where(torch.isneginf(total), 0.0, total)

    def redraw(
        self, prediction: Prediction, where: Positions, u: Tensor, tokens: Tensor, *, tilt: Tensor | None = None
    ) -> Tensor:
        found = self.constraint.draw(prediction, where, u, tilt=tilt)
        others = prediction.process.active(prediction.tokens).index_put(where, torch.tensor(False, device=found.device))
        if prediction.frozen is not None:
            others &= ~prediction.frozen
        rows = where[0][others[where[0]].any(-1)]  # there is one position a row
        if len(rows):  # elsewhere all else is settled: what is accepted is drawn by the law itself
            both = (tokens, tokens.index_put(where, found))
            whole = self.constraint.log_total(prediction, rows).cpu()  # before the filter of `prediction` goes
            before, after = (self._look(prediction, shown, rows, None) for shown in both)
            # What the others rule out, before the move or after any, the plain law does not hold.
            self._divide(rows, torch.where(torch.isneginf(before) | torch.isneginf(whole), torch.inf, after - before))
            self.log_ahead[rows.cpu()] = after
        return found

    def _divide(self, rows: Tensor, log_total: Tensor) -> None:
        at = rows.cpu()
        before = self.log_weights[at]
        # A particle without weight stays without: −∞ − (−∞) is no number.
        self.log_weights[at] = torch.where(torch.isneginf(before), before, before - log_total)

    def _tilted(self, prediction: Prediction, tilt: Tilt, rows: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """log Z[p r], each p_i r_i normalised, and a draw; without the tilt in rows where that is left nothing."""
        filtered = self.constraint.filter(prediction, tilt, rows)
        total = self._normalised(filtered, prediction, tilt, rows)
        if bool(torch.isneginf(total).any()):
            return total, self.constraint.draw(prediction, tilt.where, u, tilt=tilt.values)
        return total, filtered.draw(tilt.where, u)

    def _look(self, prediction: Prediction, tokens: Tensor, rows: Tensor, evidence: Evidence | None) -> Tensor:
        """log Z[p̃] of the rows once `tokens` are there, float64 `[R]` on the CPU; p̃ is kept for guesses."""
        if prediction.process.reveals_noise or evidence is None:  # p̃ is p, with what has been revealed
            filtered = self.constraint.shown(prediction, tokens, rows)
            total = filtered.log_total()
        else:
            tilt = evidence()
            filtered = self.constraint.filter(prediction, tilt, rows)
            total = self._normalised(filtered, prediction, tilt, rows)
        self._ahead = Ahead(filtered, rows)
        return total.cpu()

    @staticmethod
    def _normalised(filtered: Filtered, prediction: Prediction, tilt: Tilt, rows: Tensor) -> Tensor:
        """log Z of a tilted law, each position's own sum taken out: float64 `[R]`."""
        whole = torch.zeros(len(prediction.tokens), dtype=torch.float64, device=rows.device)
        log_p = prediction.log_denoiser(tilt.where).double() + tilt.values.double()
        whole.index_add_(0, tilt.where[0], log_p.logsumexp(-1))
        total = filtered.log_total()
        return torch.where(torch.isneginf(total), total, total - whole[rows])  # −∞ − (−∞) is no number


__all__ = ["Weighed"]
