"""Long fuzzing of every reader and parser.

    python -m benchmarks.fuzz -n 100000                        # every reader
    python -m benchmarks.fuzz -n 20000 --kind parsers
    python -m benchmarks.fuzz -n 1000 --targets fasta npy --seed 7

Input i of a target is a function of its name and of seed + i alone (`tests/fuzz`): random bytes, text that is nearly in
the format, a valid file with changes. Each must give records or one of our errors. Inputs run in a child process: one
that takes longer than `--limit` seconds is a hang, one that ends the child a crash, and the child may not take more
than `--memory` MB of data. Prints one JSON line a target: inputs, what became of them, findings (with their seed and
the input's first bytes), the slowest, inputs a second, the most memory and by how much the last child's data grew.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.arguments import positive
from tests.fuzz.files import file_targets
from tests.fuzz.parsers import parser_targets

SHOWN = 20
"""Findings that are printed for each target; all are counted."""


def targets(kind: str) -> dict[str, Any]:
    """Targets by name."""
    return dict(file_targets()) if kind == "readers" else dict(parser_targets())


def data_bytes() -> int:
    """What RLIMIT_DATA counts of this process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData:"))


def work(kind: str, name: str, seeds: range, folder: str, memory: int, pipe: Connection) -> None:
    """Run inputs in a child process: before each its seed goes to the parent, after each what became of it."""
    # what the limit counts: with stacks and arenas of threads five times what is resident before the first input
    before = data_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (before + memory * 1_000_000,) * 2)
    target = targets(kind)[name]
    for seed in seeds:
        data = target.input(seed)
        pipe.send((seed, None, 0.0, b""))
        begun = time.perf_counter()
        try:
            result = target.check(data, Path(folder))
            bad = result in ("empty", "silent")
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            frames = traceback.extract_tb(error.__traceback__)[-3:]
            places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
            result, bad = f"{type(error).__name__}: {str(error)[:120]} at {places}", True
        pipe.send((seed, result, time.perf_counter() - begun, data[:80] if bad else b""))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pipe.send((-1, json.dumps([peak, data_bytes() - before]), 0.0, b""))


def sweep(kind: str, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All inputs of a target."""
    counts: Counter[str] = Counter()
    findings: list[dict[str, Any]] = []
    slowest, slowest_seed, peak, growth = 0.0, -1, 0, 0
    at, end, begun = arguments.seed, arguments.seed + arguments.n, time.perf_counter()

    def found(seed: int, what: str, data: bytes) -> None:
        counts["finding"] += 1
        if len(findings) < SHOWN and not any(
            one["what"].split(" at ")[-1] == what.split(" at ")[-1] for one in findings
        ):
            findings.append({"seed": seed, "what": what, "input": repr(data)})

    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        while at < end:
            mine, theirs = context.Pipe(duplex=False)
            child = context.Process(
                target=work, args=(kind, name, range(at, end), folder, arguments.memory, theirs), daemon=True
            )
            child.start()
            theirs.close()
            running = at
            try:
                while mine.poll(arguments.limit):
                    seed, result, seconds, data = mine.recv()
                    if seed < 0:
                        (peak, growth), at = json.loads(result), end
                        break
                    if result is None:
                        running = seed
                        continue
                    at = seed + 1
                    if data or result in ("empty", "silent") or " at " in result:
                        found(seed, result, data)
                    else:
                        counts[result] += 1
                    if seconds > slowest:
                        slowest, slowest_seed = seconds, seed
                else:
                    found(running, f"hang: longer than {arguments.limit} s", b"")
                    at = running + 1
                    child.kill()
            except EOFError:
                child.join()
                found(running, f"crash: the process ended with code {child.exitcode}", b"")
                at = running + 1
            child.join()
            mine.close()
    seconds = time.perf_counter() - begun
    return {
        "target": name,
        "inputs": arguments.n,
        "seed": arguments.seed,
        "read": counts.pop("read", 0),
        "findings": counts.pop("finding", 0),
        "refused": dict(sorted(counts.items())),
        "shown": findings,
        "slowest_seconds": round(slowest, 3),
        "slowest_seed": slowest_seed,
        "inputs_per_second": round(arguments.n / seconds),
        "seconds": round(seconds, 1),
        "peak_mb": round(peak / 1e6),
        "growth_mb": round(growth / 1e6),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "command": ["python", "-m", "benchmarks.fuzz", *sys.argv[1:]],
    }


def main() -> int:
    """Run it; 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=positive, default=100_000, help="inputs a target")
    parser.add_argument("--kind", choices=("readers", "parsers"), default="readers")
    parser.add_argument("--targets", nargs="+", metavar="NAME", help="default: all of the kind")
    parser.add_argument("--seed", type=int, default=0, help="of the first input")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds that an input may take")
    parser.add_argument("--memory", type=positive, default=1000, help="MB that a child may add")
    parser.add_argument("--folder", help="where inputs are written; default: the system's temporary folder")
    arguments = parser.parse_args()
    known = targets(arguments.kind)
    if unknown := [name for name in arguments.targets or () if name not in known]:
        parser.error(f"--targets {unknown[0]}: expected of {', '.join(known)}")
    total = 0
    for name in arguments.targets or known:
        result = sweep(arguments.kind, name, arguments)
        total += result["findings"]
        print(json.dumps(result), flush=True)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
