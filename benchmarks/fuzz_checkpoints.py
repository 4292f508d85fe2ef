"""Run folders and checkpoints, changed at random, are loaded equal or refused with a `CheckpointError`.

    python -m benchmarks.fuzz_checkpoints --inputs 100000
    python -m benchmarks.fuzz_checkpoints --kind signed --seed 7 --inputs 1000 --keep broken/

Kinds: `folder`, bytes of one file of a run folder; `signed`, values of its JSON files, or bytes, with all digests put
right again, so that what is behind them has to refuse; `checkpoint`, bytes of a checkpoint; `packed`, bytes of the
pickle in one, with the archive's checksums put right. Another exception, a load that takes longer than `--limit`, or
one of the first and third kind that gives something else than was saved, is a failure. Prints one JSON line: counts,
inputs a second, the slowest, and by how much the process grew at its largest. Exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import discdiff as dd
from benchmarks.arguments import positive
from benchmarks.real_data import hardware
from discdiff.data import LengthModel
from discdiff.description import describe
from discdiff.errors import CheckpointError
from discdiff.pipeline import Pipeline, SamplingDefaults
from discdiff.training.checkpoint_io import AtomicCheckpointIO

MANIFEST = "config.json"
DIGESTED = (MANIFEST, "profile.json")
NUMBERS = (0, 1, 7, 127, 128, 255, 2**16, 2**31 - 1, 2**31, 2**63 - 1, 2**64 - 1)
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 4, 5, 2**31, 2**40, 2**63, 10**30, 0.5, -0.0, 1e308, 1e-320, "", "x", "0" * 64,
    "é\0", "../../etc/passwd", "/dev/zero", "os.system", "builtins.eval", "discdiff.cli.main", "discdiff.Transformer",
    "dna", "smiles", "text", "tokens", [], [[]], [1], {}, {"class_path": "os.system", "init_args": {}},
    {"a": {"b": []}},
)  # fmt: skip


# ---- changes ---------------------------------------------------------------------------------------------------------
def changed_bytes(data: bytes, draw: random.Random) -> bytes:
    """Flip, cut, insert, repeat, move or overwrite, once or a few times."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        at, end = draw.randrange(len(changed) + 1), draw.randrange(len(changed) + 1)
        part = changed[min(at, end) : min(min(at, end) + 64, max(at, end))]
        match draw.randrange(7):
            case 0 | 1 if at < len(changed):
                changed[at] ^= draw.randrange(1, 256)
            case 2:
                del changed[at:]
            case 3:
                del changed[at : at + len(part)]
            case 4:
                changed[at:at] = draw.randbytes(draw.randrange(1, 9))
            case 5:
                changed[at:at] = part
            case _:
                size = draw.choice((1, 2, 4, 8))
                changed[at : at + size] = (draw.choice(NUMBERS) % 2 ** (8 * size)).to_bytes(size, "little")
    return bytes(changed)


def changed_value(value: Any, draw: random.Random) -> Any:
    """JSON with one node of it replaced, taken out, doubled or renamed."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(list(value))
        match draw.randrange(12):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {(k + "x" if k == key else k): v for k, v in value.items()}
            case 2:
                return {**value, draw.choice(("extra", "seed", "")): draw.choice(VALUES)}
            case _:
                return {**value, key: changed_value(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.85:
        at = draw.randrange(len(value))
        match draw.randrange(6):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[:at] + value[at : at + 1] + value[at:]
            case _:
                return [*value[:at], changed_value(value[at], draw), *value[at + 1 :]]
    return draw.choice(VALUES)


def sealed(content: dict[str, Any]) -> bytes:
    """JSON that ends in the digest of what stands before it, as the format is described."""
    body = {key: value for key, value in content.items() if key != "digest"}
    before = json.dumps(body)[:-1] + (", " if body else "") + '"digest": "'
    return f'{before}{hashlib.sha256(before.encode()).hexdigest()}"}}\n'.encode()


def repacked(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """An archive with its pickle changed, and right checksums."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return target.getvalue()


# ---- what is changed -------------------------------------------------------------------------------------------------
class Subject:
    """A run folder and a checkpoint, small, and what they hold.

    Args:
        folder: to work in.
    """

    def __init__(self, folder: Path) -> None:
        self.run, self.path = folder / "run", folder / "last.ckpt"
        self.pipe = small()
        self.pipe.save(self.run)
        self.files = {path.name: path.read_bytes() for path in sorted(self.run.iterdir())}
        average = {f"model.{name}": value for name, value in self.pipe.model.state_dict().items()}
        self.state = {
            "state_dict": average, "global_step": 3, "loops": {"fit": [1, None, 0.5, "x"]},
            "callbacks": {"Monitor": {"seconds": 1.5, "random": {"cpu": torch.arange(64, dtype=torch.uint8)}}},
        }  # fmt: skip
        AtomicCheckpointIO().save_checkpoint(self.state, self.path)
        self.checkpoint = self.path.read_bytes()

    def folder(self, draw: random.Random) -> bool:
        """Whether a folder with one file changed gives what was saved."""
        name = draw.choice(list(self.files))
        return self.load({**self.files, name: changed_bytes(self.files[name], draw)})

    def signed(self, draw: random.Random) -> None:
        """Load a folder whose values were changed and signed again."""
        files = dict(self.files)
        for _ in range(draw.choice((1, 1, 2))):
            name = draw.choice((MANIFEST, MANIFEST, MANIFEST, *files))
            if name in DIGESTED:
                content = changed_value(json.loads(files[name]), draw)
                files[name] = sealed(content) if isinstance(content, dict) else json.dumps(content).encode()
            elif name.endswith(".json") and files[name] is self.files[name] and draw.random() < 0.5:
                files[name] = json.dumps(changed_value(json.loads(files[name]), draw)).encode()
            else:
                files[name] = changed_bytes(files[name], draw)
        manifest = json.loads(files[MANIFEST])
        if isinstance(manifest, dict) and isinstance(manifest.get("sha256"), dict):
            for name in set(manifest["sha256"]) & set(files) - set(DIGESTED):
                manifest["sha256"][name] = hashlib.sha256(files[name]).hexdigest()
            files[MANIFEST] = sealed(manifest)
        self.load(files)

    def load(self, files: dict[str, bytes]) -> bool:
        """Whether a folder of these files gives what was saved."""
        for name, data in files.items():
            (self.run / name).write_bytes(data)
        return same(Pipeline.load(self.run, device="cpu"), self.pipe)

    def whole(self, draw: random.Random) -> bool:
        """Whether a checkpoint with some bytes changed gives what was saved."""
        self.path.write_bytes(changed_bytes(self.checkpoint, draw))
        return self.same_state()

    def same_state(self) -> bool:
        """Whether the checkpoint that is there gives what was saved."""
        return equal(AtomicCheckpointIO().load_checkpoint(self.path), self.state)

    def packed(self, draw: random.Random) -> None:
        """Load a checkpoint whose pickle was changed, in an archive that is whole."""
        self.path.write_bytes(repacked(self.checkpoint, lambda pickled: changed_bytes(pickled, draw)))
        AtomicCheckpointIO().load_checkpoint(self.path)

    @property
    def kinds(self) -> dict[str, Callable[[random.Random], bool | None]]:
        """What is tried, by name."""
        return {"folder": self.folder, "signed": self.signed, "checkpoint": self.whole, "packed": self.packed}


def small() -> Pipeline:
    """A model with labels, a sampler of its own, and a profile."""
    dna = dd.domain("dna")
    process = dd.Absorbing(dna.vocab_size)
    network = dd.Transformer(process.num_states, dim=4, depth=1, heads=1, num_labels=2, cond_dim=4, kernel=0)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Denoiser()).eval()
    defaults = SamplingDefaults(dd.samplers.Confidence("margin", noise=0.5), steps=3, temperature=0.7)
    pipe = Pipeline(model, dna, LengthModel.of([6, 9]), 9, ["no", "yes"], defaults)
    pipe.measure_profile(n=8)
    return pipe


def same(one: Pipeline, two: Pipeline) -> bool:
    """Whether two pipelines are the same in all that is saved."""
    stated = [
        (describe(p.model), p.domain.to_json(), p.lengths, p.max_length, p.label_names, p.defaults.to_json())
        for p in (one, two)
    ]
    profiles = [None if p.profile is None else p.profile.to_json()["groups"] for p in (one, two)]
    return (
        stated[0] == stated[1]
        and profiles[0] == profiles[1]
        and equal(dict(one.model.state_dict()), dict(two.model.state_dict()))
    )


def equal(one: Any, two: Any) -> bool:
    """Whether two nests of dictionaries and lists hold equal values and tensors."""
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return isinstance(two, dict) and list(one) == list(two) and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(two) and len(one) == len(two) and all(map(equal, one, two))
    return type(one) is type(two) and bool(one == two)


# ---- trying ----------------------------------------------------------------------------------------------------------
class SlowError(BaseException):
    """A load that takes too long; no handler of exceptions may take it for a refusal."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer."""

    def late(*_: object) -> None:
        raise SlowError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attempt(kind: Callable[[random.Random], bool | None], seed: str, limit: float) -> str:
    """How one input ends: "refused", "equal", "loaded", or what went wrong."""
    try:
        with limited(limit), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            equal_to_saved = kind(random.Random(seed))
    except CheckpointError as error:
        return "refused" if "\n" not in str(error) else f"a message of several lines: {error}"
    except SlowError:
        return f"slower than {limit} s"
    except Exception:  # noqa: BLE001 - what is looked for
        return traceback.format_exc()
    return "loaded" if equal_to_saved is None else "equal" if equal_to_saved else "loaded, but not what was saved"


def main() -> int:
    """Try inputs, and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=positive, default=10_000, help="of each kind")
    parser.add_argument("--kind", choices=["folder", "signed", "checkpoint", "packed"], action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=5.0, help="seconds for one input")
    parser.add_argument("--keep", type=Path, help="folder for inputs that fail")
    arguments = parser.parse_args()
    home = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    failed = False
    try:
        subject = Subject(Path(home))
        for name in arguments.kind or subject.kinds:
            record = tried(subject, name, arguments)
            print(json.dumps(record), flush=True)
            failed |= bool(record["failures"])
    finally:
        shutil.rmtree(home)
    return int(failed)


def tried(subject: Subject, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The record of one kind."""
    counts: Counter[str] = Counter()
    failures: list[dict[str, str]] = []
    begun, slowest, size = time.perf_counter(), 0.0, _peak()
    for number in range(arguments.inputs):
        seed, start = f"{arguments.seed}/{name}/{number}", time.perf_counter()
        ended = attempt(subject.kinds[name], seed, arguments.limit)
        slowest = max(slowest, time.perf_counter() - start)
        if ended in ("refused", "equal", "loaded"):
            counts[ended] += 1
            continue
        counts["failed"] += 1
        if len(failures) < 20:
            failures.append({"seed": seed, "what": ended})
            print(f"{seed}: {ended}", file=sys.stderr, flush=True)
        if arguments.keep is not None:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            kept = arguments.keep / seed.replace("/", "-")
            if name in ("folder", "signed"):
                shutil.copytree(subject.run, kept, dirs_exist_ok=True)
            else:
                shutil.copy(subject.path, kept)
    seconds = time.perf_counter() - begun
    inputs = subject.files if name in ("folder", "signed") else {"last.ckpt": subject.checkpoint}
    return {
        "benchmark": "fuzz_checkpoints",
        "command": f"python -m benchmarks.fuzz_checkpoints --kind {name} --inputs {arguments.inputs} "
        f"--seed {arguments.seed}",
        "kind": name, "inputs": arguments.inputs, "seed": arguments.seed, **counts, "failures": failures,
        "inputs_per_second": round(arguments.inputs / seconds, 1), "slowest_seconds": round(slowest, 3),
        "input_bytes": sum(map(len, inputs.values())), "growth_mb": round((_peak() - size) / 1e6, 1), **hardware(),
    }  # fmt: skip


def _peak() -> int:
    """Bytes that the process had at its largest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
