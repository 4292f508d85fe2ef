"""One prediction under an automaton: class weights of every position, and what can be drawn from them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from discdiff.constraints.alive import AliveWays
from discdiff.constraints.base import PositionWise, Tilt, Unconstrained
from discdiff.constraints.class_sums import classes_of
from discdiff.constraints.trellis import TINY, Trellis, Ways
from discdiff.prediction import Positions, Prediction, positions_of
from discdiff.randomness import categorical

CHUNK = 1 << 22
"""Probabilities worked on at once: a few megabytes, which stay in the processor's caches."""

KEPT = 1 << 27
"""Log probabilities kept from the first reading for the draw; more are read again."""

SMALLEST = {torch.float32: 1e-37, torch.float64: 1e-300}
"""Weights below lose digits, or all."""

FLOOR = -300.0
"""Log weight of classes to which the model gives no mass, in rows where nothing else is accepted."""


class Filtered:
    """∏_i p(x0_i | xt) · 1[accepted], ready to draw from.

    Positions that no reverse rate moves, and given ones, hold their token; the rest are open. Plain floats do for
    nearly all rows; those in which they lose digits are done again in float64, and then in float64 logarithms.

    Args:
        trellis: the language over the rows of the prediction.
        within: sets of tokens that hold beside it.
        prediction: what the network says.
        tilt: log weights on some positions, all of them open.
        rows: int64, increasing: the rows that will be asked for; the network need not see the others.
    """

    def __init__(
        self, trellis: Trellis, within: PositionWise, prediction: Prediction, tilt: Tilt | None, rows: Tensor
    ) -> None:
        self.within, self.prediction, self.tilt, self.rows = within, prediction, tilt, rows
        self.trellis = trellis if len(rows) == len(trellis.lengths) else trellis.index(rows)
        tokens, language = prediction.tokens, trellis.language
        device = tokens.device
        self._local = torch.full((len(tokens),), -1, dtype=torch.int64, device=device)
        self._local[rows] = torch.arange(len(rows), device=device)
        self.classes = classes_of(language, device)
        used = torch.arange(tokens.shape[1], device=device) < trellis.lengths[:, None]
        open_ = used & prediction.process.active(tokens) & (self._local >= 0)[:, None]
        if prediction.frozen is not None:
            open_ &= ~prediction.frozen
        # Where no token is told from another, all is accepted: nothing need be read to know that.
        self._free = tilt is None and type(within) is Unconstrained and language.num_classes == 1
        self._slot = torch.full(tokens.shape, -1, dtype=torch.int64, device=device)
        if tilt is not None:
            self._slot[tilt.where] = torch.arange(len(tilt.where[0]), device=device)
        self.open, self.is_open = positions_of(open_), open_
        self._weights: Tensor | None = None
        self.own = self._one_hot(tokens)
        self._kept: tuple[Tensor, Tensor] | None = None
        self._shift = torch.zeros(len(rows), dtype=torch.float64, device=device)
        self._rounded = torch.zeros(len(rows), dtype=torch.bool, device=device)

    def _one_hot(self, tokens: Tensor) -> Tensor:
        """The classes of the rows' tokens, `[R, L, C]`."""
        own = self.classes.of_token[tokens[self.rows].clamp(max=self.trellis.language.vocab_size - 1)]
        return torch.nn.functional.one_hot(own, self.trellis.language.num_classes)

    def pinned(self, tokens: Tensor) -> Filtered:
        """The same once `tokens`, int64 `[B, L]`, are shown, where some were masks: nothing is read again."""
        assert self.tilt is None, "what has been shown is no longer tilted"
        found = copy(self)
        for name in ("ways", "_class_ratios"):
            found.__dict__.pop(name, None)
        found.prediction = self.prediction.beside(tokens)
        still = self.is_open & self.prediction.process.active(tokens)
        found.open, found.is_open, found.own = positions_of(still), still, found._one_hot(tokens)
        if not self._free:
            weights = self.weights_for(self.open)
            shown = (self.is_open & ~still)[self.rows].T[:, None]
            pinned = torch.where(shown, found.own.permute(1, 2, 0).to(weights.dtype), weights)
            found._weights = pinned.contiguous()  # four times as fast to sum over as in the order of `own`
            if self._kept is not None:
                found._kept = torch.where(still, self._kept[0], -1), self._kept[1]
        return found

    def covers(self, rows: Tensor) -> bool:
        """Whether these rows may be asked for."""
        return bool((self._local[rows] >= 0).all())

    def place(self, rows: Tensor) -> Tensor:
        """The places of rows of the prediction among those that were asked for."""
        return self._local[rows]

    def _mine(self, where: Positions) -> Positions:
        """Positions by the place of their row among `rows`."""
        return self._local[where[0]], where[1]

    def _log_p(self, where: Positions) -> Tensor:
        """log p under the sets and the tilt, `[N, V]`, not normalised."""
        log_p = self.prediction.log_denoiser(where)
        log_p = log_p if log_p.dtype in TINY else log_p.float()
        if (allowed := self.within.allowed_at(where)) is not None:
            log_p = log_p.masked_fill(~allowed.to(log_p.device), -torch.inf)
        if self.tilt is None:
            return log_p
        at = self._slot[where]
        tilt = self.tilt.values.to(log_p.dtype)[at.clamp(min=0)] if len(self.tilt.values) else torch.zeros_like(log_p)
        return torch.where((at >= 0)[:, None], log_p + tilt, log_p)

    def _parts(self, where: Positions) -> Iterator[tuple[slice, Positions]]:
        """Positions a few at a time."""
        size = max(CHUNK // self.trellis.language.vocab_size, 1)
        for start in range(0, len(where[0]), size):
            part = slice(start, start + size)
            yield part, (where[0][part], where[1][part])

    @property
    def weights(self) -> Tensor:
        """Weight of each class at each position of the rows, `[L, C, R]`; e^`_shift` of each row is taken out."""
        return self.weights_for(None)

    def weights_for(self, where: Positions | None) -> Tensor:
        """The weights; log probabilities at `where`, if there is room for them, are kept for what comes next."""
        if self._weights is None:
            self._weights = self._read(where)
        return self._weights

    def _read(self, where: Positions | None) -> Tensor:
        tokens, classes = self.prediction.tokens, self.classes
        slot = torch.full(tokens.shape, -1, dtype=torch.int64, device=tokens.device)
        room = where is not None and len(where[0]) * len(classes.tokens) <= KEPT
        if where is not None and room:
            slot[where] = torch.arange(len(where[0]), device=tokens.device)
        weights, kept, scratch = self.own.double(), None, None
        for k, (_, part) in enumerate(self._parts(self.open)):
            log_p = self._log_p(part)
            if k == 0:
                weights = self.own.to(log_p.dtype)
                scratch = log_p.new_empty(len(log_p), len(classes.tokens))
                if where is not None and room:
                    kept = log_p.new_empty(len(where[0]), len(classes.tokens))
            if kept is None:
                log_p = classes.side_by_side(log_p)
            else:
                log_p = self._keep(kept, slot[part], log_p)
            if self.tilt is not None:
                whole = log_p.logsumexp(-1, keepdim=True).nan_to_num(neginf=0.0)
                self._shift.index_add_(0, self._mine(part)[0], whole[:, 0].double())
                log_p = log_p - whole
            room_for = scratch[: len(log_p)] if scratch is not None else None
            sums = classes.sums(torch.exp(log_p, out=room_for))
            small = (sums < SMALLEST[sums.dtype]) & classes.filled
            light = small.any(-1)
            if bool(light.any()):
                some = classes.sums(torch.isfinite(log_p[light]).to(sums.dtype)) > 0
                self._rounded[self._mine(part)[0][light][(small[light] & some).any(-1)]] = True
            weights[self._mine(part)] = sums
        if kept is not None:
            self._kept = (torch.where(self.is_open, slot, -1), kept)
        return weights.permute(1, 2, 0).contiguous()

    def _keep(self, kept: Tensor, rows: Tensor, log_p: Tensor) -> Tensor:
        """`[n, V]` side by side, kept in these of the rows; −1: it is not kept."""
        first = int(rows[0])
        in_order = torch.arange(first, first + len(rows), device=rows.device)
        if first >= 0 and bool((rows == in_order).all()):  # as where all that is open is drawn: no copy
            return self.classes.side_by_side(log_p, out=kept[first : first + len(rows)])
        found = self.classes.side_by_side(log_p)
        wanted = rows >= 0
        kept[rows[wanted]] = found[wanted]
        return found

    def _rows(self, where: Positions) -> tuple[Tensor, Tensor]:
        """A matrix of log probabilities side by side, and which of its rows are those at `where`."""
        if self._kept is not None:
            rows = self._kept[0][where]
            if not bool((rows < 0).any()):
                return self._kept[1], rows
        log_p = self.classes.side_by_side(self._log_p(where))
        return log_p, torch.arange(len(log_p), device=log_p.device)

    @cached_property
    def ways(self) -> Ways | AliveWays:
        """β in plain floats."""
        return self._checked(self.trellis.ways(self.weights), self._rounded)

    def _checked(self, ways: Ways | AliveWays, rounded: Tensor) -> Ways | AliveWays:
        """Rows with a class too light for plain floats are sound only if what is accepted is far heavier."""
        return replace(ways, sound=ways.sound & ~(rounded & (ways.log_total < math.log(TINY[torch.float32]))))

    def _finer(self, rows: Tensor, step: int) -> tuple[Trellis, Tensor, Ways | AliveWays]:
        """The same for some of the rows (by place, increasing), with more digits: in float64, then in logarithms."""
        if step == 0 and self.weights.dtype == torch.float32:
            part, weights = self.trellis.index(rows), self.weights[:, :, rows].double()
            return part, weights, self._checked(part.ways(weights), self._rounded[rows])
        return self._exact(rows)

    def _exact(self, rows: Tensor) -> tuple[Trellis, Tensor, Ways | AliveWays]:
        """In logarithms; classes without mass are floored where they must be."""
        mine = torch.isin(self.open[0], self.rows[rows])
        there = (self.open[0][mine], self.open[1][mine])
        place = (torch.searchsorted(rows, self._local[there[0]]), there[1])
        logs = self.own[rows].double().log()
        able = self.own[rows].bool()
        if len(there[0]):
            allowed = self.within.allowed_at(there)
            able[place] = True
            for some, where in self._parts(there):
                at = (place[0][some], place[1][some])
                matrix, which = self._rows(where)
                logs[at] = self.classes.log_sums(matrix[which].double())
                if allowed is not None:
                    own = self.classes.side_by_side(allowed[some].to(matrix.device).float())
                    able[at] = self.classes.sums(own) > 0
        part, weights = self.trellis.index(rows), logs.permute(1, 2, 0).contiguous()
        ways = part.ways(weights, log=True)
        dead = torch.isneginf(ways.log_total)
        if bool(dead.any()):
            floored = torch.where(able, logs.clamp(min=FLOOR), -torch.inf).permute(1, 2, 0)
            weights = torch.where(dead, floored, weights).contiguous()
            ways = replace(part.ways(weights, log=True), log_total=ways.log_total)
        return part, weights, ways

    def log_total(self) -> Tensor:
        """log Z, float64 `[R]`; −∞ where the model gives accepted sequences no mass."""
        if self._free:
            return torch.zeros_like(self._shift)
        total, sound = self.ways.log_total + self._shift, self.ways.sound
        for step in range(2):
            lost = (~sound).nonzero()[:, 0]
            if len(lost):
                ways = self._finer(lost, step)[2]
                taken = 0.0 if ways.log else self._shift[lost]  # logarithms are read anew
                total[lost], sound = ways.log_total + taken, sound.index_put((lost,), ways.sound)
        return total

    def draw(self, where: Positions, u: Tensor) -> Tensor:
        """Draw x0 jointly, and give it at `where`: int64 `[N]`."""
        if self._free:
            return categorical(self.prediction.log_denoiser(where).exp(), u[where])
        self.weights_for(where)
        classes, rest = self._classes_drawn(torch.arange(len(self.rows), device=u.device), u[self.rows])
        at = self._mine(where)
        return self._within_classes(where, classes[at], rest[at])

    def complete(self, rows: Tensor, u: Tensor) -> Tensor:
        """Draw x0 of rows of the prediction, int64 `[n]`, repeated or not, from `[n, L]` numbers: int64 `[n, L]`."""
        self.weights_for(self.open)
        classes, rest = self._classes_drawn(self._local[rows], u)
        draws, positions = positions_of(self.is_open[rows])
        found = self._within_classes((rows[draws], positions), classes[draws, positions], rest[draws, positions])
        return self.prediction.tokens[rows].index_put((draws, positions), found)

    def _classes_drawn(self, places: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Classes of rows by their places, and numbers left for the choice within each."""
        classes, rest, sound = self.trellis.sample(self.weights, self.ways, u, places)
        for step in range(2):
            lost = (~sound).nonzero()[:, 0]
            if len(lost):
                some, which = places[lost].unique(return_inverse=True)
                part, weights, ways = self._finer(some, step)
                classes[lost], rest[lost], sound[lost] = part.sample(weights, ways, u[lost], which)
        return classes, rest

    def _within_classes(self, where: Positions, drawn: Tensor, u: Tensor) -> Tensor:
        """Tokens of the classes drawn at `where`; only probabilities within the class are looked at."""
        found = torch.zeros_like(drawn)
        sizes = self.classes.sizes[drawn]
        scale = sizes.clamp(min=1).log2().ceil().long()  # classes of about the same size together
        for power in scale.unique().tolist():
            mine = (scale == power).nonzero()[:, 0]
            width = int(sizes[mine].max())
            for some in mine.split(max(CHUNK // max(width, self._reach), 1)):
                found[some] = self._members((where[0][some], where[1][some]), drawn[some], width, u[some])
        return found

    @property
    def _reach(self) -> int:
        """How many log probabilities a position's reading makes, if they are not kept."""
        return 1 if self._kept is not None else self.trellis.language.vocab_size

    def _members(self, where: Positions, drawn: Tensor, width: int, u: Tensor) -> Tensor:
        """A token of the class drawn, for positions whose classes have at most `width`."""
        if width == 0:  # past the end of a row, or a token that stands there already
            return self.prediction.tokens[where].clamp(max=self.trellis.language.vocab_size - 1)
        place = torch.arange(width, device=drawn.device)
        inside = place < self.classes.sizes[drawn][:, None]
        columns = (self.classes.begins[drawn][:, None] + place).clamp(max=len(self.classes.tokens) - 1)
        tokens = self.classes.tokens[columns]
        matrix, rows = self._rows(where)
        log_p = matrix[rows[:, None], columns].masked_fill_(~inside, -torch.inf)
        most = log_p.amax(-1, keepdim=True)
        if bool(torch.isneginf(most).any()):
            allowed = self.within.allowed_at(where)
            free = inside if allowed is None else inside & allowed.to(inside.device).gather(1, tokens)
            spares = (
                lambda: self.prediction.log_denoiser(where).gather(1, tokens).to(log_p.dtype),
                lambda: torch.zeros_like(log_p),
            )
            for spare in spares:
                dead = torch.isneginf(log_p).all(-1, keepdim=True)
                log_p = torch.where(dead, spare().masked_fill(~free, -torch.inf), log_p)
            most = log_p.amax(-1, keepdim=True)
        chosen = categorical(log_p.sub_(most).exp_(), u)
        found = tokens.gather(1, chosen.clamp(max=width - 1)[:, None])[:, 0]
        failed = (chosen >= width) & (self.classes.sizes[drawn] > 0)  # passed on, as no token
        return torch.where(failed, self.trellis.language.vocab_size, found)

    @cached_property
    def _class_ratios(self) -> Tensor:
        """log of marginal over weight of each class, `[R, L, C]`."""
        found, sound = self.trellis.marginals(self.weights, self.ways)
        ratio = (found.log() - self.weights.log()).permute(2, 0, 1)
        for step in range(2):
            lost = (~sound).nonzero()[:, 0]
            if len(lost):
                part, weights, ways = self._finer(lost, step)
                found, fine = part.marginals(weights, ways)
                logs = found - weights if ways.log else found.log() - weights.log()
                ratio = ratio.index_put((lost,), logs.permute(2, 0, 1).to(ratio.dtype))
                sound = sound.index_put((lost,), fine)
        return ratio

    def log_marginals(self, where: Positions) -> Tensor:
        """log p(x0_i | xt, accepted), normalised, `[N, V]`."""
        self.weights_for(where)
        ratio, classes = self._class_ratios, self.classes
        found: Tensor | None = None
        side, ruled_out = classes.of_token[classes.tokens], torch.isneginf(self.log_total())
        for part, here in self._parts(where):
            matrix, rows = self._rows(here)
            log_p, each = matrix[rows], ratio[self._mine(here)].index_select(1, side)
            inside = torch.where(torch.isneginf(log_p) | ~torch.isfinite(each), -torch.inf, log_p + each)
            against = ruled_out[self._mine(here)[0]][:, None]
            if bool(against.any()):
                floored = self._against_the_model(here, log_p, each, side).to(inside.dtype)
                inside = torch.where(against, floored, inside)
            dead = torch.isneginf(inside).all(-1, keepdim=True)
            if bool(dead.any()):  # all accepted tokens are without mass: those that may stand there, alike
                allowed = self.within.allowed_at(here)
                free = torch.isfinite(each)
                if allowed is not None:
                    free &= classes.side_by_side(allowed.to(each.device))
                inside = torch.where(dead, torch.zeros_like(inside).masked_fill(~free, -torch.inf), inside)
            if found is None:
                size = (len(where[0]), self.trellis.language.vocab_size)
                found = inside.new_full(size, -torch.inf)
            found[part].index_copy_(1, classes.tokens, inside.log_softmax(-1))
        return self._log_p(where) if found is None else found

    def _against_the_model(self, where: Positions, log_p: Tensor, each: Tensor, side: Tensor) -> Tensor:
        """Marginals in rows where classes without mass weigh `FLOOR`: tokens of such a class are alike. `[n, V]`."""
        mass = self.classes.log_sums(log_p.double())
        free = torch.isfinite(each)
        if (allowed := self.within.allowed_at(where)) is not None:
            free &= self.classes.side_by_side(allowed.to(each.device))
        empty = torch.isneginf(mass)
        share = torch.where(empty, -self.classes.sums(free.double()).log(), -mass)[:, side]
        token = torch.where(empty[:, side], 0.0, log_p.double())
        return torch.where(free, token + share + mass.clamp(min=FLOOR)[:, side] + each, -torch.inf)
