"""No file that is loaded runs code: pickles, names of classes and functions, entry points; and no source could."""

from __future__ import annotations

import ast
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import discdiff as dd
from benchmarks.fuzz_checkpoints import repacked
from discdiff.cli import main
from discdiff.description import build
from discdiff.errors import CheckpointError, ConfigError, DiscdiffError
from discdiff.guidance.predictor import Predictor
from discdiff.pipeline import Pipeline
from discdiff.release.export import export
from discdiff.training.checkpoint_io import AtomicCheckpointIO
from domains.tokens import Tokens
from tests.cli.conftest import SMALL, write_fasta
from tests.signed import change, vouch
from tests.test_architecture import CORE, DOMAINS, at, parsed
from tests.test_run_folder import made


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """The file that must not be there afterwards."""
    path = tmp_path / "it-ran"
    yield path
    assert not path.exists(), "the payload ran"


@pytest.fixture(params=["pickle", "torch", "torch, old form", "numpy"])
def poison(request: pytest.FixtureRequest, mark: Path, tmp_path: Path) -> bytes:
    """A file that runs a command when it is unpickled, in each form that a pickle comes in."""
    path, payload = tmp_path / "poison", Payload(mark)
    if request.param == "pickle":
        return pickle.dumps({"state_dict": payload})
    if request.param == "numpy":
        with path.open("wb") as stream:
            np.save(stream, np.array([payload], dtype=object), allow_pickle=True)
    else:
        torch.save({"state_dict": payload}, path, _use_new_zipfile_serialization=request.param == "torch")
    return path.read_bytes()


def test_the_payload_works(tmp_path: Path) -> None:
    """Else the tests below would show nothing."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that tests copy."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    made().save(folder)
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a checkpoint, and the data beside it."""
    folder = tmp_path_factory.mktemp("trained")
    words = ["train", str(write_fasta(folder / "x.fasta", 20)), "--domain", "dna", "--output", str(folder / "run")]
    assert main([*words, "--quiet", *SMALL]) == 0
    return folder


# ---- pickles, wherever a file is read -------------------------------------------------------------------------------
def test_a_checkpoint_to_resume(
    poison: bytes, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    (run / "checkpoints" / "last.ckpt").write_bytes(poison)
    words = ["train", str(trained / "x.fasta"), "--domain", "dna", "--output", str(run), "--quiet", *SMALL]
    assert main([*words, "--resume", "--training.max_steps=5"]) == 2
    assert "damaged, or no checkpoint of discdiff" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="no checkpoint of discdiff"):
        export(run / "checkpoints" / "last.ckpt", tmp_path / "mine")


def test_a_pickle_within_a_checkpoint(mark: Path, tmp_path: Path) -> None:
    """In an archive that is whole otherwise, with right checksums."""
    AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "good.ckpt")
    poisoned = repacked((tmp_path / "good.ckpt").read_bytes(), lambda _: pickle.dumps(Payload(mark), protocol=2))
    (tmp_path / "bad.ckpt").write_bytes(poisoned)
    with pytest.raises(CheckpointError, match="no checkpoint of discdiff"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "bad.ckpt")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json", "profile.json"])
@pytest.mark.parametrize("signed", [False, True])
def test_files_of_a_run_folder(poison: bytes, run: Path, file: str, signed: bool) -> None:
    change(run, "domain", {"name": "tokens", "options": {"vocab_size": 4}})  # one that reads its tokenizer
    (run / file).write_bytes(poison)
    if signed and file != "config.json":
        vouch(run)
    with pytest.raises(CheckpointError):
        Pipeline.load(run)


def test_data_and_other_files(poison: bytes, tmp_path: Path) -> None:
    for name in ("x.npy", "x.parquet", "x.csv", "x.txt", "x.tsv"):
        (tmp_path / name).write_bytes(poison)
        with pytest.raises(DiscdiffError):
            list(Tokens(8).read(tmp_path / name))
    for kind, name in (
        ("text", "x.jsonl"),
        ("text", "x.txt"),
        ("dna", "x.fasta"),
        ("smiles", "x.sdf"),
        ("smiles", "x.smi"),
    ):
        (tmp_path / name).write_bytes(poison)
        with pytest.raises(DiscdiffError):
            list(dd.domain(kind).read(tmp_path / name))
    (tmp_path / "x.safetensors").write_bytes(poison)
    with pytest.raises(DiscdiffError):
        Predictor.load(tmp_path / "x.safetensors")


# ---- what a crafted archive can do short of running code ------------------------------------------------------------
def archive(pickled: bytes, **options: Any) -> Any:
    """Writes a file in the form of a checkpoint."""

    def write(path: Path) -> Path:
        AtomicCheckpointIO().save_checkpoint({"w": torch.zeros(3)}, path)
        with zipfile.ZipFile(path) as old:
            members = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(path, "w", **options) as new:
            for name, data in members.items():
                new.writestr(name, pickled if pickled and name.endswith("data.pkl") else data)
        return path

    return write


GREEDY = {
    "bytearray": b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "tensor": b"\x80\x02ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R.",
    "counter": b"\x80\x02ccollections\nCounter\nJ\xff\xff\xff\x7f\x85R.",
}


@pytest.mark.parametrize("kind", GREEDY)
def test_a_few_bytes_that_ask_for_gigabytes(kind: str, tmp_path: Path) -> None:
    path = archive(GREEDY[kind])(tmp_path / "greedy.ckpt")
    with pytest.raises(CheckpointError, match="it makes objects of the kind"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_archives_that_are_not_as_torch_writes_them(tmp_path: Path) -> None:
    path = archive(b"", compression=zipfile.ZIP_DEFLATED)(tmp_path / "bomb.ckpt")
    with pytest.raises(CheckpointError, match="compressed members"):
        AtomicCheckpointIO().load_checkpoint(path)
    assert AtomicCheckpointIO().load_checkpoint(archive(b"")(tmp_path / "good.ckpt"))["w"].tolist() == [0, 0, 0]
    # one bit, with which torch reads uninitialised memory in place of a tensor
    AtomicCheckpointIO().save_checkpoint({"w": torch.ones(3)}, tmp_path / "folder.ckpt")
    data = bytearray((tmp_path / "folder.ckpt").read_bytes())
    entry = data.index(b"/data/0", data.index(b"PK\x01\x02"))
    data[data.rindex(b"PK\x01\x02", 0, entry) + 38] ^= 0x10
    (tmp_path / "folder.ckpt").write_bytes(data)
    with pytest.raises(CheckpointError, match="marked as a folder"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "folder.ckpt")


# ---- names of code --------------------------------------------------------------------------------------------------
NAMES = [
    "os.system", "posix.system", "builtins.eval", "builtins.exec", "subprocess.Popen", "importlib.import_module",
    "eval",
    "discdiff.description.importlib.import_module", "discdiff.description.build", "discdiff.description.sys.exit",
    "discdiff.cli.main", "discdiff.cli.entry.main", "discdiff.__main__.main", "discdiff.__main__.sys",
    "discdiff..cli.main",
    ".os.system", "discdiff.errors.DiscdiffError", "discdiff.Pipeline", "discdiff.fit", "discdiff.Domain",
    "torch.nn.Linear",
    "discdiff.model.nn.Linear", "discdiff.model.Network", "torch.hub.load", "this.s", "antigravity.x",
    "domains.dna.DNA",
    "discdiff.description\0.build", "discdiff/../os.system", "", ".", "discdiff", "\ud800.x",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_no_parts(name: str, mark: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"command": f"touch {mark}"}
    with pytest.raises(ConfigError):
        build({"class_path": name, "init_args": arguments})
    with pytest.raises(ConfigError):
        build(
            {
                "class_path": "discdiff.Uniform",
                "init_args": {"vocab_size": {"class_path": name, "init_args": arguments}},
            }
        )


@pytest.mark.parametrize("place", ["model.init_args.schedule", "model.init_args.network", "sampling.sampler", "model"])
def test_names_in_a_run_folder(run: Path, mark: Path, place: str) -> None:
    change(run, place, {"class_path": "os.system", "init_args": {"command": f"touch {mark}"}})
    with pytest.raises(CheckpointError, match=r"class_path 'os\.system'"):
        Pipeline.load(run)


def test_names_in_a_configuration(mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fasta(tmp_path / "x.fasta", 20)
    for text in (
        f"loss: {{class_path: os.system, init_args: {{command: touch {mark}}}}}",
        f"loss: !!python/object/apply:os.system ['touch {mark}']",
    ):
        (tmp_path / "c.yaml").write_text(f"domain: dna\ndata: {{train: {tmp_path}/x.fasta}}\n{text}\n")
        try:
            code = main(["train", "--config", str(tmp_path / "c.yaml"), "--output", str(tmp_path / "run"), *SMALL])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        assert code == 2, capsys.readouterr().err


def test_a_program_is_not_imported() -> None:
    """`__main__` of a package is a program: to import it may be to run it."""
    with pytest.raises(ConfigError, match="names a program"):
        build({"class_path": "discdiff.__main__.Absorbing", "init_args": {}})


def test_entry_points_are_classes_of_domains(mark: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point that gives anything else is refused before it is called."""
    points = [
        EntryPoint("dna", "domains.dna:DNA", "discdiff.domains"),
        EntryPoint("evil", "os:system", "discdiff.domains"),
    ]
    monkeypatch.setattr(sys.modules["discdiff.domain"], "entry_points", lambda group: points)
    with pytest.raises(ConfigError, match="no class of domains"):
        dd.domain("evil", command=f"touch {mark}")
    change(run, "domain", {"name": "evil", "options": {"command": f"touch {mark}"}})
    with pytest.raises(CheckpointError, match="no class of domains"):
        Pipeline.load(run)
    change(run, "domain", {"name": "os:system", "options": {}})
    with pytest.raises(CheckpointError, match="no domain 'os:system'"):
        Pipeline.load(run)


def test_a_saved_domain_names_no_file(run: Path) -> None:
    for place in ("/dev/zero", str(run / "tokenizer.json"), "https://x.org/tokenizer.json", None, ["bpe"]):
        change(run, "domain", {"name": "text", "options": {"tokenizer": place}})
        with pytest.raises(CheckpointError, match="that of a run is its own tokenizer"):
            Pipeline.load(run)


# ---- the source -----------------------------------------------------------------------------------------------------
BANNED_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "runpy"}
BANNED_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.hub.load", "pandas.read_pickle",
    "pd.read_pickle", "yaml.unsafe_load", "yaml.full_load", "torch.serialization.add_safe_globals", "add_safe_globals",
}  # fmt: skip


TELLING = {"weights_only", "allow_pickle", "Loader", "trust_remote_code", "shell"}


def dotted(node: ast.expr) -> str:
    """The name that is called; empty where it is no name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def faults(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines that could run what they read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] in BANNED_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in BANNED_MODULES:
            yield node.lineno, str(node.module)
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg in TELLING}
            wrong = (
                name in BANNED_CALLS
                or (name == "torch.load" and said.get("weights_only") != "True")
                or (name in ("np.load", "numpy.load") and said.get("allow_pickle") != "False")
                or (name == "yaml.load" and not said.get("Loader", "").endswith(("SafeLoader", "_Loader")))
                or said.get("trust_remote_code", "False") != "False"
                or said.get("shell", "False") != "False"
                or said.get("allow_pickle", "False") != "False"
                or said.get("weights_only", "True") not in ("True", "weights_only")
            )
            if wrong:
                yield node.lineno, name


def test_no_source_runs_what_it_reads() -> None:
    found = [f"{at(path, line)}: {what}" for path in CORE + DOMAINS for line, what in faults(parsed(path))]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from pickle import loads", "import dill as p", "from joblib import load", "eval(x)",
        "exec(x)", "torch.load(p)", "torch.load(p, weights_only=False)", "np.load(p)", "np.load(p, allow_pickle=True)",
        "yaml.load(x)", "yaml.load(x, Loader=yaml.Loader)", "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "os.system(x)",
        "subprocess.run(x, shell=True)", "load_dataset(x, trust_remote_code=t)", "torch.hub.load(x)",
    ],
)  # fmt: skip
def test_the_search_sees(text: str) -> None:
    assert list(faults(ast.parse(text))) != []


@pytest.mark.parametrize("text", ["model.eval()", "torch.load(p, weights_only=True)", "np.load(p, allow_pickle=False)"])
def test_the_search_lets_pass(text: str) -> None:
    assert list(faults(ast.parse(text))) == []
