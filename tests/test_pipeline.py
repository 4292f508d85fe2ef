"""Strings in, strings out; run folders that are damaged, cut short or of another version."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import discdiff as dd
from discdiff.data import LengthModel, SequenceDataset
from discdiff.errors import CheckpointError, DataError, TemplateError, UnknownTokenError
from discdiff.pipeline import Pipeline, SamplingDefaults
from tests.signed import edit


def trained(vocab_size: int, *, num_labels: int | None = None, process: Any = None) -> dd.Diffusion:
    """A small model with an opinion: weights as if trained on something."""
    process = process or dd.Absorbing(vocab_size)
    network = dd.Transformer(process.num_states, dim=16, depth=1, heads=2, num_labels=num_labels)
    parameterization = dd.Conditional() if process.reveals_noise else dd.Denoiser()
    model = dd.Diffusion(network, process, dd.LogLinear(), parameterization)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.3 if num_labels is None else 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    dna = dd.domain("dna")
    return Pipeline(trained(dna.vocab_size), dna, LengthModel.of([6, 9, 9, 12]), 12)


@pytest.fixture
def run(pipe: Pipeline, tmp_path: Path) -> Path:
    pipe.save(tmp_path / "run")
    return tmp_path / "run"


# ---- what comes out ------------------------------------------------------------------------------------------------
def test_sample_depends_on_seed_and_number_only(pipe: Pipeline) -> None:
    samples = pipe.sample(12, steps=6, seed=3)
    assert pipe.sample(12, steps=6, seed=3, batch_size=5) == samples
    assert pipe.sample(4, steps=6, seed=3, batch_size=1) == samples[:4]
    assert pipe.sample(12, steps=6, seed=4) != samples
    assert {len(s) for s in samples} <= {6, 9, 12}
    assert len({len(s) for s in samples}) > 1


@pytest.mark.parametrize("name", ["Ancestral", "Euler", "FirstHitting", "Ordered"])
def test_every_sampler(pipe: Pipeline, name: str) -> None:
    sampler = getattr(dd.samplers, name)()
    steps = 4 if name in ("Ancestral", "Euler") else None
    assert [len(s) for s in pipe.sample(3, length=7, sampler=sampler, steps=steps)] == [7, 7, 7]


def test_infill_keeps_what_is_given(pipe: Pipeline) -> None:
    for filled in pipe.infill("TATAWAW N{3}", 20, steps=5, batch_size=6):
        assert len(filled) == 10
        assert filled.startswith("TATA")
        assert set(filled[4] + filled[6]) <= set("AT")


def test_temperature(pipe: Pipeline) -> None:
    cold = pipe.sample(40, length=8, steps=8, temperature=0.05)
    assert len(set(cold)) < len(set(pipe.sample(40, length=8, steps=8)))


def test_defaults_are_the_runs(pipe: Pipeline) -> None:
    other = replace(pipe, defaults=SamplingDefaults(dd.samplers.Euler(), steps=3, temperature=0.7))
    explicit = pipe.sample(5, sampler=dd.samplers.Euler(), steps=3, temperature=0.7)
    assert other.sample(5) == explicit
    # steps belong to samplers with a grid: those of the run are no obstacle to another sampler
    assert len(other.sample(2, sampler=dd.samplers.FirstHitting())) == 2


def test_truncation(pipe: Pipeline) -> None:
    """For samples and infills; the run's where nothing is asked for, and a mass of 1 draws from all again."""
    other = replace(pipe, defaults=SamplingDefaults(dd.samplers.Bisection(), top_k=3, top_p=0.6))
    bisection = dd.samplers.Bisection()
    for one, two in (
        (pipe.sample, other.sample),
        (partial(pipe.infill, "NNTATAWN"), partial(other.infill, "NNTATAWN")),
    ):
        cut = one(20, sampler=bisection, top_k=3, top_p=0.6)
        assert two(20) == cut
        assert two(20, top_k=4, top_p=1.0) == one(20, sampler=bisection) != cut
    assert len(set(pipe.sample(9, length=6, sampler=bisection, top_k=1))) == 1


@pytest.mark.parametrize(
    "sampler",
    [
        dd.samplers.AnyOrder("cosine"),
        dd.samplers.AnyOrder([1, 3]),
        dd.samplers.Confidence("margin", noise=0.5),
        dd.samplers.EntropyBounded(0.3),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_sampling_defaults_are_kept(sampler: dd.samplers.Sampler) -> None:
    """As JSON and back: the sampler with its arguments, all numbers; what was saved without the later ones too."""
    defaults = SamplingDefaults(sampler, steps=5, temperature=0.9, top_k=7, top_p=0.5)
    back = SamplingDefaults.from_json(json.loads(json.dumps(defaults.to_json())))
    assert vars(back) | {"sampler": None} == vars(defaults) | {"sampler": None}
    assert type(back.sampler) is type(sampler)
    assert vars(back.sampler) == vars(sampler)
    assert SamplingDefaults.from_json({"sampler": None, "steps": 3}) == SamplingDefaults(steps=3)


def test_steps_of_the_run_serve_every_sampler_that_takes_them(pipe: Pipeline) -> None:
    other = replace(pipe, defaults=SamplingDefaults(steps=2))
    for sampler in (dd.samplers.AnyOrder(), dd.samplers.Confidence()):
        two = pipe.sample(8, length=6, sampler=sampler, steps=2)
        assert other.sample(8, length=6, sampler=sampler) == two != pipe.sample(8, length=6, sampler=sampler)


def test_scores(pipe: Pipeline) -> None:
    strings = pipe.sample(6, steps=8)
    scores = pipe.score(strings, samples=24)
    assert pipe.score(strings[:2], samples=24) == pytest.approx(scores[:2])
    again = pipe.score(strings, samples=24, seed=1)
    for one, other, string in zip(scores, again, strings, strict=True):
        assert one.sequence == string
        assert one.units == one.tokens == len(string)
        assert abs(one.nats - other.nats) < 6 * math.hypot(one.standard_error, other.standard_error)
        assert one.bits_per_unit == pytest.approx(one.nats / math.log(2) / len(string))
    bound = pipe.bound(strings, samples=24)
    total = sum(score.nats for score in scores)
    assert bound.nats_per_unit == pytest.approx(total / bound.units, rel=0.05)
    assert bound.unit == "base"


def test_bound_of_a_data_set(pipe: Pipeline) -> None:
    strings = pipe.sample(6, steps=8)
    dataset = SequenceDataset.from_sequences(pipe.domain, strings)
    assert pipe.bound(dataset).nats_per_unit == pytest.approx(pipe.bound(strings).nats_per_unit)


def test_uniform_process() -> None:
    dna = dd.domain("dna")
    pipe = Pipeline(trained(4, process=dd.Uniform(4)), dna, LengthModel.of([8]), 8)
    assert [s[:3] for s in pipe.infill("TATN{3}", 4, steps=4)] == ["TAT"] * 4
    assert pipe.score(["ACGTAC"])[0].nats > 0


def test_labels() -> None:
    dna = dd.domain("dna")
    pipe = Pipeline(trained(4, num_labels=2), dna, LengthModel.of([8]), 8, ["no", "yes"])
    by_name = pipe.sample(6, steps=4, labels="yes")
    assert pipe.sample(6, steps=4, labels=["yes"] * 6) == by_name
    assert pipe.sample(6, steps=4, labels="no") != by_name
    assert pipe.score(["ACGTACGT"], labels="yes") != pipe.score(["ACGTACGT"], labels="no")
    with pytest.raises(dd.IncompatibleError, match="got 'maybe', expected one of no, yes"):
        pipe.sample(2, labels="maybe")
    with pytest.raises(dd.IncompatibleError, match="got 3, expected 2"):
        pipe.sample(2, labels=["no"] * 3)


def test_end_token() -> None:
    dna = dd.domain("dna")
    pipe = Pipeline(trained(5), dna, LengthModel.of([10], end=4), 9)
    samples = pipe.sample(30, steps=10)
    assert len({len(s) for s in samples}) > 2
    assert [len(s) for s in pipe.sample(5, length=6, steps=5)] == [6] * 5
    filled = pipe.infill("TATAWN{2}", 5, steps=5)
    assert [(s[:4], len(s), s[4] in "AT") for s in filled] == [("TATA", 7, True)] * 5
    # the score counts the end, so it is that of a string and its length
    assert pipe.score(["ACGT"])[0].tokens == 4


# ---- what is refused -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda p: p.infill("N{13}"), TemplateError, "13 positions; the model was trained on at most 12"),
        (lambda p: p.infill("N{-3}"), TemplateError, "negative"),
        (lambda p: p.infill("ACGT!"), TemplateError, "'!'"),
        (lambda p: p.sample(1, length=13), dd.IncompatibleError, "got 13, expected 1 to 12"),
        (lambda p: p.sample(0), dd.DiscdiffError, "n=0"),
        (lambda p: p.sample(1, labels="x"), dd.IncompatibleError, "trained without labels"),
        (lambda p: p.sample(1, sampler=dd.samplers.Ordered(), steps=3), dd.IncompatibleError, "steps=3"),
        (lambda p: p.score(["ACGT", "AXGT"]), UnknownTokenError, "record 2, column 2"),
        (lambda p: p.score(["ACGT", ""]), DataError, "record 2: the sequence is empty"),
        (lambda p: p.score(["A" * 13]), DataError, "has 13 tokens; the model was trained on at most 12"),
        (lambda p: p.score([]), DataError, "no sequences"),
        (lambda p: p.score("ACGT"), dd.DiscdiffError, "expected a list"),
    ],
)
def test_refusals(pipe: Pipeline, call: Callable[[Pipeline], object], kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        call(pipe)


# ---- run folders ---------------------------------------------------------------------------------------------------
def test_save_and_load(pipe: Pipeline, run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(run, moved)
    again = Pipeline.load(moved, device="cpu")
    assert again.sample(3, steps=4) == pipe.sample(3, steps=4)
    assert sorted(p.name for p in moved.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_save_replaces(pipe: Pipeline, run: Path) -> None:
    (run / "notes.txt").write_text("mine")
    replace(pipe, defaults=SamplingDefaults(steps=7)).save(run)
    assert Pipeline.load(run).defaults.steps == 7
    assert (run / "notes.txt").read_text() == "mine"


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: shutil.rmtree(run), "no such run folder"),
        (lambda run: (run / "config.json").unlink(), "has no config.json"),
        (lambda run: (run / "model.safetensors").unlink(), r"model\.safetensors: missing"),
        (lambda run: _flip(run / "model.safetensors"), r"model\.safetensors: damaged"),
        (lambda run: _flip(run / "tokenizer.json"), r"tokenizer\.json: damaged"),
        (lambda run: (run / "config.json").write_text("{"), "not JSON"),
        (lambda run: (run / "config.json").write_text("[]"), "holds a list, expected an object"),
        (lambda run: edit(run, format_version=3, discdiff="9.0"), "discdiff 9.0 wrote it; update"),
        (lambda run: edit(run, extra=1), "unknown key 'extra'"),
        (lambda run: edit(run, lengths=...), "missing key 'lengths'"),
        (lambda run: edit(run, lengths={"lengths": [0], "counts": [1], "end": None}), "length"),
        (lambda run: edit(run, model={"class_path": "os.system", "init_args": {}}), "expected a concrete Diffusion"),
        (lambda run: edit(run, sha256={"../../etc/passwd": "0"}), "no name of a file"),
        (lambda run: edit(run, sha256={}), "names no model.safetensors"),
    ],
)
def test_damaged_run_folders(run: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(run)
    with pytest.raises(CheckpointError, match=message):
        Pipeline.load(run)


def test_weights_of_another_model(run: Path, tmp_path: Path) -> None:
    other = Pipeline(trained(5), dd.domain("dna"), LengthModel.of([8], end=4), 8)
    other.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", run)
    saved, others = (json.loads((folder / "config.json").read_text()) for folder in (run, tmp_path / "other"))
    edit(run, sha256={**saved["sha256"], "model.safetensors": others["sha256"]["model.safetensors"]})
    with pytest.raises(CheckpointError, match=r"has shape \[5\], the model's is \[4\]"):
        Pipeline.load(run)


def test_domain_of_another_model(run: Path, tmp_path: Path) -> None:
    other = Pipeline(trained(5), dd.domain("dna"), LengthModel.of([8], end=4), 8)
    other.save(tmp_path / "other")
    edit(tmp_path / "other", lengths=LengthModel.of([8]).to_json())
    with pytest.raises(CheckpointError, match="the domain has 4 tokens, the model 5"):
        Pipeline.load(tmp_path / "other")


def test_unfinished_run(run: Path) -> None:
    (run / "config.json").unlink()
    (run / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="--resume"):
        Pipeline.load(run)


def test_no_such_device(run: Path) -> None:
    with pytest.raises(dd.IncompatibleError, match="device"):
        Pipeline.load(run, device="abacus")
