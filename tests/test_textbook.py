"""What speed is compared with computes the same thing: the textbook step's loss is ours, and so are its gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import discdiff as dd
from benchmarks.shapes import SHAPES
from benchmarks.textbook import Textbook, TextbookStep
from benchmarks.train import generator, keys, timed_model
from discdiff.losses.times import UniformTimes, noised

SHAPE = replace(SHAPES["S2"], dim=32, depth=2, heads=2, length=24, batch=6)


@pytest.fixture
def model() -> dd.Diffusion:
    return timed_model(SHAPE, "cpu", SHAPE.vocab - 1)


def test_the_losses_are_equal(model: dd.Diffusion) -> None:
    """On the same noised tokens; the head's gradient too, which sums over all positions and states."""
    network = Textbook(SHAPE.vocab, SHAPE.dim, SHAPE.depth, SHAPE.heads, dropout=0.0)
    assert isinstance(model.network, dd.Transformer)
    network.copy(model.network)
    step = TextbookStep(network, learning_rate=1e-3, decay=0.99)
    tokens = torch.randint(SHAPE.vocab - 1, (SHAPE.batch, SHAPE.length), generator=generator(0))
    rows, noise = dd.Sequences.full(tokens), keys(0, SHAPE.batch)
    draw = noised(model, rows, UniformTimes(), generator=noise)
    theirs = step.loss(rows.tokens, draw.tokens, draw.sigma[:, 0], draw.dsigma.float(), ~rows.padding)
    ours = dd.losses.ScoreEntropy()(model, rows, generator=noise).sum() / tokens.numel()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)  # the GELUs differ: exact here, tanh there
    (expected,) = torch.autograd.grad(theirs, network.output.weight)
    (gradient,) = torch.autograd.grad(ours, model.network.output.weight)
    # The mask's own column is the score of staying: it has no part in the loss.
    torch.testing.assert_close(gradient, expected, rtol=1e-2, atol=2e-3 * float(expected.abs().max()))


def test_the_textbook_learns(model: dd.Diffusion) -> None:
    network = Textbook(SHAPE.vocab, SHAPE.dim, SHAPE.depth, SHAPE.heads)
    step = TextbookStep(network, learning_rate=1e-3, decay=0.99)
    rows = dd.Sequences.full(torch.full((SHAPE.batch, SHAPE.length), 3))
    draw = noised(model, rows, UniformTimes(), generator=keys(0, SHAPE.batch))
    arguments = rows.tokens, draw.tokens, draw.sigma[:, 0], draw.dsigma.float(), ~rows.padding
    first = step(*arguments)
    for _ in range(8):
        last = step(*arguments)
    assert last < 0.9 * first
