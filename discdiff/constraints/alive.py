"""The states that each row can be in, given what is decided in it: sums over those alone.

Where most of a row's tokens are known, few of a language's states can be reached in it, and nearly all of what a pass
over the whole trellis multiplies is zero. Here a pass walks from the start along moves of positive weight, row by row,
and sums back over the moves that it has found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from discdiff.constraints.trellis import Trellis

SHARE = 200
"""A move found by walking costs about as much as so many of a pass over all moves and rows; a walk that would be the
dearer one is given up."""

MOSTLY = 0.65
"""The share of positions that must be decided: of fewer, walks are mostly given up, and what they cost is lost."""

SMALL = 1 << 18
"""Moves times rows of the largest position below which nothing is gained."""


class Layer(NamedTuple):
    """The moves between two positions that some row can make.

    Attributes:
        source: int64 `[E]`: the place of the pair (row, state) that a move begins at.
        target: int64 `[E]`: of the one that it leads to.
        classes: int64 `[E]`: its class of tokens.
        rows: int64 `[E]`: its row.
        weights: `[E]`.
    """

    source: Tensor
    target: Tensor
    classes: Tensor
    rows: Tensor
    weights: Tensor


class Pairs(NamedTuple):
    """The pairs of a row and a state that it can be in, ascending: int64 `[P]` each."""

    rows: Tensor
    states: Tensor


@dataclass(frozen=True)
class AliveWays:
    """β of the pairs that are alive, as `trellis.Ways` has it of all states.

    Attributes:
        trellis: the rows' trellis.
        pairs: for each position 0 .. L.
        layers: for each position 0 .. L − 1.
        beta: for each position 0 .. L `[P]`, the largest of a row 1.
        log_total: float64 `[B]`: log Z, the log weight of all accepted sequences.
        sound: bool `[B]`: whether the start's own weight kept its digits.
    """

    trellis: Trellis
    pairs: list[Pairs]
    layers: list[Layer]
    beta: list[Tensor]
    log_total: Tensor
    sound: Tensor
    log: bool = False

    def onward(self, position: int, states: Tensor, rows: Tensor) -> Tensor:
        """β of states of rows after so many tokens, 0 of those that are not alive; of any shape."""
        pairs, width = self.pairs[position], len(self.trellis.final[position]) + 1
        keys, asked = pairs.rows * width + pairs.states, rows * width + states
        if not len(keys):
            return self.log_total.new_zeros(asked.shape, dtype=self.beta[0].dtype)
        place = torch.searchsorted(keys, asked).clamp(max=len(keys) - 1)
        return torch.where(keys[place] == asked, self.beta[position][place], 0.0)

    def marginals(self, weights: Tensor, tiny: float) -> tuple[Tensor, Tensor]:
        """The probability of each class at each position given acceptance, `[L, C, B]`; which rows lost no digits."""
        classes, rows = weights.shape[1:]
        alpha = weights.new_ones(len(self.pairs[0].rows))
        found, sound = [], self.sound.clone()
        for i, layer in enumerate(self.layers):
            moved = alpha[layer.source] * layer.weights
            mass = moved * self.beta[i + 1][layer.target]
            through = weights.new_zeros(classes * rows).index_add_(0, layer.classes * rows + layer.rows, mass)
            through = through.view(classes, rows)
            whole = through.sum(0)
            sound &= (whole > tiny) | (i >= self.trellis.lengths)
            found.append(through / whole.clamp(min=torch.finfo(whole.dtype).tiny))
            after = self.pairs[i + 1]
            alpha = weights.new_zeros(len(after.rows)).index_add_(0, layer.target, moved)
            alpha = alpha / _largest(alpha, after.rows, rows)[after.rows]
        return torch.stack(found), sound


def alive_ways(trellis: Trellis, weights: Tensor, tiny: float) -> AliveWays | None:
    """β and Z of weights `[L, C, B]`, or None where a pass over the whole trellis is the cheaper one."""
    if max((moves.total for moves in trellis.moves[: trellis.longest]), default=0) * weights.shape[2] < SMALL:
        return None
    if not len(trellis.final[0]):
        return None
    walked = _walk(trellis, weights)
    return None if walked is None else _summed(trellis, weights, *walked, tiny)


def _walk(trellis: Trellis, weights: Tensor) -> tuple[list[Pairs], list[Layer]] | None:
    """The moves that rows can make from the start, or None where they are too many."""
    rows = weights.shape[2]
    most = rows * sum(moves.total for moves in trellis.moves[: trellis.longest])
    walked = 0
    positive = weights > 0
    decided, chosen = positive.sum(1) == 1, positive.int().argmax(1)
    used = torch.arange(len(weights), device=weights.device)[:, None] < trellis.lengths
    if float((decided & used).sum()) < MOSTLY * float(used.sum()):
        return None
    every = torch.arange(rows, device=weights.device)
    pairs, layers = [Pairs(every, torch.zeros_like(every))], []
    for i in range(trellis.longest):
        moves, size = trellis.moves[i], len(trellis.final[i + 1])
        here = pairs[-1]
        going = (i < trellis.lengths[here.rows]).nonzero()[:, 0]
        known = decided[i][here.rows[going]]
        sources, open_ = going[known], going[~known]
        classes = chosen[i][here.rows[sources]]
        targets = trellis.following[i][here.states[sources], classes].long()
        if len(open_):
            counts = moves.degrees[here.states[open_]]
            total = int(counts.sum())
            walked += total * SHARE
            if walked > most * (i + 1) / trellis.longest:  # so early that little is lost
                return None
            place = torch.arange(len(open_), device=counts.device).repeat_interleave(counts, output_size=total)
            step = torch.arange(total, device=counts.device) - (counts.cumsum(0) - counts)[place]
            pair = moves.pairs[moves.begins[here.states[open_]].long()[place] + step].long()
            sources = torch.cat([sources, open_[place]])
            classes = torch.cat([classes, moves.classes[pair]])
            targets = torch.cat([targets, moves.targets[pair]])
        of_row = here.rows[sources]
        weight = weights[i][classes, of_row]
        kept = ((targets < size) & (weight > 0)).nonzero()[:, 0]
        of_row = of_row[kept]
        keys, target = (of_row * size + targets[kept]).unique(return_inverse=True)
        layers.append(Layer(sources[kept], target, classes[kept], of_row, weight[kept]))
        row = keys.div(max(size, 1), rounding_mode="floor")
        pairs.append(Pairs(row, keys - row * size))
    return pairs, layers


def _summed(trellis: Trellis, weights: Tensor, pairs: list[Pairs], layers: list[Layer], tiny: float) -> AliveWays:
    rows = weights.shape[2]
    scale = torch.zeros(rows, dtype=torch.float64, device=weights.device)
    kept = torch.ones(rows, dtype=torch.bool, device=weights.device)
    beta: list[Tensor] = []
    for i in range(trellis.longest, -1, -1):
        there = pairs[i]
        here = weights.new_zeros(len(there.rows))
        if i < trellis.longest:
            layer = layers[i]
            here.index_add_(0, layer.source, layer.weights * beta[-1][layer.target])
        here = torch.where(trellis.final[i][there.states] & (trellis.lengths[there.rows] == i), 1.0, here)
        most = _largest(here, there.rows, rows, nothing=0.0)
        kept &= (most > tiny) | (i > trellis.lengths)
        most = torch.where(most > 0, most, 1.0)
        beta.append(here / most[there.rows])
        scale += most.double().log()
    beta.reverse()
    start = beta[0].double()
    return AliveWays(trellis, pairs, layers, beta, scale + start.log(), (start > tiny) & kept)


def _largest(values: Tensor, rows: Tensor, count: int, nothing: float = 1.0) -> Tensor:
    """The largest value of each row, `nothing` where it has none above 0: `[count]`."""
    most = values.new_zeros(count).scatter_reduce_(0, rows, values, "amax")
    return torch.where(most > 0, most, nothing)


__all__ = ["AliveWays", "alive_ways"]
