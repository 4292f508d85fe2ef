"""Losses straight from hidden states: the plain formula's values and gradients, whatever the weights, in any pieces."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.heads import library_cross_entropy
from discdiff.networks import linear_head
from discdiff.networks.linear_head import LinearHead, Targets, cross_entropy_, score_entropy_

N, DIM, OUTPUTS, ROWS = 37, 8, 11, 5


def plain_cross_entropy(logits: Tensor, targets: Targets) -> Tensor:
    return F.cross_entropy(logits, targets.tokens, reduction="none")


def plain_score_entropy(logits: Tensor, targets: Targets) -> Tensor:
    assert targets.offset is not None
    log_p = logits[:, : targets.columns] + targets.offset[:, None]
    return log_p.exp().sum(-1) - log_p.gather(-1, targets.tokens[:, None])[:, 0] - 1


PAIRS = {"cross_entropy": (cross_entropy_, plain_cross_entropy), "score_entropy": (score_entropy_, plain_score_entropy)}


class Problem:
    """Random hidden states, head and targets."""

    def __init__(self, count: int = N, dtype: torch.dtype = torch.float64) -> None:
        draw = torch.Generator().manual_seed(1)
        self.hidden = torch.randn(count, DIM, generator=draw, dtype=dtype).requires_grad_()
        self.head = LinearHead(
            torch.randn(OUTPUTS, DIM, generator=draw, dtype=dtype).requires_grad_(),
            torch.randn(OUTPUTS, generator=draw, dtype=dtype).requires_grad_(),
        )
        tokens = torch.randint(OUTPUTS - 1, (count,), generator=draw)
        self.targets = Targets(tokens, OUTPUTS - 1, torch.randn(count, generator=draw, dtype=dtype))
        self.weights = torch.rand(count, generator=draw, dtype=torch.float64)
        self.rows = torch.randint(ROWS - 1, (count,), generator=draw)  # the last row has no position

    def gradients(self, totals: Tensor, objective: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(objective(totals), (self.hidden, *self.head))

    def fast(self, name: str) -> Tensor:
        return linear_head.row_totals(
            self.hidden,
            self.head,
            PAIRS[name][0],
            self.targets,
            weights=self.weights,
            rows=self.rows,
            batch=ROWS,
        )

    def plain(self, name: str) -> Tensor:
        logits = F.linear(self.hidden, *self.head)
        values = self.weights.to(logits.dtype) * PAIRS[name][1](logits, self.targets)
        return torch.stack([values[self.rows == row].sum() for row in range(ROWS)])


OBJECTIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda rows: rows.sum(),
    "mean": lambda rows: rows.mean() / 7,
    "weighted": lambda rows: (rows * torch.arange(ROWS)).sum(),
    "squared": lambda rows: rows.square().sum(),
    "one row": lambda rows: rows[1],
}


@pytest.mark.parametrize("piece", [1, 5, 1000])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", PAIRS)
def test_equals_the_plain_formula(name: str, objective: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the objective does not weigh its rows alike, so that the gradient cannot be made beforehand."""
    monkeypatch.setitem(linear_head._FLOATS, "cpu", piece * OUTPUTS)
    problem = Problem()
    fast, plain = problem.fast(name), problem.plain(name)
    torch.testing.assert_close(fast, plain, rtol=1e-12, atol=1e-12)
    gradients = problem.gradients(fast, OBJECTIVES[objective])
    for ours, theirs in zip(gradients, problem.gradients(plain, OBJECTIVES[objective]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_twice_backward(name: str) -> None:
    """A graph that is kept gives the same gradient again."""
    problem = Problem()
    total = problem.fast(name).sum()
    first, second = (torch.autograd.grad(total, problem.hidden, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("name", PAIRS)
def test_no_position(name: str) -> None:
    """Zero, and zero gradients."""
    problem = Problem(0)
    totals = problem.fast(name)
    assert totals.tolist() == [0.0] * ROWS
    assert all((gradient == 0).all() for gradient in problem.gradients(totals, torch.sum))


@pytest.mark.parametrize("name", PAIRS)
def test_without_gradients(name: str) -> None:
    problem = Problem(dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(problem.fast(name), problem.plain(name))


@pytest.mark.parametrize("name", PAIRS)
def test_bf16_hidden_states(name: str) -> None:
    """The products stay in float32, under autocast too; gradients come back in the dtype of what they are of."""
    problem = Problem(dtype=torch.float32)
    half = problem.hidden.detach().bfloat16().requires_grad_()
    problem.hidden = half.detach().float().requires_grad_()
    plain = problem.plain(name)
    expected = problem.gradients(plain, torch.sum)
    problem.hidden = half
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast = problem.fast(name)
        gradients = problem.gradients(fast, torch.sum)
    assert gradients[0].dtype == torch.bfloat16
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(gradients[1], expected[1])


def test_the_library_agrees() -> None:
    """torch's own fused cross-entropy, where it has one: the same values and gradients."""
    problem = Problem(dtype=torch.float32)
    values = library_cross_entropy(problem.hidden, problem.head, problem.targets.tokens)
    if values is None:
        pytest.skip("this torch has no linear_cross_entropy")
    weighted = problem.weights.float() * values
    theirs = problem.gradients(weighted, torch.sum)
    ours = problem.gradients(problem.fast("cross_entropy"), torch.sum)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
