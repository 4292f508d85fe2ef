"""The cross-entropy of a large vocabulary, four ways: plain, torch's fused one, checkpointed pieces, and ours.

    python -m benchmarks.heads                         # 1,024 positions, 256 wide, 50,257 tokens, float32
    python -m benchmarks.heads --positions 4096 --vocab 32000

Forward and backward of a weighted sum over positions, the four taking turns. Prints one JSON line each: seconds, and
how far gradients are from the plain ones, as a part of their largest entry.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from benchmarks.automata import spread
from benchmarks.real_data import hardware
from discdiff.networks.linear_head import LinearHead, Targets, cross_entropy_, row_totals

PIECE = 128
_FUSED: tuple[tuple[Any, str], ...] = ((F, "linear_cross_entropy"), (torch.nn, "LinearCrossEntropyOptions"))


def library_cross_entropy(hidden: Tensor, head: LinearHead, targets: Tensor) -> Tensor | None:
    """torch's own chunked cross-entropy of a linear map, `[N]`; None where torch has none."""
    fused, options = (getattr(place, name, None) for place, name in _FUSED)
    if fused is None or options is None:
        return None
    values: Tensor = fused(hidden, head.weight, targets, linear_bias=head.bias, reduction="none", options=options())
    return values


def ways(hidden: Tensor, head: LinearHead, tokens: Tensor, weights: Tensor) -> dict[str, Callable[[], Tensor | None]]:
    """Σ weights · cross-entropy, by name; None where torch lacks it."""
    rows, targets = torch.zeros_like(tokens), Targets(tokens, len(head.weight))

    def plain(some: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(some, *head), wanted, reduction="none")

    def pieces() -> Tensor:
        parts = zip(hidden.split(PIECE), tokens.split(PIECE), strict=True)
        return (torch.cat([checkpoint(plain, *part, use_reentrant=False) for part in parts]) * weights).sum()

    def library() -> Tensor | None:
        values = library_cross_entropy(hidden, head, tokens)
        return None if values is None else (values * weights).sum()

    def ours() -> Tensor:
        return row_totals(hidden, head, cross_entropy_, targets, weights=weights, rows=rows, batch=1).sum()

    return {
        "plain": lambda: (plain(hidden, tokens) * weights).sum(),
        "linear_cross_entropy": library,
        "checkpointed": pieces,
        "discdiff": ours,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=1024)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--vocab", type=int, default=50_257)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(arguments.positions, arguments.dim, generator=draw).requires_grad_()
    weight = (arguments.dim**-0.5 * torch.randn(arguments.vocab, arguments.dim, generator=draw)).requires_grad_()
    head = LinearHead(weight, torch.zeros(arguments.vocab, requires_grad=True))
    tokens = torch.randint(arguments.vocab, (arguments.positions,), generator=draw)
    weights = torch.rand(arguments.positions, generator=draw)
    inputs = (hidden, *head)

    def step(way: Callable[[], Tensor | None]) -> tuple[Tensor, ...] | None:
        total = way()
        return None if total is None else torch.autograd.grad(total, inputs)

    found = {name: way for name, way in ways(hidden, head, tokens, weights).items() if step(way) is not None}
    exact = step(found["plain"])
    assert exact is not None
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(arguments.turns):
        for name, way in found.items():
            start = time.perf_counter()
            step(way)
            seconds[name].append(time.perf_counter() - start)
    for name, way in found.items():
        made = step(way)
        assert made is not None
        apart = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(made, exact, strict=True))
        del made
        record = {
            "command": " ".join(["python -m benchmarks.heads", *sys.argv[1:]]),
            "way": name,
            "positions": arguments.positions,
            "dim": arguments.dim,
            "vocab": arguments.vocab,
            "dtype": "float32",
            "seconds": spread(seconds[name]),
            "slower_than_discdiff": spread([a / b for a, b in zip(seconds[name], seconds["discdiff"], strict=True)]),
            "gradients_apart": apart,
            "hardware": hardware(),
        }
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
