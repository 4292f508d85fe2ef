"""What a score network says before it has learned anything: the score of knowing nothing of x0."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from discdiff.model import Diffusion
from discdiff.networks.base import Context
from discdiff.parameterizations import Parameterization, Score
from discdiff.processes import Process
from discdiff.schedules import LogLinear
from tests.cases import PROCESSES
from tests.toy_networks import ToyNetwork

VOCAB = 3


class Silent(ToyNetwork):
    """Logits of zero."""

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.num_states = num_states

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.num_outputs = parameterization.num_outputs(process)

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        return torch.zeros(*tokens.shape, self.num_outputs, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [1e-5, 0.3, 2.0, 20.0])
@pytest.mark.parametrize("name", PROCESSES)
def test_silence_knows_nothing(name: str, sigma: float) -> None:
    """s_y = p(xt = y) / p(xt = x) by SciPy, x0 uniform where there is a mask and ~ π elsewhere; 1e-9."""
    process = PROCESSES[name].make(VOCAB)
    states, limit = process.num_states, PROCESSES[name].limit(process.num_states)
    x0 = limit[:VOCAB] / limit[:VOCAB].sum() if process.mask_id is None else np.full(VOCAB, 1 / VOCAB)
    q = PROCESSES[name].transition(VOCAB, sigma)[:, :VOCAB] @ x0
    x = torch.arange(states)[None]
    level = torch.full((1, 1), sigma, dtype=torch.float64)
    model = Diffusion(Silent(states), process, LogLinear(), Score())
    found = model.predict(x, level).log_score()[0].exp().numpy()
    for state in range(states):
        if bool(process.active(torch.tensor(state))):
            others = [y for y in range(VOCAB) if y != state]
            np.testing.assert_allclose(found[state, others], q[others] / q[state], rtol=1e-9)


@pytest.mark.parametrize("name", [name for name, case in PROCESSES.items() if not case.masked])
def test_silence_at_much_noise_is_the_marginal_ratio(name: str) -> None:
    """At σ = 40: log s_y = log π_y − log π_x, all states; and its score entropy there is nothing, 1e-12."""
    process = PROCESSES[name].make(VOCAB)
    pi = PROCESSES[name].limit(process.num_states)
    x = torch.arange(process.num_states)[None]
    model = Diffusion(Silent(process.num_states), process, LogLinear(), Score())
    prediction = model.predict(x, torch.full((1, 1), 40.0, dtype=torch.float64))
    np.testing.assert_allclose(prediction.log_score()[0], np.log(pi) - np.log(pi)[:, None], atol=1e-9)
    where = (torch.zeros_like(x[0]), x[0])
    for clean in range(VOCAB):
        cost = prediction.score_entropy(torch.full_like(x, clean), where)
        assert float(cost.max()) < 1e-12
