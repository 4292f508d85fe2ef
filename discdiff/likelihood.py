"""Bounds on −log p(x0): `nelbo`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from discdiff.errors import DiscdiffError
from discdiff.losses.any_order import mask_exactly
from discdiff.losses.base import context_of, sum_rows
from discdiff.losses.score_entropy import score_entropy_at
from discdiff.model import Model
from discdiff.prediction import positions_of
from discdiff.processes.absorbing import Absorbing
from discdiff.randomness import Randomness, at_step, index_rows, uniform
from discdiff.sequences import Sequences


@dataclass(frozen=True)
class Bound:
    """An upper bound on −log p(x0), estimated; all in nats, float64.

    Attributes:
        diffusion: `[B]`, the integral over noise levels.
        prior: `[B]`, KL(q(x_1 | x0) ‖ π).
        reconstruction: `[B]`, E −log p(x0 | x at t_min).
        standard_errors: `[B]`, Monte Carlo standard error of each row's total. Noise levels are stratified, which
            usually puts it on the safe side; few samples of a heavy-tailed term can understate it. Infinite where the
            total is.
        tokens: int64 `[B]`, tokens that the model was shown, learned end tokens included.
        method: how the bound was computed, in one sentence.
    """

    diffusion: Tensor
    prior: Tensor
    reconstruction: Tensor
    standard_errors: Tensor
    tokens: Tensor
    method: str

    @property
    def total(self) -> Tensor:
        """`[B]` nats per sequence."""
        return self.diffusion + self.prior + self.reconstruction

    @property
    def nats_per_token(self) -> float:
        """Sum of nats over sum of tokens."""
        return float(self.total.sum() / self.tokens.sum())

    @property
    def bits_per_token(self) -> float:
        """`nats_per_token` / ln 2."""
        return self.nats_per_token / math.log(2)

    @property
    def standard_error(self) -> float:
        """Monte Carlo standard error of `nats_per_token`, these sequences given."""
        return float(self.standard_errors.square().sum().sqrt() / self.tokens.sum())

    def __repr__(self) -> str:
        return (
            f"Bound({self.nats_per_token:.4f} ± {self.standard_error:.4f} nats/token, "
            f"{self.bits_per_token:.4f} bits/token, {len(self.tokens)} sequences; {self.method})"
        )


@torch.no_grad()
def nelbo(
    model: Model,
    sequences: Sequences,
    *,
    generator: Randomness,
    samples: int = 8,
    batch_size: int = 128,
    on_batch: Callable[[int, int], None] | None = None,
) -> Bound:
    """The negative evidence lower bound of each sequence.

    On the absorbing process it is computed in the mask fraction λ over all of (0, 1], where prior and reconstruction
    terms vanish, by masking exactly k positions at a time. Else it is the integrated score entropy over t in
    [t_min, 1], plus KL(q(x_1|x0) ‖ π), plus the reconstruction term at t_min.

    Args:
        model: in eval mode, with the weights that are to be judged.
        sequences: clean sequences; padding is not scored.
        generator: `Keys` need one row id a sequence.
        samples: noise levels per sequence, at least 2; the standard error falls with the root of their number.
        batch_size: rows evaluated at once; rows are sorted by length first.
        on_batch: called with (rows done, rows in all).

    Raises:
        DiscdiffError: no sequences, an empty one, or fewer than 2 samples.
    """
    if len(sequences) == 0 or int(sequences.lengths.min()) < 1:
        raise DiscdiffError("nelbo: got an empty set or an empty sequence, expected at least one token in each row")
    if samples < 2:
        raise DiscdiffError(f"nelbo: got samples={samples}, expected at least 2 (the standard error needs them)")
    estimate, method = _estimator(model)
    order = sequences.lengths.argsort(stable=True)
    terms = torch.zeros(3, len(sequences), dtype=torch.float64)
    errors = torch.zeros(len(sequences), dtype=torch.float64)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        part = sequences[rows]
        width = int(part.lengths.max())
        part = Sequences(part.tokens[:, :width], part.lengths, labels=part.labels).to(model.device)
        diffusion, prior, reconstruction = estimate(model, part, index_rows(generator, rows), samples)
        terms[:, rows] = torch.stack([diffusion.mean(0), prior, reconstruction.mean(0)]).cpu()
        error = (diffusion + reconstruction).std(0) / math.sqrt(samples)
        errors[rows] = torch.where(terms[:, rows].sum(0).isinf().to(error.device), torch.inf, error).cpu()
        if on_batch is not None:
            on_batch(min(start + batch_size, len(order)), len(order))
    return Bound(terms[0], terms[1], terms[2], errors, sequences.lengths.cpu(), method)


Terms = tuple[Tensor, Tensor, Tensor]
Estimate = Callable[[Model, Sequences, Randomness, int], Terms]


def _estimator(model: Model) -> tuple[Estimate, str]:
    """The best form of the bound for a model; each gives diffusion `[M, B]`, prior `[B]`, reconstruction `[M, B]`."""
    if not isinstance(model.process, Absorbing):
        return _by_score_entropy, "score entropy over [t_min, 1], with prior and reconstruction terms"
    shown = ", the network shown noise clipped to the schedule's ends" if model.time_conditioned else ""
    return _by_masking, f"mask fractions over all of (0, 1], by exact mask counts{shown}"


def _replicates(model: Model, part: Sequences, generator: Randomness, samples: int) -> list[tuple[Tensor, Randomness]]:
    """`samples` time points per row, one in each stratum of [0, 1), and the randomness of each replicate."""
    # A shift of its own for each row: rows that shared a lattice of times would err together, and no standard error
    # made of theirs would tell.
    first = at_step(generator, 0)
    shift = uniform((len(part),), generator=first, purpose="time", dtype=torch.float64, device=part.device)
    return [((shift + j / samples) % 1.0, at_step(generator, j + 1)) for j in range(samples)]


def _nothing(part: Sequences, *shape: int) -> Tensor:
    return torch.zeros(*shape, len(part), dtype=torch.float64, device=part.device)


def _by_masking(model: Model, part: Sequences, generator: Randomness, samples: int) -> Terms:
    values = []
    for points, draw in _replicates(model, part, generator, samples):
        k, xt, sigma = mask_exactly(model, part, points, generator=draw)
        prediction = model.predict(xt, sigma, context_of(part))
        where = positions_of(model.process.active(xt) & ~part.padding)
        loss = sum_rows(prediction.reveal_loss(part.tokens, where), where[0], len(part))
        values.append(loss.double() * part.lengths / k)
    return torch.stack(values), _nothing(part), _nothing(part, samples)


def _by_score_entropy(model: Model, part: Sequences, generator: Randomness, samples: int) -> Terms:
    schedule, real = model.schedule, ~part.padding
    diffusion, reconstruction = [], []
    for j, (points, draw) in enumerate(_replicates(model, part, generator, samples)):
        t = schedule.t_min + (1 - schedule.t_min) * points[:, None]
        diffusion.append((1 - schedule.t_min) * score_entropy_at(model, part, t, generator=draw).double())
        # steps that no replicate above uses, one for each
        reconstruction.append(_reconstruction(model, part, at_step(draw, samples + 1 + j)))
    one = torch.ones(len(part), 1, dtype=torch.float64, device=part.device)
    prior = (model.process.prior_kl(part.tokens, schedule.total_noise(one)) * real).sum(-1)
    return torch.stack(diffusion), prior, torch.stack(reconstruction)


def _reconstruction(model: Model, part: Sequences, generator: Randomness) -> Tensor:
    """−log p(x0 | x at t_min) for one draw, `[B]` nats: the last step of a sampler, at the smallest noise."""
    t = torch.full((len(part), 1), model.schedule.t_min, dtype=torch.float64, device=part.device)
    sigma = model.schedule.total_noise(t).to(model.dtype)
    xt = model.process.corrupt(part.tokens, sigma, generator=generator)
    where = positions_of(~part.padding)
    p = model.predict(xt, sigma, context_of(part)).posterior(torch.zeros_like(sigma), where)
    values = -p.double().gather(-1, part.tokens[where][:, None])[:, 0].log()
    return sum_rows(values, where[0], len(part))
