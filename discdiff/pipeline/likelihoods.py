"""Which likelihood a pipeline computes, and its rows as scores of strings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from discdiff.data.dataset import SequenceDataset
from discdiff.domain import Domain
from discdiff.errors import DataError, IncompatibleError
from discdiff.likelihood import Bound, Likelihood, any_order_likelihood, nelbo, ordered_likelihood
from discdiff.model import Model
from discdiff.pipeline.inputs import Rows
from discdiff.pipeline.results import SequenceScore
from discdiff.randomness import Keys
from discdiff.sequences import Sequences


@dataclass(frozen=True)
class How:
    """The likelihood that is asked for; see `Pipeline.score`."""

    order: Literal["left_to_right", "random"] | None
    orders: int | None
    span: tuple[int, int] | None
    per_token: bool
    samples: int
    tolerance: float | None
    batch_size: int

    def __post_init__(self) -> None:
        chosen = [name for name in ("order", "orders", "tolerance") if getattr(self, name) is not None]
        if len(chosen) > 1:
            raise IncompatibleError(
                "score",
                got=" and ".join(chosen),
                expected="one of order, orders and tolerance",
                remedy="An order is exact, orders mix random ones, a tolerance is the bound's.",
            )
        if self.orders is not None and self.per_token:
            raise IncompatibleError(
                "score per token",
                got="a mixture over orders",
                expected="a bound or an order: a mixture is no sum over tokens",
                remedy="Leave orders out.",
            )


def likelihood_of(
    model: Model, sequences: Sequences, keys: Keys, *, how: How, on_batch: Callable[[int, int], None]
) -> Bound | Likelihood:
    """The likelihood of rows."""
    span = None if how.span is None else marks(sequences, how.span)
    if how.order is not None:
        return ordered_likelihood(
            model, sequences, order=how.order, generator=keys, span=span, batch_size=how.batch_size, on_batch=on_batch
        )
    if how.orders is not None:
        return any_order_likelihood(
            model, sequences, orders=how.orders, generator=keys, span=span, batch_size=how.batch_size, on_batch=on_batch
        )
    return nelbo(
        model,
        sequences,
        generator=keys,
        samples=how.samples,
        tolerance=how.tolerance,
        span=span,
        per_token=how.per_token,
        batch_size=how.batch_size,
        on_batch=on_batch,
    )


def check_span(rows: Rows, strings: Sequence[str] | SequenceDataset, domain: Domain) -> None:
    """Refuse a span where what it counts from is a block that the user never made.

    Raises:
        IncompatibleError: the rows are blocks of a stream.
    """
    if domain.streams and (isinstance(strings, SequenceDataset) or len(rows.owners) > len(rows.texts)):
        raise IncompatibleError(
            "score of a span",
            got="a stream, which is cut into blocks of the model's length",
            expected="sequences of their own, in which the span has a place",
            remedy="Pass a list of strings, each no longer than a block.",
        )


def marks(sequences: Sequences, span: tuple[int, int]) -> Tensor:
    """bool `[B, L]`: tokens start .. end − 1 of each row.

    Raises:
        DataError: a row is too short for the span, or the span is empty.
    """
    start, end = span
    short = (sequences.lengths < end).nonzero()[:, 0].tolist()
    if not 0 <= start < end or short:
        raise DataError(
            f"the span {start + 1}:{end} does not lie within the sequence",
            record=short[0] + 1 if short else None,
            remedy="name first and last token, counted from 1",
        )
    at = torch.arange(sequences.tokens.shape[1], device=sequences.device)
    return ((at >= start) & (at < end)).expand(sequences.tokens.shape)


def scores_of(
    rows: Rows, found: Bound | Likelihood, domain: Domain, span: tuple[int, int] | None, unit: str | None = None
) -> list[SequenceScore]:
    """Rows added up to strings; a span counts its own units only."""
    count = len(rows.texts)
    nats = torch.zeros(count, dtype=torch.float64).index_add(0, rows.owners, found.total)
    variance = torch.zeros_like(nats).index_add(0, rows.owners, found.standard_errors.square())
    lengths = rows.sequences.lengths.tolist()
    each: list[list[float]] = [[] for _ in range(count)]
    cut = slice(None) if span is None else slice(*span)
    scored = rows.tokens(cut)
    if found.per_token is not None:
        for i, owner in enumerate(rows.owners.tolist()):
            each[owner] += found.per_token[i, : lengths[i]].tolist()[cut]
    units = domain.counter(unit)
    texts = rows.texts if span is None else [domain.decode(tokens) for tokens in scored]
    return [
        SequenceScore(
            rows.texts[i],
            float(nats[i]),
            float(variance[i].sqrt()),
            units(texts[i], scored[i]),
            len(scored[i]),
            tuple(each[i]) if found.per_token is not None else None,
            tuple(domain.symbols(scored[i])),
            unit or domain.unit,
            found.claim,
            found.method,
        )
        for i in range(count)
    ]
