"""Pipelines that sample to an error: what is chosen, what is said, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import discdiff as dd
from discdiff.cli.options import GRIDS
from discdiff.data import LengthModel
from discdiff.errors import CheckpointError, IncompatibleError
from discdiff.guidance.base import Guided
from discdiff.manifest import WEIGHTS_FILE
from discdiff.networks.base import Context
from discdiff.pipeline import Pipeline, Samples, SamplingDefaults
from discdiff.pipeline.planning import GridChoice
from discdiff.prediction import Prediction
from discdiff.run_folder import PROFILE_FILE
from discdiff.samplers import AnyOrder, Certificate
from tests.test_pipeline import trained


@cache
def pipe() -> Pipeline:
    """A small run of DNA with three lengths, and its profile."""
    dna = dd.domain("dna")
    made = Pipeline(trained(dna.vocab_size), dna, LengthModel.of([6, 9, 9, 12]), 12)
    made.measure_profile(n=128)
    return made


def calls_of(samples: Samples) -> dict[int, set[int]]:
    """Network calls by length."""
    found: dict[int, set[int]] = {}
    for text, calls in zip(samples, samples.calls, strict=True):
        found.setdefault(len(text), set()).add(calls)
    return found


# ---- blocks ---------------------------------------------------------------------------------------------------------
def test_each_length_has_the_calls_that_its_error_takes() -> None:
    """As the profile says for each length, whatever the batches; each certificate is its own."""
    profile = pipe().profile
    assert profile is not None
    samples = pipe().sample(24, error=0.05, seed=1)
    assert samples == pipe().sample(24, error=0.05, seed=1, batch_size=5)
    plans = {length: profile.blocks(length, error=0.05) for length in (6, 9, 12)}
    assert calls_of(samples) == {length: {len(plan.sizes)} for length, plan in plans.items()}
    assert samples.certificates == [plans[len(text)].certificate for text in samples]
    assert samples.certificate == Certificate.mean(samples.certificates)
    assert samples.certificate is not None
    assert samples.certificate.upper <= 0.05
    assert 1 < samples.certificate.calls < samples.certificate.positions
    exact = pipe().sample(3, length=9, error=1e-9)
    assert exact.calls == [9, 9, 9]
    assert "0 (exact)" in str(exact.certificate)


def test_the_same_from_the_core() -> None:
    """`AnyOrder` takes the profile itself."""
    profile, count = pipe().profile, 40
    assert profile is not None
    keys = dd.Keys(0, torch.arange(count))
    drawn = dd.sample(pipe().model, count, length=9, sampler=AnyOrder(profile, error=0.05), generator=keys)
    assert pipe().domain.decode_all(drawn) == pipe().sample(count, length=9, error=0.05)


def test_steps_on_the_optimised_grid() -> None:
    """The best blocks of so many calls; those of the run where none are asked for."""
    profile = pipe().profile
    assert profile is not None
    samples = pipe().sample(6, length=12, grid="optimised", steps=4)
    assert samples.calls == [4] * 6
    assert samples.certificate == Certificate.mean([profile.blocks(12, steps=4).certificate] * 6)
    usual = replace(pipe(), defaults=SamplingDefaults(dd.samplers.FirstHitting(), steps=3))
    assert usual.sample(2, length=12, grid="optimised").calls == [3, 3]
    assert usual.sample(2, length=12, error=1e-9).calls == [12, 12]  # the run's steps are no obstacle


def test_given_positions() -> None:
    """The blocks of what is open; the figure is called an estimate."""
    profile = pipe().profile
    assert profile is not None
    samples = pipe().infill("NNTATAATNNNN", 8, error=0.02)
    plan = profile.blocks(12, hidden=6, error=0.02)
    assert samples.calls == [len(plan.sizes)] * 8
    assert samples.certificates == [plan.certificate] * 8
    assert samples.certificate is not None
    assert samples.certificate.claim == "estimate"


# ---- other grids ----------------------------------------------------------------------------------------------------
def test_times() -> None:
    """`Ancestral` on the times of the law of lengths: of the certificate, and the same whatever the batches."""
    profile, ancestral = pipe().profile, dd.samplers.Ancestral()
    assert profile is not None
    samples = pipe().sample(12, error=0.5, sampler=ancestral, seed=2)
    assert samples == pipe().sample(12, error=0.5, sampler=ancestral, seed=2, batch_size=5)
    times, certificate = profile.times(pipe().model.schedule, {6: 1, 9: 2, 12: 1}, error=0.5)
    assert samples == pipe().sample(12, sampler=dd.samplers.Ancestral(grid=times), seed=2)
    assert samples.certificate == Certificate.mean([certificate] * 12)
    fixed = pipe().sample(3, grid="optimised", sampler=ancestral, steps=5)
    assert fixed.certificate is not None
    assert fixed.certificate.calls == 5


def test_times_of_a_network_that_is_shown_the_noise() -> None:
    """It was profiled at the noise of what is known; on a grid it is shown the grid's, so the figure is an estimate."""
    torch.manual_seed(0)
    process = dd.Absorbing(pipe().domain.vocab_size)
    shown = dd.Diffusion(dd.Transformer(process.num_states, 16, 1, 2), process, dd.LogLinear(), dd.Denoiser())
    timed = replace(pipe(), model=shown.eval())
    timed.measure_profile(n=64)
    samples = timed.sample(2, error=0.5, sampler=dd.samplers.Ancestral())
    assert samples.certificate is not None
    assert samples.certificate.notes == ("profiled at the noise of what is known, not at the grid's",)
    blocks = timed.sample(2, error=0.5)
    assert blocks.certificate is not None
    assert blocks.certificate.notes == ()


@pytest.mark.parametrize(
    ("grid", "options", "sampler"),
    [
        ("bisection", {}, dd.samplers.Bisection()),
        ("uniform", {"steps": 3}, AnyOrder()),
        ("cosine", {"steps": 3}, AnyOrder("cosine")),
        ("noise", {"steps": 3}, dd.samplers.Ancestral("noise")),
        ("mask_fraction", {"steps": 3, "sampler": dd.samplers.Euler()}, dd.samplers.Euler("mask_fraction")),
    ],
)
def test_grids_by_name(grid: GridChoice, options: dict[str, Any], sampler: dd.samplers.Sampler) -> None:
    """A grid's name is the sampler that it stands for; nothing is claimed."""
    samples = pipe().sample(8, grid=grid, **options)
    assert samples == pipe().sample(8, sampler=sampler, steps=options.get("steps"))
    assert samples.certificate is None


def test_names_of_grids() -> None:
    assert get_args(GridChoice) == GRIDS


# ---- what is not claimed --------------------------------------------------------------------------------------------
CHANGED: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 0.5}, "temperature 0.5"),
    ({"top_k": 2}, "top-k"),
    ({"top_p": 0.5}, "top-p"),
    ({"particles": 2}, "particles"),
    ({"check": lambda text: True}, "a check"),
    ({"rules": {"forbid": "AAAA"}}, "rules, or a template that restricts open positions"),
]


@pytest.mark.parametrize(("options", "what"), CHANGED, ids=lambda value: str(value)[:20])
def test_another_law_than_what_was_measured(options: dict[str, Any], what: str) -> None:
    """An error is refused; the blocks may be used for a number of steps, and nothing is claimed."""
    with pytest.raises(IncompatibleError, match=f"got 0.1 nats with .*{what}"):
        pipe().sample(2, length=9, error=0.1, **options)
    samples = pipe().sample(2, length=9, grid="optimised", steps=3, **options)
    assert len(samples) == 2
    assert samples.certificate is None


def test_refusals() -> None:
    asked: list[tuple[str, dict[str, Any]]] = [("NNTATAWNN", {}), ("NNTATAANN", {"sampler": dd.samplers.Ancestral()})]
    for template, options in asked:
        with pytest.raises(IncompatibleError, match=r"got 0.1 nats with (rules, or a template|given positions on)"):
            pipe().infill(template, 2, error=0.1, **options)
    bare = replace(pipe(), profile=None)
    wanted: list[dict[str, Any]] = [{"error": 0.1}, {"grid": "optimised", "steps": 3}]
    for options in wanted:
        with pytest.raises(IncompatibleError, match=r"a run without a profile of its weights.*discdiff profile RUN"):
            bare.sample(2, **options)
    with pytest.raises(IncompatibleError, match=r"got 0.1 nats and 3 steps, expected one of the two"):
        pipe().sample(2, error=0.1, steps=3)
    with pytest.raises(IncompatibleError, match=r"got 0.1 nats on the grid 'bisection'"):
        pipe().sample(2, error=0.1, grid="bisection")
    with pytest.raises(IncompatibleError, match=r"error 0.1: got FirstHitting, expected AnyOrder or Ancestral"):
        pipe().sample(2, error=0.1, sampler=dd.samplers.FirstHitting())
    with pytest.raises(IncompatibleError, match="got Ordered, expected a sampler on a time grid"):
        pipe().sample(2, grid="noise", sampler=dd.samplers.Ordered())
    with pytest.raises(IncompatibleError, match="grid: got 'even'"):
        pipe().sample(2, grid="even")  # type: ignore[arg-type]
    with pytest.raises(IncompatibleError, match=r"error: got 0.1, expected a profile"):
        AnyOrder("uniform", error=0.1)
    profile = pipe().profile
    assert profile is not None
    sampler = AnyOrder(profile, error=0.1)
    with pytest.raises(IncompatibleError, match="expected no steps: its error chooses the number of calls"):
        dd.sample(pipe().model, 1, length=9, sampler=sampler, steps=3, generator=torch.Generator())


def test_guidance_is_told_apart_from_temperature() -> None:
    """Each is named alone; the run's own temperature, too."""
    with pytest.raises(IncompatibleError, match=r"got 0.1 nats with guidance, expected"):
        pipe().sample(2, error=0.1, guidance=Guides)
    with pytest.raises(IncompatibleError, match=r"got 0.1 nats with guidance and temperature 0.5, expected"):
        pipe().sample(2, error=0.1, guidance=Guides, temperature=0.5)
    cool = replace(pipe(), defaults=SamplingDefaults(temperature=0.25))
    with pytest.raises(IncompatibleError, match=r"got 0.1 nats with temperature 0.25, expected"):
        cool.sample(2, error=0.1)


class Guides(Guided):
    """Changes nothing, for all that anybody knows."""

    def predict(self, tokens: torch.Tensor, sigma: torch.Tensor, context: Context | None = None) -> Prediction:
        return self.model.predict(tokens, sigma, context)


# ---- measuring, and keeping it --------------------------------------------------------------------------------------
def test_measured_on_strings() -> None:
    """On data, at most n of them; with an end token all sequences are of one length."""
    texts = pipe().sample(40, length=9)
    other = replace(pipe())
    profile = other.measure_profile(texts, n=24)
    assert (profile.source, profile.sequences) == ("data", 24)
    assert other.profile is profile
    dna = dd.domain("dna")
    ended = Pipeline(trained(dna.vocab_size + 1), dna, LengthModel.of([8], end=4), 7)
    assert [group.longest for group in ended.measure_profile(n=16).groups] == [8]
    samples = ended.sample(4, error=0.1)
    assert samples.certificate is not None
    assert samples.certificate.positions == 8


def test_kept_in_the_run_folder(tmp_path: Path) -> None:
    """The same choices after saving; a profile of other weights is none; a damaged one is told."""
    pipe().save(tmp_path / "run")
    back = Pipeline.load(tmp_path / "run")
    assert back.sample(8, error=0.05).calls == pipe().sample(8, error=0.05).calls
    kept = tmp_path / "run" / PROFILE_FILE
    manifest = json.loads((tmp_path / "run" / "config.json").read_text())
    assert json.loads(kept.read_text())["weights"] == manifest["sha256"][WEIGHTS_FILE]
    with torch.no_grad():
        next(back.model.parameters()).add_(1e-3)
    replace(back, profile=None).save(tmp_path / "run")
    assert Pipeline.load(tmp_path / "run").profile is None
    kept.write_text("{")
    with pytest.raises(CheckpointError, match=r"profile.json: damaged: .*discdiff profile"):
        Pipeline.load(tmp_path / "run")
