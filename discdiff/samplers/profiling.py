"""Measuring: how predictions of open positions change as others are revealed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.networks.base import Context
from discdiff.prediction import Prediction, positions_of
from discdiff.processes.absorbing import Absorbing
from discdiff.randomness import Randomness, at_step, categorical, check_draws, index_rows, uniform
from discdiff.samplers.base import rank_among
from discdiff.samplers.certificate import Certificate
from discdiff.samplers.profile import LengthGroup, Profile
from discdiff.sequences import Sequences

EVERY = 129
"""On data, sequences of at most so many tokens are looked at with every number of known ones."""
_DENSE, _MIDDLE = 16, 64
_ROOM = 1 << 25  # log probabilities held at once
FEWEST = 8
"""Sequences that a profile takes."""
_IN_A_GROUP = 32  # sequences that a group of lengths takes, if there are so many: fewer say little of their own spread
_GROUPS = 32

OnBatch = Callable[[int, int], None]


@torch.no_grad()
def measure_profile(
    model: Model,
    *,
    lengths: Tensor | None = None,
    labels: Tensor | None = None,
    sequences: Sequences | None = None,
    generator: Randomness,
    positions: int = 16,
    length_groups: int = 4,
    batch_size: int = 64,
    on_batch: OnBatch | None = None,
) -> Profile:
    """The profile of a model on the absorbing process; see `Profile` for what it says.

    With `lengths` the model's own draws are measured while they are drawn, at one network call a token. With
    `sequences` these are, at as many calls or, of more than 129 tokens, about 95: all small and all large numbers of
    known positions, and 64 between.

    Args:
        model: as it is to be sampled: a profile holds for no other temperature or guidance.
        lengths: int64 `[B]`, of the draws.
        labels: int64 `[B]` or None, of the draws.
        sequences: clean ones, held out from training, instead.
        generator: `Keys` need one row id a sequence.
        positions: how many open positions are compared at each call; fewer where the vocabulary is large.
        length_groups: at most so many groups of lengths, of which each has its own curve.
        batch_size: rows evaluated at once.
        on_batch: called after each batch with (calls done, calls in all).

    Raises:
        IncompatibleError: another process, or fewer than 8 sequences of two tokens or more.
    """
    begun = time.monotonic()
    if sequences is not None:
        lengths, labels = sequences.lengths, sequences.labels
    sizes = torch.zeros(0, dtype=torch.int64) if lengths is None else lengths.cpu()
    rows = (sizes > 1).nonzero()[:, 0]  # one position alone loses nothing
    _check(model, len(rows))
    # Mixed before they are sorted: groups are of every so many rows, and classes in turn would keep in step with them.
    mixed = uniform((len(sizes),), generator=at_step(generator, 0), purpose="groups", dtype=torch.float64)
    rows = rows[mixed[rows].argsort(stable=True)]
    rows = rows[sizes[rows].argsort(stable=True)]
    batches = rows.split(batch_size)
    stages = {length: _stages(length, every=sequences is None) for length in sizes[rows].unique().tolist()}
    calls = [max(len(stages[length]) for length in sizes[part].tolist()) for part in batches]
    curves: dict[int, list[Tensor]] = {length: [] for length in stages}
    for k, part in enumerate(batches):
        here = part.to(model.device)
        course = _Course(
            model,
            sizes[part].to(model.device),
            None if labels is None else labels[part.to(labels.device)].to(model.device),
            None if sequences is None else sequences.tokens[part.to(sequences.device)].to(model.device),
            index_rows(generator, here),
        )
        room = max(1, min(positions, _ROOM // (2 * len(part) * model.process.vocab_size)))
        found = _curves(course, [stages[length] for length in sizes[part].tolist()], room)
        for length in sizes[part].unique().tolist():
            curves[length].append(found[sizes[part] == length, : len(stages[length])])
        if on_batch is not None:
            on_batch(sum(calls[: k + 1]), sum(calls))
    groups = _by_length({length: torch.cat(each) for length, each in curves.items()}, stages, length_groups)
    return Profile(groups, "draws" if sequences is None else "data", time.monotonic() - begun)


@torch.no_grad()
def block_divergence(
    model: Model,
    blocks: Sequence[int],
    *,
    count: int,
    labels: Tensor | None = None,
    generator: Randomness,
    batch_size: int = 64,
) -> Certificate:
    """E_π KL(the sampler at one position a call ‖ in blocks) of a model as it is, measured without a profile.

    = E Σ_j KL(p(x_π(j) | x_π(<j)) ‖ p(x_π(j) | x_π(≤ n_t))), n_t where the block of j begins, over the model's own
    draws: the chain rule, which asks nothing of the model. L network calls a draw.

    Args:
        model: on the absorbing process.
        blocks: sizes; they add up to L.
        count: draws.
        labels: int64 `[count]` or None.
        generator: `Keys` need `count` row ids.
        batch_size: rows at once.

    Raises:
        IncompatibleError: another process, or fewer than 8 draws.
    """
    _check(model, count)
    length, found = sum(blocks), []
    starts = torch.tensor([0, *blocks[:-1]]).cumsum(0).tolist()
    for part in torch.arange(count).split(batch_size):
        here = part.to(model.device)
        chosen = None if labels is None else labels[part.to(labels.device)].to(model.device)
        course = _Course(model, torch.full_like(here, length), chosen, None, index_rows(generator, here))
        lost = torch.zeros(len(part), dtype=torch.float64)
        for start, size in zip(starts, blocks, strict=True):
            block = (course.ranks >= start) & (course.ranks < start + size)
            marginal, ranks = course.look(torch.full_like(here, start), block), course.ranks[block]
            for j in range(start, start + size):
                drawn, then = course.ranks == j, marginal[ranks == j]
                log_p = then if j == start else course.look(torch.full_like(here, j), drawn)
                lost += _divergence(log_p, then).cpu()
                course.draw(drawn, log_p, j)
        found.append(lost)
    each = torch.cat(found)
    return Certificate(float(each.mean()), float(each.std()) / math.sqrt(count), len(blocks), length)


class _Course:
    """A batch of sequences, revealed in random orders: data, or drawn as they are revealed."""

    def __init__(
        self, model: Model, lengths: Tensor, labels: Tensor | None, tokens: Tensor | None, generator: Randomness
    ) -> None:
        width = int(lengths.max())
        self.model, self.lengths, self.labels, self.generator = model, lengths, labels, generator
        self.data = None if tokens is None else tokens[:, :width]
        self.padding = torch.arange(width, device=lengths.device) >= lengths[:, None]
        self.ranks: Tensor = rank_among(~self.padding, self._uniform("order", 0))
        self.tokens = torch.zeros_like(self.ranks) if self.data is None else self.data

    def _uniform(self, purpose: str, step: int) -> Tensor:
        shape, generator = tuple(self.padding.shape), at_step(self.generator, step)
        return uniform(shape, generator=generator, purpose=purpose, dtype=torch.float64, device=self.padding.device)

    def look(self, known: Tensor, wanted: Tensor) -> Tensor:
        """log p, `[N, V]`, at the `wanted` positions, each row shown the first `known` `[B]` of its order."""
        hidden = (self.ranks >= known[:, None]) & ~self.padding
        xt = self.tokens.masked_fill(self.padding, 0).masked_fill(hidden, self._mask)
        fraction = ((self.lengths - known) / self.lengths.double()).clamp(min=0)
        low, high = self.model.schedule.ends()
        sigma = (-torch.log1p(-fraction)).clamp(low, high).to(self.model.dtype)[:, None]
        context = Context(padding=self.padding if bool(self.padding.any()) else None, labels=self.labels)
        prediction: Prediction = self.model.predict(xt, sigma, context)
        return prediction.log_denoiser(positions_of(wanted)).double()

    def draw(self, where: Tensor, log_p: Tensor, step: int) -> None:
        """Draw the tokens at `where` bool `[B, L]`, unless they are data."""
        if self.data is None:
            drawn = categorical(log_p.exp(), self._uniform("token", step + 1)[where])
            check_draws((drawn, self.model.process.vocab_size))
            self.tokens = self.tokens.masked_scatter(where, drawn)

    @property
    def _mask(self) -> int:
        assert isinstance(self.model.process, Absorbing), "checked"
        return self.model.process.mask_id


def _curves(course: _Course, stages: list[list[int]], room: int) -> Tensor:
    """f at each row's stages, `[B, K]` nats: the entropy at the last, and before it divergences added up.

    At each stage at most `room` open positions are compared; in a random order the next ones are any ones.
    """
    device, ranks = course.ranks.device, course.ranks
    counts = torch.tensor([len(each) for each in stages], device=device)
    table = torch.tensor([each + each[-1:] * (int(counts.max()) - len(each)) for each in stages], device=device)
    falls = torch.zeros(table.shape, dtype=torch.float64, device=device)
    before = torch.empty(0)

    def after(known: Tensor, live: Tensor) -> Tensor:
        known = known[:, None]
        return live[:, None] & ~course.padding & (ranks >= known) & (ranks < known + room)

    for k in range(table.shape[1]):
        live, last = counts > k, counts == k + 1
        now = after(table[:, k], live)
        later = after(table[:, min(k + 1, table.shape[1] - 1)], live & ~last)
        union = now | later
        log_p = course.look(table[:, k], union)
        present, rows = log_p[now[union]], positions_of(now)[0]
        if k:
            share = 1 / now.sum(-1).clamp(min=1).double()
            falls[:, k - 1].index_add_(0, rows, _divergence(present, before) * share[rows])
        ending = last[rows]  # one position is left: where it ends, its entropy is f[L − 1]
        falls[rows[ending], k] = torch.special.entr(present[ending].exp()).sum(-1)
        drawn = live[:, None] & (ranks == table[:, k, None]) & ~course.padding
        course.draw(drawn, log_p[drawn[union]], k)
        before = log_p[later[union]]
    return falls.flip(-1).cumsum(-1).flip(-1).cpu()


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) of rows, `[N]` nats."""
    p = log_p.exp()
    return torch.where(p > 0, p * (log_p - log_q), 0.0).sum(-1).clamp(min=0)


def _stages(length: int, *, every: bool) -> list[int]:
    """Numbers of known positions to look at, from 0 to L − 1."""
    if every or length <= EVERY:
        return list(range(length))
    middle = torch.linspace(_DENSE, length - 1 - _DENSE, _MIDDLE + 1).round().long().tolist()
    return [*range(_DENSE), *middle, *range(length - _DENSE, length)]


def _by_length(curves: dict[int, Tensor], stages: dict[int, list[int]], most: int) -> tuple[LengthGroup, ...]:
    """Curves `[n, K]` of each length, shortest first, averaged in groups of similar lengths."""
    left = sum(map(len, curves.values()))
    enough = max(_IN_A_GROUP, left / most)
    parts: list[list[int]] = [[]]
    here = 0
    for length, each in curves.items():
        if here >= enough and left >= _IN_A_GROUP:
            parts.append([])
            here = 0
        parts[-1].append(length)
        here, left = here + len(each), left - len(each)
    groups = []
    for lengths in parts:
        at = _shares(max((stages[length] for length in lengths), key=len))
        rows = torch.cat([_at(at, _shares(stages[length]), curves[length]) for length in lengths])
        count = min(_GROUPS, len(rows) // 4 * 2)
        averages = torch.stack([rows[g::count].mean(0) for g in range(count)]).cummin(-1).values
        groups.append(LengthGroup(lengths[0], lengths[-1], len(rows), tuple(at.tolist()), averages))
    return tuple(groups)


def _shares(stages: list[int]) -> Tensor:
    return torch.tensor(stages, dtype=torch.float64) / stages[-1]


def _at(at: Tensor, shares: Tensor, curves: Tensor) -> Tensor:
    """Curves `[n, K]` at other shares, linear between."""
    right = torch.searchsorted(shares, at).clamp(1, len(shares) - 1)
    weight = (at - shares[right - 1]) / (shares[right] - shares[right - 1])
    return torch.lerp(curves[:, right - 1], curves[:, right], weight.clamp(0, 1))


def check_profiled(model: Model, what: str = "Profile") -> None:
    """Refuse a model that has no profile.

    Raises:
        IncompatibleError: another process than absorbing, or a block-causal network.
    """
    if model.block_size is not None:
        raise IncompatibleError(
            what,
            got="a block-causal network",
            expected="one that sees the whole row: a profile is of random orders of it",
            remedy="Choose the number of steps of each block (--steps).",
        )
    if not isinstance(model.process, Absorbing):
        raise IncompatibleError(
            what,
            got=f"the process {type(model.process).__name__}",
            expected="the absorbing process, whose positions are revealed once",
            remedy="Choose the number of steps (--steps) on other processes.",
        )


def _check(model: Model, count: int) -> None:
    check_profiled(model)
    if count < FEWEST:
        raise IncompatibleError(
            "Profile",
            got=f"{count} sequences of two tokens or more",
            expected=f"{FEWEST} or more",
            remedy="Measure more sequences, or longer ones.",
        )


__all__ = ["EVERY", "FEWEST", "block_divergence", "check_profiled", "measure_profile"]
