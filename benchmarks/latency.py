"""How long `discdiff sample` takes from nothing, and where the time goes; each figure from a fresh process.

    python -m benchmarks.latency runs/zinc --count 16 --turns 5 > benchmarks/results/latency.json

`command` is the whole command, by the clock and in CPU seconds. The parts are taken in another process, one after the
other: torch's import, discdiff's, the run's loading, the samples. `imports` are the packages that take longest to
import, by their own modules (python -X importtime). CPU seconds hold on a busy machine too, with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.arguments import positive, run_folder
from benchmarks.real_data import hardware

PARTS = """
import json, sys, time
started, found = (time.perf_counter(), time.process_time()), {}

def note(name):
    global started
    now = time.perf_counter(), time.process_time()
    found[name] = {"seconds": now[0] - started[0], "cpu_seconds": now[1] - started[1]}
    started = now

import torch
note("import torch")
from discdiff.pipeline import Pipeline
note("import discdiff")
pipe = Pipeline.load(sys.argv[1], device="cpu")
note("load")
pipe.sample(int(sys.argv[2]))
note("sample")
pipe.sample(int(sys.argv[2]))
note("sample again")
print(json.dumps(found))
"""


def command(run: Path, count: int) -> dict[str, float]:
    """Seconds by the clock, and CPU seconds, of the whole command."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = [sys.executable, "-m", "discdiff", "sample", str(run), "-n", str(count), "--device", "cpu", "--quiet"]
    subprocess.run(words, check=True, capture_output=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": spent}


def parts(run: Path, count: int) -> dict[str, dict[str, float]]:
    """The same, part by part."""
    words = [sys.executable, "-c", PARTS, str(run), str(count)]
    found: dict[str, dict[str, float]] = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    return found


def imports(count: int) -> dict[str, float]:
    """Seconds of the packages that take longest, their own modules added up."""
    words = [sys.executable, "-X", "importtime", "-c", "from discdiff.pipeline import Pipeline"]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stderr
    seconds: Counter[str] = Counter()
    for line in told.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            seconds[name.strip().split(".")[0]] += int(own)
    return {name: micro / 1e6 for name, micro in seconds.most_common(count)}


def middle(turns: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(turn[name] for turn in turns), 3) for name in turns[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=run_folder)
    parser.add_argument("--count", type=positive, default=16)
    parser.add_argument("--turns", type=positive, default=5)
    arguments = parser.parse_args()
    wholes, pieces = [], []
    for turn in range(arguments.turns + 1):  # the first one reads files into the system's memory
        whole, piece = command(arguments.run, arguments.count), parts(arguments.run, arguments.count)
        if turn:
            wholes.append(whole)
            pieces.append(piece)
    result: dict[str, Any] = {
        "command_line": "python -m benchmarks.latency " + " ".join(sys.argv[1:]),
        "count": arguments.count,
        "turns": arguments.turns,
        "command": middle(wholes),
        "parts": {name: middle([piece[name] for piece in pieces]) for name in pieces[0]},
        "imports": imports(12),
        "threads_asked": os.environ.get("OMP_NUM_THREADS"),
        "hardware": hardware(),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
