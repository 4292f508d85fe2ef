"""Automata on a GPU say what they say on the CPU."""

from __future__ import annotations

import pytest
import torch

import discdiff as dd
from discdiff.constraints import Automaton
from discdiff.constraints.alive import alive_ways
from discdiff.constraints.trellis import TINY, Trellis
from tests.cases import automaton, build
from tests.constraints.test_alive import WIDTH, partly_decided, trellis, walk_always

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_filters_draw_alike(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Z, draws and marginals of both passes, by the same numbers."""
    walk_always(monkeypatch)
    tables = trellis(30, [WIDTH, 3, 5, WIDTH], seed=2)
    there = Trellis(tables.language, tables.lengths, "cuda")
    weights = partly_decided(4, share, tables.language.num_classes, seed=1)
    u = torch.rand(4, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    here = tables.all_ways(weights)
    for ways in (there.all_ways(weights.cuda()), alive_ways(there, weights.cuda(), TINY[weights.dtype])):
        assert ways is not None
        torch.testing.assert_close(ways.log_total.cpu(), here.log_total, rtol=1e-9, atol=1e-9)
        drawn, expected = there.sample(weights.cuda(), ways, u.cuda()), tables.sample(weights, here, u)
        assert torch.equal(drawn[2].cpu(), expected[2])
        assert torch.equal(drawn[0].cpu()[expected[2]], expected[0][expected[2]])
        found, sound = there.marginals(weights.cuda(), ways)
        kept = (torch.arange(WIDTH)[:, None, None] < tables.lengths) & sound.cpu()
        kept = kept.expand_as(weights)
        torch.testing.assert_close(found.cpu()[kept], tables.marginals(weights, here)[0][kept], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("process", ["absorbing", "uniform"])
@pytest.mark.parametrize("particles", [1, 4])
def test_samples_are_accepted(process: str, particles: int) -> None:
    model = build(process, "conditional" if process == "absorbing" else "denoiser").cuda()
    asked = Automaton(automaton(3, 3).language)
    generator = torch.Generator("cuda").manual_seed(0)
    for sampler in (dd.samplers.Ancestral(), dd.samplers.Euler(), dd.samplers.Trapezoidal()):
        drawn = dd.sample(
            model, 500, length=3, sampler=sampler, steps=6, constraint=asked, particles=particles, generator=generator
        )
        assert all(asked.language.accepts(row) for row in drawn.tokens.tolist())
