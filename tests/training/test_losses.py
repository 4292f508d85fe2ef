"""Every loss trains: chosen in a configuration, and in a few steps it lowers the bound of what it trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

import discdiff as dd
from discdiff.experiment import Experiment
from discdiff.likelihood import nelbo
from discdiff.losses import D3PM, Loss, PiecewiseTimes, TimedLoss
from discdiff.model import Diffusion
from discdiff.networks.transformer import Transformer
from discdiff.schedules import LogLinear
from discdiff.sequences import Sequences
from tests.cases import LOSSES, PARAMETERIZATIONS, PROCESSES, serves
from tests.toys import TOYS

TOY = TOYS["repeat3x3"]
PLANS = [
    (process, parameterization, name)
    for process, parameterization in [("absorbing", "denoiser"), ("uniform", "leave_one_out")]
    for name, case in LOSSES.items()
    if serves(case, process, parameterization)
]


@pytest.mark.parametrize(("process", "parameterization", "name"), PLANS)
def test_lowers_the_bound(process: str, parameterization: str, name: str) -> None:
    """Three equal letters: a fresh network pays about 3 ln 3 = 3.3 nats; 60 steps take off a fifth at least."""
    made, loss = PROCESSES[process].make(3), LOSSES[name].make()
    network = Transformer(made.num_states, dim=32, depth=1, heads=2)
    model = Diffusion(network, made, LogLinear(), PARAMETERIZATIONS[parameterization]())
    draw = torch.Generator().manual_seed(0)
    clean = torch.from_numpy(TOY.sequences)
    chance = torch.from_numpy(TOY.probabilities)
    held = Sequences.full(clean[torch.multinomial(chance, 128, replacement=True, generator=draw)])

    def bound() -> float:
        return float(nelbo(model, held, generator=torch.Generator().manual_seed(1)).total.mean())

    before = bound()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        rows = Sequences.full(clean[torch.multinomial(chance, 64, replacement=True, generator=draw)])
        optimizer.zero_grad()
        loss(model, rows, generator=draw).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert bound() < 0.8 * before


def configured(loss: object, folder: Path) -> Loss:
    (folder / "letters.fasta").write_text("".join(f">{i}\nACGTACGA\n" for i in range(20)))
    values = {
        "domain": "dna",
        "data": {"train": "letters.fasta"},
        "process": "Absorbing",
        "network": {"class_path": "Transformer", "init_args": {"dim": 16, "depth": 1, "heads": 2}},
        "parameterization": "LeaveOneOut",
        "loss": loss,
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    experiment = Experiment.load(path)
    assert isinstance(experiment.build(4).parameterization, dd.LeaveOneOut)
    return experiment.loss


@pytest.mark.parametrize("name", sorted({type(case.make()).__name__ for case in LOSSES.values()}))
def test_chosen_by_name(name: str, tmp_path: Path) -> None:
    assert type(configured(name, tmp_path)).__name__ == name


def test_chosen_with_arguments(tmp_path: Path) -> None:
    """Numbers, and a density of times, which is a list of numbers."""
    bound = configured({"class_path": "D3PM", "init_args": {"steps": 50, "auxiliary": 0.01}}, tmp_path)
    assert isinstance(bound, D3PM)
    assert (bound.steps, bound.auxiliary) == (50, 0.01)
    times = {"class_path": "PiecewiseTimes", "init_args": {"mass": [1.0, 3.0]}}
    entropy = configured({"class_path": "ScoreEntropy", "init_args": {"times": times}}, tmp_path)
    assert isinstance(entropy, TimedLoss)
    assert isinstance(entropy.times, PiecewiseTimes)
    assert entropy.times.mass == [0.25, 0.75]
