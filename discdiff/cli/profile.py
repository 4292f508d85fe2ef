"""Measure what revealing several tokens at once loses; `sample --error` chooses the number of calls by it.

examples:
  discdiff profile runs/promoters                               # on 256 draws of the model, at one call a token
  discdiff profile runs/promoters held_out.fasta                # on held-out sequences instead
  discdiff profile runs/zinc -n 1024 --error 0.01               # a smaller standard error; 0.01 nats in the picture
  discdiff profile runs/zinc --check 256                        # and what that schedule loses, measured directly
  discdiff sample runs/zinc -n 100 --error 0.01                 # what it is for

The run folder keeps it as profile.json, with a picture, profile.png: the information curve and a schedule's blocks.
Columns: the error asked for, the calls it takes and what they lose, with its standard error: KL in nats a sequence
against one token a call, an upper bound for the law of samples (a mixture over orders). Absorbing runs only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discdiff.cli import options, output, reading
from discdiff.errors import DiscdiffError, require

if TYPE_CHECKING:
    from discdiff.pipeline import Pipeline
    from discdiff.samplers import Plan, Profile

PICTURES = (".png", ".svg", ".pdf")
ERRORS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_run_argument(parser)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="held-out sequences; default: own draws")
    reading.add_reading_arguments(parser)
    group = parser.add_argument_group("measuring")
    add = group.add_argument
    add("-n", type=options.at_least_eight, default=256, metavar="N", help="sequences, at most, 8 or more; default 256")
    add("--seed", type=int, default=0, metavar="N", help="default 0")
    add("--label", metavar="NAME", help="class, for a run trained with labels; default: all in turn, or the file's")
    add("--batch-size", type=options.positive, default=64, metavar="N", help="sequences at a time; default 64")
    group = parser.add_argument_group("showing")
    add = group.add_argument
    add(
        "--length",
        type=options.positive,
        metavar="L",
        help="tokens of the sequences that are shown; default: the median",
    )
    add("--error", type=options.positive_float, metavar="NATS", help="whose schedule is drawn; default 0.1 nats")
    add(
        "--check",
        type=options.positive,
        metavar="N",
        help="measure that schedule directly, on N draws, without a profile",
    )
    add("--picture", type=Path, metavar="FILE", help="PNG, SVG or PDF; default: profile.png in the run folder")
    output.add_output_arguments(parser, "a table")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    output.check_output(arguments.output)
    reading.check_skipped(arguments)
    output.check_output(arguments.picture)
    if arguments.picture is not None and arguments.picture.suffix.lower() not in PICTURES:
        raise DiscdiffError(f"--picture {arguments.picture}: expected a name that ends in {', '.join(PICTURES)}")
    if options.name_of(arguments) != str(arguments.run_folder):
        raise DiscdiffError(
            f"{options.name_of(arguments)}: a profile is kept in the run folder, and the Hub's is not ours to change. "
            f"Export it first: discdiff export {options.name_of(arguments)} FOLDER"
        )
    pipeline = options.load(arguments)
    before = pipeline.profile
    length = _length(pipeline, arguments.length)
    strings = None if arguments.file is None else reading.read(pipeline, arguments.file, arguments)
    profile = pipeline.measure_profile(
        strings,
        n=arguments.n,
        seed=arguments.seed,
        labels=arguments.label,
        batch_size=arguments.batch_size,
        progress=not arguments.quiet,
    )
    from discdiff.run_folder import PROFILE_FILE, save_profile

    save_profile(profile, arguments.run_folder)
    if before is not None and before.sequences > profile.sequences:
        print(f"replaces a profile of {before.sequences} sequences", file=sys.stderr)
    shown = profile.blocks(length, error=0.1 if arguments.error is None else arguments.error)
    found = report(profile, length, sorted({*ERRORS, *([] if arguments.error is None else [arguments.error])}))
    if arguments.check is not None:
        found["check"] = _check(pipeline, shown, arguments)
    picture = arguments.picture or arguments.run_folder / "profile.png"
    draw(profile, length, shown, picture)
    with output.results(arguments.output) as stream:
        if arguments.json:
            output.write_json(found, stream)
        else:
            stream.write("error\tcalls\tnats\tstandard_error\tnats_of_even_blocks\n")
            for row in found["schedules"]:
                numbers = [f"{row[name]:.4g}" for name in ("nats", "standard_error", "nats_of_even_blocks")]
                stream.write("\t".join([f"{row['error']:g}", str(row["calls"]), *numbers]) + "\n")
            if "check" in found:
                stream.write(f"check\t{len(shown.sizes)}\t{found['check']['nats']:.4g}\t")
                stream.write(f"{found['check']['standard_error']:.4g}\t\n")
    if not arguments.quiet:
        kept = arguments.run_folder / PROFILE_FILE
        print(f"{profile}, of {length} tokens in the table; wrote {kept} and {picture}", file=sys.stderr)
    return 0


def _length(pipeline: Pipeline, asked: int | None) -> int:
    law = pipeline.lengths
    if asked is not None:
        if not 2 <= asked <= law.longest:
            raise DiscdiffError(f"--length {asked}: expected 2 to {law.longest}, the run's longest")
        return asked
    half, below = (sum(law.counts) + 1) // 2, 0
    for length, count in zip(law.lengths, law.counts, strict=True):
        below += count
        if below >= half:
            return length
    raise AssertionError("the counts add up")


def report(profile: Profile, length: int, errors: Sequence[float]) -> dict[str, Any]:
    """The curve, and what is lost at each of some errors, in JSON values."""
    rows = []
    for error in errors:
        plan = profile.blocks(length, error=error)
        numbers = plan.certificate.to_json() | {"calls": len(plan.sizes), "sizes": list(plan.sizes)}
        even = profile.certificate(even_sizes(length, len(plan.sizes)), length)
        rows.append({"error": error, **numbers, "nats_of_even_blocks": even.nats})
    points = zip(profile.curve(length).tolist(), profile.standard_errors(length).tolist(), strict=True)
    curve = [{"known": j, "nats": f, "standard_error": e} for j, (f, e) in enumerate(points)]
    named = {"source": profile.source, "sequences": profile.sequences, "seconds": profile.seconds, "length": length}
    return {**named, "curve": curve, "schedules": rows}


def even_sizes(length: int, calls: int) -> list[int]:
    """Sizes that differ by one at most."""
    ends = [length * k // calls for k in range(calls + 1)]
    return [b - a for a, b in pairwise(ends)]


def _check(pipeline: Pipeline, plan: Plan, arguments: argparse.Namespace) -> dict[str, float | str]:
    """What a schedule loses by the model's draws themselves: no consistency is assumed, no curve is between."""
    import torch

    from discdiff.pipeline.inputs import Classes
    from discdiff.randomness import Keys, fork
    from discdiff.samplers import block_divergence

    count: int = arguments.check
    classes = Classes(getattr(pipeline.model.network, "num_labels", None), pipeline.label_names)
    keys = fork(Keys(arguments.seed, torch.arange(count, device=pipeline.model.device)), "check")
    labels = classes.numbers(arguments.label, count, in_turn=True)
    size: int = arguments.batch_size
    return block_divergence(
        pipeline.model, plan.sizes, count=count, labels=labels, generator=keys, batch_size=size
    ).to_json()


# ---- the picture -----------------------------------------------------------------------------------------------------
def draw(profile: Profile, length: int, plan: Plan, path: Path) -> None:
    """The curve with the blocks of a schedule, and what schedules of each number of calls lose."""
    import numpy as np

    figure = require("matplotlib.figure").Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    # one point more: a step ends where the next begins
    curve, error = (np.append(value, value[-1:]) for value in (profile.curve(length), profile.standard_errors(length)))
    known = range(length + 1)
    starts = [0, *accumulate(plan.sizes[:-1])]
    held = [float(curve[start]) for start, size in zip(starts, plan.sizes, strict=True) for _ in range(size)]
    held.append(held[-1])
    left.fill_between(known, curve, held, step="post", color="#e0a458", alpha=0.6, label="lost by the blocks")
    left.step(known, held, where="post", color="#b8741a", linewidth=0.8)
    left.step(known, curve, where="post", color="#1f6f8b", label="information curve")
    left.fill_between(
        known,
        curve - 2 * error,
        curve + 2 * error,
        step="post",
        color="#1f6f8b",
        alpha=0.2,
        label="± 2 standard errors",
    )
    left.set(
        xlabel=f"known positions of {length}", ylabel="what an open one may still be, nats", title=str(plan.certificate)
    )
    calls = sorted({1, length - 1, *(round(length ** (k / 24)) for k in range(25))} - {length})
    best = [profile.blocks(length, steps=t).certificate for t in calls]
    even = [profile.certificate(even_sizes(length, t), length) for t in calls]
    for name, points, color in (("best blocks", best, "#1f6f8b"), ("even blocks", even, "#999999")):
        nats = [max(point.nats, 1e-6) for point in points]
        right.errorbar(
            calls, nats, [2 * p.standard_error for p in points], color=color, marker=".", capsize=2, label=name
        )
    right.set(xscale="log", yscale="log", xlabel="calls", ylabel="KL, nats a sequence")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(9)
        axes.legend(frameon=False)
    output.save_picture(figure, path)
