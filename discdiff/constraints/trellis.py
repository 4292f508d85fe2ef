"""Languages over the positions of rows: forward filtering and backward sampling, exactly.

Weights are of classes of tokens, `[L, C, B]`: positions, classes, rows. A row's tokens are drawn from
∏_i w_i(c_i) · 1[accepted] by its own β_i(s), the weight of all ways on from state s after i tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from discdiff.constraints.alive import AliveWays, alive_ways
from discdiff.constraints.moves import Moves
from discdiff.languages.unrolled import Unrolled

TINY = {torch.float32: 1e-20, torch.float64: 1e-200}
"""What the ways on from a row's state may weigh, relative to the largest at that position, in plain floats."""


@dataclass(frozen=True)
class Ways:
    """β of all positions.

    Attributes:
        beta: for each position 0 .. L `[states alive + 1, B]`, the largest of a row 1; the last state is the dead one.
        log_total: float64 `[B]`: log Z, the log weight of all accepted sequences.
        log: whether β are logarithms.
        sound: bool `[B]`: whether the start's own weight kept its digits.
    """

    beta: list[Tensor]
    log_total: Tensor
    log: bool
    sound: Tensor

    def onward(self, position: int, states: Tensor, rows: Tensor) -> Tensor:
        """β of states of rows after so many tokens; of any shape."""
        return self.beta[position][states, rows]


class Trellis:
    """Which states a row can be in after each token, and where they lead.

    Args:
        language: what rows must be, unrolled over positions; up to the longest row, and for all lengths of rows.
        lengths: int64 `[B]`, tokens in each row.
        device: where draws are made.
    """

    def __init__(self, language: Unrolled, lengths: Tensor, device: torch.device | str = "cpu") -> None:
        self.language, self.lengths = language, lengths.to(device)
        self.longest = int(lengths.max())
        # Positions that are alike share a table, here as there.
        known: dict[int, tuple[Tensor, Moves]] = {}
        for table, after in zip(language.tables, language.final[1:], strict=True):
            if id(table) not in known:
                following = torch.as_tensor(table, device=device)
                known[id(table)] = following, Moves.of(following, len(after))
        self.following = [known[id(table)][0] for table in language.tables]
        self.moves = [known[id(table)][1] for table in language.tables]
        self.final = [torch.as_tensor(final, device=device) for final in language.final]
        self.ends = torch.arange(self.longest + 1, device=device)[:, None] == self.lengths

    def over(self, lengths: Tensor) -> Trellis:
        """The same tables for other rows, none longer than what the language was unrolled over."""
        lengths = lengths.to(self.lengths.device)
        longest = int(lengths.max())
        ends = torch.arange(longest + 1, device=lengths.device)[:, None] == lengths
        part = Trellis.__new__(Trellis)
        part.__dict__.update(self.__dict__, lengths=lengths, longest=longest, ends=ends)
        return part

    def index(self, rows: Tensor) -> Trellis:
        """The trellis of some rows."""
        part = Trellis.__new__(Trellis)
        part.__dict__.update(self.__dict__, lengths=self.lengths[rows], ends=self.ends[:, rows])
        return part

    def possible(self, available: Tensor) -> Tensor:
        """Which classes each position can have in an accepted row, given those that are available: bool `[L, C, B]`."""
        weights, rows = available.float(), available.shape[2]
        beta = [weights.new_zeros(1, rows)]
        for i in range(self.longest, -1, -1):
            here = self.final[i][:, None] & self.ends[i]
            if i < self.longest:
                here = here | (self.moves[i].onward(beta[-1], weights[i]) > 0)
            beta.append(torch.cat([here.float(), beta[0]]))
        beta = beta[:0:-1]
        alpha = torch.zeros_like(beta[0])
        alpha[0] = beta[0][0]
        found = []
        for i in range(self.longest):
            through, arrived = self.moves[i].through(alpha, beta[i + 1], weights[i])
            found.append(through > 0)
            alpha = (arrived > 0).float()
        return torch.stack(found)

    def ways(self, weights: Tensor, *, log: bool = False) -> Ways | AliveWays:
        """β and Z of weights `[L, C, B]` (their logarithms, if `log`)."""
        alive = None if log else alive_ways(self, weights, TINY[weights.dtype])
        return self.all_ways(weights, log=log) if alive is None else alive

    def all_ways(self, weights: Tensor, *, log: bool = False) -> Ways:
        """The same by a pass over all states, whatever rows can reach."""
        rows, one = weights.shape[2], 0.0 if log else 1.0
        zero = -torch.inf if log else 0.0
        nothing = weights.new_full((1, rows), zero)
        scale = torch.zeros(rows, dtype=torch.float64, device=weights.device)
        kept = torch.ones(rows, dtype=torch.bool, device=weights.device)
        beta: list[Tensor] = []
        for i in range(self.longest, -1, -1):
            here = weights.new_full((len(self.final[i]), rows), zero)
            if i < self.longest:
                if log:
                    here = _onward(beta[-1], self.following[i], weights[i])
                else:
                    here = self.moves[i].onward(beta[-1], weights[i])
            ending = self.final[i][:, None] & self.ends[i]
            here = torch.where(ending, one, here)
            if len(here):
                most = here.amax(0)
                usable = torch.isfinite(most) if log else most > 0
                if not log:  # all ways on may weigh next to nothing: their ratios are then lost
                    kept &= (most > TINY[weights.dtype]) | (i > self.lengths)
                most = torch.where(usable, most, one)
                here = here - most if log else here / most
                scale += most.double() if log else most.double().log()
            beta.append(torch.cat([here, nothing]))
        beta.reverse()
        start = beta[0][0].double()  # the dead state, if none is alive
        sound = torch.isfinite(start) if log else (start > TINY[weights.dtype]) & kept
        return Ways(beta, scale + (start if log else start.log()), log, sound)

    def sample(
        self, weights: Tensor, ways: Ways | AliveWays, u: Tensor, rows: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the classes of rows' tokens.

        Args:
            weights: what `ways` was made of.
            ways: their β.
            u: float64 `[N, L]` uniform numbers, one a position.
            rows: int64 `[N]`, the row of each draw, repeated or not; by default one draw of each.

        Returns:
            Classes int64 `[N, L]` (0 past a row's end); for each position a uniform number that is independent of all
            classes, float64 `[N, L]`; and whether the draw lost no digits, bool `[N]`.
        """
        each = torch.arange(weights.shape[2], device=weights.device) if rows is None else rows
        tiny, lengths = TINY[weights.dtype], self.lengths[each]
        state = torch.zeros(len(each), dtype=torch.int64, device=weights.device)
        classes = torch.zeros(u.shape, dtype=torch.int64, device=u.device)
        rest, sound = u.clone(), (torch.isfinite(ways.log_total) & (ways.sound | ways.log))[each]
        state = state.clamp(max=len(self.final[0]))
        places = torch.arange(len(each), device=weights.device)
        for i in range(self.longest):
            targets = self.following[i][state.clamp(max=max(len(self.final[i]) - 1, 0))].long()
            onward, weight = ways.onward(i + 1, targets, each[:, None]), weights[i].T[each]
            mass = onward + weight if ways.log else onward * weight
            if ways.log:
                mass = (mass - mass.amax(-1, keepdim=True).nan_to_num(neginf=0.0)).exp()
            cumulative = mass.double().cumsum(-1)
            total = cumulative[:, -1]
            going = i < lengths
            sound &= ~going | (total > tiny)
            point = torch.minimum(u[:, i].double() * total, total.nextafter(torch.zeros_like(total)))
            drawn = torch.searchsorted(cumulative, point[:, None], right=True)[:, 0].clamp(max=mass.shape[1] - 1)
            chosen = mass[places, drawn].double()
            below = cumulative[places, drawn] - chosen
            rest[:, i] = ((point - below) / torch.where(chosen > 0, chosen, 1.0)).clamp(0, 1 - 2**-53)
            classes[:, i] = torch.where(going, drawn, 0)
            state = torch.where(going, targets[places, drawn], 0)
        return classes, rest, sound

    def marginals(self, weights: Tensor, ways: Ways | AliveWays) -> tuple[Tensor, Tensor]:
        """The probability of each class at each position given acceptance, and whether a row lost no digits.

        Returns:
            `[L, C, B]`, logarithms if `ways` are, meaningless past a row's end; and bool `[B]`.
        """
        if isinstance(ways, AliveWays):
            return ways.marginals(weights, TINY[weights.dtype])
        log, rows = ways.log, weights.shape[2]
        zero = -torch.inf if log else 0.0
        alpha = weights.new_full((len(self.final[0]) + 1, rows), zero)
        alpha[0] = 0.0 if log else 1.0
        found, sound = [], ways.sound.clone()
        for i in range(self.longest):
            if log:
                onward = _from(ways.beta[i + 1], self.following[i])  # [n, C, B]
                moved = alpha[:-1, None] + weights[i]
                through = weights[i] + (alpha[:-1, None] + onward).logsumexp(0)
                found.append(through - through.logsumexp(0))
                following = _scatter_logsumexp(moved, self.following[i], len(self.final[i + 1]) + 1)
                most = following[:-1].amax(0) if len(following) > 1 else following[0]
                alpha = following - torch.where(torch.isfinite(most), most, 0.0)
                alpha[-1] = zero
            else:
                through, following = self.moves[i].through(alpha, ways.beta[i + 1], weights[i])
                whole = through.sum(0)
                sound &= (whole > TINY[weights.dtype]) | (i >= self.lengths)
                found.append(through / whole.clamp(min=torch.finfo(whole.dtype).tiny))
                most = following.amax(0)
                alpha = following / torch.where(most > 0, most, 1.0)
        return torch.stack(found), sound


def _from(beta: Tensor, following: Tensor) -> Tensor:
    """β of the states that follow: `[n, C, B]`."""
    return beta.index_select(0, following.reshape(-1)).view(*following.shape, beta.shape[1])


def _onward(beta: Tensor, following: Tensor, weights: Tensor) -> Tensor:
    """log Σ_c w(c) β(s after c), for states `[n]` and rows `[B]`, of logarithms."""
    gathered = _from(beta, following)
    return (gathered + weights).logsumexp(1) if len(following) else gathered.amax(1)


def _scatter_logsumexp(values: Tensor, index: Tensor, size: int) -> Tensor:
    """log Σ exp of `[n, C, B]` values that lead to the same one of `size` states: `[size, B]`."""
    rows = values.shape[2]
    flat, where = values.reshape(-1, rows), index.reshape(-1, 1).long().expand(-1, rows)
    most = flat.new_full((size, rows), -torch.inf).scatter_reduce(0, where, flat, "amax")
    base = torch.where(torch.isfinite(most), most, 0.0)
    total = torch.zeros_like(most).scatter_add(0, where, (flat - base.gather(0, where)).exp())
    return total.log() + base
