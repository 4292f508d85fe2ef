"""`Diffusion`: a network, a process, a schedule and a parameterisation, checked against one another once."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from discdiff.errors import IncompatibleError, check_type
from discdiff.logits import LazyLogits
from discdiff.networks.base import Context, Network
from discdiff.parameterizations import Parameterization
from discdiff.prediction import Prediction
from discdiff.processes.base import Process
from discdiff.schedules import Schedule


class Model(Protocol):
    """What losses, samplers and likelihoods need of a model; guidance wraps one and offers the same."""

    @property
    def process(self) -> Process: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def time_conditioned(self) -> bool: ...
    @property
    def exact_clamps(self) -> bool: ...
    @property
    def block_size(self) -> int | None: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def device(self) -> torch.device: ...
    def predict(self, tokens: Tensor, sigma: Tensor, context: Context | None = None) -> Prediction: ...


class Diffusion(nn.Module):
    """A discrete diffusion model.

    Args:
        network: shown noised tokens; its head is sized here.
        process: the forward process; `network.num_states` must equal `process.num_states`.
        schedule: σ(t).
        parameterization: what the network's logits mean.

    Raises:
        IncompatibleError: the parts do not fit together.
    """

    process: Process
    network: Network

    def __init__(
        self, network: Network, process: Process, schedule: Schedule, parameterization: Parameterization
    ) -> None:
        super().__init__()
        for name, part, kind in (
            ("network", network, Network), ("process", process, Process), ("schedule", schedule, Schedule),
            ("parameterization", parameterization, Parameterization),
        ):  # fmt: skip
            check_type(f"Diffusion: {name}", part, kind, "They come as network, process, schedule, parameterization.")
        if network.num_states != process.num_states:
            raise IncompatibleError(
                "Network and process",
                got=f"a network of {network.num_states} states",
                expected=f"{process.num_states} ({type(process).__name__} over {process.vocab_size} tokens)",
                remedy="Build the network with process.num_states.",
            )
        parameterization.check(process)
        network.configure(process, parameterization)
        self.network, self.process = network, process
        self.schedule, self.parameterization = schedule, parameterization

    @property
    def time_conditioned(self) -> bool:
        """Whether the network is shown σ."""
        return self.parameterization.time_conditioned

    @property
    def exact_clamps(self) -> bool:
        """Whether given positions are told from noise: by the tokens themselves, or by a network that learned to."""
        return self.process.reveals_noise or self.network.conditions_on_frozen

    @property
    def block_size(self) -> int | None:
        """Positions of a block, where the network is block-causal: it sees earlier blocks clean, and no later ones."""
        return self.network.block_size

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of noise levels and probabilities: that of the weights, float32 at least."""
        dtype = next((p.dtype for p in self.parameters()), torch.float64)
        return dtype if dtype in (torch.float32, torch.float64) else torch.float32

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def predict(self, tokens: Tensor, sigma: Tensor, context: Context | None = None) -> Prediction:
        """What the network says about `tokens` at noise `sigma`; it runs when the prediction is read.

        Args:
            tokens: int64 `[B, L]`.
            sigma: `[B, 1]`, or `[B, L]` where positions differ. A time-conditioned network is shown it clipped to the
                schedule's ends, the range that it was trained on.
            context: frozen positions, padding, labels and the like.
        """
        context = context or Context()
        frozen = context.frozen
        shown = replace(context, evaluation=None)
        if self.process.reveals_noise and frozen is not None:
            shown = replace(shown, frozen=None)
        seen = sigma.clamp(*self.schedule.ends()) if self.time_conditioned else None
        logits = LazyLogits(self.network, tokens, seen, shown, context.evaluation)
        return self.parameterization.predict(self.process, tokens, sigma, frozen, logits)

    def forward(self, tokens: Tensor, sigma: Tensor, context: Context | None = None) -> Prediction:
        """The same as `predict`."""
        return self.predict(tokens, sigma, context)
