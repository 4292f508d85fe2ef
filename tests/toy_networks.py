"""Networks over toys: remembered, wrong on purpose, of several lengths."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping

import torch
from torch import Tensor

from discdiff.guidance import Temperature
from discdiff.model import Model
from discdiff.networks.base import Context, Network
from discdiff.networks.exact import Exact
from discdiff.parameterizations import Parameterization
from discdiff.prediction import Prediction
from discdiff.processes import Process
from tests.toys import Toy, every_sequence, index_of


class ToyNetwork(Network, ABC):
    """What toys share: they answer with logits at once, and know what is frozen, as the enumerated network does."""

    @property
    def conditions_on_frozen(self) -> bool:
        return True

    def head(self, hidden: Tensor) -> Tensor:
        return hidden


class Tabulated(ToyNetwork):
    """Another network's answers, computed once for all S^L inputs at each noise level: the same, and fast.

    Where rows differ in noise or in what is frozen, it asks the network itself.
    """

    def __init__(self, inner: Network, length: int) -> None:
        super().__init__()
        self.inner, self.num_states, self.length = inner, inner.num_states, length
        self._tables: dict[tuple[float | None, tuple[int, ...] | None], Tensor] = {}

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.inner.configure(process, parameterization)
        self.num_outputs = self.inner.num_outputs

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        frozen = context.frozen
        alike = sigma is None or bool((sigma == sigma[0, 0]).all())
        if not alike or (frozen is not None and not bool((frozen == frozen[0]).all())) or context.padding is not None:
            return self.inner.hidden(tokens, sigma, context)
        key = (None if sigma is None else float(sigma[0, 0]), None if frozen is None else tuple(frozen[0].tolist()))
        if key not in self._tables:
            every = torch.from_numpy(every_sequence(self.num_states, self.length))
            level = None if sigma is None else sigma[:1, :1].expand(len(every), 1)
            shown = Context(frozen=None if frozen is None else frozen[:1].expand(len(every), -1))
            self._tables[key] = self.inner.hidden(every, level, shown)
        return self._tables[key][index_of(tokens, self.num_states)]


class Wrong(ToyNetwork):
    """A network that errs: the exact one plus fixed random logits, which change with the noise where it is shown."""

    def __init__(self, toy: Toy, num_states: int, strength: float = 0.5, seed: int = 7) -> None:
        super().__init__()
        self.exact, self.num_states = Exact(torch.from_numpy(toy.joint), num_states), num_states
        self.strength, self.seed = strength, seed

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.exact.configure(process, parameterization)
        self.num_outputs = self.exact.num_outputs
        draw = torch.Generator().manual_seed(self.seed)
        shape = (2, self.num_states**self.exact.length, self.exact.length, self.num_outputs)
        self._error = self.strength * torch.randn(shape, generator=draw, dtype=torch.float64)

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        still, moving = self._error[:, index_of(tokens, self.num_states)]
        error = still if sigma is None else still + moving * torch.exp(-sigma.double())[..., None]
        return self.exact.hidden(tokens, sigma, context) + error


class Sure(ToyNetwork):
    """A network that calls one token e² times as likely as any other, whatever it sees."""

    def __init__(self, num_states: int, token: int) -> None:
        super().__init__()
        self.num_states, self.token = num_states, token

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.num_outputs = parameterization.num_outputs(process)

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        said = torch.zeros(*tokens.shape, self.num_outputs, dtype=torch.float64)
        said[..., self.token] = 2.0
        return said


class ByLength(ToyNetwork):
    """A network for each length; a row's padding says which one it meets, and is shown to none."""

    def __init__(self, networks: Mapping[int, Network]) -> None:
        super().__init__()
        self.networks = dict(networks)
        self.num_states = next(iter(self.networks.values())).num_states

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        for network in self.networks.values():
            network.configure(process, parameterization)
        self.num_outputs = parameterization.num_outputs(process)

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        lengths = torch.full((len(tokens),), tokens.shape[1])
        if context.padding is not None:
            lengths = (~context.padding).sum(-1)
        # NaN at padding: whoever reads it is found out.
        out = torch.full((*tokens.shape, self.num_outputs), torch.nan, dtype=torch.float64)
        for length, network in self.networks.items():
            rows = (lengths == length).nonzero()[:, 0]
            if len(rows):
                frozen = None if context.frozen is None else context.frozen[rows, :length]
                level = None if sigma is None else sigma[rows]
                out[rows, :length] = network.hidden(tokens[rows, :length], level, Context(frozen=frozen))
        return out


class Blocked(ToyNetwork):
    """Another network that is shown, for each block, clean tokens before it and masks after it."""

    def __init__(self, inner: Network, block_size: int) -> None:
        super().__init__()
        self.inner, self.block_size, self.num_states = inner, block_size, inner.num_states

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.inner.configure(process, parameterization)
        self.num_outputs = self.inner.num_outputs

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        place = torch.arange(tokens.shape[1])
        assert self.block_size is not None
        if context.cache is not None:
            start, stop = context.cache.start, context.cache.stop
            shown = torch.where(place >= stop, self.num_states - 1, tokens)
            return self.inner.hidden(shown, sigma, Context())[:, start:stop]
        assert context.clean is not None
        parts = []
        for start in range(0, tokens.shape[1], self.block_size):
            stop = start + self.block_size
            shown = torch.where(place < start, context.clean, tokens)
            level = None if sigma is None else sigma.expand(tokens.shape)[:, start : start + 1]
            said = self.inner.hidden(torch.where(place >= stop, self.num_states - 1, shown), level, Context())
            parts.append(said[:, start:stop])
        return torch.cat(parts, 1)


class Single(ToyNetwork):
    """Another network in float32: its model works in float32 throughout."""

    def __init__(self, inner: Network) -> None:
        super().__init__()
        self.inner, self.num_states = inner, inner.num_states
        self.scale = torch.nn.Parameter(torch.ones(()))

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.inner.configure(process, parameterization)
        self.num_outputs = self.inner.num_outputs

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        return self.inner.hidden(tokens, sigma, context).float()

    def head(self, hidden: Tensor) -> Tensor:
        return hidden * self.scale


class Watched(Temperature):
    """A model that keeps what it is shown: mask fractions as noise levels say them, and the share of masks in rows."""

    def __init__(self, model: Model) -> None:
        super().__init__(model, 1.0)
        self.shown: list[torch.Tensor] = []
        self.masked: list[torch.Tensor] = []

    def predict(self, tokens: torch.Tensor, sigma: torch.Tensor, context: Context | None = None) -> Prediction:
        self.shown.append(-torch.expm1(-sigma[:, 0].double()))
        self.masked.append((tokens == self.process.num_states - 1).double().mean(-1))
        return super().predict(tokens, sigma, context)
