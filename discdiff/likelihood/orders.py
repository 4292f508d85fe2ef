"""−log p(x0) by revealing one token at a time: exact in one order, estimated as a mixture over random ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.likelihood.results import Likelihood
from discdiff.likelihood.scored import Scored, in_batches
from discdiff.losses.masked import noise_of_fraction
from discdiff.model import Model
from discdiff.processes.absorbing import Absorbing
from discdiff.randomness import Randomness, at_step, index_rows, uniform
from discdiff.sequences import Sequences

Order = Literal["left_to_right", "random"] | Tensor


@torch.no_grad()
def ordered_likelihood(
    model: Model,
    sequences: Sequences,
    *,
    order: Order = "left_to_right",
    generator: Randomness | None = None,
    span: Tensor | None = None,
    batch_size: int = 128,
    on_batch: Callable[[int, int], None] | None = None,
) -> Likelihood:
    """Σ_i −log p(x0_{o(i)} | x0_{o(<i)}): the exact likelihood of a model that reveals tokens in the order o.

    It is the law of `samplers.Ordered` in that order, and costs one network call a token. A time-conditioned network
    is shown the fraction of the row's tokens that is masked; an unnormalised score is normalised, as the sampler does.

    Uria, Murray and Larochelle 2014; Hoogeboom et al. 2022 (ARDM); Ou et al. 2024 (RADD).

    Args:
        model: in eval mode, on the absorbing process.
        sequences: clean sequences; padding is not scored.
        order: "left_to_right", "random" (a new order for each row), or int64 `[L]` or `[B, L]` permutations of
            0 .. L−1, L being the batch's width; what is not scored is passed over.
        generator: for random orders; `Keys` need one row id a sequence.
        span: bool `[B, L]`, tokens to score given all others; None scores all.
        batch_size: rows evaluated at once.
        on_batch: called with (rows done, rows in all).

    Raises:
        DiscdiffError: no sequences, an empty one, or a random order without a generator.
        IncompatibleError: another process, or an order that is no permutation.
    """
    _check(model, "ordered_likelihood")
    if not isinstance(order, Tensor) and order == "random" and generator is None:
        raise DiscdiffError('ordered_likelihood: got no generator, expected one for order="random"')
    scored = Scored.of(model, sequences, span, "ordered_likelihood")
    each, calls = torch.zeros(scored.where.shape, dtype=torch.float64), torch.zeros(len(sequences), dtype=torch.int64)
    given = _permutations(order, scored) if isinstance(order, Tensor) else None
    for rows, part, report in in_batches(scored, model, batch_size, on_batch):
        here = part.to(model.device)
        ranks = _ranks(here, order if given is None else given[rows], generator, rows)
        nats, evaluated = _reveal(model, here, ranks)
        each[rows.cpu(), : nats.shape[1]], calls[rows.cpu()] = nats.cpu(), evaluated.cpu()
        report()
    total = each.sum(-1)
    words = "a given order" if isinstance(order, Tensor) else {"random": "one random order a row"}.get(order, order)
    method = f"exact in {words.replace('_', ' ')}, one network call a token"
    return Likelihood(total, torch.zeros_like(total), scored.tokens.cpu(), method, calls, each, total[None])


@torch.no_grad()
def any_order_likelihood(
    model: Model,
    sequences: Sequences,
    *,
    generator: Randomness,
    orders: int = 8,
    span: Tensor | None = None,
    batch_size: int = 128,
    on_batch: Callable[[int, int], None] | None = None,
) -> Likelihood:
    """−log E_o p(x0 | o), o uniform over orders: the exact law of `samplers.Ordered("random")`, estimated.

    −log of the mean of p(x0 | o) over K random orders. By Jensen's inequality its expectation is never below the
    truth, falls with K, and is the mean over orders (the any-order bound, `nelbo`) at K = 1: an upper bound in
    expectation, as that of Burda, Grosse and Salakhutdinov 2016. The standard error is that of the delta method; it
    does not include this bias, about half the variance of the total.

    Args:
        orders: K, random orders for each row, at least 2; L network calls each.

    The other arguments and the errors are those of `ordered_likelihood`.
    """
    if orders < 2:
        raise DiscdiffError(f"any_order_likelihood: got orders={orders}, expected at least 2 (for a standard error)")
    _check(model, "any_order_likelihood")
    scored = Scored.of(model, sequences, span, "any_order_likelihood")
    nats, calls = (
        torch.zeros(orders, len(sequences), dtype=torch.float64),
        torch.zeros(len(sequences), dtype=torch.int64),
    )
    for rows, part, report in in_batches(scored, model, batch_size, on_batch):
        here = part.to(model.device)
        for k in range(orders):
            ranks = _ranks(here, "random", at_step(generator, k), rows)
            each, evaluated = _reveal(model, here, ranks)
            nats[k, rows.cpu()] = each.sum(-1).cpu()
            calls[rows.cpu()] += evaluated.cpu()
        report()
    total = math.log(orders) - (-nats).logsumexp(0)
    weights = (total - nats).exp()  # p(x | o_k) over their mean
    errors = torch.where(total.isfinite(), weights.std(0) / math.sqrt(orders), torch.inf)
    method = f"-log of the mean likelihood over {orders} random orders a row, an upper bound in expectation"
    return Likelihood(total, errors, scored.tokens.cpu(), method, calls, None, nats)


def _check(model: Model, asked: str) -> None:
    if not isinstance(model.process, Absorbing):
        raise IncompatibleError(
            asked,
            got=type(model.process).__name__,
            expected="the absorbing process: elsewhere a token says nothing for certain until the last step",
            remedy="Use nelbo, which serves every process.",
        )
    if model.block_size is not None:
        raise IncompatibleError(
            asked,
            got="a block-causal network, which is to see earlier blocks clean",
            expected="a network that sees every position",
            remedy="Use nelbo, which goes block by block; in blocks of one token it is exact.",
        )


def _permutations(order: Tensor, scored: Scored) -> Tensor:
    """Ranks `[B, L]` of given orders."""
    rows, length = scored.where.shape
    each = torch.atleast_2d(order).cpu()
    every = torch.arange(length)
    if (
        each.ndim != 2
        or len(each) not in (1, rows)
        or each.shape[1] != length
        or bool((each.sort(-1).values != every).any())
    ):
        raise IncompatibleError(
            "ordered_likelihood: order",
            got=f"a tensor of shape {list(order.shape)}",
            expected=f"permutations of 0..{length - 1}, one or {rows} of them",
            remedy="List every position of the batch once, padding included.",
        )
    return each.argsort(-1).expand(rows, length)


def _ranks(part: Scored, order: Order, generator: Randomness | None, rows: Tensor) -> Tensor:
    """When each scored position is revealed, 0 first: int64 `[B, L]`; the others come after all of them."""
    shape = tuple(part.where.shape)
    if isinstance(order, Tensor):
        keys = order[:, : shape[1]].to(part.where.device).double()
    elif order == "random":
        assert generator is not None, "callers checked"
        keys = uniform(
            shape,
            generator=index_rows(generator, rows),
            purpose="order",
            dtype=torch.float64,
            device=part.where.device,
        )
    elif order == "left_to_right":
        keys = torch.arange(shape[1], device=part.where.device).double().expand(shape)
    else:
        raise IncompatibleError(
            "ordered_likelihood: order",
            got=repr(order),
            expected='"left_to_right", "random" or a tensor of permutations',
            remedy="Give one of these.",
        )
    return keys.masked_fill(~part.where, torch.inf).argsort(dim=-1, stable=True).argsort(-1)


def _reveal(model: Model, part: Scored, ranks: Tensor) -> tuple[Tensor, Tensor]:
    """−log p of every scored token when its turn comes, `[B, L]`, and the network calls of each row."""
    tokens, lengths = part.sequences.tokens, part.sequences.lengths.double()
    mask = model.process.mask_id
    assert mask is not None, "callers checked for the absorbing process"
    nats = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
    calls = torch.zeros(len(tokens), dtype=torch.int64, device=tokens.device)
    for step in range(int(part.tokens.max())):
        hidden = part.where & (ranks >= step)
        where = (hidden & (ranks == step)).nonzero(as_tuple=True)
        fraction = (hidden.sum(-1) / lengths)[:, None]
        prediction = model.predict(
            torch.where(hidden, mask, tokens), noise_of_fraction(fraction, model), part.context()
        )
        nats = nats.index_put((where[0], where[1]), prediction.nll(tokens, (where[0], where[1])).double())
        calls = calls + prediction.calls
    return nats, calls
