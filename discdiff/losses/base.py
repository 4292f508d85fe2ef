"""What every loss is: an estimate, per sequence, of a bound on −log p(x0) in nats."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from discdiff.errors import IncompatibleError
from discdiff.model import Model
from discdiff.networks.base import Context
from discdiff.networks.packing import Packing
from discdiff.processes.absorbing import Absorbing
from discdiff.randomness import Randomness
from discdiff.sequences import Sequences


class Loss(ABC):
    """A training objective.

    Called with a model and clean sequences, it corrupts them and returns nats per sequence, float `[B]`, summed over
    positions; padding is never counted. Divide by tokens for nats per token; where batches are sorted by length, by the
    training set's mean length, so that a token weighs the same in every batch.

    Attributes:
        by_blocks: whether it shows a network earlier blocks clean, as a block-causal one needs.
    """

    by_blocks: bool = False

    def check(self, model: Model) -> None:
        """Refuse a model that the loss does not fit.

        Raises:
            IncompatibleError: got, expected, remedy.
        """
        return

    @abstractmethod
    def __call__(self, model: Model, sequences: Sequences, *, generator: Randomness) -> Tensor:
        """Nats per sequence, `[B]`, differentiable.

        Args:
            model: what is trained.
            sequences: clean sequences.
            generator: where times and noise come from.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def check_loss(loss: Loss, model: Model) -> None:
    """Refuse, before anything runs, a model that the loss does not fit, or whose blocks it does not know of.

    Raises:
        IncompatibleError: got, expected, remedy.
    """
    if model.block_size is not None and not loss.by_blocks:
        raise IncompatibleError(
            f"{type(loss).__name__} loss",
            got="a block-causal network (network.block_size)",
            expected="one that sees the whole row",
            remedy="Train with losses.Blockwise (--loss Blockwise), or leave network.block_size out.",
        )
    loss.check(model)


def absorbing(model: Model, loss: object) -> Absorbing:
    """The model's process, if it has a mask."""
    if not isinstance(model.process, Absorbing):
        raise IncompatibleError(
            f"{type(loss).__name__} loss",
            got=type(model.process).__name__,
            expected="the absorbing process",
            remedy="Use ScoreEntropy, which serves every process.",
        )
    return model.process


def context_of(sequences: Sequences) -> Context:
    """Padding, labels and given positions of a batch; padding is left out where there is none."""
    lengths, (rows, width) = sequences.lengths, sequences.tokens.shape
    known = sequences.known_lengths  # a GPU would make us wait for their sum
    total = int((lengths if known is None else known).sum())
    padded = total < rows * width
    return Context(
        padding=sequences.padding if padded else None,
        labels=sequences.labels,
        frozen=sequences.given,
        packing=Packing.of(lengths, width, total) if padded else None,
    )
