"""`conditional_likelihood`: a span given the rest of its sequence."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from discdiff.errors import DiscdiffError
from discdiff.likelihood.nelbo import nelbo
from discdiff.likelihood.orders import Order, ordered_likelihood
from discdiff.likelihood.results import Bound, Likelihood
from discdiff.model import Model
from discdiff.randomness import Randomness
from discdiff.sequences import Sequences


def conditional_likelihood(
    model: Model,
    sequences: Sequences,
    span: Tensor,
    *,
    generator: Randomness | None = None,
    order: Order | None = None,
    samples: int = 8,
    tolerance: float | None = None,
    per_token: bool = False,
    batch_size: int = 128,
    on_batch: Callable[[int, int], None] | None = None,
) -> Bound | Likelihood:
    """−log p(x_S | x_rest) of a span S: what `discdiff.sample` would draw there with the rest given.

    Without an order, the bound: noise within S alone, the rest clean and frozen. With one, the exact likelihood of
    revealing S in that order (absorbing), |S| network calls; a span of one position has but one order, and its value
    is the masked marginal that variant effects are scored by (Meier et al. 2021).

    Args:
        model: in eval mode; off the absorbing process its network must know what is frozen (`exact_clamps`).
        sequences: clean sequences.
        span: bool `[B, L]`, True where tokens are scored; at least one in each row.
        generator: for the bound and for random orders; `Keys` need one row id a sequence.
        order: see `ordered_likelihood`; None computes the bound.
        samples: noise levels of the bound.
        tolerance: see `nelbo`.
        per_token: keep what each position adds; ordered likelihoods always do.
        batch_size: rows evaluated at once.
        on_batch: called with (rows done, rows in all).

    Raises:
        DiscdiffError: a row without a scored position, or randomness is needed and there is no generator.
        IncompatibleError: the model cannot be conditioned around a span, or an order off the absorbing process.
    """
    if order is not None:
        return ordered_likelihood(
            model, sequences, order=order, generator=generator, span=span, batch_size=batch_size, on_batch=on_batch
        )
    if generator is None:
        raise DiscdiffError("conditional_likelihood: got no generator, expected one for the bound")
    return nelbo(
        model,
        sequences,
        generator=generator,
        samples=samples,
        tolerance=tolerance,
        span=span,
        per_token=per_token,
        batch_size=batch_size,
        on_batch=on_batch,
    )
