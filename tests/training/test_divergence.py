"""Losses and gradients that are no numbers: their steps are skipped, up to a limit, and leave no trace."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from safetensors import safe_open
from torch import Tensor

import discdiff as dd
from discdiff.data import SequenceDataset
from discdiff.errors import ConfigError, TrainingError
from discdiff.randomness import Keys, Randomness
from discdiff.training import FitResult
from discdiff.training.averaging import MovingAverage
from discdiff.training.guard import FAILED_BATCH, SKIPPED_BATCH, SKIPPED_STEPS, Undo
from discdiff.training.optimizers import OptimizerName, state_tensors
from tests.training.conftest import make_model
from tests.training.test_fit import assert_same_weights
from tests.training.test_resume import At, ctrl_c

Fit = Callable[..., FitResult]


class Poisoned(dd.losses.Loss):
    """AnyOrder, but some sequences have no loss, or no gradient, in the second epoch."""

    def __init__(self, *rows: int, gradient_only: bool = False, value: float = float("nan")) -> None:
        self.rows, self.gradient_only, self.value = torch.tensor(rows), gradient_only, value

    def __call__(self, model: Any, sequences: dd.Sequences, *, generator: Randomness) -> Tensor:
        values = dd.losses.AnyOrder()(model, sequences, generator=generator)
        assert sequences.ids is not None
        assert isinstance(generator, Keys)
        here = torch.isin(sequences.ids, self.rows)
        if generator.step != 1 or not bool(here.any()):  # a factor of zero would still make gradients NaN
            return values
        if self.gradient_only:  # the root has an infinite derivative at 0
            return values + (here * (values - values.detach()).square().sqrt())
        return torch.where(here, values * self.value, values)


class Trace(Callback):
    """All that a step changes, after each."""

    def __init__(self) -> None:
        self.states: list[list[Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        averages = [c for c in trainer.callbacks if isinstance(c, MovingAverage)]
        tensors = [*pl_module.parameters(), *averages[0].tensors, *state_tensors(trainer.optimizers[0])]
        counts = [torch.tensor(averages[0].updates)]
        self.states.append([tensor.detach().clone() for tensor in [*tensors, *counts]])


def steps_of(folder: Path) -> list[int]:
    return sorted(int(path.stem.rpartition("_")[2]) for path in (folder / SKIPPED_STEPS).iterdir())


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("poison", [{}, {"gradient_only": True}, {"value": float("inf")}], ids=["nan", "grad", "inf"])
def test_a_skipped_step_changes_nothing(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, poison: Any, optimizer: OptimizerName
) -> None:
    """Weights, average, its count and the optimiser's state are those of before, bit by bit."""
    trace = Trace()
    quick_fit(make_model(), train, loss=Poisoned(17, **poison), max_steps=30, folder=tmp_path, on_divergence="skip",
              optimizer=optimizer, callbacks=[trace])  # fmt: skip
    (step,) = steps_of(tmp_path)
    before, skipped, after = trace.states[step - 2 : step + 1]
    assert all(torch.equal(a, b) for a, b in zip(before, skipped, strict=True))
    assert sum(torch.equal(a, b) for a, b in zip(skipped, after, strict=True)) < len(after) // 2
    assert all(tensor.isfinite().all() for tensor in trace.states[-1])
    assert int(trace.states[-1][-1]) == 29
    with safe_open(tmp_path / SKIPPED_BATCH.format(step), "pt") as kept:
        assert 17 in kept.get_tensor("ids").tolist()
        assert int(kept.metadata()["step"]) == step - 1


def test_the_first_step_may_be_skipped(quick_fit: Fit, train: SequenceDataset) -> None:
    """Optimisers have no state before it, and begin as if it had not been."""

    class First(Poisoned):
        def __call__(self, model: Any, sequences: dd.Sequences, *, generator: Randomness) -> Tensor:
            self.calls = getattr(self, "calls", 0) + 1
            values = dd.losses.AnyOrder()(model, sequences, generator=generator)
            return values * float("nan") if self.calls == 1 else values

    trace, plain = Trace(), make_model()
    quick_fit(plain, train, max_steps=1, loss=First(), on_divergence="skip", callbacks=[trace])
    assert_same_weights(plain, make_model())
    assert all(not bool(tensor.any()) for tensor in trace.states[0][-7:]), "a fresh optimiser and an average of nothing"


def test_skipping_changes_no_other_run(quick_fit: Fit, train: SequenceDataset) -> None:
    """Where nothing diverges, the weights are those of a run that would have stopped."""
    one, two = make_model(dropout=0.1), make_model(dropout=0.1)
    quick_fit(one, train, max_steps=15, accumulate=2)
    quick_fit(two, train, max_steps=15, accumulate=2, on_divergence="skip")
    assert_same_weights(one, two)


def test_a_limit(quick_fit: Fit, train: SequenceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three batches of the second epoch are faulty, two may be skipped: progress says so, then training stops."""
    rows = (17, 60, 133)
    options: dict[str, Any] = {"loss": Poisoned(*rows), "max_steps": 30, "on_divergence": "skip"}
    quick_fit(make_model(), train, folder=tmp_path / "all", **options)
    steps = steps_of(tmp_path / "all")
    assert len(steps) == 3
    quick_fit(make_model(), train, folder=tmp_path / "all", max_steps=2, overwrite=True)
    assert not (tmp_path / "all" / SKIPPED_STEPS).exists(), "they were those of the run before"
    with pytest.raises(TrainingError, match=rf"step {steps[2]}: the loss is nan.* 2 steps have been skipped, as many"):
        quick_fit(make_model(), train, folder=tmp_path / "two", max_skipped=2, progress=True, **options)
    told = capsys.readouterr().err
    assert f"step {steps[0]}: the loss is nan; sequences: record" in told
    assert "The step is skipped (1 so far, 2 at most)." in told
    assert steps_of(tmp_path / "two") == steps
    assert not (tmp_path / "two" / FAILED_BATCH).exists()
    with pytest.raises(TrainingError, match="0 steps have been skipped"):
        quick_fit(make_model(), train, max_skipped=0, **options)


def test_the_log_counts_skipped_steps(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    """And means of losses leave them out."""
    quick_fit(make_model(), train, loss=Poisoned(17), max_steps=30, folder=tmp_path, on_divergence="skip", log_every=5)
    (step,) = steps_of(tmp_path)
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["skipped_steps"]) for row in rows] == [int(int(row["step"]) >= step) for row in rows]
    assert all(0 < float(row["loss"]) < 3 for row in rows)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_resumed_across_a_skipped_step(quick_fit: Fit, train: SequenceDataset, tmp_path: Path, accumulate: int) -> None:
    options: dict[str, Any] = {
        "loss": Poisoned(17, 60), "max_steps": 30, "on_divergence": "skip", "max_skipped": 2, "accumulate": accumulate,
        "log_every": 1,
    }  # fmt: skip
    whole, resumed = make_model(dropout=0.1), make_model(dropout=0.1)
    quick_fit(whole, train, folder=tmp_path / "whole", **options)
    first, second = steps_of(tmp_path / "whole")
    for stop in sorted({first - 1, first, second}):
        with pytest.raises(KeyboardInterrupt):
            quick_fit(make_model(dropout=0.1), train, folder=tmp_path / "run", resume=(tmp_path / "run").exists(),
                      callbacks=[At(stop, "on_train_batch_end", ctrl_c)], **options)  # fmt: skip
    quick_fit(resumed, train, folder=tmp_path / "run", resume=True, **options)
    assert_same_weights(whole, resumed)
    logs = [(tmp_path / name / "metrics.csv").read_text().splitlines()[-1].split(",") for name in ("whole", "run")]
    assert logs[0][3:6] == logs[1][3:6], "loss, rate and norm"
    assert logs[0][8] == logs[1][8] == "2"
    with pytest.raises(TrainingError, match="1 steps have been skipped"):  # the count is not begun anew
        quick_fit(make_model(), train, folder=tmp_path / "less", **(options | {"max_skipped": 1}))


def test_bad_arguments(quick_fit: Fit, train: SequenceDataset) -> None:
    for name, value in {"on_divergence": "ignore", "max_skipped": -1}.items():
        with pytest.raises(ConfigError, match=name):
            quick_fit(make_model(), train, max_steps=1, **{name: value})


def test_undoing_reads_nothing_off_the_device() -> None:
    """On the meta device there is nothing to read: what asks for a number fails."""
    model = make_model().to("meta")
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    made = torch.optim.AdamW(weights, capturable=True)  # which counts steps on the device, as fused ones do
    undo = Undo(weights)
    for _ in range(2):
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        undo.remember(made)
        for state in made.state.values():
            assert state["step"].is_meta
        undo.restore_unless(torch.zeros((), dtype=torch.bool, device="meta"))
        for weight in weights:
            made.state[weight] = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
            made.state[weight]["step"] = torch.zeros((), device="meta")
