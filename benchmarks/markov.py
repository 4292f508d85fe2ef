"""Whole samplers against a known truth: a sparse Markov chain, its exact denoiser, no training.

    python benchmarks/markov.py                                  # every sampler of discdiff.samplers
    python benchmarks/markov.py --samplers ancestral bisection --steps 4 8 16

16 tokens, 32 positions, 1.59 nats a token. Prints one JSON line for each sampler and number of calls: −log p under the
chain, the total variation of token pairs from the chain's, the entropy of single tokens within a sample, network calls
and seconds. None of these says enough alone: keeping the tokens of highest sampled confidence gives a −log p *below*
the entropy, at pairs that are far off.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

import discdiff as dd
from discdiff.cli.options import sampler_kinds
from discdiff.networks.markov import MarkovChain, sparse_chain
from discdiff.samplers import Sampler

VOCAB, LENGTH = 16, 32
STEPS = [1, 2, 4, 8, 16, 32, 64]

# Other settings worth a line of their own; every sampler has one with its defaults.
VARIANTS: dict[str, Sampler] = {
    "any_order (cosine)": dd.samplers.AnyOrder("cosine"),
    "confidence (margin)": dd.samplers.Confidence("margin"),
    "confidence (entropy)": dd.samplers.Confidence("entropy"),
    "confidence (sampled)": dd.samplers.Confidence("sampled"),
    "entropy_bounded (3)": dd.samplers.EntropyBounded(3.0),
    "entropy_bounded (5)": dd.samplers.EntropyBounded(5.0),
    "entropy_bounded (8)": dd.samplers.EntropyBounded(8.0),
}


def samplers() -> dict[str, Sampler]:
    """Every sampler that needs no argument, and the variants."""
    made = {}
    for name, kind in sampler_kinds().items():
        try:
            made[name] = kind()
        except TypeError:  # it needs an argument: a variant is its place
            continue
    return dict(sorted((made | VARIANTS).items()))


def model_of(chain: MarkovChain) -> dd.Diffusion:
    """The absorbing model whose network knows the chain."""
    return dd.Diffusion(chain, dd.Absorbing(VOCAB), dd.LogLinear(), dd.Conditional())


def pairs_of(tokens: Tensor) -> Tensor:
    """How often each pair of neighbours occurs: `[V, V]`, sums to 1."""
    index = (tokens[:, :-1] * VOCAB + tokens[:, 1:]).flatten()
    return torch.bincount(index, minlength=VOCAB**2).reshape(VOCAB, VOCAB).double() / index.numel()


def measure(chain: MarkovChain, tokens: Tensor) -> dict[str, float]:
    """What can be said of samples `[N, 32]` knowing the chain; nats are per token."""
    nll = -chain.log_prob(tokens) / LENGTH
    counts = torch.nn.functional.one_hot(tokens, VOCAB).double().mean(1)
    return {
        "nll": float(nll.mean()),
        "nll_standard_error": float(nll.std() / len(nll) ** 0.5),
        "entropy": chain.entropy(LENGTH) / LENGTH,
        "bigram_total_variation": float((pairs_of(tokens) - chain.bigrams(LENGTH)).abs().sum() / 2),
        "unigram_entropy": float(torch.special.entr(counts).sum(-1).mean()),
    }


def results(made: dict[str, Sampler], steps: list[int], *, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """One row for each sampler and number of calls; one of the chain's own samples first."""
    chain = sparse_chain(VOCAB, VOCAB + 1)
    model = model_of(chain)
    own = chain.sample(count, LENGTH, generator=torch.Generator().manual_seed(seed))
    yield {"sampler": "the chain itself", "steps": None, "calls": 0.0, **measure(chain, own), "seconds": 0.0}
    for name, sampler in made.items():
        for number in steps if sampler.takes_steps else [None]:
            row: dict[str, Any] = {"sampler": name, "law": sampler.law, "steps": number}
            start = time.perf_counter()
            try:
                drawn = dd.sample(
                    model,
                    count,
                    length=LENGTH,
                    sampler=sampler,
                    steps=number,
                    generator=torch.Generator().manual_seed(seed),
                )
            except dd.IncompatibleError as error:
                yield row | {"refused": str(error)}
                continue
            seconds = time.perf_counter() - start
            assert drawn.calls is not None
            yield row | {
                "calls": float(drawn.calls.double().mean()),
                **measure(chain, drawn.tokens),
                "seconds": round(seconds, 3),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = samplers()
    parser.add_argument("--samplers", nargs="+", choices=list(known), default=list(known), metavar="NAME")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--count", type=int, default=4000, help="samples of each; default 4000")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chosen = {name: known[name] for name in arguments.samplers}
    for row in results(chosen, arguments.steps, count=arguments.count, seed=arguments.seed):
        print(json.dumps({key: round(v, 5) if isinstance(v, float) else v for key, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()
