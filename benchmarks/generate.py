"""Generation under SIGKILL: two processes, killed at random moments and started again; nothing lost, nothing twice.

    python -m benchmarks.generate runs/zinc --n 100000 --steps 16 --kills 2 > benchmarks/results/generate.jsonl

A job is run by `discdiff sample -o FOLDER/ --devices 2`. When a random share of the parts is there, and a random moment
after, both processes are killed by SIGKILL; the same command then goes on. In the end every index has to be there
once, and the first part files have to be those of one process that nothing interrupted, byte by byte. Prints a JSON
line: samples a second, moments of the kills, what lay half-written then, and the memory of the processes over time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.arguments import positive, run_folder
from benchmarks.real_data import hardware
from discdiff.pipeline import read_parts

WAIT = 0.2
MIB = 2**20


def members(group: int) -> list[int]:
    """The processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        if int(words[3]) == group and words[0] != "Z":
            found.append(int(path.parent.name))
    return sorted(found)


def resident(process: int) -> int:
    """Bytes of memory that a process holds; 0 of one that has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def there(folder: Path) -> int:
    """How many parts are finished."""
    return len(list(folder.glob("part-*")))


@dataclass
class Watched:
    """One start of a job.

    Attributes:
        seconds: how long it ran.
        code: its exit code.
        processes: the most that were seen at once.
        memory: (parts that were there, bytes of the largest process) over time.
    """

    seconds: float = 0.0
    code: int = 0
    processes: int = 0
    memory: list[tuple[int, int]] = field(default_factory=list)


def run(command: list[str], folder: Path, stop: Callable[[int], bool], log: Path) -> Watched:
    """Start a job in a session of its own, and kill all its processes when `stop` says so of the parts."""
    started, seen = time.monotonic(), Watched()
    with log.open("ab") as stream:
        child = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        try:
            while child.poll() is None:
                time.sleep(WAIT)
                parts, alive = there(folder), members(child.pid)
                seen.processes = max(seen.processes, len(alive))
                seen.memory.append((parts, max(map(resident, alive), default=0)))
                if stop(parts):
                    break
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            seen.code = child.wait()
            while members(child.pid):
                time.sleep(WAIT)
    seen.seconds = time.monotonic() - started
    return seen


def killer(draw: random.Random, low: int, high: int) -> Callable[[int], bool]:
    """Stop a random moment after a random number of parts is there."""
    target, delay, reached = draw.randint(low, high), draw.uniform(0.0, 3.0), 0.0

    def stop(parts: int) -> bool:
        nonlocal reached
        if parts >= target and not reached:
            reached = time.monotonic()
        return bool(reached) and time.monotonic() - reached >= delay

    return stop


def measure(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Run the job and the uninterrupted one, and compare."""
    draw = random.Random(arguments.seed)
    folder, whole = scratch / "job", scratch / "whole"
    sampling = ["--sampler", "any_order", "--steps", str(arguments.steps), "--seed", str(arguments.seed)]
    cut = ["--batch-size", str(arguments.batch_size), "--part-size", str(arguments.part_size), "--device", "cpu"]
    words = [sys.executable, "-m", "discdiff", "sample", str(arguments.run), *sampling, *cut]
    job = [*words, "-n", str(arguments.n), "-o", f"{folder}/", "--devices", "2"]
    log, parts = scratch / "log", -(-arguments.n // arguments.part_size)
    starts, kills = [], []
    for k in range(arguments.kills):
        step = parts // (arguments.kills + 1)
        seen = run(job, folder, killer(draw, k * step + 1, (k + 1) * step), log)
        assert seen.code == -signal.SIGKILL, f"killed too late; {log.read_text()[-2000:]}"
        starts.append(seen)
        half = len(list(folder.glob(".part-*.tmp")))
        kills.append({"parts": there(folder), "after_seconds": seen.seconds, "half_written": half})
        print(f"kill {k + 1}: {kills[-1]}", file=sys.stderr)
    seen = run(job, folder, lambda parts: False, log)
    assert seen.code == 0, log.read_text()[-2000:]
    starts.append(seen)
    indices = [row["index"] for row in read_parts(folder)]
    alone = run([*words, "-n", str(arguments.check), "-o", f"{whole}/"], whole, lambda parts: False, log)
    assert alone.code == 0, log.read_text()[-2000:]
    same = [path.read_bytes() == (folder / path.name).read_bytes() for path in sorted(whole.glob("part-*"))]
    first_done = kills[-1]["parts"]
    going = [(count, size) for count, size in seen.memory if count > first_done and size]  # loaded, and not yet ended
    chosen = [going[i * (len(going) - 1) // 9] for i in range(10)]
    return {
        "n": arguments.n,
        "parts": parts,
        "kills": kills,
        "processes": max(each.processes for each in starts),
        "indices": {"lost": arguments.n - len(set(indices)), "twice": len(indices) - len(set(indices))},
        "in_order": indices == list(range(arguments.n)),
        "left_over": sorted(path.name for path in folder.iterdir() if path.name.startswith(".")),
        "compared": {"samples": arguments.check, "parts": len(same), "equal_bytes": sum(same)},
        "seconds": sum(each.seconds for each in starts),
        "samples_a_second": {
            "last_start": (arguments.n - first_done * arguments.part_size) / seen.seconds,
            "one_process": arguments.check / alone.seconds,
        },
        "memory_mib": {
            "peak": max(size for each in starts for _, size in each.memory) / MIB,
            "of_last_start_by_parts": [[count, round(size / MIB, 1)] for count, size in chosen],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=run_folder, help="folder that `discdiff train` wrote")
    parser.add_argument("--n", type=positive, default=100_000)
    parser.add_argument("--check", type=positive, default=10_000, help="samples that are compared")
    parser.add_argument("--part-size", type=positive, default=1000)
    parser.add_argument("--batch-size", type=positive, default=250)
    parser.add_argument("--steps", type=positive, default=16)
    parser.add_argument("--kills", type=positive, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.check > arguments.n or arguments.check % arguments.part_size:
        parser.error(f"--check {arguments.check}: expected whole parts of {arguments.part_size}, at most --n")
    if arguments.n < 2 * (arguments.kills + 1) * arguments.part_size:
        parser.error(f"--n {arguments.n}: expected two parts or more before each of {arguments.kills} kills")
    command = shlex.join(["python", "-m", "benchmarks.generate", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as name:
        found = measure(arguments, Path(name))
    print(
        json.dumps(
            {"benchmark": "generate", "command": command, "seed": arguments.seed, "hardware": hardware()} | found
        )
    )


if __name__ == "__main__":
    main()
