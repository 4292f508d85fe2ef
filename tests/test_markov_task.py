"""The benchmark of whole samplers on a sparse Markov chain: it runs, and finds what theory says.

Real draws, 1,000 sequences of 32 tokens each. A standard error of −log p is 0.005 nats a token (0.3% of the entropy).
"""

from __future__ import annotations

import json
import sys
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch

from benchmarks import markov
from discdiff.cli.options import sampler_kinds
from discdiff.networks.markov import sparse_chain
from discdiff.samplers import AnyOrder, block_cost, information_curve, optimal_blocks
from discdiff.sequences import Sequences
from tests.forced import forced

COUNT = 1_000
NOISE = 0.022
"""Total variation of pairs between 1,000 of the chain's own samples and the chain."""


@cache
def measured(name: str, steps: int | None = None) -> dict[str, Any]:
    """The benchmark's row of a sampler."""
    made = markov.samplers()[name]
    *_, row = markov.results({name: made}, [steps or 1], count=COUNT, seed=3)
    assert row["sampler"] == name
    return row


def excess(row: dict[str, Any]) -> float:
    """−log p above the entropy, in standard errors."""
    return float((row["nll"] - row["entropy"]) / row["nll_standard_error"])


def test_the_task() -> None:
    """1.59 nats a token; the chain's own samples say how much noise there is in both figures."""
    row = next(markov.results({}, [], count=COUNT, seed=3))
    assert row["entropy"] == pytest.approx(1.59, abs=0.005)
    assert abs(excess(row)) < 4
    assert row["nll_standard_error"] < 0.005
    assert row["bigram_total_variation"] == pytest.approx(NOISE, abs=0.004)


@pytest.mark.parametrize(
    ("name", "steps", "calls"),
    [
        ("first_hitting", None, 32),
        ("ordered", None, 32),
        ("any_order", 32, 32),
        ("confidence", 32, 32),
        ("confidence (margin)", 32, 32),
        ("bisection", None, 6),
    ],
)
def test_exact_samplers(name: str, steps: int | None, calls: int) -> None:
    """−log p is the entropy to 4 standard errors (1.2%), and pairs are as near as the chain's own samples."""
    row = measured(name, steps)
    assert row["calls"] == calls
    assert abs(excess(row)) < 4
    assert row["bigram_total_variation"] < 1.3 * NOISE


def test_sampled_confidence_games_one_figure() -> None:
    """−log p far below the entropy looks like quality; the pairs, and the entropy within a sample, tell."""
    row = measured("confidence (sampled)", 32)
    assert excess(row) < -20
    assert row["bigram_total_variation"] > 5 * NOISE
    assert row["unigram_entropy"] < measured("ordered")["unigram_entropy"] - 0.02


def test_parallel_steps_converge() -> None:
    """More calls, fewer errors: ancestral steps and blocks; the same number of calls is better spent in blocks."""
    for name in ("ancestral", "any_order"):
        rows = [measured(name, steps) for steps in (2, 8, 32)]
        for one, two in pairwise(rows):
            assert two["nll"] < one["nll"] - 4 * one["nll_standard_error"]
            assert two["bigram_total_variation"] < one["bigram_total_variation"]
    assert measured("any_order", 8)["nll"] < measured("ancestral", 8)["nll"] - 4 * 0.01
    assert measured("ancestral", 8)["calls"] <= 8


def test_blocks_cost_what_the_information_curve_says() -> None:
    """KL(chain ‖ sampler), by forcing 2,000 of the chain's sequences, is the schedule's cost: 4 standard errors (6%).

    Here the curve is nearly a line, and even blocks are nearly the best.
    """
    chain = sparse_chain(markov.VOCAB, markov.VOCAB + 1)
    model, data = markov.model_of(chain), chain.sample(2_000, markov.LENGTH, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(0)
    curve = information_curve(model, Sequences.full(data[:1_000]), generator=generator)
    for sizes in (optimal_blocks(curve, 4), [1, 3, 8, 20], [20, 8, 3, 1], [5] * 6 + [2]):
        loss = chain.log_prob(data).numpy() - forced(model, AnyOrder(sizes), data).log_p
        error = loss.std() / len(loss) ** 0.5
        assert error < 0.015 * loss.mean()
        assert loss.mean() == pytest.approx(block_cost(curve, sizes), abs=4 * error)
    even = block_cost(curve, [8] * 4)
    assert 0.98 * even < block_cost(curve, optimal_blocks(curve, 4)) <= even


def test_every_sampler_has_a_line() -> None:
    """None is left out, and none is refused by the model of the task."""
    known = markov.samplers()
    assert set(known) >= set(sampler_kinds())
    rows = list(markov.results(known, [2], count=4, seed=0))[1:]
    assert [row["sampler"] for row in rows] == list(known)
    assert not [row for row in rows if "refused" in row]


def test_as_a_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["markov.py", "--samplers", "bisection", "any_order", "--steps", "2", "4", "--count", "20"]
    monkeypatch.setattr(sys, "argv", words)
    markov.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["sampler"], row["steps"]) for row in rows] == [
        ("the chain itself", None),
        ("bisection", None),
        ("any_order", 2),
        ("any_order", 4),
    ]
    assert [row["calls"] for row in rows] == [0, 6, 2, 4]
