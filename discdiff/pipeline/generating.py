"""`generate`: a job of samples, by as many processes as there are, each at its own pace."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from discdiff.errors import DiscdiffWarning, IncompatibleError
from discdiff.pipeline.asking import Asked
from discdiff.pipeline.draws import Draws, tell
from discdiff.pipeline.identity import identity
from discdiff.pipeline.job import Job, open_job
from discdiff.pipeline.part_formats import part_format
from discdiff.pipeline.ranks import others, this_rank
from discdiff.progress import progress as show_progress

if TYPE_CHECKING:
    from discdiff.pipeline.pipeline import Pipeline

BATCHES_A_PART = 32


@dataclass(frozen=True)
class JobReport:
    """What has become of a job.

    Attributes:
        folder: where its parts are.
        n: samples in all.
        parts: parts in all.
        found: parts that were there before.
        made: samples that this process made.
        missing: parts that other processes make, or that another shard holds.
    """

    folder: Path
    n: int
    parts: int
    found: int
    made: int
    missing: int

    def __str__(self) -> str:
        there = f", {self.found} of them from before" if self.found else ""
        if not self.missing:
            return f"{self.folder}: {self.n:,} samples in {self.parts} parts{there}"
        return (
            f"{self.folder}: {self.parts - self.missing} of {self.parts} parts are there{there}; {self.missing} are "
            "made by other processes or shards. Where one of them is killed, give the same command again"
        )


@dataclass(frozen=True)
class Division:
    """How a job is cut and shared.

    Attributes:
        form: of the files: "parquet", "jsonl" or "own".
        part_size: samples in a part, or None for 32 batches.
        shard: (i, n) makes every n-th part alone, from the i-th on (counted from 1), for file systems without locks.
        devices: processes on this machine.
        tag: stands for what cannot be written down.
        parent: the process that this one stops without, or None.
    """

    form: str = "parquet"
    part_size: int | None = None
    shard: tuple[int, int] | None = None
    devices: int = 1
    tag: str | None = None
    parent: int | None = None


def generate(
    pipeline: Pipeline, folder: Path, n: int, asked: Asked, draws: Draws, division: Division, *, progress: bool
) -> JobReport:
    """Make what is missing of a job; see `Pipeline.sample_to`."""
    arguments = asked.to_json()
    _check(asked, draws, division)
    form = part_format(division.form, pipeline.domain)
    part_size = division.part_size or BATCHES_A_PART * asked.batch_size
    profiled = asked.error is not None or asked.grid == "optimised"
    run = identity(pipeline, profiled=profiled)
    how = {"form": form, "format_name": division.form, "run": run, "arguments": arguments, "tag": division.tag}
    job = open_job(folder, n=n, part_size=part_size, **how)  # type: ignore[arg-type]
    task = {
        "folder": str(folder), "n": n, "asked": arguments, "format": division.form, "part_size": part_size,
        "shard": division.shard, "tag": division.tag,
    }  # fmt: skip
    try:
        with others(pipeline, division.devices, task) as started:
            return _work(job, draws, asked.seed, division, started, show=progress)
    except KeyboardInterrupt:
        there = len(job.parts) - len(job.missing())
        _say(
            f"{there} of {len(job.parts)} parts of {folder} are finished and stand; the same command goes on from there"
        )
        raise
    finally:
        job.claims.close()


def _check(asked: Asked, draws: Draws, division: Division) -> None:
    draws.check()
    if asked.unwritten and division.tag is None:
        raise IncompatibleError(
            "tag",
            got=f"none, with {' and '.join(asked.unwritten)}",
            expected="a name for what cannot be written down",
            remedy="Jobs of one tag are taken to have the same functions: tag='no boron, second version'.",
        )
    if asked.unwritten and division.devices > 1:
        raise IncompatibleError(
            "devices",
            got=f"{division.devices}, with {' and '.join(asked.unwritten)}",
            expected="1: functions do not go from process to process",
            remedy="Start several processes that call this on one folder; they share the job.",
        )
    if draws.constraint.rows != 1:
        raise IncompatibleError(
            "constraint",
            got=f"{draws.constraint.rows} rows",
            expected="one for all samples",
            remedy="Draw these with `Pipeline.sample`.",
        )
    if asked.error is not None and division.form == "own":
        raise IncompatibleError(
            "format",
            got="'own', which has no room for what each sample loses",
            expected="'parquet' or 'jsonl' with an error",
            remedy="Name one of these, or leave the error out.",
        )
    if division.shard is not None and not 1 <= division.shard[0] <= division.shard[1]:
        raise IncompatibleError(
            "shard",
            got=f"{division.shard[0]}/{division.shard[1]}",
            expected="i/n with i from 1 to n",
            remedy="Say 2/8.",
        )


def _work(
    job: Job,
    draws: Draws,
    seed: int,
    division: Division,
    started: list[subprocess.Popen[str]],
    *,
    show: bool,
) -> JobReport:
    rank = this_rank()
    if division.parent is None:
        job.survey(lambda message: _note(message, above=6))
    if not job.claims.supported:
        _note(f"{job.folder}: this file system has no locks; several processes need a shard each (--shard), else they "
              "make parts twice")  # fmt: skip
    shard, of = division.shard or (1, 1)
    mine = [part for part in job.parts if part % of == shard - 1]
    start = len(mine) * rank.number // rank.world
    mine = mine[start:] + mine[:start]  # everybody begins elsewhere, and goes round
    missing = job.missing()
    found = len(job.parts) - len(missing)
    done = 1 - sum(len(job.numbers(part)) for part in missing) / job.n
    made = 0
    with show_progress(f"sampling {job.n:,}", enabled=show and rank.number == 0, total=job.n, done=done) as report:
        made += _make(job, draws, seed, mine, report, division.parent)
        for number, child in enumerate(started, 1):
            if child.wait() != 0:
                _note(f"process {number + 1} of {len(started) + 1} ended with code {child.returncode}; "
                      "what it left is made here")  # fmt: skip
        if started:
            made += _make(job, draws, seed, mine, report, None)
    if made:
        tell(draws.constraint)
    return JobReport(job.folder, job.n, len(job.parts), found, made, len(job.missing()))


def _make(
    job: Job, draws: Draws, seed: int, mine: list[int], report: Callable[[float], None], parent: int | None
) -> int:
    """Make parts until all are there, or what is missing is in other hands; how many samples that were."""
    from discdiff.training.surroundings import quiet

    made = 0
    while missing := set(job.missing()) & set(mine):
        with quiet():  # Lightning takes seconds to import
            from discdiff.pipeline.predicting import Worker, predict

            worker = Worker(job, draws, seed, report, parent)
            predict(worker, [part for part in mine if part in missing], draws.drawing.device)
        made += worker.made
        if not worker.made:
            break
    return made


def _note(message: str, *, above: int = 4) -> None:
    warnings.warn(message, DiscdiffWarning, stacklevel=above + 1)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - beside the progress display


__all__ = ["Division", "JobReport", "generate"]
