"""Block-causal models from training to samples: the loss, validation, run folders and the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import discdiff as dd
from discdiff.cli import main
from discdiff.data import SequenceDataset
from discdiff.errors import IncompatibleError
from discdiff.losses.base import check_loss
from discdiff.training import FitResult
from tests.cli.conftest import SMALL, write_fasta

Fit = Callable[..., FitResult]


def make_model(block_size: int | None) -> dd.Diffusion:
    process = dd.Absorbing(4)
    network = dd.Transformer(process.num_states, dim=32, depth=2, heads=2, block_size=block_size)
    return dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())


def test_fit(quick_fit: Fit, train: SequenceDataset, valid: SequenceDataset, tmp_path: Path) -> None:
    """The bound falls below the unigram's; samples on the way, and from the run folder, come block by block."""
    model, folder = make_model(3), tmp_path / "run"
    result = quick_fit(
        model, train, valid=valid, loss=dd.losses.Blockwise(), max_steps=250, validate_samples=8, samples=3,
        folder=folder,
    )  # fmt: skip
    assert result.validation is not None
    assert result.validation.nats_per_token < 1.1 < 1.386
    assert "step 250" in (folder / "samples.txt").read_text()


def test_the_ordinary_loss_is_refused(quick_fit: Fit, train: SequenceDataset) -> None:
    with pytest.raises(IncompatibleError, match=r"Train with losses\.Blockwise"):
        quick_fit(make_model(3), train, max_steps=1)
    with pytest.raises(IncompatibleError, match="got a network that sees every position"):
        quick_fit(make_model(None), train, loss=dd.losses.Blockwise(), max_steps=1)


@pytest.mark.parametrize("loss", [dd.losses.AnyOrder(), dd.losses.LabelDropout()])
def test_ordinary_losses_leave_no_folder(
    quick_fit: Fit, train: SequenceDataset, tmp_path: Path, loss: dd.losses.Loss
) -> None:
    kind = type(loss).__name__
    with pytest.raises(IncompatibleError, match=rf"{kind} loss: got a block-causal network \(network.block_size\)"):
        quick_fit(make_model(3), train, loss=loss, max_steps=1, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    dropped = dd.losses.LabelDropout(dd.losses.Blockwise())
    check_loss(dropped, make_model(3))


def test_ordinary_samplers_are_refused_at_once(quick_fit: Fit, train: SequenceDataset, tmp_path: Path) -> None:
    """Before the first step, not at the first samples; and nothing is left behind."""
    blocks = dd.losses.Blockwise()
    for sampler in (dd.samplers.FirstHitting(), dd.samplers.PredictorCorrector(dd.samplers.Blockwise())):
        with pytest.raises(IncompatibleError, match=rf"{type(sampler).__name__} sampler: got a block-causal network"):
            quick_fit(make_model(3), train, loss=blocks, max_steps=1, sampler=sampler, folder=tmp_path / "run")
        assert not (tmp_path / "run").exists()
    inner = dd.samplers.Blockwise(dd.samplers.FirstHitting())
    assert quick_fit(make_model(3), train, loss=blocks, max_steps=1, samples=2, sampler=inner).steps == 1


def test_command_line_refuses_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fasta, run = write_fasta(tmp_path / "promoters.fasta", 40), tmp_path / "run"
    words = ["train", str(fasta), "--output", str(run), "--domain", "dna", "--quiet", *SMALL]
    blocks = ["--network.block_size=4"]
    for more, told in (
        ([*blocks, "--loss=Blockwise", "--sampling.sampler=FirstHitting"], r"FirstHitting .*sampling\.sampler"),
        ([*blocks, "--loss=AnyOrder"], r"AnyOrder loss: .*--loss Blockwise"),
        (["--network.backend=flex"], r"attention backend 'flex': .*network\.backend"),
    ):
        assert main([*words, *more]) == 2
        assert re.search(told, capsys.readouterr().err)
        assert not run.exists()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fasta, run = write_fasta(tmp_path / "promoters.fasta", 40), tmp_path / "run"
    blocks = ["--network.block_size", "4", "--loss", "Blockwise"]
    assert main(["train", str(fasta), "--output", str(run), "--domain", "dna", "--quiet", *SMALL, *blocks]) == 0
    capsys.readouterr()
    assert main(["sample", str(run), "-n", "3", "--length", "14", "--seed", "1", "--quiet"]) == 0
    plain = capsys.readouterr().out
    assert plain.count(">") == 3
    named = ["--sampler", "blockwise", "--steps", "4"]
    assert main(["sample", str(run), "-n", "3", "--length", "14", "--seed", "1", "--quiet", *named]) == 0
    assert capsys.readouterr().out == plain  # the run's own steps
    assert main(["score", str(run), str(fasta), "--quiet", "--json"]) == 0
    assert "earlier blocks clean" in capsys.readouterr().out
    assert main(["show", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sampling"]["sampler"]["class_path"] == "discdiff.samplers.Blockwise"
    assert main(["sample", str(run), "-n", "3", "--length", "14", "--sampler", "first_hitting", "--quiet"]) == 2
    assert "sample with samplers.Blockwise" in capsys.readouterr().err
