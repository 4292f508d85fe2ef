"""`fit` trains, stops in time, leaves a run folder, and refuses early what cannot work."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import discdiff as dd
from discdiff.data import SequenceDataset
from discdiff.domain import Domain
from discdiff.errors import CheckpointError, ConfigError, DataError, IncompatibleError
from discdiff.run_folder import load_run
from discdiff.training import FitResult, schedule
from tests.letters import Letters
from tests.training.conftest import make_model, words

Fit = Callable[..., FitResult]


def test_loss_and_bound_fall(quick_fit: Fit, train: SequenceDataset, valid: SequenceDataset) -> None:
    model = make_model(dim=32, depth=2)
    result = quick_fit(model, train, valid=valid, max_steps=250, validate_samples=8)
    assert result.steps == 250
    assert result.stopped == "steps"
    assert result.validation is not None
    unigram = 1.386
    assert result.loss < 1.1
    assert result.validation.nats_per_token < 1.1 < unigram
    assert 0 < result.validation.standard_error < 0.1
    assert result.validation.bits_per_token == pytest.approx(result.validation.nats_per_token / 0.693147, rel=1e-4)
    assert result.validation.sequences == 40
    assert result.tokens_per_second > 0
    assert not model.training
    assert "nats/token" in str(result)


@pytest.mark.parametrize("pack", [None, True])
def test_padding_is_measured(quick_fit: Fit, tmp_path: Path, pack: bool | None) -> None:
    """Two sequences a batch, of 2 and 8 letters, until they are packed."""
    data = SequenceDataset.from_sequences(Letters(), ["ab", "abcdabcd"] * 3)
    model = make_model(pack=pack)
    result = quick_fit(model, data, max_steps=4, batch_size=6, log_every=2, folder=tmp_path)
    share = 0.0 if pack else 1 - 30 / 48
    assert result.padding == pytest.approx(share)
    assert f"tokens/s, {100 * share:.1f}% padding)" in str(result)
    with (tmp_path / "metrics.csv").open() as stream:
        assert [float(row["padding"]) for row in csv.DictReader(stream)] == pytest.approx([share] * 2)


def test_gradient_checkpointing(quick_fit: Fit, train: SequenceDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights; each block is checkpointed at each step, and no longer once training is over."""
    one, two = make_model(dropout=0.2, depth=2), make_model(dropout=0.2, depth=2)
    quick_fit(one, train, max_steps=3)
    blocks = []

    def count(block: torch.nn.Module, *args: Any, **options: Any) -> Any:
        blocks.append(block)
        return torch.utils.checkpoint.checkpoint(block, *args, **options)

    monkeypatch.setattr("discdiff.networks.layers.checkpoint", count)
    quick_fit(two, train, max_steps=3, gradient_checkpointing=True)
    assert len(blocks) == 3 * 2
    assert_same_weights(one, two)
    two.network.hidden(torch.zeros(1, 2, dtype=torch.int64), None, dd.Context())
    assert len(blocks) == 3 * 2


def test_the_same_seed_gives_the_same_model(quick_fit: Fit, train: SequenceDataset) -> None:
    one, two, other = make_model(dropout=0.2), make_model(dropout=0.2), make_model(dropout=0.2)
    before = torch.get_rng_state()
    quick_fit(one, train, max_steps=8, seed=3)
    torch.rand(5)
    quick_fit(two, train, max_steps=8, seed=3)
    quick_fit(other, train, max_steps=8, seed=4)
    assert_same_weights(one, two)
    with pytest.raises(AssertionError):
        assert_same_weights(one, other)
    torch.set_rng_state(before)
    quick_fit(two, train, max_steps=1)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random state is left alone"


def assert_same_weights(one: torch.nn.Module, two: torch.nn.Module) -> None:
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_run_folder(quick_fit: Fit, train: SequenceDataset, valid: SequenceDataset, tmp_path: Path) -> None:
    folder, model = tmp_path / "runs" / "first", make_model()
    result = quick_fit(
        model, train, valid=valid, max_steps=7, folder=folder, log_every=2, samples=3, validate_every=5,
        sampler_steps=4, config="model: tiny\n", sampling_defaults={"steps": 4},
    )  # fmt: skip
    assert result.folder == folder
    assert {path.name for path in folder.iterdir()} == {
        "checkpoints", "config.json", "config.yaml", "environment.json", "metrics.csv", "model.safetensors",
        "profile.json", "samples.txt", "tokenizer.json",
    }  # fmt: skip
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]
    with (folder / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["2", "4", "5", "6", "7"]
    assert [bool(row["val/nats_per_token"]) for row in rows] == [False, False, True, False, True]
    assert all(float(row["loss"]) > 0 and float(row["gradient_norm"]) > 0 for row in rows)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert (folder / "config.yaml").read_text() == "model: tiny\n"
    text = (folder / "samples.txt").read_text()
    assert text.count("step") == 2
    assert sum(line.startswith("  ") for line in text.splitlines()) == 6


def test_run_folder_holds_the_averaged_weights(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Domain, "from_json", staticmethod(lambda *_: Letters()))
    model = make_model()
    quick_fit(model, train, max_steps=5, folder=tmp_path / "run", ema_decay=0.9)
    loaded = load_run(tmp_path / "run")
    assert_same_weights(model, loaded.model)
    assert loaded.lengths == train.length_model
    assert loaded.max_length == train.length


def test_a_used_folder_is_not_overwritten_by_chance(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    quick_fit(make_model(), train, max_steps=2, folder=tmp_path)
    kept = (tmp_path / "config.json").read_text()
    with pytest.raises(CheckpointError, match="holds a run already"):
        quick_fit(make_model(), train, max_steps=2, folder=tmp_path)
    assert (tmp_path / "config.json").read_text() == kept
    assert quick_fit(make_model(), train, max_steps=3, folder=tmp_path, overwrite=True).steps == 3
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="a file of that name"):
        quick_fit(make_model(), train, max_steps=2, folder=tmp_path / "file")


def test_tensorboard_and_pictures(quick_fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plots(self: Letters, folder: Path, samples: list[str], *, reference: object = None) -> dict[str, Path]:
        from matplotlib.image import imsave

        imsave(folder / "dots.png", torch.rand(4, 4).numpy())
        return {"dots": folder / "dots.png"}

    monkeypatch.setattr(Letters, "plots", plots)
    train = SequenceDataset.from_sequences(Letters(), words(30, 0))
    quick_fit(
        make_model(), train, max_steps=2, folder=tmp_path, samples=2, sampler_steps=2, loggers=("csv", "tensorboard")
    )
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = board.Tags()
    assert "loss" in tags["scalars"]
    assert tags["images"] == ["dots"]
    assert "samples/text_summary" in tags["tensors"]
    assert (tmp_path / "pictures" / "step_00000002" / "dots.png").exists()


def test_a_failed_picture_is_no_reason_to_stop(
    quick_fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def plots(*_: object, **__: object) -> dict[str, Path]:
        raise RuntimeError("no canvas")

    monkeypatch.setattr(Letters, "plots", plots)
    train = SequenceDataset.from_sequences(Letters(), words(30, 0))
    options = {"samples": 2, "sampler_steps": 2, "samples_every": 1, "progress": True}
    assert quick_fit(make_model(), train, max_steps=2, folder=tmp_path, **options).steps == 2
    assert capsys.readouterr().err.count("no pictures: RuntimeError: no canvas") == 1


def test_time_runs_out(
    quick_fit: Fit, train: SequenceDataset, valid: SequenceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    # a clock of its own, 10 ms further each time that it is read
    monkeypatch.setattr(schedule, "time", SimpleNamespace(monotonic=lambda: 0.01 * next(ticks)))
    result = quick_fit(
        make_model(), train, valid=valid, max_steps=10**9, max_minutes=3 / 60, folder=tmp_path, log_every=1
    )
    assert result.stopped == "time"
    assert result.steps > 10
    assert result.seconds < 3.2
    assert result.validation is not None, "the last bound is taken however the run ends"
    with (tmp_path / "metrics.csv").open() as stream:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(stream)]
    assert max(rates) > 0.8 * 5e-3, "the warm-up is over long before 500 steps"
    assert rates[-1] < 0.05 * 5e-3, "the rate has decayed when the time is over"


def test_bare_sequences(quick_fit: Fit, tmp_path: Path) -> None:
    toys = dd.Sequences.from_lists([[0, 1, 2], [3, 3], [1] * 5] * 4)
    assert quick_fit(make_model(), toys, valid=toys, max_steps=2, samples=2, sampler_steps=2).steps == 2
    with pytest.raises(ConfigError, match="pass domain="):
        quick_fit(make_model(), toys, max_steps=2, folder=tmp_path / "run")
    assert quick_fit(make_model(), toys, max_steps=2, folder=tmp_path / "run", domain=Letters()).steps == 2
    with pytest.raises(DataError, match="no sequences"):
        quick_fit(make_model(), dd.Sequences.from_lists([]), max_steps=2)


def test_steps_are_for_samplers_that_take_them(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    """As in a run's defaults: no reason to end a run at its first samples."""
    sampler = dd.samplers.FirstHitting()
    quick_fit(make_model(), train, max_steps=1, samples=2, sampler=sampler, sampler_steps=4, folder=tmp_path)
    assert (tmp_path / "samples.txt").read_text().startswith("step 1\n  ")


def test_end_token(quick_fit: Fit, tmp_path: Path) -> None:
    train = SequenceDataset.from_sequences(Letters(), words(60, 0), length=10, end_token=True)
    model = make_model(vocab_size=train.vocab_size)
    quick_fit(model, train, max_steps=60, samples=4, sampler_steps=8, folder=tmp_path)
    drawn = [line for line in (tmp_path / "samples.txt").read_text().splitlines() if line.startswith("  ")]
    assert len(drawn) == 4
    with pytest.raises(IncompatibleError, match="end token included"):
        quick_fit(make_model(), train, max_steps=1)


def test_labels(quick_fit: Fit) -> None:
    train = SequenceDataset.from_sequences(Letters(), words(30, 0), labels=["x", "y"] * 15)
    process = dd.Absorbing(4)
    network = dd.Transformer(process.num_states, dim=16, depth=1, heads=2, num_labels=2)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    assert quick_fit(model, train, max_steps=2, samples=3, sampler_steps=2).steps == 2
    valid = SequenceDataset.from_sequences(Letters(), ["abcd"], labels=["y"])
    with pytest.raises(IncompatibleError, match=r"label_names=train.label_names"):
        quick_fit(model, train, valid=valid, max_steps=2)


def test_every_loss_and_process(quick_fit: Fit, train: SequenceDataset, valid: SequenceDataset) -> None:
    process = dd.Uniform(4)
    network = dd.Transformer(process.num_states, dim=16, depth=1, heads=2)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Score())
    result = quick_fit(model, train, valid=valid, loss=dd.losses.ScoreEntropy(), max_steps=3, validate_samples=2)
    assert result.validation is not None
    with pytest.raises(IncompatibleError, match="ScoreEntropy"):
        quick_fit(model, train, max_steps=3)


@pytest.mark.parametrize("precision", ["bf16", "float64"])
def test_precisions(quick_fit: Fit, train: SequenceDataset, precision: str) -> None:
    model = make_model()
    assert quick_fit(model, train, max_steps=3, precision=precision).loss < 3
    expected = torch.float64 if precision == "float64" else torch.float32
    assert next(model.parameters()).dtype == expected


def test_bad_arguments_are_refused(quick_fit: Fit, model: dd.Diffusion, train: SequenceDataset) -> None:
    for name, value in {
        "max_steps": 0, "batch_size": 0, "learning_rate": -1.0, "max_minutes": 0.0, "ema_decay": 1.0,
        "schedule": "step", "precision": "fp8", "device": "tpu", "loggers": ("print",), "log_every": 0,
    }.items():  # fmt: skip
        with pytest.raises(ConfigError, match="loggers" if name == "loggers" else name):
            quick_fit(model, train, **({"max_steps": 1} | {name: value}))
    with pytest.raises(IncompatibleError, match="4 tokens in the data"):
        quick_fit(make_model(vocab_size=5), train, max_steps=1)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device='cpu' does without"):
            quick_fit(model, train, device="cuda", max_steps=1)


def test_compiling_is_refused_before_anything_is_written(
    quick_fit: Fit, model: dd.Diffusion, train: SequenceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/nonexistent/gcc")
    with pytest.raises(IncompatibleError, match="compile: got CXX=/nonexistent/gcc, which does not run"):
        quick_fit(model, train, max_steps=1, device="cpu", compile=True, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_sequence_is_enough(quick_fit: Fit) -> None:
    train = SequenceDataset.from_sequences(Letters(), ["a"])
    assert quick_fit(make_model(), train, valid=train, max_steps=3).steps == 3
