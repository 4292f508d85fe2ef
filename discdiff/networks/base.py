"""What every network offers: hidden states, a head, and the context it is shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from discdiff.errors import IncompatibleError
from discdiff.networks.cache import Cache
from discdiff.networks.packing import Packing

if TYPE_CHECKING:
    from discdiff.networks.evaluation import Evaluation
    from discdiff.networks.linear_head import LinearHead
    from discdiff.parameterizations import Parameterization
    from discdiff.processes.base import Process


@dataclass(frozen=True)
class Context:
    """All that a network may see beside the tokens and the noise. Every field is optional; all but `packing` have a row
    axis.

    Attributes:
        frozen: bool `[B, L]`: positions that are given, hence clean.
        padding: bool `[B, L]`: positions that are not attended to.
        segments: int64 `[B, L]`: packed sequences attend only within their own segment.
        positions: int64 `[B, L]`: position ids, where they are not 0 .. L-1.
        labels: int64 `[B]`: class labels; -1 is the null label of an unconditional row.
        properties: float `[B, P]`: continuous properties.
        packing: where the tokens that are not padding lie, with which a network may leave the padding out. It says
            what `padding` says, and needs it beside it.
        clean: int64 `[B, L]`: what a block-causal network sees of the blocks before each position's own: the clean
            sequence, in training.
        cache: the same, in sampling: the blocks that are finished, and which one is asked for.
        evaluation: how the network is run, in sampling; it has no row axis, and the network is not shown it.
    """

    frozen: Tensor | None = None
    padding: Tensor | None = None
    segments: Tensor | None = None
    positions: Tensor | None = None
    labels: Tensor | None = None
    properties: Tensor | None = None
    packing: Packing | None = None
    clean: Tensor | None = None
    cache: Cache | None = None
    evaluation: Evaluation | None = None

    def index(self, rows: Tensor) -> Context:
        """The context of some rows. It has no packing: to count their tokens might mean to wait for a device."""
        whole = {"packing", "evaluation"}
        chosen = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in whole}
        of_rows = {name: value[rows] for name, value in chosen.items() if value is not None}
        return replace(self, packing=None, **of_rows)

    def packed(self) -> Context:
        """What is said of positions, for the tokens of `packing` alone: fields `[1, T]`, and positions within rows."""
        packing = self.packing
        assert packing is not None
        assert self.segments is None, "segments are packed otherwise"
        positions = packing.positions if self.positions is None else packing.pack(self.positions)
        frozen = None if self.frozen is None else packing.pack(self.frozen)
        return replace(self, frozen=frozen, positions=positions, padding=None)


class Network(nn.Module, ABC):
    """A network maps noised tokens to hidden states, and hidden states of the positions asked for to logits.

    Attributes:
        num_states: S, the states of one position (content tokens, plus the mask where the process has one).
        num_outputs: columns of the head, known after `configure`.
        block_size: positions of a block, of a block-causal network: one that sees, beside the block of a position, only
            those before it, clean. None: every position sees every other.
    """

    num_states: int
    num_outputs: int
    block_size: int | None = None

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

    def checkpoint_gradients(self, on: bool) -> None:
        """Keep only each block's input for the backward pass and compute the rest again there, or stop doing so.

        Raises:
            IncompatibleError: asked of a network without blocks.
        """
        if on:
            raise IncompatibleError(
                "gradient checkpointing",
                got=type(self).__name__,
                expected="a network of blocks, such as Transformer",
                remedy="Leave it out: gradient_checkpointing=False",
            )

    def check_training(self, device: torch.device, dtype: torch.dtype) -> None:
        """Refuse a device, or a dtype of the layers, on which the network cannot be trained; nothing runs.

        Raises:
            IncompatibleError: got, expected, remedy.
        """
        return

    def leaves_out_padding(self, device: torch.device) -> bool:
        """Whether `hidden` computes nothing for padding, given a context with a `packing`."""
        return False

    def linear_head(self) -> LinearHead | None:
        """The head's weights where it is a plain linear map, so that losses need not hold its logits; else None."""
        return None

    @abstractmethod
    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        """Hidden states after the last norm, `[B, L, D]`.

        Args:
            tokens: int64 `[B, L]`.
            sigma: `[B, 1]` or `[B, L]` total noise, or None for a time-free network.
            context: what else the network may see. With a cache the states are those of the positions that it asks for.
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
