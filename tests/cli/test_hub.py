"""Models on the Hugging Face Hub: pushed, fetched, pinned and kept; tried against a Hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import discdiff as dd
from discdiff.cli import main
from discdiff.errors import CheckpointError, ConfigError
from discdiff.release.hub import FILES, located, parse
from tests.cli.conftest import Discdiff
from tests.hub import Hub, serving
from tests.test_run_folder import made


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub, to which alone the client of this process speaks, with a cache of its own."""
    from huggingface_hub import constants

    with serving(Hub()) as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setenv("HF_TOKEN", "hf_nobody")
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield found


@pytest.fixture(scope="module")
def pipe() -> dd.Pipeline:
    return made()


def test_pushed_and_loaded(hub: Hub, pipe: dd.Pipeline) -> None:
    pinned = pipe.push_to_hub("me/dna")
    [(number, files)] = hub.commits["me/dna"]
    assert pinned == f"hf://me/dna@{number}"
    assert set(files) == set(FILES)
    assert b'dd.Pipeline.load("hf://me/dna")' in files["README.md"]
    back = dd.Pipeline.load("hf://me/dna", device="cpu")
    assert back.sample(4, seed=1) == pipe.sample(4, seed=1)
    assert back.source == pinned


def test_a_revision_pins_it(hub: Hub, pipe: dd.Pipeline, tmp_path: Path) -> None:
    first = pipe.push_to_hub("me/dna")
    other = made()
    other.max_length = 11
    second = other.push_to_hub("hf://me/dna", private=True, message="shorter")
    assert first != second
    assert dd.Pipeline.load(first).max_length == 12
    assert dd.Pipeline.load("hf://me/dna", revision=second.partition("@")[2]).max_length == 11
    newest = dd.Pipeline.load("hf://me/dna")
    assert (newest.max_length, newest.source) == (11, second)
    newest.save(tmp_path / "copy")
    assert dd.Pipeline.load(tmp_path / "copy").source == second, "where it came from is kept"


def test_only_the_files_of_a_run_are_fetched(hub: Hub, pipe: dd.Pipeline) -> None:
    pipe.push_to_hub("me/dna")
    hub.commit("me/dna", {"setup.py": b"raise SystemExit(1)", "model.pkl": b"\x80", "more/config.json": b"{}"})
    folder, _ = located("hf://me/dna")
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_what_is_fetched_is_checked(hub: Hub, pipe: dd.Pipeline) -> None:
    pipe.push_to_hub("me/dna")
    weights = bytearray(hub.commits["me/dna"][0][1]["model.safetensors"])
    weights[-3] ^= 1
    hub.commit("me/dna", {"model.safetensors": bytes(weights)})
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        dd.Pipeline.load("hf://me/dna")
    hub.commit("me/other", {"config.json": b'{"model_type": "bert"}'})
    with pytest.raises(CheckpointError, match=r"config\.json: damaged, or no file of discdiff"):
        dd.Pipeline.load("hf://me/other")


@pytest.mark.parametrize(
    ("place", "refuse", "said"),
    [
        ("hf://me/nothing", None, "hf://me/nothing: the Hub has no such model, or shows it to others only"),
        (
            "hf://me/dna",
            (401, "RepoNotFound"),
            "the Hub has no such model, or shows it to others only: .*hf auth login",
        ),
        ("hf://me/dna", (403, "GatedRepo"), "hf://me/dna: gated: ask for access"),
        ("hf://me/dna@v9", None, "hf://me/dna@v9: the model has no such revision"),
        (
            "hf://me/dna",
            (500, ""),
            "not in the local cache, and the Hub cannot be reached|the Hub's answer was an error",
        ),
    ],
)
def test_what_the_hub_refuses(
    hub: Hub, place: str, refuse: tuple[int, str] | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit("me/dna", {"config.json": b"{}"})
    hub.refuse = refuse
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's attempts
    with pytest.raises(CheckpointError, match=said) as caught:
        dd.Pipeline.load(place)
    assert "\n" not in str(caught.value)


def test_nobody_may_push(hub: Hub, pipe: dd.Pipeline) -> None:
    hub.refuse = (401, "")
    with pytest.raises(CheckpointError, match="hf://me/dna: "):
        pipe.push_to_hub("me/dna")
    assert hub.commits == {}


def test_a_push_without_a_network(pipe: dd.Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is no answer of the Hub's."""
    from huggingface_hub import HfApi

    class TransportError(Exception):
        pass

    class ConnectError(TransportError):
        pass

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectError("Name or service not known")

    monkeypatch.setattr(HfApi, "create_repo", unreachable)
    with pytest.raises(CheckpointError, match=r"^hf://me/dna: the Hub cannot be reached"):
        pipe.push_to_hub("me/dna")


def test_without_a_network(hub: Hub, pipe: dd.Pipeline, tmp_path: Path) -> None:
    """In a process of its own, since the client reads HF_HUB_OFFLINE when it is imported."""
    pipe.push_to_hub("me/dna")
    dd.Pipeline.load("hf://me/dna")
    asked = len(hub.asked)
    setting = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_ENDPOINT": hub.address}

    def sample(place: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "discdiff", "sample", place, "-n", "2", "--quiet"]
        return subprocess.run(line, env=os.environ | setting, capture_output=True, text=True, check=False, timeout=120)

    assert sample("hf://me/dna").stdout.count(">") == 2
    missing = sample("hf://me/other")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith("discdiff: hf://me/other: not in the local cache, and the Hub cannot be reached")
    assert len(hub.asked) == asked


# ---- names -----------------------------------------------------------------------------------------------------------
def test_a_plain_name_is_a_folder(hub: Hub, pipe: dd.Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"me/dna: no such run folder.*, or hf://me/dna for that of the Hugging"):
        dd.Pipeline.load("me/dna")
    with pytest.raises(ConfigError, match="a local folder has no revision 'main'; a model of the Hub is hf://me/dna"):
        dd.Pipeline.load("me/dna", revision="main")
    pipe.save("me/dna")
    assert dd.Pipeline.load("me/dna").source is None
    assert hub.asked == []


@pytest.mark.parametrize(
    "url", ["http://x.org/model", "https://huggingface.co/me/dna", "s3://b/c", "file:///etc", "http:/x"]
)
def test_urls_are_no_models(hub: Hub, url: str) -> None:
    for place in (url, Path(url)):
        with pytest.raises(CheckpointError, match="no model is loaded from a URL"):
            dd.Pipeline.load(place)
    assert hub.asked == []


def test_names() -> None:
    assert parse("hf://me/dna") == parse(Path("hf://me/dna")) == parse("me/dna") == ("me/dna", None)
    assert parse("hf://a.b/c-d@refs/pr/1") == ("a.b/c-d", "refs/pr/1")
    for wrong in (
        "hf://me",
        "hf://me/dna/more",
        "hf://../etc",
        "hf://me/..",
        "hf://",
        "hf://me/dna@",
        "hf://me/d na",
        "me",
    ):
        with pytest.raises(ConfigError, match="expected hf://OWNER/NAME"):
            parse(wrong)
    with pytest.raises(ConfigError, match=r"^hf://me: "):
        parse(Path("hf://me"))  # which has one stroke
    with pytest.raises(ConfigError, match="got revision 'b' as well"):
        located("hf://me/dna@a", "b")


# ---- commands --------------------------------------------------------------------------------------------------------
def test_commands(hub: Hub, pipe: dd.Pipeline, tmp_path: Path, discdiff: Discdiff) -> None:
    pipe.save(tmp_path / "run")
    ran = discdiff("push", tmp_path / "run", "me/dna")
    assert (ran.code, ran.err) == (0, "")
    pinned = ran.out.strip()
    assert pinned == f"hf://me/dna@{hub.commits['me/dna'][0][0]}"
    assert discdiff("sample", "hf://me/dna", "-n", "3").out == discdiff("sample", tmp_path / "run", "-n", "3").out != ""
    assert discdiff("infill", pinned, "AC{4}", "-n", "1").code == 0
    shown = discdiff("show", "hf://me/dna")
    assert shown.out.splitlines()[0] == pinned
    assert f"discdiff sample {pinned} -n 10 --label no" in shown.out
    (tmp_path / "x.fasta").write_text(">a\nACGTACGT\n>b\nACGTTCGT\n")
    ran = discdiff("evaluate", "hf://me/dna", "--reference", tmp_path / "x.fasta", "-n", "0", "--json", "--label", "no")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["run"] == pinned
    refused = discdiff("profile", "hf://me/dna")
    assert refused.code == 2
    assert f"Export it first: discdiff export {pinned} FOLDER" in refused.err
    assert main(["export", pinned, str(tmp_path / "mine")]) == 0
    assert dd.Pipeline.load(tmp_path / "mine").source == pinned
