"""What every constraint keeps to, whatever it demands."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discdiff.constraints import Constraint
from discdiff.prediction import DenoiserPrediction, Positions, positions_of
from discdiff.processes import Absorbing, Process, Uniform
from tests.cases import CONSTRAINTS

V, L, ROWS = 4, 5, 60
PROCESSES: dict[str, Process] = {"absorbing": Absorbing(V), "uniform": Uniform(V)}
DRAW = torch.Generator().manual_seed(0)
U = torch.rand(ROWS, L, dtype=torch.float64, generator=DRAW)


def said(process: Process, constraint: Constraint, rows: torch.Tensor) -> DenoiserPrediction:
    """Each row with laws of its own, zeros and tiny probabilities among them; what is given stands."""
    p = np.random.default_rng(1).dirichlet(np.full(V, 0.3), size=(ROWS, L))
    p[:, :, 0] = np.where(np.arange(ROWS)[:, None] % 3 == 0, 1e-12, p[:, :, 0])
    log_p = torch.as_tensor(p / p.sum(-1, keepdims=True)).log()[rows]
    known, frozen = constraint.given(ROWS, L)
    tokens = torch.full((ROWS, L), process.num_states - 1)
    tokens, frozen = torch.where(frozen, known, tokens)[rows], frozen[rows]
    return DenoiserPrediction(
        process,
        tokens,
        torch.full((len(rows), 1), 0.5, dtype=torch.float64),
        frozen,
        log_p=lambda where: log_p if where is None else log_p[where],
        calls=lambda: torch.zeros(len(rows), dtype=torch.int64),
    )


def open_of(prediction: DenoiserPrediction) -> Positions:
    assert prediction.frozen is not None
    return positions_of(prediction.process.active(prediction.tokens) & ~prediction.frozen)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_conformance(name: str, process: str) -> None:
    case, kind = CONSTRAINTS[name], PROCESSES[process]
    constraint = case.make(V, L)
    constraint.check(vocab_size=V, length=L)
    assert (constraint.length == L) == case.fixes_length
    lengths = constraint.possible_lengths(L)
    assert lengths is None or L in lengths.tolist()
    bound = constraint.bound(torch.full((ROWS,), L))
    known, frozen = bound.given(ROWS, L)
    assert known.shape == frozen.shape == (ROWS, L)
    every = torch.arange(ROWS)
    prediction = said(kind, bound, every)
    where = open_of(prediction)

    drawn = bound.draw(prediction, where, U)
    assert drawn.shape == where[0].shape
    assert 0 <= int(drawn.min()) <= int(drawn.max()) < V
    x0 = prediction.tokens.index_put(where, drawn)
    assert torch.equal(x0[frozen], known[frozen])
    log_p = bound.log_marginals(prediction, where)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(len(drawn)).double(), rtol=0, atol=1e-9)
    assert not bool(log_p.gather(1, drawn[:, None]).isneginf().any())  # nothing is drawn that it says cannot be

    # asked again it says the same, and so does the constraint of some rows, in another order, one twice
    assert torch.equal(bound.draw(prediction, where, U), drawn)
    rows = torch.tensor([7, 3, 3, 50, 0])
    fewer = case.make(V, L).bound(torch.full((ROWS,), L)).index(rows)
    part = said(kind, bound, rows)
    at = open_of(part)
    assert torch.equal(part.tokens.index_put(at, fewer.draw(part, at, U[rows])), x0[rows])

    # a part of the positions is a part of the same draw
    some = tuple(each[::2] for each in where)
    again = case.make(V, L).bound(torch.full((ROWS,), L))
    assert torch.equal(again.draw(said(kind, again, every), (some[0], some[1]), U), drawn[::2])
