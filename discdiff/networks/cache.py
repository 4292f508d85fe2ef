"""Keys and values of finished blocks, so that block-causal sampling evaluates the current block alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from discdiff.networks.blocks import Blocks, windows


@dataclass
class _Layer:
    """What one layer keeps of all rows; allocated when it is first written.

    Attributes:
        keys, values: `[B, H, L, D]`.
        edges: what `LocalMixing` sees before each block, for each of its places in the layer: `[B, blocks, reach, D]`.
    """

    keys: Tensor | None = None
    values: Tensor | None = None
    edges: dict[int, Tensor] = field(default_factory=dict)

    def index(self, rows: Tensor) -> _Layer:
        keys, values = (None if value is None else value[rows] for value in (self.keys, self.values))
        return _Layer(keys, values, {place: edge[rows] for place, edge in self.edges.items()})


@dataclass
class _Entry:
    """All layers under one condition: guidance by labels asks for the same tokens with a label and without.

    Attributes:
        labels: int64 `[B]`, -2 for rows not seen yet; None for a network that was shown none.
        ready: int64 `[B]` on the CPU: how many positions are kept.
    """

    labels: Tensor | None
    ready: Tensor
    layers: dict[int, _Layer] = field(default_factory=dict)

    def index(self, rows: Tensor) -> _Entry:
        labels = None if self.labels is None else self.labels[rows]
        return _Entry(labels, self.ready[rows.cpu()], {k: layer.index(rows) for k, layer in self.layers.items()})


@dataclass(frozen=True)
class Cache:
    """The finished blocks of B rows, and the block that is asked for now: positions `start` to `stop` − 1.

    A network that is shown one evaluates each row from where it was left to `stop`: the block asked for and, the first
    time, the finished one before it, whose keys and values it keeps. What is finished must not change.

    `cache[rows]` shares what it keeps with the cache, so that rows can be evaluated apart from others. Where a row is
    repeated it is a copy instead: its descendants go ways of their own.

    Args:
        batch: B.
        length: positions of a row, L.
        size: positions of a block.
    """

    batch: int
    length: int
    size: int
    start: int = 0
    stop: int = 0
    rows: Tensor | None = None
    entries: list[_Entry] = field(default_factory=list)

    def window(self, start: int, stop: int) -> Cache:
        """The same cache, asked for another block."""
        return replace(self, start=start, stop=stop)

    def __getitem__(self, rows: Tensor) -> Cache:
        mine = rows if self.rows is None else self.rows[rows]
        if len(rows.unique()) == len(rows):
            return replace(self, rows=mine)
        return replace(self, batch=len(rows), rows=None, entries=[entry.index(mine) for entry in self.entries])

    def open(self, labels: Tensor | None, device: torch.device) -> Pass:
        """What one forward pass of these rows, int64 labels `[rows]` or None, reads and writes."""
        entry = next((entry for entry in self.entries if self._serves(entry, labels)), None)
        if entry is None:
            unseen = None if labels is None else labels.new_full((self.batch,), -2)
            entry = _Entry(unseen, torch.zeros(self.batch, dtype=torch.int64))
            self.entries.append(entry)
        if entry.labels is not None and labels is not None:
            entry.labels[slice(None) if self.rows is None else self.rows] = labels
        return Pass(self, entry, device)

    def _serves(self, entry: _Entry, labels: Tensor | None) -> bool:
        if labels is None or entry.labels is None:
            return labels is None and entry.labels is None
        known = entry.labels if self.rows is None else entry.labels[self.rows]
        return bool(((known == labels) | (known == -2)).all())


class Pass:
    """One forward pass over positions `start` to `stop` − 1 of some rows of a cache.

    Attributes:
        start: where the row that was left first goes on; a multiple of the block size.
        blocks: who sees whom.
    """

    def __init__(self, cache: Cache, entry: _Entry, device: torch.device) -> None:
        self.cache, self.entry = cache, entry
        mine = entry.ready if cache.rows is None else entry.ready[cache.rows.cpu()]
        self.start = min(int(mine.min()), cache.start) if len(mine) else cache.start
        self.blocks = Blocks(cache.size, cache.stop, device, self.start)

    def layer(self, number: int) -> LayerMemory:
        """What a layer, counted from 0, reads and writes."""
        return LayerMemory(self, self.entry.layers.setdefault(number, _Layer()))

    def finish(self) -> None:
        """To be called when all layers have run: the blocks before the one asked for are kept from now on."""
        rows = slice(None) if self.cache.rows is None else self.cache.rows.cpu()
        self.entry.ready[rows] = self.cache.start


class LayerMemory:
    """What one layer reads and writes in a pass."""

    def __init__(self, through: Pass, layer: _Layer) -> None:
        self.through, self.layer = through, layer

    def with_earlier(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values `[R, H, M, D]` of this pass's positions, behind those of all earlier ones."""
        cache, start, layer = self.through.cache, self.through.start, self.layer
        if layer.keys is None or layer.values is None:
            shape = (cache.batch, keys.shape[1], cache.length, keys.shape[3])
            layer.keys, layer.values = keys.new_empty(shape), values.new_empty(shape)
        rows = slice(None) if cache.rows is None else cache.rows
        layer.keys[rows, :, start : cache.stop] = keys.detach()
        layer.values[rows, :, start : cache.stop] = values.detach()
        return layer.keys[rows, :, : cache.stop], layer.values[rows, :, : cache.stop]

    def before(self, place: int, reach: int) -> Callable[[Tensor], Tensor]:
        """What lies `reach` positions to the left of a pass's first one, `[R, reach, D]`, at one of the layer's places.

        It is given what is there now, `[R, M, D]`, and keeps the edges of the blocks that are finished.
        """
        cache, edges = self.through.cache, self.layer.edges
        first, last = self.through.start // cache.size, cache.start // cache.size
        rows = slice(None) if cache.rows is None else cache.rows

        def left(x: Tensor) -> Tensor:
            if place not in edges:
                blocks = -(-cache.length // cache.size)
                edges[place] = x.new_zeros(cache.batch, blocks, reach, x.shape[-1])
            edge: Tensor = edges[place][rows, first]
            if last > first:
                whole = windows(torch.cat((edge, x.detach()), 1), reach, cache.size)
                edges[place][rows, first + 1 : last + 1] = whole[:, 1 : last - first + 1]
            return edge

        return left
