"""One prediction under an automaton: class weights of every position, and what can be drawn from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from discdiff.constraints.base import PositionWise
from discdiff.constraints.trellis import Trellis, Ways
from discdiff.prediction import Positions, Prediction, positions_of
from discdiff.randomness import categorical

CHUNK = 1 << 22
"""Probabilities held at once: those of all open positions of a batch, over a large vocabulary, are gigabytes."""

FLOOR = -300.0
"""Log weight of classes to which the model gives no mass, in rows where nothing else is accepted."""


class Tilt(NamedTuple):
    """Log weights `[N, V]` that multiply the denoiser at N positions."""

    where: Positions
    values: Tensor


class Filtered:
    """∏_i p(x0_i | xt) · 1[accepted], ready to draw from.

    Positions that no reverse rate moves, and given ones, hold their token; the rest are open. Plain floats do for
    nearly all rows; those in which they lose digits are done again in float64 logarithms.

    Args:
        asked: bool `[B]`, the rows that will be drawn; the network is not run for others, and what is said of them
            means nothing.
        trellis: the language over the rows.
        within: sets of tokens that hold beside it.
        prediction: what the network says.
        tilt: log weights on some positions, all of them open.
    """

    def __init__(
        self,
        trellis: Trellis,
        within: PositionWise,
        prediction: Prediction,
        asked: Tensor,
        tilt: Tilt | None = None,
    ) -> None:
        self.asked = asked
        self.trellis, self.within, self.prediction, self.tilt = trellis, within, prediction, tilt
        tokens, language = prediction.tokens, trellis.language
        device = tokens.device
        self.classes = torch.as_tensor(language.classes, device=device).long()
        used = torch.arange(tokens.shape[1], device=device) < trellis.lengths[:, None]
        open_ = used & prediction.process.active(tokens) & asked[:, None]
        if prediction.frozen is not None:
            open_ &= ~prediction.frozen
        self._slot = torch.full(tokens.shape, -1, dtype=torch.int64, device=device)
        if tilt is not None:
            self._slot[tilt.where] = torch.arange(len(tilt.where[0]), device=device)
        self.open = positions_of(open_)
        self._shift = torch.zeros(len(tokens), dtype=torch.float64, device=device)
        own = self.classes[tokens.clamp(max=language.vocab_size - 1)]
        self.own = torch.nn.functional.one_hot(own, language.num_classes)

    def _log_p(self, where: Positions) -> Tensor:
        """log p under the sets and the tilt, `[N, V]`, not normalised."""
        log_p = self.prediction.log_denoiser(where)
        if (allowed := self.within.allowed_at(where)) is not None:
            log_p = log_p.masked_fill(~allowed.to(log_p.device), -torch.inf)
        if self.tilt is None:
            return log_p
        at = self._slot[where]
        tilt = self.tilt.values.to(log_p.dtype)[at.clamp(min=0)] if len(self.tilt.values) else torch.zeros_like(log_p)
        return torch.where((at >= 0)[:, None], log_p + tilt, log_p)

    def _in_parts(self, where: Positions, read: Callable[[Positions], Tensor]) -> Tensor | None:
        size = max(CHUNK // self.trellis.language.vocab_size, 1)
        parts = [read(part) for part in zip(where[0].split(size), where[1].split(size), strict=True)]
        return torch.cat(parts) if parts else None

    @cached_property
    def weights(self) -> Tensor:
        """Weight of each class at each position, `[L, C, B]`; e^`_shift` of each row is taken out of its own."""
        members: dict[torch.dtype, Tensor] = {}

        def read(part: Positions) -> Tensor:
            log_p = self._log_p(part)
            if self.tilt is not None:
                most = log_p.amax(-1, keepdim=True).nan_to_num(neginf=0.0)
                self._shift.index_add_(0, part[0], most[:, 0].double())
                log_p = log_p - most
            if log_p.dtype not in members:
                count = self.trellis.language.num_classes
                members[log_p.dtype] = torch.nn.functional.one_hot(self.classes, count).to(log_p.dtype)
            return log_p.exp() @ members[log_p.dtype]

        found = self._in_parts(self.open, read)
        if found is None:
            return self.own.double().permute(1, 2, 0).contiguous()
        return self.own.to(found.dtype).index_put(self.open, found).permute(1, 2, 0).contiguous()

    @cached_property
    def ways(self) -> Ways:
        """β in plain floats."""
        return self.trellis.ways(self.weights)

    def _exact(self, rows: Tensor) -> tuple[Trellis, Tensor, Ways]:
        """The same for some rows (increasing) in logarithms; classes without mass are floored where they must be."""
        mine = torch.isin(self.open[0], rows)
        there = (self.open[0][mine], self.open[1][mine])
        place = (torch.searchsorted(rows, there[0]), there[1])
        logs = self.own[rows].double().log()
        able = self.own[rows].bool()
        if len(there[0]):
            count = self.trellis.language.num_classes
            logs[place] = _class_logsumexp(self._log_p(there).double(), self.classes, count)
            allowed = self.within.allowed_at(there)
            if allowed is None:
                able[place] = True
            else:
                members = torch.nn.functional.one_hot(self.classes, count).float()
                able[place] = allowed.to(members.device).float() @ members > 0
        part, weights = self.trellis.index(rows), logs.permute(1, 2, 0).contiguous()
        ways = part.ways(weights, log=True)
        dead = torch.isneginf(ways.log_total)
        if bool(dead.any()):
            floored = torch.where(able, logs.clamp(min=FLOOR), -torch.inf).permute(1, 2, 0)
            weights = torch.where(dead, floored, weights).contiguous()
            ways = replace(part.ways(weights, log=True), log_total=ways.log_total)
        return part, weights, ways

    def log_total(self) -> Tensor:
        """log Z, float64 `[B]`; −∞ where the model gives accepted sequences no mass."""
        total = self.ways.log_total + self._shift
        lost = (~self.ways.sound & self.asked).nonzero()[:, 0]
        if len(lost):
            total[lost] = self._exact(lost)[2].log_total
        return total

    def draw(self, where: Positions, u: Tensor) -> Tensor:
        """Draw x0 jointly, and give it at `where`: int64 `[N]`."""
        classes, rest, sound = self.trellis.sample(self.weights, self.ways, u)
        lost = (~sound & self.asked).nonzero()[:, 0]
        if len(lost):
            part, weights, ways = self._exact(lost)
            classes[lost], rest[lost] = part.sample(weights, ways, u[lost])[:2]
        inside = self.classes == classes[where][:, None]
        return categorical(self._within_class(where, inside), rest[where])

    def _within_class(self, where: Positions, inside: Tensor) -> Tensor:
        """Probabilities of tokens of one class, `[N, V]`, unnormalised; of those that may stand there if p has none."""
        allowed = self.within.allowed_at(where)
        free = inside if allowed is None else inside & allowed.to(inside.device)
        log_p = self._log_p(where).masked_fill(~inside, -torch.inf)
        most = log_p.amax(-1, keepdim=True)
        if bool(torch.isneginf(most).any()):
            spares = (lambda: self.prediction.log_denoiser(where), lambda: torch.zeros_like(log_p))
            for spare in spares:
                dead = torch.isneginf(log_p).all(-1, keepdim=True)
                log_p = torch.where(dead, spare().masked_fill(~free, -torch.inf), log_p)
            most = log_p.amax(-1, keepdim=True)
        return log_p.sub_(most).exp_()

    @cached_property
    def _class_ratios(self) -> Tensor:
        """log of marginal over weight of each class, `[B, L, C]`."""
        found, sound = self.trellis.marginals(self.weights, self.ways)
        ratio = (found.log() - self.weights.log()).permute(2, 0, 1)
        lost = (~sound & self.asked).nonzero()[:, 0]
        if len(lost):
            part, weights, ways = self._exact(lost)
            logs = part.marginals(weights, ways)[0]
            ratio = ratio.index_put((lost,), (logs - weights).permute(2, 0, 1).to(ratio.dtype))
        return ratio

    def log_marginals(self, where: Positions) -> Tensor:
        """log p(x0_i | xt, accepted), normalised, `[N, V]`."""
        ratio = self._class_ratios
        log_p, each = self._log_p(where), ratio[where][:, self.classes]
        found = torch.where(torch.isneginf(log_p) | ~torch.isfinite(each), -torch.inf, log_p + each)
        against = torch.isneginf(self.log_total())[where[0]]
        if bool(against.any()):
            found = torch.where(against[:, None], self._against_the_model(where, log_p, each).to(found.dtype), found)
        dead = torch.isneginf(found).all(-1, keepdim=True)
        if bool(dead.any()):  # all accepted tokens are without mass: those that may stand there, alike
            allowed = self.within.allowed_at(where)
            free = torch.isfinite(each) if allowed is None else torch.isfinite(each) & allowed.to(each.device)
            found = torch.where(dead, torch.zeros_like(found).masked_fill(~free, -torch.inf), found)
        return found.log_softmax(-1)

    def _against_the_model(self, where: Positions, log_p: Tensor, each: Tensor) -> Tensor:
        """Marginals in rows where classes without mass weigh `FLOOR`: tokens of such a class are alike."""
        mass = _class_logsumexp(log_p.double(), self.classes, self.trellis.language.num_classes)
        allowed = self.within.allowed_at(where)
        free = torch.isfinite(each) if allowed is None else torch.isfinite(each) & allowed.to(each.device)
        members = torch.nn.functional.one_hot(self.classes, mass.shape[1]).double()
        alike = -(free.double() @ members).log()
        share = torch.where(torch.isneginf(mass), alike, -mass)[:, self.classes]
        token = torch.where(torch.isneginf(mass)[:, self.classes], 0.0, log_p.double())
        log_p = token + share + mass.clamp(min=FLOOR)[:, self.classes]
        return torch.where(free, log_p + each, -torch.inf)


def _class_logsumexp(log_p: Tensor, classes: Tensor, count: int) -> Tensor:
    """log Σ exp over the tokens of each class: `[N, C]`, −∞ where a class has no mass."""
    index = classes.expand(log_p.shape)
    most = log_p.new_full((len(log_p), count), -torch.inf).scatter_reduce(1, index, log_p, "amax")
    base = torch.where(torch.isfinite(most), most, 0.0)
    total = torch.zeros_like(most).scatter_add(1, index, (log_p - base.gather(1, index)).exp())
    return total.log() + base
