"""Models as JSON values and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from discdiff.description import build, class_path, describe
from discdiff.errors import ConfigError
from discdiff.model import Diffusion
from discdiff.networks.transformer import Transformer
from discdiff.parameterizations import Conditional, Denoiser, Parameterization, Score
from discdiff.processes.absorbing import Absorbing
from discdiff.processes.uniform import Uniform
from discdiff.samplers import Ancestral, Blockwise
from discdiff.schedules import Cosine, Geometric, LogLinear, Schedule


def model(**options: Any) -> Diffusion:
    process = Absorbing(5)
    network = Transformer(process.num_states, dim=16, depth=1, heads=2, **options)
    return Diffusion(network, process, LogLinear(eps=2e-3), Conditional())


@pytest.mark.parametrize(
    "part",
    [
        Absorbing(7), Uniform(3), LogLinear(1e-4), Geometric(1e-3, 15.0), Cosine(), Score(), Denoiser(), Conditional(),
        Transformer(6, dim=24, depth=3, heads=3, mlp_ratio=2, dropout=0.1, num_labels=2, cond_dim=8, seed=4),
        Transformer(6, dim=24, heads=3, block_size=8), Blockwise(Ancestral(), 16, cache=False),
    ],
    ids=lambda part: type(part).__name__,
)  # fmt: skip
def test_parts_survive(part: object) -> None:
    stored = json.dumps(describe(part))
    again = build(json.loads(stored))
    assert type(again) is type(part)
    assert json.dumps(describe(again)) == stored


def test_model_survives_with_its_weights() -> None:
    one = model(num_labels=3)
    two = build(json.loads(json.dumps(describe(one))), Diffusion)
    two.load_state_dict(one.state_dict())
    assert describe(two) == describe(one)
    assert two.schedule.eps == 2e-3
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


class Half(Schedule):
    """A schedule of a user's own, in a module that is loaded."""

    t_min = 1e-3

    def __init__(self, levels: list[float] | None = None) -> None:
        self.levels = levels or [0.5]

    def total_noise(self, t: torch.Tensor) -> torch.Tensor:
        return t * self.levels[0]

    def noise_rate(self, t: torch.Tensor) -> torch.Tensor:
        return torch.full_like(t, self.levels[0])

    def time(self, sigma: torch.Tensor) -> torch.Tensor:
        return sigma / self.levels[0]


class Forgetful(Half):
    """A constructor argument that is not kept."""

    def __init__(self, level: float) -> None:
        super().__init__([level])


def test_own_classes_and_lists() -> None:
    assert build(describe(Half([0.25]))).levels == [0.25]


def test_forgotten_argument() -> None:
    with pytest.raises(ConfigError, match=r"Forgetful\.level: .* kept under its own name"):
        describe(Forgetful(1.0))


def test_class_path_is_the_shortest_that_exports() -> None:
    kind = build({"class_path": "discdiff.processes.Absorbing", "init_args": {"vocab_size": 4}})
    assert class_path(type(kind)) in {"discdiff.Absorbing", "discdiff.processes.Absorbing"}


GOOD: dict[str, Any] = {"class_path": "discdiff.schedules.LogLinear", "init_args": {"eps": 0.01}}


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("LogLinear", "expected the keys class_path and init_args"),
        ({}, "expected the keys"),
        ({**GOOD, "state": 1}, "expected the keys"),
        ({**GOOD, "init_args": {"esp": 0.01}}, "unknown argument 'esp'. Did you mean 'eps'"),
        ({**GOOD, "init_args": {"eps": 3}}, "eps: got 3"),
        ({**GOOD, "init_args": {"eps": "x"}}, "LogLinear: "),
        ({**GOOD, "init_args": [1]}, "expected a mapping"),
        ({**GOOD, "class_path": "discdiff.schedules.Schedule"}, "concrete"),
        ({**GOOD, "class_path": "discdiff.schedules.Nothing"}, "Nothing"),
        ({**GOOD, "class_path": "LogLinear"}, "dotted name"),
        ({**GOOD, "class_path": None}, "dotted name"),
        ({"class_path": "os.system", "init_args": {"command": "true"}}, "expected a concrete"),
        ({"class_path": "subprocess.Popen", "init_args": {"args": "true"}}, "expected a concrete"),
        ({"class_path": "antigravity.fly", "init_args": {}}, "not loaded"),
    ],
    ids=str,
)
def test_refusals(description: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(description)


def test_kind_must_fit() -> None:
    with pytest.raises(ConfigError, match="expected a concrete Parameterization"):
        build(GOOD, Parameterization)


def test_only_parts_are_described() -> None:
    with pytest.raises(ConfigError, match="no part of a model"):
        describe(3)
