"""How a network is run where no gradients are: only for rows it has not seen, at positions that are read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.networks.base import Context, Network

Positions = tuple[Tensor, Tensor]
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "bf16": torch.bfloat16}


@dataclass
class Rows:
    """What a network has said of R rows.

    Attributes:
        keys: int64 `[R, W]`: all that it was shown of each.
        marks: int64 `[R]`: one number for each of these.
        trunk: `[R, L, D]`, see `Network.trunk`.
        hidden: `[R, L, D]`, where `known`.
        known: bool `[R, L]`: positions that are finished.
    """

    keys: Tensor
    marks: Tensor
    trunk: Tensor
    hidden: Tensor
    known: Tensor

    def index(self, rows: Tensor) -> Rows:
        """Some of them."""
        return Rows(*(getattr(self, each.name)[rows] for each in fields(self)))


class Memory:
    """What a time-free network has said lately: a row that it is shown again, token for token, is not evaluated again.

    Tokens and context are compared, exactly, and never hidden states. A row is looked for among its own past, or that
    of its population, so that what is evaluated does not depend on who else is in the batch.

    Args:
        owners: int64 `[B]`: whose past each row of the batch shares.
        size: rows remembered of each owner; what was looked at longest ago goes first.
    """

    def __init__(self, owners: Tensor, size: int) -> None:
        self._owners, self._size, self._kept = owners, size, list[tuple[Network, Rows]]()

    def index(self, rows: Tensor) -> Memory:
        """The same memory, for some rows."""
        part = Memory(self._owners[rows], self._size)
        part._kept = self._kept
        return part

    def keys(self, tokens: Tensor, context: Context, rows: Tensor) -> Tensor | None:
        """int64 `[n, W]`: whose some rows of the batch are, and all that the network sees; None where that is more."""
        listed = {"frozen", "padding", "labels"}
        if any(getattr(context, each.name) is not None for each in fields(context) if each.name not in listed):
            return None
        parts = [self._owners[rows, None], tokens[rows]]
        for value in (context.frozen, context.padding, context.labels):
            wide = tokens[:, :0] if value is None else value.long().reshape(len(tokens), -1)
            parts += [torch.full_like(tokens[rows, :1], wide.shape[1]), wide[rows]]
        return torch.cat(parts, 1)

    def find(self, network: Network, keys: Tensor) -> tuple[Tensor, list[tuple[Tensor, Rows, Tensor]]]:
        """Which of n rows are known, bool `[n]`; and where: rows of the n, whose they are, rows of these."""
        known = torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
        kept = self._of(network, keys.shape[1])
        if not kept:
            return known, []
        late = self._late(kept)
        marks, order = torch.cat([rows.marks for rows in kept])[late].sort()
        if not len(marks):
            return known, []
        mine = _marks(keys)
        at = torch.searchsorted(marks, mine).clamp(max=len(marks) - 1)
        likely = (marks[at] == mine).nonzero()[:, 0]
        if not len(likely):
            return known, []
        place, found, start = late[order[at[likely]]], [], 0
        for rows in kept:
            here = (place >= start) & (place < start + len(rows.keys))
            which, there = likely[here], place[here] - start
            same = (rows.keys[there] == keys[which]).all(1)  # whatever the marks say
            if bool(same.any()):
                found.append((which[same], rows, there[same]))
                known[which[same]] = True
            start += len(rows.keys)
        return known, found

    def keep(self, network: Network, rows: Rows) -> None:
        """Remember these."""
        self._kept.append((network, rows))
        kept = self._of(network, rows.keys.shape[1])
        late = self._late(kept)
        if 2 * len(late) < sum(len(each.keys) for each in kept):
            self._kept[:] = [(owner, each) for owner, each in self._kept if not any(each is of for of in kept)]
            self._kept.append((network, joined(kept).index(late)))

    def _of(self, network: Network, width: int) -> list[Rows]:
        return [rows for owner, rows in self._kept if owner is network and rows.keys.shape[1] == width]

    def _late(self, kept: list[Rows]) -> Tensor:
        """int64 `[n]`: which of all rows kept are among the last `size` of their owner, ascending."""
        owners = torch.cat([rows.keys[:, 0] for rows in kept]).flip(0)  # the latest first
        each, order = owners.sort(stable=True)
        place = torch.arange(len(each), device=each.device) - torch.searchsorted(each, each)
        return (len(each) - 1 - order[place < self._size]).sort().values


def _marks(keys: Tensor) -> Tensor:
    """int64 `[n]`: one number for each row of keys, nearly always another for other rows."""
    odd = torch.arange(1, keys.shape[1] + 1, device=keys.device) * -0x61C8864680B583EB | 1
    mixed = (keys + 1) * odd
    return ((mixed ^ (mixed >> 29)) * odd).sum(1)


@dataclass
class Evaluation:
    """How networks are run in sampling.

    Attributes:
        precision: of the layers before the head, by autocast: None is that of the weights.
        memory: rows of a time-free network seen lately, or None.
        compiled: compiled trunks by network, or None for none. On a GPU they are CUDA graphs, of fixed shapes: rows are
            filled up to a power of two.
    """

    precision: torch.dtype | None = None
    memory: Memory | None = None
    compiled: dict[Network, Callable[..., Tensor]] | None = field(default=None, repr=False)

    def index(self, rows: Tensor) -> Evaluation:
        """The same for some rows."""
        return self if self.memory is None else replace(self, memory=self.memory.index(rows))

    def trunk(self, network: Network, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        """`network.trunk`."""
        with self._autocast(tokens):
            if self.compiled is None or context.cache is not None:  # a pass writes to its cache
                return network.trunk(tokens, sigma, context)
            if tokens.device.type != "cuda":
                return self._compiled(network, dynamic=True)(tokens, sigma, context)
            count, graph = len(tokens), self._compiled(network, dynamic=False, mode="reduce-overhead")
            rows = torch.arange(1 << (count - 1).bit_length(), device=tokens.device).clamp(max=count - 1)
            filled = graph(tokens[rows], None if sigma is None else sigma[rows], context.index(rows))
            return filled[:count].clone()  # the graph's next run overwrites it

    def finish(
        self, network: Network, trunk: Tensor, sigma: Tensor | None, context: Context, where: Positions
    ) -> Tensor:
        """`network.finish`."""
        with self._autocast(trunk):
            return network.finish(trunk, sigma, context, where)

    def _autocast(self, x: Tensor) -> AbstractContextManager[object]:
        return nullcontext() if self.precision is None else torch.autocast(x.device.type, self.precision)

    def _compiled(self, network: Network, **how: Any) -> Callable[..., Tensor]:
        assert self.compiled is not None
        if network not in self.compiled:
            self.compiled[network] = torch.compile(network.trunk, **how)
        return self.compiled[network]


class Readings:
    """Hidden states of a batch, worked out row by row and position by position as they are read, without gradients.

    Args:
        network: what answers.
        tokens: int64 `[B, L]`.
        sigma: `[B, 1]` or `[B, L]`, or None for a time-free network.
        context: what else the network may see.
        evaluation: how it is run.
    """

    def __init__(
        self, network: Network, tokens: Tensor, sigma: Tensor | None, context: Context, evaluation: Evaluation
    ) -> None:
        self._network, self._tokens, self._sigma, self._context = network, tokens, sigma, context
        self._evaluation = evaluation
        self._rows: Rows | None = None
        self._order = torch.zeros(0, dtype=torch.int64, device=tokens.device)  # the batch's row of each of `_rows`
        self._slot = torch.full((len(tokens),), -1, dtype=torch.int64, device=tokens.device)
        self.evaluated = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)

    def __call__(self, where: Positions | None) -> Tensor:
        """Hidden states `[N, D]` at `where`, or `[B, L, D]` everywhere."""
        rows, positions = self._everywhere() if where is None else where
        self._evaluate(torch.zeros_like(self.evaluated).index_fill(0, rows, True))
        assert self._rows is not None
        slots = self._slot[rows]
        unread = ~self._rows.known[slots, positions]
        if bool(unread.any()):
            self._finish(self._rows, slots[unread], positions[unread])
        found = self._rows.hidden[slots, positions]
        return found if where is not None else found.view(*self._tokens.shape, -1)

    def _evaluate(self, needed: Tensor) -> None:
        rows = (needed & (self._slot < 0)).nonzero()[:, 0]
        if not len(rows):
            return
        memory = self._evaluation.memory if self._sigma is None else None
        keys = None if memory is None else memory.keys(self._tokens, self._context, rows)
        parts = []
        if memory is not None and keys is not None:
            known, found = memory.find(self._network, keys)
            parts = [(rows[mine], of.index(at)) for mine, of, at in found]
            rows, keys = rows[~known], keys[~known]
        if len(rows):
            trunk = self._evaluation.trunk(self._network, *self._shown(rows))
            unread = torch.zeros(trunk.shape[:2], dtype=torch.bool, device=trunk.device)
            keyed = rows[:, None] if keys is None else keys
            marks = rows if keys is None else _marks(keys)
            parts.append((rows, Rows(keyed, marks, trunk, torch.empty_like(trunk), unread)))
            self.evaluated[rows] = True
        new = joined([part for _, part in parts])
        if memory is not None and keys is not None:
            memory.keep(self._network, new)
        self._rows = new if self._rows is None else joined([self._rows, new])
        self._order = torch.cat([self._order, *(rows for rows, _ in parts)])
        self._slot[self._order] = torch.arange(len(self._order), device=self._order.device)

    def _finish(self, rows: Rows, slots: Tensor, positions: Tensor) -> None:
        touched = torch.zeros_like(self._order, dtype=torch.bool).index_fill(0, slots, True)
        trunk = rows.trunk if bool(touched.all()) else rows.trunk[touched]
        sigma, context = self._shown(self._order[touched])[1:]
        where = (touched.cumsum(0) - 1)[slots], positions
        rows.hidden[slots, positions] = self._evaluation.finish(self._network, trunk, sigma, context, where)
        rows.known[slots, positions] = True

    def _shown(self, rows: Tensor) -> tuple[Tensor, Tensor | None, Context]:
        """What the network sees of rows of the batch, in this order."""
        every = len(rows) == len(self._tokens) and bool((rows[1:] > rows[:-1]).all())
        if every:
            return self._tokens, self._sigma, self._context
        return self._tokens[rows], None if self._sigma is None else self._sigma[rows], self._context.index(rows)

    def _everywhere(self) -> Positions:
        batch, length = self._tokens.shape
        rows = torch.arange(batch, device=self._tokens.device).repeat_interleave(length)
        return rows, torch.arange(length, device=rows.device).repeat(batch)


def check_compiler(device: torch.device, option: str = "compiled") -> None:
    """Refuse to compile where torch's compiler lacks a C++ compiler: that of CXX, or the platform's usual one.

    Args:
        device: where the network is.
        option: by which it was asked for.

    Raises:
        IncompatibleError: it is not there, or does not run.
    """
    if device.type != "cpu":
        return
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")  # torch looks for no other
    name = os.environ.get("CXX", usual)
    if not _runs(name):
        raise IncompatibleError(
            option,
            got=f"CXX={name}, which does not run" if "CXX" in os.environ else f"no {name}",
            expected="a C++ compiler, which torch.compile needs on a CPU",
            remedy=f"Install {usual} or name another compiler in the environment variable CXX, or leave {option} out.",
        )


def _runs(name: str) -> bool:
    if sys.platform == "win32":
        return shutil.which(name) is not None
    try:
        return subprocess.run([name, "--version"], check=False, capture_output=True).returncode == 0  # noqa: S603 - as torch does
    except OSError:
        return False


def precision_of(name: str | None) -> torch.dtype | None:
    """The dtype of autocast, or None for the weights' own.

    Raises:
        IncompatibleError: an unknown name.
    """
    if name is None:
        return None
    if name not in PRECISIONS:
        raise IncompatibleError(
            "precision", got=repr(name), expected=", ".join(map(repr, PRECISIONS)), remedy="Leave it out."
        )
    return PRECISIONS[name]


def joined(parts: Iterable[Rows]) -> Rows:
    """One after the other."""
    every = list(parts)
    if len(every) == 1:
        return every[0]
    return Rows(*(torch.cat([getattr(each, part.name) for each in every]) for part in fields(Rows)))


__all__ = ["PRECISIONS", "Evaluation", "Memory", "Readings", "Rows", "check_compiler", "joined", "precision_of"]
