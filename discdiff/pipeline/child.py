"""One more process of a job; `discdiff.pipeline.ranks` starts it and writes its task to standard input."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from discdiff.errors import DiscdiffError
from discdiff.pipeline.asking import Asked
from discdiff.pipeline.generating import Division, generate
from discdiff.pipeline.pipeline import Pipeline
from discdiff.pipeline.ranks import this_rank


def main() -> int:
    """Work till there is nothing left to do; the exit code."""
    task: dict[str, Any] = json.load(sys.stdin)
    warnings.simplefilter("ignore")  # the process that started this one says the same
    rank = this_rank()
    try:
        pipeline = Pipeline.load(task["run"], device="cpu" if task["device"] == "cpu" else f"cuda:{rank.local}")
        asked = Asked.from_json(task["asked"])
        shard = None if task["shard"] is None else (task["shard"][0], task["shard"][1])
        division = Division(task["format"], task["part_size"], shard, 1, task["tag"], task["parent"])
        draws = pipeline.draws(asked)
        generate(pipeline, Path(task["folder"]), task["n"], asked, draws, division, progress=False)
    except DiscdiffError as error:
        print(f"discdiff: process {rank.number + 1} of {rank.world}: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
