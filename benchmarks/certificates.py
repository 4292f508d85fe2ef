"""Whether a certificate says what a schedule loses: a run's profile against the direct measurement, and other curves.

    python benchmarks/certificates.py runs/qm9 --length 15 --draws 1024 --calls 2 3 5 8 12

One JSON line a number of calls: nats a sequence, with standard errors, of the best blocks by the profile, by
`block_divergence` (which assumes nothing of the model), by differences of entropies in place of divergences, and of
even blocks, directly. The first line says what measuring took.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from unittest.mock import patch

import torch
from torch import Tensor

import discdiff as dd
from discdiff.samplers import Profile, block_divergence, measure_profile, profiling
from discdiff.samplers.block_table import BlockTable


def fall_of_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    """H(q) − H(p) of rows: what a divergence is on average for an exact denoiser."""
    return torch.special.entr(log_q.exp()).sum(-1) - torch.special.entr(log_p.exp()).sum(-1)


def even(length: int, calls: int) -> list[int]:
    """Blocks that differ by one at most."""
    return [length * (k + 1) // calls - length * k // calls for k in range(calls)]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--draws", type=int, default=1024)
    parser.add_argument("--calls", type=int, nargs="+", default=[2, 3, 5, 8, 12])
    arguments = parser.parse_args()
    pipe, length, count = dd.Pipeline.load(arguments.run), arguments.length, arguments.draws

    def measured(seed: int) -> Profile:
        keys = dd.Keys(seed, torch.arange(count))
        return measure_profile(pipe.model, lengths=torch.full((count,), length), generator=keys)

    def direct(sizes: list[int], seed: int) -> dict[str, float | str]:
        keys = dd.Keys(seed, torch.arange(count))
        return block_divergence(pipe.model, sizes, count=count, generator=keys).to_json()

    profile = measured(0)
    with patch.object(profiling, "_divergence", fall_of_entropy):
        entropies = measured(0)
    begun = time.perf_counter()
    table = BlockTable(torch.linspace(3, 0, 1024, dtype=torch.float64) ** 1.5)
    table.sizes(1024)
    seconds = time.perf_counter() - begun
    print(json.dumps({"run": arguments.run, "length": length, "draws": count, "seconds_to_measure": profile.seconds,
                      "seconds_of_the_whole_table_of_1024": seconds, "threads": torch.get_num_threads()}))  # fmt: skip
    for calls in arguments.calls:
        sizes = list(profile.blocks(length, steps=calls).sizes)
        certificate, by_entropy = profile.certificate(sizes), entropies.certificate(sizes)
        found, of_even = direct(sizes, 1), direct(even(length, calls), 2)
        row = {"calls": calls, "sizes": sizes}
        for name, figures in {
            "certificate": certificate.to_json(), "direct": found, "entropies": by_entropy.to_json(), "even": of_even
        }.items():  # fmt: skip
            row |= {name: figures["nats"], f"{name}_standard_error": figures["standard_error"]}
        spread = math.hypot(certificate.standard_error, float(found["standard_error"]))
        row |= {"standard_errors_apart": (float(found["nats"]) - certificate.nats) / spread}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
