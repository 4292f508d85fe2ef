"""How much memory a large file takes: it is made, encoded, and trained on for some steps, each in a process of its own.

    python -m benchmarks.large_files proteins --gb 5 --folder /scratch       # FASTA, about 13 million records
    python -m benchmarks.large_files chromosomes --gb 5 --folder /scratch    # FASTA of 20 chromosomes, as windows
    python -m benchmarks.large_files smiles --records 2000000 --data ../shared/data/smiles --folder /scratch
    python -m benchmarks.large_files text --gb 2 --folder /scratch           # JSON Lines of words, byte-level BPE

Prints one JSON line a stage: seconds, MB of the file a second, and the greatest resident memory, looked at every 50 ms.
`anonymous_mb` is what the process has allocated; `resident_mb` counts also the pages of mapped files, which the kernel
takes back when others need them. `imported_mb` is what the process had allocated before it touched the data: torch,
Lightning and the domain. Files and cache are deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import lzma
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arguments import positive

RESIDUES, BASES = b"ACDEFGHIKLMNPQRSTVWY", b"ACGT"
CHROMOSOMES = 20
WINDOW = 1024
CHUNK, POOL = 4096, 1 << 24


# ---- files -----------------------------------------------------------------------------------------------------------
def proteins(path: Path, size: int, arguments: argparse.Namespace) -> None:
    """Records of 100 to 600 residues, 60 a line: pieces of one long random sequence."""
    rng = np.random.default_rng(arguments.seed)
    letters = _letters(rng, RESIDUES, POOL)
    number = written = 0
    with path.open("wb", buffering=1 << 22) as file:
        while written < size:
            lengths, starts = rng.integers(100, 601, CHUNK), rng.integers(0, POOL - 600, CHUNK)
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
                lines = b"\n".join([letters[i : min(i + 60, start + length)] for i in range(start, start + length, 60)])
                written += file.write(b">sp|P%09d|TEST\n%s\n" % (number, lines))
                number += 1


def chromosomes(path: Path, size: int, arguments: argparse.Namespace) -> None:
    """Chromosomes of equal length, of 280,000 different lines of 60 bases; N at both ends, and one base of 10,000."""
    rng = np.random.default_rng(arguments.seed)
    lines = size // CHROMOSOMES // 61
    pool = np.frombuffer(_letters(rng, BASES, POOL // 60 * 60), np.uint8).reshape(-1, 60).copy()
    pool[rng.random(pool.shape) < 1e-4] = ord("N")
    pool = np.pad(pool, ((0, 0), (0, 1)), constant_values=ord("\n"))
    with path.open("wb", buffering=1 << 22) as file:
        for chromosome in range(CHROMOSOMES):
            file.write(b">chr%d of a test\n" % (chromosome + 1))
            for first in range(0, lines, CHUNK * 16):
                count = min(CHUNK * 16, lines - first)
                table = pool[rng.integers(0, len(pool), count)]
                if first == 0 or first + count == lines:
                    table[: min(count, 200), :60] = ord("N")
                file.write(table.tobytes())


def smiles(path: Path, size: int, arguments: argparse.Namespace) -> None:
    """Pairs of molecules of the shared sets, as two fragments of one SMILES."""
    molecules: list[str] = []
    for source in sorted(arguments.data.glob("*.csv.xz")):
        with lzma.open(source, "rt") as stream:
            column = next(stream).strip().split(",").index("smiles")
            molecules += [line.rstrip("\n").split(",")[column] for line in stream]
    rng = np.random.default_rng(arguments.seed)
    with path.open("w", buffering=1 << 22) as file:
        for first in range(0, arguments.records, CHUNK):
            pairs = rng.integers(0, len(molecules), (min(CHUNK, arguments.records - first), 2)).tolist()
            file.writelines(f"{molecules[a]}.{molecules[b]}\tpair{first + i}\n" for i, (a, b) in enumerate(pairs))


def text(path: Path, size: int, arguments: argparse.Namespace) -> None:
    """Documents of 200 to 2,000 words out of 50,000, which occur as Zipf's law says."""
    rng = np.random.default_rng(arguments.seed)
    words = ["".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(1, 10))) for _ in range(50_000)]
    written = number = 0
    with path.open("w", buffering=1 << 22) as file:
        while written < size:
            chosen = (rng.zipf(1.2, int(rng.integers(200, 2001))) % len(words)).tolist()
            row = json.dumps({"id": f"d{number}", "text": " ".join([words[i] for i in chosen])}) + "\n"
            written, number = written + file.write(row), number + 1


def _letters(rng: np.random.Generator, alphabet: bytes, count: int) -> bytes:
    return np.frombuffer(alphabet, np.uint8)[rng.integers(0, len(alphabet), count, dtype=np.uint8)].tobytes()


KINDS: dict[str, tuple[str, Callable[..., None], str, dict[str, Any]]] = {
    "proteins": ("proteins.fasta", proteins, "protein", {}),
    "chromosomes": ("genome.fa", chromosomes, "dna", {}),
    "smiles": ("molecules.smi", smiles, "smiles", {"validate": "syntax"}),
    "text": ("corpus.jsonl", text, "text", {"vocab_size": 4096}),
}


# ---- what each process does ------------------------------------------------------------------------------------------
def child(stage: str, kind: str, path: Path, cache: Path, steps: int) -> None:
    """Encode the file, or train on it; prints what happened as JSON."""
    import discdiff as dd
    from discdiff.data import Dataset, SequenceDataset
    from discdiff.data.vocabulary import learn_vocabulary

    if stage == "train":
        import lightning.pytorch  # noqa: F401 - so that it counts as imported, and not as the data's
    domain = dd.domain(KINDS[kind][2], **KINDS[kind][3])
    imported, start = memory("self")["RssAnon"], time.monotonic()
    data: Dataset
    if kind == "chromosomes":
        how: dict[str, Any] = {"kind": "tiled"} if stage == "prepare" else {"kind": "random", "strands": "both"}
        data = domain.windows(path, length=WINDOW, **how)
    else:
        length = 256 if domain.streams else None
        learn_vocabulary(domain, path, {}, cache=cache)
        data = SequenceDataset.read(domain, path, length=length, cache=cache)
    found = {"records": len(data), "tokens": int(data.model_lengths.sum()), "notes": data.notes}
    opened = time.monotonic() - start
    if stage == "train":
        train, valid = data.split(0.01)
        divided = time.monotonic() - start - opened
        process = dd.Absorbing(domain.vocab_size)
        network = dd.Transformer(process.num_states, dim=32, depth=1, heads=2)
        model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
        result = dd.fit(
            model, train, valid=valid, max_steps=steps, batch_size=8, device="cpu", precision="float32", samples=0,
            validate_sequences=64, progress=False,
        )  # fmt: skip
        found |= {"train": len(train), "valid": len(valid), "steps": result.steps, "split_seconds": round(divided, 1)}
    print(json.dumps(found | {"imported_mb": imported, "open_seconds": round(opened, 1)}))


def memory(process: int | str) -> dict[str, int]:
    """Resident memory of a process in MB, by kind."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    sizes = dict(line.split(":") for line in lines if line.startswith(("VmRSS", "RssAnon")))
    return {name: int(value.split()[0]) // 1024 for name, value in sizes.items()}


def watched(command: list[str]) -> tuple[dict[str, Any], dict[str, int], float]:
    """Run a command; its JSON, the greatest memory that it had, and seconds."""
    start = time.monotonic()
    most = {"RssAnon": 0, "VmRSS": 0}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            try:
                now = memory(process.pid)
            except (OSError, ValueError):
                break
            most = {name: max(value, now.get(name, 0)) for name, value in most.items()}
            time.sleep(0.05)
        out = process.communicate()[0]
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
    return json.loads(out.splitlines()[-1]), most, time.monotonic() - start


def stages(arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Make the file, encode it, open it again and train."""
    from benchmarks.real_data import hardware

    name, make, _, options = KINDS[arguments.kind]
    path, cache = folder / name, folder / "cache"
    start = time.monotonic()
    make(path, int(arguments.gb * 1e9), arguments)
    made, size = time.monotonic() - start, path.stat().st_size / 1e6
    words = ["python -m benchmarks.large_files", arguments.kind]
    words += ["--records", str(arguments.records)] if arguments.kind == "smiles" else ["--gb", f"{arguments.gb:g}"]
    words += ["--data ../shared/data/smiles"] if arguments.kind == "smiles" else []
    about = {
        "benchmark": "large_files", "kind": arguments.kind, "command": " ".join(words), "seed": arguments.seed,
        "file_mb": round(size), "domain_options": options, "hardware": hardware(),
    }  # fmt: skip
    for stage in ("prepare", "train"):
        own = [arguments.kind, "--child", stage, "--path", str(path), "--cache", str(cache)]
        command = [sys.executable, "-m", "benchmarks.large_files", *own, "--steps", str(arguments.steps)]
        found, most, seconds = watched(command)
        kept = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) / 1e6 if cache.exists() else 0.0
        found["notes"] = [note.replace(str(folder), "runs") for note in found["notes"]]
        yield about | {
            "stage": stage, **found, "made_seconds": round(made), "seconds": round(seconds, 1), "cache_mb": round(kept),
            "mb_per_second": round(size / max(found["open_seconds"], 0.1), 1), "anonymous_mb": most["RssAnon"],
            "resident_mb": most["VmRSS"],
        }  # fmt: skip


def main() -> None:
    """Parse the arguments, run the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--gb", type=float, default=5.0, help="size of the file in 10^9 bytes")
    parser.add_argument("--records", type=positive, default=2_000_000, help="molecules")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/smiles"), help="where molecules come from")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="where there is room for three such files")
    parser.add_argument("--steps", type=positive, default=20, help="training steps")
    parser.add_argument("--seed", type=int, default=0)
    for name in ("--child", "--path", "--cache"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.kind, Path(arguments.path), Path(arguments.cache), arguments.steps)
        return
    if not 0 < arguments.gb < 1e4:
        parser.error(f"--gb {arguments.gb}: expected a positive number")
    if arguments.kind == "smiles" and not list(arguments.data.glob("*.csv.xz")):
        parser.error(f"--data {arguments.data}: no *.csv.xz with molecules in it")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(arguments.folder).free < 3e9 * arguments.gb and arguments.kind != "smiles":
        parser.error(f"--folder {arguments.folder}: less than {3 * arguments.gb:g} GB are free there")
    folder = arguments.folder / f"large-{arguments.kind}"
    folder.mkdir()
    try:
        for line in stages(arguments, folder):
            print(json.dumps(line), flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
