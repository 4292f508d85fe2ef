"""Configurations: what they build, and how they are refused."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

import discdiff as dd
from discdiff.errors import ConfigError
from discdiff.experiment import Data, Experiment, Training
from discdiff.experiment.configuration import merge, parse_yaml
from discdiff.training import fit

GOOD = """\
domain: dna
data: {train: promoters.fasta}
process: Uniform
network: {class_path: Transformer, init_args: {dim: 16, depth: 1, heads: 2}}
schedule: {class_path: Geometric, init_args: {sigma_max: 10.0}}
parameterization: Denoiser
loss: ScoreEntropy
training: {max_steps: 2, learning_rate: 1e-3, betas: [0.9, 0.95], device: cpu, loggers: [csv], samples: 0}
sampling: {sampler: Euler, steps: 7}
seed: 3
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    (tmp_path / "promoters.fasta").write_text(
        "".join(f">{i}\nACGT{'ACGT'[i % 4] * 3}{'ACG'[i % 3]}\n" for i in range(30))
    )
    return path


def test_every_part_is_built(good: Path) -> None:
    experiment = Experiment.load(good)
    model = experiment.build(experiment.domain.vocab_size)
    assert isinstance(model.process, dd.Uniform)
    assert isinstance(model.network, dd.Transformer)
    assert isinstance(model.schedule, dd.Geometric)
    assert isinstance(model.parameterization, dd.Denoiser)
    assert (model.process.vocab_size, model.network.num_states, model.network.dim) == (4, 4, 16)
    assert model.schedule.sigma_max == 10.0
    assert model.network.seed == 3, "the network follows the experiment's seed"
    assert experiment.training.learning_rate == 1e-3
    assert experiment.training.betas == (0.9, 0.95)
    assert isinstance(experiment.sampling.sampler, dd.samplers.Euler)


def test_resolved_text_says_the_same(good: Path, tmp_path: Path) -> None:
    first = Experiment.load(good, overrides=["--training.max_steps", "9"])
    assert first.text is not None
    (tmp_path / "resolved.yaml").write_text(first.text)
    again = Experiment.load(tmp_path / "resolved.yaml")
    assert again.text == first.text
    assert again.training == first.training
    assert again.data == first.data


def test_run_from_python(good: Path, tmp_path: Path) -> None:
    experiment = Experiment.load(good, values={"data": {"root": str(tmp_path), "length": 8}})
    result = experiment.run(tmp_path / "run", progress=False)
    assert result.steps == 2
    pipe = dd.Pipeline.load(tmp_path / "run", device="cpu")
    assert pipe.defaults.steps == 7
    assert [len(s) for s in pipe.sample(3)] == [8, 8, 8]
    saved = Experiment.load(tmp_path / "run" / "config.yaml")
    assert saved.training == experiment.training


def test_what_long_sequences_cost_is_said(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first step: a chromosome that is taken for a sequence makes one of hours, without a word."""
    monkeypatch.setattr("discdiff.experiment.experiment.LONG", 7)
    values = {"data": {"root": str(tmp_path)}}
    Experiment.load(good, values=values).run(tmp_path / "run", progress=True)
    said = capsys.readouterr().err
    assert "the longest sequence has 8 tokens" in said
    assert "data.windows is for genomes" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": 10}, "data.split: test got 10.0, expected a fraction of the sequences in [0, 1)"),
        ({"test": 0.6, "valid": 0.6}, "data.split: valid=0.6 and test=0.6 leave nothing for training; expected a sum"),
    ],
)
def test_a_split_that_cannot_be(good: Path, options: dict[str, Any], message: str) -> None:
    """The split's own sentence, and nothing of the parser's."""
    values = {"data": {"split": {"class_path": "Hash", "init_args": options}}}
    with pytest.raises(ConfigError) as caught:
        Experiment.load(good, values=values)
    assert f"good.yaml: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "jsonargparse" not in str(caught.value)


def test_without_yaml() -> None:
    experiment = Experiment(dd.domain("dna"), Data("promoters.fasta"))
    model = experiment.build(4, num_labels=3)
    assert isinstance(model.network, dd.Transformer)
    assert model.network.num_labels == 3
    assert model.network.num_states == 5


def test_own_sizes_and_classes(good: Path) -> None:
    overrides = ["--network.num_labels", "5"]
    model = Experiment.load(good, overrides=overrides).build(4, num_labels=2)
    assert isinstance(model.network, dd.Transformer)
    assert model.network.num_labels == 5, "what the configuration states stands"


def test_sampling_section(good: Path) -> None:
    """The truncation, and a sampler with a list of sizes among its arguments."""
    stated = ["--process", "Absorbing", "--sampling.top_k", "3", "--sampling.top_p", "0.8", "--sampling.sampler"]
    for words, blocks in ((["AnyOrder"], "uniform"), (["AnyOrder", "--sampling.sampler.blocks", "[1, 3]"], [1, 3])):
        sampling = Experiment.load(good, overrides=[*stated, *words]).sampling
        assert (sampling.top_k, sampling.top_p) == (3, 0.8)
        assert isinstance(sampling.sampler, dd.samplers.AnyOrder)
        assert sampling.sampler.blocks == blocks


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["--training.max_steps", "5"], {"training": {"max_steps": 5}}),
        (["--training.max_steps=5"], {"training": {"max_steps": 5}}),
        (["--training.learning-rate", "1e-4"], {"training": {"learning_rate": 1e-4}}),
        (["--network.dim", "8", "--network.depth=2"], {"network": {"init_args": {"dim": 8, "depth": 2}}}),
        (["--network.init_args.dim", "8"], {"network": {"init_args": {"dim": 8}}}),
        (["--sampling.sampler.order", "random"], {"sampling": {"sampler": {"init_args": {"order": "random"}}}}),
        (["--data.where.split", "train"], {"data": {"where": {"split": "train"}}}),
        (["--seed", "-1"], {"seed": -1}),
        (
            ["--domain", "text", "--domain.lines", "true"],
            {"domain": {"class_path": "text", "init_args": {"lines": True}}},
        ),
    ],
)
def test_overrides(overrides: list[str], expected: dict[str, Any]) -> None:
    from discdiff.experiment.configuration import overrides as read

    assert read(overrides, Experiment) == expected


def test_a_sampler_within_a_sampler(good: Path) -> None:
    """Names within init_args are choices too, from a file or the command line."""
    nested = {"predictor": {"class_path": "Ordered", "init_args": {"order": "left_to_right"}}, "corrector": "Gibbs"}
    stated = {"sampling": {"sampler": {"class_path": "PredictorCorrector", "init_args": nested}}}
    sampler = Experiment.load(good, values=stated, overrides=["--sampling.sampler.final_sweeps", "2"]).sampling.sampler
    assert isinstance(sampler, dd.samplers.PredictorCorrector)
    assert isinstance(sampler.predictor, dd.samplers.Ordered)
    assert (sampler.predictor.order, sampler.final_sweeps) == ("left_to_right", 2)
    assert isinstance(sampler.corrector, dd.samplers.Gibbs)
    with pytest.raises(ConfigError, match=r"sampler.init_args.predictor.class_path: no sampler 'Orderd'. Did you mean"):
        Experiment.load(good, values=stated, overrides=["--sampling.sampler.predictor", "Orderd"])


def test_another_class_drops_the_arguments_of_the_first() -> None:
    base = {"schedule": {"class_path": "Geometric", "init_args": {"sigma_max": 3}}, "seed": 1}
    assert merge(base, {"schedule": "Cosine"}) == {"schedule": {"class_path": "Cosine"}, "seed": 1}
    kept = merge(base, {"schedule": {"init_args": {"sigma_min": 1}}})
    assert kept["schedule"] == {"class_path": "Geometric", "init_args": {"sigma_max": 3, "sigma_min": 1}}
    assert base["seed"] == 1


def test_training_has_the_arguments_of_fit() -> None:
    given = {"loss", "sampler", "sampler_steps", "folder", "resume", "overwrite", "config", "sampling_defaults"}
    elsewhere = given | {"model", "train", "valid", "domain", "seed", "progress", "callbacks"}
    parameters = {n: p.default for n, p in inspect.signature(fit).parameters.items() if n not in elsewhere}
    assert vars(Training()) == parameters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainig": {}}, "unknown key 'trainig'. Did you mean 'training'?"),
        ({"training": {"max_stpes": 1}}, "unknown key 'training.max_stpes'. Did you mean 'training.max_steps'?"),
        ({"training": {"max_steps": "many"}}, "training.max_steps: got many, expected int"),
        ({"training": {"schedule": "cosin"}}, "training.schedule: got cosin, expected one of"),
        ({"training": {"betas": [0.9]}}, "training.betas: got [0.9]"),
        ({"training": 3}, "training: got 3, expected keys: max_steps"),
        ({"data": {"trian": "x"}}, "unknown key 'data.trian'. Did you mean 'data.train'?"),
        ({"data": {"length": 1.5}}, "data.length: got 1.5, expected int or null"),
        ({"data": {"train": None}}, "data.train: missing"),
        ({"domain": None}, "domain: missing; installed are dna"),
        ({"domain": "dnna"}, "domain.class_path: no domain 'dnna'. Did you mean 'dna'?"),
        (
            {"domain": {"init_args": {"rnna": True}}},
            "unknown key 'domain.init_args.rnna'. Did you mean 'domain.init_args.rna'?",
        ),
        ({"network": "Transfromer"}, "network.class_path: no network 'Transfromer'. Did you mean 'Transformer'?"),
        ({"network": {"init_args": {"dmi": 3}}}, "'network.init_args.dmi'. Did you mean 'network.init_args.dim'?"),
        ({"network": {"init_args": {"dim": "x"}}}, "network.init_args.dim: got x, expected int"),
        (
            {"network": {"init_args": {"num_states": 9}}},
            "network.init_args.num_states: this number follows from the rest",
        ),
        ({"network": {"dim": 3}}, "unknown key 'network.dim'. Arguments go under network.init_args."),
        ({"network": {"class_pth": "Transformer"}}, "unknown key 'network.class_pth'. Did you mean 'class_path'?"),
        ({"network": {"init_args": {"dim": 33}}}, "transformer size"),
        ({"process": "os.system"}, "process.class_path: no process 'os.system'"),
        ({"loss": "discdiff.losses.Nothing"}, "cannot be imported"),
        ({"loss": "AnyOrder"}, "AnyOrder loss"),
        ({"schedule": {"init_args": {"sigma_max": -1}}}, "Geometric: got"),
        ({"sampling": {"top_p": 1.5}}, "top_p: got 1.5, expected above 0 and at most 1"),
        ({"sampling": {"top_k": 0}}, "top_k: got 0, expected at least 1"),
        ({"sampling": {"sampler": {"class_path": "AnyOrder", "init_args": {"blocks": "linear"}}}}, "blocks"),
        ({"sampling": {"sampler": "Ancestrl"}}, "sampling.sampler.class_path: no sampler 'Ancestrl'. Did you mean"),
        ({"seed": "x"}, "seed: got x, expected int"),
    ],
    ids=str,
)
def test_refusals(good: Path, change: dict[str, Any], message: str) -> None:
    values = merge(yaml.safe_load(GOOD), change)
    good.write_text(yaml.safe_dump(values))
    with pytest.raises(dd.DiscdiffError) as caught:
        Experiment.load(good).build(4)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the file is empty"),
        (b"# only a comment\n", "the file is empty"),
        (b"- a\n- b\n", "got a list"),
        (b"domain: dna\nseed: 1\n\ndomain: text\n", "line 4: the key 'domain' stands twice (first on line 1)"),
        (b"data:\n  train: a\n  train: b\n", "line 3: the key 'train' stands twice"),
        (b"domain: [dna\n", "not YAML"),
        (b"domain: dna\n\tdata: x\n", "line 2"),
        (bytes(range(128, 256)), "not a text file"),
        (b"domain: !!python/object/apply:os.system ['true']\n", "not YAML"),
    ],
)
def test_faulty_files(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "faulty.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=r"faulty\.yaml") as caught:
        Experiment.load(path)
    assert message in str(caught.value)


def test_missing_file(good: Path) -> None:
    with pytest.raises(ConfigError, match=r"god\.yaml: no such configuration file\. Did you mean 'good\.yaml'\?"):
        Experiment.load(good.with_name("god.yaml"))


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("1E3", 1e3), ("-2.5e+3", -2500.0), ("1_000", 1000), ("e4", "e4")]
)
def test_numbers(text: str, value: object) -> None:
    assert parse_yaml(text, "x") == value


def test_data_paths_and_options() -> None:
    one = Data("zinc.csv", split_column="split", root="data", where={"n_rings": 3}, sequence_column="smiles")
    assert one.path("test") == Path("data/zinc.csv")
    assert one.reader_options("test") == {"sequence_column": "smiles", "where": {"n_rings": 3, "split": "test"}}
    several = Data("a.fasta", valid="b.fasta", options={"encoding": "latin-1"})
    assert several.path("valid") == Path("b.fasta")
    assert several.path("test") is None
    assert several.reader_options("train") == {"encoding": "latin-1"}
