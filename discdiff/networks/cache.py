"""Keys and values of finished blocks, so that block-causal sampling evaluates the current block alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from discdiff.networks.blocks import windows


@dataclass
class Layer:
    """What one layer keeps of all rows; allocated when it is first written.

    Attributes:
        keys, values: `[B, H, L, D]`.
        edges: what `LocalMixing` sees before each block, for each of its places in the layer: `[B, blocks, reach, D]`.
    """

    keys: Tensor | None = None
    values: Tensor | None = None
    edges: dict[int, Tensor] = field(default_factory=dict)

    def index(self, rows: Tensor) -> Layer:
        """A copy of some rows."""
        keys, values = (None if value is None else value[rows] for value in (self.keys, self.values))
        return Layer(keys, values, {place: edge[rows] for place, edge in self.edges.items()})


@dataclass
class Entry:
    """All layers under one condition: guidance by labels asks for the same tokens with a label and without.

    Attributes:
        labels: int64 `[B]`, -2 for rows not seen yet; None for a network that was shown none.
        ready: int64 `[B]` on the CPU: how many positions are kept.
    """

    labels: Tensor | None
    ready: Tensor
    layers: dict[int, Layer] = field(default_factory=dict)

    def layer(self, number: int) -> Layer:
        """What a layer, counted from 0, keeps."""
        return self.layers.setdefault(number, Layer())

    def index(self, rows: Tensor) -> Entry:
        """A copy of some rows."""
        labels = None if self.labels is None else self.labels[rows]
        return Entry(labels, self.ready[rows.cpu()], {k: layer.index(rows) for k, layer in self.layers.items()})


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
    entries: list[Entry] = field(default_factory=list)

    def window(self, start: int, stop: int) -> Cache:
        """The same cache, asked for another block."""
        return replace(self, start=start, stop=stop)

    def __getitem__(self, rows: Tensor) -> Cache:
        mine = rows if self.rows is None else self.rows[rows]
        if len(rows.unique()) == len(rows):
            return replace(self, rows=mine)
        return replace(self, batch=len(rows), rows=None, entries=[entry.index(mine) for entry in self.entries])

    def entry(self, labels: Tensor | None) -> Entry:
        """What is kept of these rows under their labels, int64 `[rows]` or None."""
        entry = next((entry for entry in self.entries if self._serves(entry, labels)), None)
        if entry is None:
            unseen = None if labels is None else labels.new_full((self.batch,), -2)
            entry = Entry(unseen, torch.zeros(self.batch, dtype=torch.int64))
            self.entries.append(entry)
        if entry.labels is not None and labels is not None:
            entry.labels[slice(None) if self.rows is None else self.rows] = labels
        return entry

    def ready(self, entry: Entry) -> int:
        """How many positions are kept of all of these rows."""
        mine = entry.ready if self.rows is None else entry.ready[self.rows.cpu()]
        return min(int(mine.min()), self.start) if len(mine) else self.start

    def keep(self, entry: Entry) -> None:
        """To be called when all layers have written: all before the block that is asked for is kept from now on."""
        entry.ready[slice(None) if self.rows is None else self.rows.cpu()] = self.start

    def _serves(self, entry: Entry, labels: Tensor | None) -> bool:
        if labels is None or entry.labels is None:
            return labels is None and entry.labels is None
        known = entry.labels if self.rows is None else entry.labels[self.rows]
        return bool(((known == labels) | (known == -2)).all())


class LayerMemory:
    """What one layer reads and writes in a pass over positions `first` to `cache.stop` − 1."""

    def __init__(self, cache: Cache, layer: Layer, first: int) -> None:
        self.cache, self.layer, self.first = cache, layer, first

    def with_earlier(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values `[R, H, M, D]` of this pass's positions, behind those of all earlier ones."""
        cache, start, layer = self.cache, self.first, self.layer
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
        cache, edges = self.cache, self.layer.edges
        first, last = self.first // cache.size, cache.start // cache.size
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
