"""Run folders: one format, the one before it, and everything that is refused, each in a sentence."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import discdiff as dd
from discdiff.data import LengthModel
from discdiff.errors import CheckpointError
from discdiff.manifest import FORMAT_VERSION, read_manifest
from discdiff.pipeline import Pipeline, SamplingDefaults
from discdiff.run_folder import load_run
from tests.signed import change, edit, seal, vouch, with_weights

FILES = ("config.json", "model.safetensors", "profile.json", "tokenizer.json")


def made() -> Pipeline:
    """A model with an opinion and a profile."""
    dna = dd.domain("dna")
    process = dd.Absorbing(dna.vocab_size)
    network = dd.Transformer(process.num_states, dim=8, depth=1, heads=2, num_labels=2)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional()).eval()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.3)
    defaults = SamplingDefaults(dd.samplers.Confidence("margin", noise=0.5), steps=3, temperature=0.7, top_k=3)
    pipe = Pipeline(model, dna, LengthModel.of([6, 9, 9, 12]), 12, ["no", "yes"], defaults)
    pipe.measure_profile(n=16)
    return pipe


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that tests copy."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    made().save(folder)
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


def refusal(run: Path) -> str:
    """What loading says; one line, and it names the folder."""
    with pytest.raises(CheckpointError) as caught:
        Pipeline.load(run)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(str(run))
    return said.replace(str(run), "RUN")


# ---- the format ------------------------------------------------------------------------------------------------------
def test_what_is_in_it(whole: Path) -> None:
    assert sorted(path.name for path in whole.iterdir()) == sorted(FILES)
    saved = json.loads((whole / "config.json").read_text())
    assert saved["format_version"] == FORMAT_VERSION == 2
    assert saved["domain"] == {"name": "dna", "options": dd.domain("dna").options()}
    assert saved["parameters"] == sum(p.numel() for p in made().model.parameters())
    assert saved["label_names"] == ["no", "yes"]
    assert saved["sampling"]["steps"] == 3
    sums = {file: hashlib.sha256((whole / file).read_bytes()).hexdigest() for file in saved["sha256"]}
    assert sums == saved["sha256"]
    assert set(sums) == {"model.safetensors", "tokenizer.json"}
    for file in ("config.json", "profile.json"):
        before, _, after = (
            (whole / file).read_bytes().rpartition(json.loads((whole / file).read_text())["digest"].encode())
        )
        assert hashlib.sha256(before).hexdigest() == json.loads((whole / file).read_text())["digest"]
        assert len(after) < 5


def test_the_same_after_loading(whole: Path) -> None:
    one, two = made(), Pipeline.load(whole, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))
    assert two.sample(4, seed=2) == one.sample(4, seed=2)
    assert (two.lengths, two.max_length, two.label_names) == (one.lengths, one.max_length, one.label_names)
    assert two.profile is not None
    assert vars(two.defaults) | {"sampler": 0} == vars(one.defaults) | {"sampler": 0}


def as_version_1(run: Path) -> None:
    """Make of a folder what format version 1 had: `model.json`, `domain.json`, and no digests of these."""
    saved = json.loads((run / "config.json").read_text())
    (run / "domain.json").write_text(json.dumps(saved["domain"], indent=2) + "\n")
    kept = [
        "format_version",
        "discdiff",
        "model",
        "lengths",
        "max_length",
        "label_names",
        "parameters",
        "sampling",
        "sha256",
    ]
    sums = {
        file: hashlib.sha256((run / file).read_bytes()).hexdigest()
        for file in ("domain.json", "model.safetensors", "tokenizer.json")
    }
    old = {key: saved[key] for key in kept} | {"format_version": 1, "sha256": sums}
    old["sampling"] = {key: saved["sampling"][key] for key in ("sampler", "steps", "temperature")}
    (run / "model.json").write_text(json.dumps(old, indent=2) + "\n")
    (run / "config.json").unlink()
    profile = json.loads((run / "profile.json").read_text())
    (run / "profile.json").write_text(json.dumps({k: v for k, v in profile.items() if k != "digest"}) + "\n")


def test_version_1_is_read_and_brought_up_to_date(run: Path, whole: Path) -> None:
    as_version_1(run)
    assert not (run / "config.json").exists()
    new, old = Pipeline.load(whole, device="cpu"), Pipeline.load(run, device="cpu")
    assert old.sample(4, seed=3, top_k=3) == new.sample(4, seed=3)
    assert old.profile is not None
    assert old.domain.options() == new.domain.options()
    assert read_manifest(run)["training"] is None
    old.save(run)
    assert sorted(path.name for path in run.iterdir()) == sorted(FILES)
    assert Pipeline.load(run, device="cpu").sample(4, seed=3, top_k=3) == new.sample(4, seed=3)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("domain.json", "RUN/domain.json: damaged (its sha256 is not the one in model.json)"),
        ("model.safetensors", "RUN/model.safetensors: damaged (its sha256 is not the one in model.json)"),
        ("model.json", "RUN/model.json: damaged"),
    ],
)
def test_version_1_is_checked(run: Path, file: str, said: str) -> None:
    as_version_1(run)
    data = bytearray((run / file).read_bytes())
    data[len(data) // 2 if file != "model.json" else 0] ^= 1
    (run / file).write_bytes(data)
    assert refusal(run).startswith(said)


def test_a_file_that_became_nan_leaves_the_old_one(run: Path) -> None:
    pipe = Pipeline.load(run, device="cpu")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with torch.no_grad():
        next(pipe.model.parameters())[0] = float("nan")
    with pytest.raises(CheckpointError, match="is not a number"):
        pipe.save(run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


# ---- any byte --------------------------------------------------------------------------------------------------------
@settings(max_examples=150)
@given(file=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_is_found_in_every_file(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, file: str, place: float, flip: int
) -> None:
    run = tmp_path_factory.mktemp("flipped") / "run"
    run.mkdir()
    for name in FILES:
        (run / name).hardlink_to(whole / name)
    data = bytearray((run / file).read_bytes())
    data[int(place * len(data))] ^= flip
    (run / file).unlink()
    (run / file).write_bytes(data)
    assert file in refusal(run)
    shutil.rmtree(run)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("left", [0.0, 0.01, 0.5, 0.99])
def test_truncated_and_empty_files(run: Path, file: str, left: float) -> None:
    data = (run / file).read_bytes()
    (run / file).write_bytes(data[: int(left * len(data))])
    said = refusal(run)
    assert said.startswith(f"RUN/{file}: damaged")
    assert said.endswith((" again.", "Measure it anew with `discdiff profile`."))


# ---- config.json -----------------------------------------------------------------------------------------------------
SCHEDULE = "model.init_args.schedule"


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("extra", 1, "unknown key 'extra'"),
        ("domain.extra", 1, "domain: unknown key 'extra'"),
        ("domain.options.extra", 1, "domain 'dna': .* unexpected keyword argument 'extra'"),
        ("model.extra", 1, "model: unknown key 'extra'"),
        ("model.init_args.extra", 1, "discdiff.Diffusion: unknown argument 'extra'"),
        (f"{SCHEDULE}.extra", 1, "got .*'extra'.*, expected the keys class_path and init_args"),
        (f"{SCHEDULE}.init_args.esp", 1, "unknown argument 'esp'. Did you mean 'eps'"),
        ("lengths.extra", 1, "lengths: unknown key 'extra'"),
        ("sampling.extra", 1, "sampling: unknown key 'extra'"),
        ("sampling.sampler.init_args.extra", 1, "unknown argument 'extra'"),
        *((key, ..., f"missing key '{key}'") for key in (
            "discdiff", "domain", "model", "lengths", "max_length", "label_names", "parameters", "sampling", "training",
            "source", "sha256",
        )),
        ("format_version", ..., "no format_version"),
        ("format_version", "2", "no format_version"),
        ("format_version", True, "no format_version"),
        ("format_version", 1, "format version 1 in a file of this name"),
        ("format_version", 3, "version 3, this discdiff reads 2 and older. discdiff .* wrote it; update discdiff"),
        ("domain.name", ..., "domain: missing key 'name'"),
        ("domain.name", "dnaa", "no domain 'dnaa'; .* Did you mean 'dna'"),
        ("domain", {"name": "protein", "options": {}}, "the domain has 20 tokens, the model 4"),
        ("model.init_args.network", ..., "network"),
        ("model.init_args.network.init_args.num_states", ..., "num_states"),
        ("model.init_args.network.init_args.dim", 12, r"has shape \[8\], the model's is \[12\]"),
        ("model.init_args.network.init_args.dim", 2**40, "fewer than the model has|alloc"),
        ("model.init_args.network.init_args.depth", 10**9, "fewer than the model has"),
        ("model.init_args.network.init_args.depth", 2, "weights missing: .*blocks.1"),
        ("model.init_args.network.init_args.dim", "8", "discdiff.Transformer"),
        ("model.init_args.process.init_args.vocab_size", 10**12, "the domain has 4 tokens, the model 10{12}"),
        ("lengths.counts", [1], "counts"),
        ("lengths.lengths", [1, "2"], "lengths.lengths: got .*, expected positive integers"),
        ("lengths.end", 7, "lengths.end: got 7, expected 4"),
        ("max_length", 0, "max_length: got 0, expected a positive integer"),
        ("max_length", True, "max_length: got True, expected a positive integer"),
        ("label_names", ["a", "a"], "label_names: got .*, expected different texts or null"),
        ("sampling.temperature", -1, "sampling.temperature: got -1, expected a positive number"),
        ("sampling.top_p", 2, "top_p"),
        ("sampling.sampler.class_path", "discdiff.Absorbing", "expected a concrete Sampler"),
        ("sha256.model\\safetensors", ..., None),
    ],
)  # fmt: skip
def test_values_that_are_refused(run: Path, place: str, value: Any, said: str | None) -> None:
    if said is None:
        saved = json.loads((run / "config.json").read_text())
        del saved["sha256"]["model.safetensors"]
        seal(run / "config.json", saved)
        said = "sha256 names no model.safetensors"
    else:
        change(run, place, value)
    assert re.search(said, message := refusal(run)), message
    assert message.startswith(("RUN/config.json: ", "RUN/model.safetensors: "))


@pytest.mark.parametrize("name", ["../x", "..", "/etc/passwd", "a/b", "a\\b", "", "x\0", "sub/../../x"])
def test_names_of_files_are_names(run: Path, name: str) -> None:
    saved = json.loads((run / "config.json").read_text())
    edit(run, sha256={**saved["sha256"], name: "0" * 64})
    assert f"sha256: {name!r} is no name of a file here" in refusal(run)


def test_duplicate_keys_and_numbers_that_are_none(run: Path) -> None:
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace('"max_length": 12', '"max_length": 9, "max_length": 12'))
    assert "the key 'max_length' stands there twice" in refusal(run)
    (run / "config.json").write_text(text.replace('"temperature": 0.7', '"temperature": NaN'))
    assert "NaN is no number of JSON" in refusal(run)
    (run / "config.json").write_text("[" * 100_000)
    assert "damaged: not JSON" in refusal(run)


def test_a_valid_change_by_hand_is_found(run: Path) -> None:
    text = (run / "config.json").read_text()
    assert '"steps": 3' in text
    (run / "config.json").write_text(text.replace('"steps": 3', '"steps": 4'))
    assert refusal(run) == (
        "RUN/config.json: damaged: it was changed after it was written (its digest is not that of its content). "
        "Copy it again."
    )


# ---- weights ---------------------------------------------------------------------------------------------------------
def first(weights: dict[str, Any]) -> str:
    return min(weights)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda w: w.pop(first(w)), "weights missing: network.blocks.0"),
        (lambda w: w.update(extra=torch.zeros(2)), r"weights unknown: extra \(1 in all\)"),
        (lambda w: w.update({first(w): w[first(w)][..., :1].clone()}), r"has shape \[.*\], the model's is \["),
        (lambda w: w.update({first(w): w[first(w)].double()}), "has dtype torch.float64, the model's is torch.float32"),
        (lambda w: w.update({first(w): w[first(w)].bfloat16()}), "has dtype torch.bfloat16"),
        (lambda w: w.update({first(w): w[first(w)].float() * float("nan")}), r"not a number \(NaN\)"),
    ],
)
def test_tensors_that_are_not_the_models(run: Path, fault: Callable[[dict[str, Any]], object], said: str) -> None:
    with_weights(run, fault)
    assert re.search(said, message := refusal(run)), message
    assert message.startswith("RUN/model.safetensors: ")


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 7, (10**12).to_bytes(8, "little") + b"{}", (2**63).to_bytes(8, "little") + b"{}", b"\x80\x04K\x01.",
     (2).to_bytes(8, "little") + b"{]", (99_000_000).to_bytes(8, "little") + b"{" + b" " * 1000],
    ids=["empty", "short", "huge header", "overflowing header", "pickle", "no JSON", "header past the end"],
)  # fmt: skip
def test_files_that_are_no_safetensors(run: Path, data: bytes) -> None:
    """Vouched for by the manifest, so that the reader itself has to refuse them."""
    (run / "model.safetensors").write_bytes(data)
    vouch(run)
    assert refusal(run).startswith("RUN/model.safetensors: cannot be read as safetensors")


# ---- files that are none ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("file", FILES)
def test_folders_links_and_pipes(run: Path, tmp_path: Path, file: str) -> None:
    outside = tmp_path / "outside"
    shutil.move(run / file, outside)
    (run / file).symlink_to(outside)
    assert refusal(run) == f"RUN/{file}: a link that leads out of the folder. Put a copy of the file in its place."
    (run / file).unlink()
    (run / file).mkdir()
    assert refusal(run).startswith(f"RUN/{file}: a folder, expected a file")
    (run / file).rmdir()
    os.mkfifo(run / file)  # to open it would wait for ever
    assert refusal(run).startswith(f"RUN/{file}: no plain file, expected a file")
    (run / file).unlink()
    (run / file).symlink_to(run / "nothing")
    assert refusal(run).startswith(f"RUN/{file}: a broken link")
    (run / file).unlink()
    (run / file).symlink_to(file)
    assert refusal(run).startswith(f"RUN/{file}: a broken link")


def test_links_within_the_folder_and_to_it(run: Path, tmp_path: Path) -> None:
    (run / "model.safetensors").rename(run / "kept.bin")
    (run / "model.safetensors").symlink_to("kept.bin")
    (tmp_path / "link").symlink_to(run)
    assert load_run(tmp_path / "link").max_length == 12


def test_the_hubs_cache_is_read(run: Path, tmp_path: Path) -> None:
    """There every file is a link from snapshots/REVISION to blobs."""
    blobs, snapshot = tmp_path / "models--me--dna" / "blobs", tmp_path / "models--me--dna" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for i, path in enumerate(sorted(run.iterdir())):
        (blobs / str(i)).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", str(i)))
    assert load_run(snapshot).max_length == 12


def test_damage_in_random_combination(run: Path, whole: Path) -> None:
    """Files of two runs are told apart, whichever are exchanged."""
    other = made()
    with torch.no_grad():
        next(other.model.parameters()).add_(0.1)
    replace(other, profile=None, max_length=11).save(run.parent / "other")
    draw = random.Random(0)
    for _ in range(6):
        mixed = shutil.copytree(whole, run.parent / f"mixed-{draw.random()}")
        name = draw.choice(["config.json", "model.safetensors"])
        shutil.copy(run.parent / "other" / name, mixed)
        assert "damaged" in refusal(mixed)
