"""Published runs, replayed: their random numbers in the place of ours, their networks' outputs in the place of one.

Losses and samplers then run as they stand, on the same noise and the same predictions as the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from discdiff.networks.base import Context, Network
from discdiff.networks.transformer import Transformer
from discdiff.parameterizations import Parameterization
from discdiff.prediction import DenoiserPrediction, Positions, ScorePrediction
from discdiff.processes.absorbing import Absorbing
from discdiff.processes.base import Process
from discdiff.randomness import Keys
from discdiff.samplers import Level
from discdiff.schedules import Schedule
from tests.conftest import GoldenCase

Golden = Callable[[str], GoldenCase]

ALMOST_ONE = 1 - 2.0**-53


@dataclass(frozen=True)
class Given(Keys):
    """Randomness that gives the numbers it was given: `numbers[purpose]`, in [0, 1)."""

    numbers: dict[str, Tensor] = field(default_factory=dict)

    def uniform(self, shape: tuple[int, ...], purpose: str, dtype: torch.dtype) -> Tensor:
        return self.numbers[purpose].to(dtype).reshape(shape)

    def shared_uniform(self, purpose: str) -> Tensor:
        return self.numbers["shared " + purpose].double()


def given(**numbers: Tensor) -> Given:
    """`given(time=u)`; "corrupt token" is written `corrupt_token`."""
    named = {purpose.replace("_", " "): values.double() for purpose, values in numbers.items()}
    return Given(seed=0, rows=torch.zeros(0, dtype=torch.int64), numbers=named)


def hiding(xt: Tensor, process: Absorbing) -> Tensor:
    """Uniform numbers for which `process.corrupt` masks what is masked in `xt`, and nothing else."""
    return torch.where(xt == process.mask_id, 0.0, ALMOST_ONE).double()


def masks_at(xt: Tensor, process: Absorbing, **numbers: Tensor) -> Given:
    """Randomness by which the masks of `xt` are drawn."""
    u = hiding(xt, process)
    return given(corrupt=u, corrupt_token=u, mask=u, **numbers)


def points_of(t: Tensor, schedule: Schedule) -> Tensor:
    """The points of [0, 1) for which a loss takes the times `t`."""
    return (t.double() - schedule.t_min) / (1 - schedule.t_min)


class Said(Network):
    """A network that says the given logits `[B, L, outputs]` of the given `xt` `[B, L]`, and knows no other input."""

    def __init__(self, xt: Tensor, logits: Tensor, process: Process) -> None:
        super().__init__()
        self.xt, self.logits, self.num_states = xt, logits, process.num_states

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        self.num_outputs = parameterization.num_outputs(process)
        assert self.logits.shape == (*self.xt.shape, self.num_outputs)

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        same = (tokens[:, None] == self.xt).all(-1)
        assert bool(same.any(-1).all()), "asked about a sequence that the reference has not seen"
        return self.logits[same.int().argmax(-1)]

    def head(self, hidden: Tensor) -> Tensor:
        return hidden


class Untimed(Network):
    """A time-conditioned transformer that is always shown σ = 0, as MDLM does without time conditioning."""

    def __init__(self, inner: Transformer) -> None:
        super().__init__()
        self.inner, self.num_states, self.num_outputs = inner, inner.num_states, inner.num_outputs

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        assert parameterization.num_outputs(process) == self.num_outputs

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        zero = torch.zeros(len(tokens), 1, dtype=self.inner.output.weight.dtype)
        return self.inner.hidden(tokens, zero, context)

    def head(self, hidden: Tensor) -> Tensor:
        return self.inner.head(hidden)


def _reader(values: Tensor) -> Callable[[Positions | None], Tensor]:
    return lambda where: values if where is None else values[where]


def scored(process: Process, x: Tensor, sigma: Tensor, log_score: Tensor) -> ScorePrediction:
    """What a network that says `log_score` `[B, L, S]` predicts."""
    return ScorePrediction(process, x, sigma, None, log_s=_reader(log_score), calls=lambda: torch.zeros(len(x)).long())


def denoised(process: Process, x: Tensor, sigma: Tensor, log_p: Tensor) -> DenoiserPrediction:
    """What a network that says the posterior `log_p` `[B, L, V]` predicts."""
    return DenoiserPrediction(process, x, sigma, None, log_p=_reader(log_p), calls=lambda: torch.zeros(len(x)).long())


def posterior_of(leave_one_out: Tensor, process: Process, x: Tensor, sigma: Tensor) -> Tensor:
    """log p(x0 | xt), up to a constant, of log p(x0_i | xt without position i): times P_σ[xt_i, x0]."""
    return leave_one_out.log_softmax(-1) + process.content(process.likelihood(x, sigma.expand(x.shape))).log()


def level(schedule: Schedule, t: float, s: float | None = None) -> Level:
    """The interval from t down to s, or to the clean sequence (σ = 0)."""
    times = torch.tensor([t, t if s is None else s], dtype=torch.float64)
    sigma, rate = schedule.total_noise(times).tolist(), schedule.noise_rate(times).tolist()
    return Level(t, s or 0.0, sigma[0], 0.0 if s is None else sigma[1], rate[0])


def normalized(weights: Tensor) -> Tensor:
    """The law that a published sampler draws from: what is negative can't win, and scale plays no part."""
    positive = weights.clamp(min=0)
    return positive / positive.sum(-1, keepdim=True)


def winners(weights: Tensor, u: Tensor) -> Tensor:
    """Draw as SEDD, RADD and MDLM do: argmax of p / (1e-10 − log(u + 1e-10)), u one a state."""
    return (weights / (1e-10 - torch.log(u.double() + 1e-10))).argmax(-1)


def close(ours: Tensor, theirs: Tensor, *, rtol: float = 1e-9, atol: float = 0.0) -> None:
    """Equal to float tolerance, in the dtype of `theirs`."""
    torch.testing.assert_close(ours.to(theirs.dtype), theirs, rtol=rtol, atol=atol)
