"""The optimisers of training: AdamW, and Muon for the matrices inside the network with AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from discdiff.errors import ConfigError
from discdiff.model import Diffusion

OptimizerName = Literal["muon", "adamw"]
Groups = list[dict[str, Any]]


def make_optimizer(
    name: OptimizerName,
    model: Diffusion,
    *,
    learning_rate: float,
    betas: tuple[float, float],
    weight_decay: float,
    fused: bool,
) -> torch.optim.Optimizer:
    """The optimiser called `name` over the model's trained parameters.

    Args:
        name: "adamw" (Loshchilov and Hutter 2019), or "muon": orthogonalised momentum (Jordan 2024) on the matrices
            that the network names as `hidden_matrices`, AdamW on embeddings, head, norms and biases. Muon's steps are
            scaled to the root mean square of AdamW's (Liu et al. 2025, section 2.2), so one rate serves both.
        learning_rate, betas, weight_decay: the decay is decoupled and acts on matrices only.
        fused: use torch's fused AdamW.

    Raises:
        ConfigError: unknown name.
    """
    check_optimizer(name)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def adamw(parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
        groups = _by_decay(parameters, weight_decay)
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=fused)

    def muon(parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
        inside = {id(matrix) for matrix in model.network.hidden_matrices()}
        matrices = [p for p in parameters if id(p) in inside]
        if not matrices:
            return adamw(parameters)
        scaled = torch.optim.Muon(matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        return Together([scaled, adamw([p for p in parameters if id(p) not in inside])])

    makers: dict[str, Callable[[Sequence[Tensor]], torch.optim.Optimizer]] = {"muon": muon, "adamw": adamw}
    return makers[name](trained)


def check_optimizer(name: str) -> None:
    """Refuse an unknown optimiser.

    Raises:
        ConfigError: what there is.
    """
    if name not in get_args(OptimizerName):
        raise ConfigError(f"optimizer: got {name!r}, expected {' or '.join(map(repr, get_args(OptimizerName)))}")


def _by_decay(parameters: Sequence[Tensor], weight_decay: float) -> Groups:
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def state_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All tensors that an optimiser keeps between steps; none before its first."""
    parts = optimizer.parts if isinstance(optimizer, Together) else [optimizer]
    states = (state for part in parts for state in part.state.values())
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]


class Together(torch.optim.Optimizer):
    """Several optimisers of disjoint parameters, stepped, saved and scheduled as one.

    Its `param_groups` are theirs, the same objects, so a learning-rate schedule reaches all of them.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([{"params": group["params"]} for part in parts for group in part.param_groups], {})
        self._share_groups()

    def _share_groups(self) -> None:
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of each."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of the parts, numbered."""
        return {str(i): part.state_dict() for i, part in enumerate(self.parts)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give each part its state back."""
        for i, part in enumerate(self.parts):
            part.load_state_dict(state_dict[str(i)])
        self._share_groups()
