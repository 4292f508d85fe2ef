"""The exact network: a joint table over all sequences, enumerated. For tests, and for teaching."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.networks.base import Context, Network
from discdiff.processes.base import Process

if TYPE_CHECKING:
    from discdiff.parameterizations import Parameterization


class Exact(Network):
    """p(x0_i | xt) ∝ Σ_{x0} p0(x0) Π_j P_σ[xt_j, x0_j], by summing over all V^L sequences in float64.

    Its hidden states are the logits of a perfect network, for whatever parameterisation the model has. A noised
    sequence that cannot occur has no posterior; all tokens are then called equally likely.

    Args:
        joint: float64 `[V] * L`, p0; non-negative, sums to 1.
        num_states: S of the process.

    Raises:
        DiscdiffError: the table is no distribution.
        IncompatibleError: by `hidden`: padding, or rows of another length than the table's.
    """

    joint: Tensor

    def __init__(self, joint: Tensor, num_states: int) -> None:
        super().__init__()
        if (
            joint.ndim < 1
            or len(set(joint.shape)) != 1
            or bool((joint < 0).any())
            or abs(float(joint.sum()) - 1) > 1e-9
        ):
            raise DiscdiffError(
                f"Exact: got shape {list(joint.shape)} and sum {float(joint.sum()):g}, expected [V] * L that sums to 1"
            )
        self.num_states = num_states
        self.register_buffer("joint", joint.double())

    @property
    def conditions_on_frozen(self) -> bool:
        return True

    @property
    def length(self) -> int:
        """L."""
        return self.joint.ndim

    def sequences(self) -> Tensor:
        """All sequences in the order of `joint.flatten()`: int64 `[V^L, L]`."""
        return torch.cartesian_prod(*[torch.arange(self.joint.shape[0])] * self.length).view(-1, self.length)

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.num_outputs = parameterization.num_outputs(process)
        self._process = [process]  # in a list: the network is no second owner of the module
        self._parameterization = parameterization

    def log_posterior(self, tokens: Tensor, sigma: Tensor, frozen: Tensor | None) -> Tensor:
        """log p(x0_i | xt), float64 `[B, L, V]`."""
        process, size = self._process[0], self.joint.shape[0]
        like = process.content(process.likelihood(tokens, sigma.double().expand(tokens.shape)))
        if frozen is not None:
            given = torch.nn.functional.one_hot(tokens.clamp(max=size - 1), size).double()
            like = torch.where(frozen[..., None], given, like)
        every = self.sequences()
        weights = self.joint.flatten() * torch.stack([like[:, j, every[:, j]] for j in range(self.length)]).prod(0)
        onehot = torch.nn.functional.one_hot(every, size).double()
        joint = torch.einsum("bk,klv->blv", weights, onehot)
        total = joint.sum(-1, keepdim=True)
        return torch.where(total > 0, joint / total, 1 / size).log()

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        padded = context.padding is not None and bool(context.padding.any())
        if padded or tokens.shape[1] != self.length:
            raise IncompatibleError(
                "Exact network",
                got="padding" if padded else f"sequences of {tokens.shape[1]} positions",
                expected=f"{self.length} positions in each row, as its table has",
                remedy="Marginalise the joint table to the length at hand.",
            )
        noise = torch.ones(len(tokens), 1, dtype=torch.float64) if sigma is None else sigma.double()
        log_denoiser = self.log_posterior(tokens, noise, context.frozen)
        return self._parameterization.encode_denoiser(self._process[0], tokens, noise, context.frozen, log_denoiser)

    def head(self, hidden: Tensor) -> Tensor:
        return hidden
