"""Sampling block by block with keys and values of finished blocks kept, beside the same sampler that keeps nothing.

    python -m benchmarks.blocks                                   # up to 8,192 tokens, a quarter of an hour
    python -m benchmarks.blocks --lengths 512 2048 --turns 3      # a minute
    python -m benchmarks.blocks --device cuda --dtype bfloat16 --dim 768 --depth 12 --heads 12 --vocab 50257

A block-causal network with random weights samples one row of each length from left to right, `--steps` calls a block.
Whole runs are timed with the cache; without it too up to `--whole` tokens, and there both must draw the same tokens.
Single calls at the ends of growing prefixes are timed with and without it, in turns, and beside a network that sees
every position, which is shown the whole row at every call; their hidden states must be the same. What is longer than
`--whole` takes, without the cache, the sum of its calls: seconds a position are interpolated between those prefixes.
Prints one JSON line a length: everywhere median, least and greatest of `--turns`.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

import discdiff as dd
from benchmarks.arguments import check_heads, positive
from benchmarks.automata import spread
from benchmarks.real_data import hardware
from benchmarks.train import now
from discdiff.networks import Context
from discdiff.networks.cache import Cache
from discdiff.samplers import AnyOrder, Blockwise

FIRST = 256
"""The shortest prefix whose call is timed; the others are twice as long each."""


def model_of(arguments: argparse.Namespace, block_size: int | None) -> dd.Diffusion:
    """Random weights, the head's among them, so that tokens differ."""
    process = dd.Absorbing(arguments.vocab)
    sizes = {"dim": arguments.dim, "depth": arguments.depth, "heads": arguments.heads}
    network = dd.Transformer(process.num_states, **sizes, block_size=block_size)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.05)
    return model.to(arguments.device).eval()


def cast(arguments: argparse.Namespace) -> AbstractContextManager[Any]:
    if arguments.dtype == "float32":
        return nullcontext()
    return torch.autocast(arguments.device, dtype=getattr(torch, arguments.dtype))


class Watch:
    """Seconds that a model's network takes of what runs in the meantime."""

    def __init__(self, model: dd.Diffusion, device: str) -> None:
        self.network, self.device, self.spent = model.network, device, 0.0
        self.plain = model.network.hidden

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        started = now(self.device)
        out = self.plain(tokens, sigma, context)
        self.spent += now(self.device) - started
        return out

    def __enter__(self) -> Watch:
        self.network.hidden = self.hidden  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        del self.network.hidden


def run(
    model: dd.Diffusion, arguments: argparse.Namespace, length: int, *, cache: bool
) -> tuple[float, float, dd.Sequences]:
    """Seconds of one sample, those of its network, and the sample."""
    sampler, keys = Blockwise(AnyOrder(), cache=cache), dd.Keys(0, torch.arange(1))
    with Watch(model, arguments.device) as watch, cast(arguments):
        started = now(arguments.device)
        drawn = dd.sample(model, 1, length=length, sampler=sampler, steps=arguments.steps, generator=keys)
        return now(arguments.device) - started, watch.spent, drawn


@torch.inference_mode()
def call(model: dd.Diffusion, wide: dd.Diffusion, arguments: argparse.Namespace, stop: int) -> dict[str, Any]:
    """One call at the block that ends at `stop`: keeping all before it, nothing, and of a network that sees all."""
    tokens = torch.randint(arguments.vocab, (1, stop), generator=torch.Generator().manual_seed(2)).to(arguments.device)
    tokens[:, stop - arguments.block :] = arguments.vocab
    start = (stop - 1) // arguments.block * arguments.block
    kept = Cache(1, stop, arguments.block)
    contexts = {
        "kept": lambda: (model, Context(cache=kept.window(start, stop))),
        "nothing kept": lambda: (model, Context(cache=Cache(1, stop, arguments.block).window(start, stop))),
        "sees all": lambda: (wide, Context()),
    }

    def evaluate(name: str) -> Tensor:
        which, context = contexts[name]()
        with cast(arguments):
            return which.network.hidden(tokens, None, context)

    found = {name: evaluate(name) for name in contexts}  # fills what is kept, and warms up
    gap = (evaluate("kept") - found["nothing kept"]).abs().max() / found["nothing kept"].abs().max()
    times: dict[str, list[float]] = {name: [] for name in contexts}
    for _ in range(arguments.turns):
        for name, values in times.items():
            started = now(arguments.device)
            evaluate(name)
            values.append(now(arguments.device) - started)
    return {"stop": stop, "gap": float(gap), "times": times}


def summed(calls: list[dict[str, Any]], length: int, block: int, per_block: int) -> list[float]:
    """Seconds of a run without a cache, one for each turn: `per_block` calls at each block's end."""
    stops = np.array([each["stop"] for each in calls])
    ends = np.minimum(np.arange(1, -(-length // block) + 1) * block, length)
    turns = range(len(calls[0]["times"]["nothing kept"]))
    rates = [np.array([each["times"]["nothing kept"][turn] for each in calls]) / stops for turn in turns]
    return [float(per_block * (np.interp(ends, stops, rate) * ends).sum()) for rate in rates]


def results(arguments: argparse.Namespace) -> None:
    model, wide = model_of(arguments, arguments.block), model_of(arguments, None)
    calls: list[dict[str, Any]] = []
    stop = FIRST
    for length in sorted(arguments.lengths):
        while stop <= length:
            calls.append(call(model, wide, arguments, stop))
            stop *= 2
        short = length <= arguments.whole
        kept, without, own, same = [], [], [], True
        run(model, arguments, arguments.block, cache=True)
        for _ in range(arguments.turns):
            spent, network, drawn = run(model, arguments, length, cache=True)
            kept.append(spent)
            own.append(1 - network / spent)
            if short:
                spent, _, plain = run(model, arguments, length, cache=False)
                without.append(spent)
                same = same and torch.equal(drawn.tokens, plain.tokens)
        estimate = summed(calls, length, arguments.block, arguments.steps)
        whole_row = next((each["times"]["sees all"] for each in calls if each["stop"] == length), None)
        count = int(torch.as_tensor(drawn.calls)[0])
        row = {
            "command": " ".join(["python -m benchmarks.blocks", *sys.argv[1:]]),
            "length": length,
            "batch": 1,
            "block_size": arguments.block,
            "calls": count,
            "network": {name: getattr(arguments, name) for name in ("vocab", "dim", "depth", "heads")},
            "dtype": arguments.dtype,
            "seconds": spread(kept),
            "seconds_without": spread(without) if short else None,
            "seconds_without_from_calls": spread(estimate),
            "seconds_sees_all_from_calls": None if whole_row is None else spread([count * each for each in whole_row]),
            "ratio": spread([b / a for a, b in zip(kept, without if short else estimate, strict=True)]),
            "ratio_is": "of whole runs"
            if short
            else "of a whole run to the sum of calls, interpolated between prefixes",
            "same_tokens": same if short else None,
            "call": {
                str(each["stop"]): {name: spread(values) for name, values in each["times"].items()}
                | {"largest_difference": each["gap"]}
                for each in calls
                if each["stop"] <= length
            },
            "sampler_share": spread(own),
            "kept_bytes": 2 * arguments.depth * length * arguments.dim * (4 if arguments.dtype == "float32" else 2),
            "hardware": hardware(),
        }
        print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=positive, nargs="+", default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--whole", type=int, default=1024, help="longest run that is made without the cache too")
    parser.add_argument("--block", type=positive, default=64)
    parser.add_argument("--steps", type=positive, default=8, help="calls a block")
    parser.add_argument("--vocab", type=positive, default=64)
    parser.add_argument("--dim", type=positive, default=256)
    parser.add_argument("--depth", type=positive, default=6)
    parser.add_argument("--heads", type=positive, default=8)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=positive, default=5)
    parser.add_argument("--threads", type=positive, default=1)
    arguments = parser.parse_args()
    check_heads(parser, arguments.dim, arguments.heads)
    if min(arguments.lengths) < FIRST:
        parser.error(f"--lengths {min(arguments.lengths)}: expected {FIRST} or more, the shortest prefix that is timed")
    torch.set_num_threads(arguments.threads)
    results(arguments)


if __name__ == "__main__":
    main()
