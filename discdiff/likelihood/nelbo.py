"""Bounds on −log p(x0): `nelbo`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from discdiff.errors import DiscdiffError, DiscdiffWarning
from discdiff.likelihood.results import Bound
from discdiff.likelihood.scored import Scored, in_batches
from discdiff.likelihood.terms import Estimate, estimator, steps_of
from discdiff.model import Model
from discdiff.randomness import Randomness, index_rows
from discdiff.sequences import Sequences

OnBatch = Callable[[int, int], None]


@torch.no_grad()
def nelbo(
    model: Model,
    sequences: Sequences,
    *,
    generator: Randomness,
    samples: int = 8,
    tolerance: float | None = None,
    max_samples: int = 1024,
    span: Tensor | None = None,
    per_token: bool = False,
    batch_size: int = 128,
    on_batch: OnBatch | None = None,
) -> Bound:
    """The negative evidence lower bound of each sequence.

    On the absorbing process it is computed in the mask fraction λ over all of (0, 1], where prior and reconstruction
    terms vanish, by masking exactly k positions at a time. Else it is the integrated score entropy over the schedule's
    noise, σ(t_min) to σ(1), drawn such that neither noise nor small σ is rare (`noised`, `noise_levels`), plus
    KL(q(x_1|x0) ‖ π), plus the reconstruction term at t_min.

    With a tolerance, a pilot finds how many noise levels it takes, in rounds from `samples` on, and is thrown away:
    the bound is made of twice as many new draws, so that its number does not depend on its values. A bound that stopped
    where its own error happened to look small would be too low, since small errors go with small values; so would one
    whose rows got different numbers by the errors that they showed (after Stein 1945). The new draws may still miss the
    tolerance, which is then said.

    Args:
        model: in eval mode, with the weights that are to be judged.
        sequences: clean sequences; padding is not scored.
        generator: `Keys` need one row id a sequence.
        samples: noise levels per sequence (in the pilot's first round), at least 2; the standard error falls with the
            root of their number.
        tolerance: the standard error of `nats_per_token` to reach; None draws `samples` and stops.
        max_samples: noise levels per sequence that neither the pilot nor the bound exceeds, whatever the tolerance.
        span: bool `[B, L]`, tokens to score given all others; None scores all. See `conditional_likelihood`.
        per_token: keep what each position adds.
        batch_size: rows evaluated at once; rows are sorted by length first.
        on_batch: called with (rows done, rows in all), in each round anew.

    Warns:
        DiscdiffWarning: the tolerance was not met; `Bound.method` says so too.

    Raises:
        DiscdiffError: no sequences, an empty one, fewer than 2 samples, or a tolerance that is not positive.
        IncompatibleError: a span that the model cannot be conditioned around.
    """
    scored = Scored.of(model, sequences, span, "nelbo")
    if samples < 2:
        raise DiscdiffError(f"nelbo: got samples={samples}, expected at least 2 (the standard error needs them)")
    if tolerance is not None and not tolerance > 0:
        raise DiscdiffError(f"nelbo: got tolerance={tolerance}, expected a positive number of nats per token")
    if tolerance is not None and max_samples < samples:
        raise DiscdiffError(f"nelbo: got max_samples={max_samples}, expected at least samples={samples}")
    estimate, method = estimator(model)
    step = 0

    def draw(sums: _Sums, more: int) -> None:
        nonlocal step
        for rows, part, report in in_batches(scored, model, batch_size, on_batch):
            sums.add(rows, part, estimate, model, index_rows(generator, rows), more, step)
            report()
        sums.count += more
        step += steps_of(more)

    sums = _Sums(scored)
    if tolerance is None:
        draw(sums, samples)
        return sums.bound(method, per_token=per_token)
    pilot, more = _Sums(scored), samples
    while more:
        draw(pilot, more)
        more = _still_needed(pilot.bound(method), tolerance, max_samples)
    draw(sums, min(max_samples, math.ceil(2 * pilot.count)))
    bound = sums.bound(method)
    met = bound.standard_error <= tolerance
    how = f"a standard error of {tolerance:g} nats per token was {'met' if met else 'NOT met'}"
    words = f"{how} with {sums.count} noise levels per sequence"
    if not met:
        warnings.warn(
            f"nelbo: {words} (it is {bound.standard_error:.3g}); raise max_samples or the tolerance",
            DiscdiffWarning,
            stacklevel=3,
        )
    return sums.bound(f"{method}; {words}", per_token=per_token, met=met)


def _still_needed(bound: Bound, tolerance: float, max_samples: int) -> int:
    """Noise levels of the next round: what the error so far predicts, with a margin for its own error."""
    excess = bound.standard_error / tolerance
    left = max_samples - bound.samples
    if excess <= 1 or left < 2 or not math.isfinite(excess):
        return 0
    return min(left, max(2, math.ceil(bound.samples * (1.1 * excess**2 - 1))))


class _Sums:
    """Means and squared deviations of the replicates of each row, added up round by round."""

    def __init__(self, scored: Scored) -> None:
        rows, shape = len(scored.sequences), scored.where.shape
        self.tokens, self.count = scored.tokens.cpu(), 0
        self.terms, self.each = torch.zeros(3, rows, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
        self.mean, self.squares = (torch.zeros(rows, dtype=torch.float64) for _ in range(2))

    def add(
        self, rows: Tensor, part: Scored, estimate: Estimate, model: Model, generator: Randomness, more: int, step: int
    ) -> None:
        """Draw `more` replicates of some rows. Chan, Golub and LeVeque 1983: pairwise updating of squares."""
        rows = rows.cpu()
        diffusion, prior, last = (v.cpu() for v in estimate(model, part.to(model.device), generator, more, step))
        old, total = self.count, self.count + more
        new = torch.stack([diffusion.sum(-1).mean(0), prior.sum(-1), last.sum(-1).mean(0)])
        self.terms[:, rows] = (old * self.terms[:, rows] + more * new) / total if old else new
        each = (diffusion + last).mean(0) + prior
        width = each.shape[1]
        self.each[rows, :width] = (old * self.each[rows, :width] + more * each) / total if old else each
        values = (diffusion + last).sum(-1)
        mean = values.mean(0)
        gap = mean - self.mean[rows]
        self.squares[rows] += (values - mean).square().sum(0) + (gap.square() * old * more / total if old else 0.0)
        self.mean[rows] = self.mean[rows] + gap * (more / total)

    def bound(self, method: str, *, per_token: bool = False, met: bool | None = None) -> Bound:
        """What has been drawn so far."""
        error = (self.squares / (self.count - 1) / self.count).sqrt()
        error = torch.where(self.terms.sum(0).isinf(), torch.inf, error)
        each = self.each.clone() if per_token else None
        diffusion, prior, last = self.terms.clone().unbind()
        return Bound(diffusion, prior, last, error, self.tokens, method, each, self.count, met)
