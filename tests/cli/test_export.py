"""`discdiff export`: a folder to give away, whole or not there, that says what a stranger needs."""

from __future__ import annotations

import json
import re
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import discdiff as dd
from discdiff.errors import CheckpointError
from discdiff.release import export as release
from discdiff.release.export import export
from discdiff.release.facts import facts
from tests.cli.conftest import SMALL, Discdiff, Workshop

FILES = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture(scope="module")
def given(workshop: Workshop) -> Path:
    return export(workshop.labelled, workshop.folder / "given")


def test_the_command(workshop: Workshop, discdiff: Discdiff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = discdiff("export", workshop.dna, "mine", "--name", "promoters")
    assert (ran.code, ran.out) == (0, "mine\n")
    assert ran.err == "next: choose a licence in mine/README.md\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"], "nothing is left beside it"
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == FILES
    assert (tmp_path / "mine" / "README.md").read_text().count("# promoters\n") == 1
    for command in (["sample", "-n", "2"], ["infill", "ACN{4}", "-n", "2"], ["score", workshop.fasta]):
        first, *rest = command
        assert discdiff(first, "mine", *rest).out == discdiff(first, workshop.dna, *rest).out != ""


def test_nothing_is_lost(workshop: Workshop, given: Path) -> None:
    one, two = dd.Pipeline.load(workshop.labelled, device="cpu"), dd.Pipeline.load(given, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))
    assert two.sample(6, seed=1) == one.sample(6, seed=1)
    mine, theirs = facts(workshop.labelled), facts(given)
    assert theirs["training"].pop("data") == Path(mine["training"].pop("data")).name == workshop.table.name
    assert {**theirs, "run": ""} == {**mine, "run": ""}
    assert theirs["training"]["steps"] == 3
    # and saved again it still is there
    two.save(given.parent / "again")
    assert facts(given.parent / "again")["training"] == facts(given)["training"]


def test_the_card(workshop: Workshop, given: Path) -> None:
    text = (given / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["library_name"] == "discdiff"
    assert head["license"] == "unknown"
    assert "dna" in head["tags"]
    found = facts(workshop.labelled)
    bound = found["training"]["validation_bound"]
    for said in (
        "| classes | no, yes |",
        f"| parameters | {found['model']['parameters']:,} |",
        "| longest sequence | 9 tokens |",
        f"{found['generates']['training_sequences']} sequences ({workshop.table.name}). 3 steps",
        'dd.Pipeline.load("hf://OWNER/given")',
        "discdiff sample hf://OWNER/given -n 10",
        "## Limitations",
        "## Licence",
        *([] if bound is None else [f"{bound['nats_per_token']:.4f}"]),
    ):
        assert said in text
    assert len(re.findall("^```", text, re.M)) % 2 == 0


def test_no_folder_of_the_author_is_told(
    workshop: Workshop, discdiff: Discdiff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/home/me/bin/discdiff", "train", str(workshop.fasta), f"--output={tmp_path}/run"])
    assert (
        discdiff("train", workshop.fasta, "--domain", "dna", "--output", tmp_path / "run", "--quiet", *SMALL).code == 0
    )
    export(tmp_path / "run", tmp_path / "mine")
    for path in (tmp_path / "mine").iterdir():
        assert str(workshop.folder).encode() not in path.read_bytes(), path
        assert str(tmp_path).encode() not in path.read_bytes(), path
    assert "discdiff train promoters.fasta --output=run\n" in (tmp_path / "mine" / "README.md").read_text()


def test_a_profile_goes_with_it(workshop: Workshop, tmp_path: Path) -> None:
    run = shutil.copytree(workshop.dna, tmp_path / "run")
    pipe = dd.Pipeline.load(run)
    pipe.measure_profile(n=16)
    pipe.save(run)
    export(run, tmp_path / "mine")
    back = dd.Pipeline.load(tmp_path / "mine").profile
    assert back is not None
    assert pipe.profile is not None
    torch.testing.assert_close(back.groups[0].curves, pipe.profile.groups[0].curves, rtol=1e-6, atol=0)


# ---- checkpoints -----------------------------------------------------------------------------------------------------
def test_a_checkpoint_gives_its_averaged_weights(workshop: Workshop, tmp_path: Path) -> None:
    checkpoint = workshop.dna / "checkpoints" / "last.ckpt"
    export(checkpoint, tmp_path / "mine")
    given, kept = (dd.Pipeline.load(folder).model for folder in (tmp_path / "mine", workshop.dna))
    assert all(torch.equal(a, b) for a, b in zip(given.parameters(), kept.parameters(), strict=True))
    live = torch.load(checkpoint, weights_only=True)["current_model_state"]
    assert any(not torch.equal(live[f"model.{name}"], value) for name, value in given.state_dict().items())


def test_another_checkpoint_of_the_run(workshop: Workshop, tmp_path: Path) -> None:
    run = shutil.copytree(workshop.dna, tmp_path / "run")
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    name = "model.network.tokens.weight"
    saved["state_dict"][name] = saved["state_dict"][name] + 1
    saved["global_step"] = 2
    torch.save(saved, run / "checkpoints" / "best.ckpt")
    export(run / "checkpoints" / "best.ckpt", tmp_path / "mine")
    weights = dd.Pipeline.load(tmp_path / "mine").model.state_dict()
    assert torch.equal(weights[name.removeprefix("model.")], saved["state_dict"][name])
    assert facts(tmp_path / "mine")["training"]["steps"] == 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            lambda state: state["state_dict"].pop("model.network.tokens.weight"),
            "weights missing: network.tokens.weight",
        ),
        (lambda state: state["state_dict"].update(x=torch.zeros(1)), "weights unknown: x"),
        (
            lambda state: state["state_dict"].update({"model.network.tokens.weight": 3}),
            r"has shape \[\], the model's is",
        ),
        (lambda state: state.pop("state_dict"), "holds no weights"),
    ],
)
def test_checkpoints_that_do_not_fit(workshop: Workshop, tmp_path: Path, fault: Any, said: str) -> None:
    run = shutil.copytree(workshop.dna, tmp_path / "run")
    path = run / "checkpoints" / "last.ckpt"
    saved = torch.load(path, weights_only=True)
    fault(saved)
    torch.save(saved, path)
    with pytest.raises(CheckpointError, match=said):
        export(path, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


# ---- refusals --------------------------------------------------------------------------------------------------------
def test_a_half_written_export_is_none(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(release, "card", full)
    with pytest.raises(CheckpointError, match=rf"{tmp_path}: no model .* \(No space left on device\)\. Make room"):
        export(workshop.dna, tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_the_weights(workshop: Workshop, tmp_path: Path) -> None:
    """safetensors has an error of its own for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(CheckpointError, match=rf"{tmp_path}: no model .* \(File too large\)\. Make room"):
            export(workshop.dna, tmp_path / "mine")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_stays(workshop: Workshop, discdiff: Discdiff, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    export(workshop.dna, tmp_path / "mine")  # an empty one is taken
    before = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}
    ran = discdiff("export", workshop.labelled, tmp_path / "mine")
    assert ran.code == 2
    assert "holds a model already; name another folder" in ran.err
    assert {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()} == before
    (tmp_path / "file").touch()
    assert "a file of that name exists" in discdiff("export", workshop.dna, tmp_path / "file").err
    assert "does not exist; create it first" in discdiff("export", workshop.dna, tmp_path / "no" / "x").err
    assert "no such run folder" in discdiff("export", tmp_path / "no", tmp_path / "x").err
    assert "no such run folder" in discdiff("export", tmp_path / "no" / "checkpoints" / "a.ckpt", tmp_path / "x").err


# ---- transformers ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("dna", {}, "ACGTTA"),
        ("protein", {}, "MKV"),
        ("smiles", {}, "C[C@@H](Br)Cl"),
        ("tokens", {"vocab_size": 12}, "3 11"),
    ],
)
def test_transformers_reads_the_tokenizer(name: str, options: dict[str, Any], text: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    domain = dd.domain(name, **options)
    process = dd.Absorbing(domain.vocab_size)
    network = dd.Transformer(process.num_states, dim=8, depth=1, heads=2)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    dd.Pipeline.of(model, domain_data(domain, text)).save(tmp_path / "run")
    export(tmp_path / "run", tmp_path / "mine")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "mine")
    ids = tokenizer(text)["input_ids"]
    assert ids == domain.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(tokenizer) == domain.vocab_size


def domain_data(domain: dd.Domain, text: str) -> Any:
    from discdiff.data import SequenceDataset

    return SequenceDataset.from_sequences(domain, [text])


def test_tokenizer_config_is_vouched_for(given: Path, tmp_path: Path) -> None:
    assert json.loads((given / "tokenizer_config.json").read_text())["model_max_length"] == 9
    mine = shutil.copytree(given, tmp_path / "mine")
    (mine / "README.md").write_text("the author's own words")
    dd.Pipeline.load(mine)  # the card is for people, who may change it
    (mine / "tokenizer_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: damaged"):
        dd.Pipeline.load(mine)
