"""What every network offers: hidden states, a head, and the context it is shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from discdiff.networks.evaluation import Evaluation
    from discdiff.parameterizations import Parameterization
    from discdiff.processes.base import Process


@dataclass(frozen=True)
class Context:
    """All that a network may see beside the tokens and the noise. Every field is optional and has a row axis.

    Attributes:
        frozen: bool `[B, L]`: positions that are given, hence clean.
        padding: bool `[B, L]`: positions that are not attended to.
        segments: int64 `[B, L]`: packed sequences attend only within their own segment.
        positions: int64 `[B, L]`: position ids, where they are not 0 .. L-1.
        labels: int64 `[B]`: class labels; -1 is the null label of an unconditional row.
        properties: float `[B, P]`: continuous properties.
        evaluation: how the network is run, in sampling; it has no row axis, and the network is not shown it.
    """

    frozen: Tensor | None = None
    padding: Tensor | None = None
    segments: Tensor | None = None
    positions: Tensor | None = None
    labels: Tensor | None = None
    properties: Tensor | None = None
    evaluation: Evaluation | None = None

    def index(self, rows: Tensor) -> Context:
        """The context of some rows."""
        chosen = {f.name: getattr(self, f.name) for f in fields(self)}
        of_rows: dict[str, Any] = {name: value[rows] for name, value in chosen.items() if isinstance(value, Tensor)}
        return replace(self, **of_rows)


class Network(nn.Module, ABC):
    """A network maps noised tokens to hidden states, and hidden states of the positions asked for to logits.

    Attributes:
        num_states: S, the states of one position (content tokens, plus the mask where the process has one).
        num_outputs: columns of the head, known after `configure`.
    """

    num_states: int
    num_outputs: int

    @abstractmethod
    def configure(self, process: Process, parameterization: Parameterization) -> None:
        """Size the head and switch time conditioning, once, when a `Diffusion` takes the network.

        The head gets `parameterization.num_outputs(process)` columns; `sigma` is used if
        `parameterization.time_conditioned`.
        """

    @property
    def conditions_on_frozen(self) -> bool:
        """Whether the network has learned what `Context.frozen` says."""
        return False

    def hidden_matrices(self) -> list[nn.Parameter]:
        """Weights `[out, in]` that map hidden states to hidden states: what an optimiser of matrices may take."""
        return []

    @abstractmethod
    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        """Hidden states after the last norm, `[B, L, D]`.

        Args:
            tokens: int64 `[B, L]`.
            sigma: `[B, 1]` or `[B, L]` total noise, or None for a time-free network.
            context: what else the network may see.
        """

    def trunk(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        """What `finish` starts from, `[B, L, D]` as `hidden`: before what can be worked out at some positions only.

        `finish(trunk(tokens, ...), ..., where)` is `hidden(tokens, ...)[where]`: for sampling, where few positions of
        a row are read. By default the trunk is all, and nothing is left to finish.
        """
        return self.hidden(tokens, sigma, context)

    def finish(self, trunk: Tensor, sigma: Tensor | None, context: Context, where: tuple[Tensor, Tensor]) -> Tensor:
        """Hidden states `[N, D]` at N positions of a trunk, `sigma` and `context` those that it was made with."""
        return trunk[where]

    @abstractmethod
    def head(self, hidden: Tensor) -> Tensor:
        """Logits `[..., num_outputs]` of hidden states `[..., D]`, at least float32."""
