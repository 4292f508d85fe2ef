"""Options that several commands share."""

from __future__ import annotations

import argparse
import difflib
import inspect
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discdiff.errors import ConfigError

if TYPE_CHECKING:
    from discdiff.pipeline import Pipeline
    from discdiff.samplers import Sampler


SAMPLERS = (
    "ancestral, any_order, argmax, bisection, blockwise, confidence, entropy_bounded, euler, first_hitting, ordered, "
    "predictor_corrector, remasking, runge_kutta2, tau_leaping, trapezoidal or uniformization"
)
"""For `--help`, which does not import them; a test compares."""

GRIDS = ("optimised", "bisection", "uniform", "cosine", "time", "noise", "mask_fraction")
"""Likewise."""


def _integer(least: int, what: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected {what}")
    return value


def natural(text: str) -> int:
    """An integer that is not negative."""
    return _integer(0, "0 or a positive integer", text)


def positive(text: str) -> int:
    """A positive integer."""
    return _integer(1, "a positive integer", text)


def at_least_two(text: str) -> int:
    """An integer of at least 2."""
    return _integer(2, "an integer of at least 2", text)


def at_least_eight(text: str) -> int:
    """An integer of at least 8, the fewest sequences that a profile is of (`discdiff.samplers.profiling.FEWEST`)."""
    return _integer(8, "an integer of at least 8", text)


def positive_float(text: str) -> float:
    """A positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a positive number")
    return value


def mass(text: str) -> float:
    """A number above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number above 0 and at most 1")
    return value


def add_folder_argument(parser: argparse.ArgumentParser) -> None:
    """Add the run folder."""
    what = "folder that `discdiff train` wrote, or hf://OWNER/NAME[@REVISION]"
    parser.add_argument("run_folder", type=Path, metavar="RUN", help=what)


def fetch(arguments: argparse.Namespace) -> None:
    """Where the command takes a run and a model of the Hugging Face Hub is named: the folder that its files are in.

    Raises:
        CheckpointError: the Hub has no such model, or cannot be reached.
        ConfigError: the run and what follows it are swapped.
    """
    if getattr(arguments, "run_folder", None) is None:
        return
    from discdiff.release.hub import located, on_hub

    if on_hub(arguments.run_folder):  # it imports the Hub's client
        arguments.run_folder, arguments.run_name = located(arguments.run_folder)
    _check_order(arguments)


def _check_order(arguments: argparse.Namespace) -> None:
    if _is_run(arguments.run_folder):
        return  # a template may have the name of a run folder
    for name in ("file", "template"):
        other = getattr(arguments, name, None)
        if other and _is_run(other):
            raise ConfigError(
                f"{other} is a run folder, and {arguments.run_folder} stands where that belongs: RUN comes first, "
                f"then {name.upper()}"
            )


def _is_run(name: str | Path) -> bool:
    from discdiff.manifest import CONFIG_FILE

    try:
        return Path(name, CONFIG_FILE).is_file()
    except OSError:  # a template is longer than names of files may be
        return False


def name_of(arguments: argparse.Namespace) -> str:
    """What the run was called: its folder, or its name on the Hub with the commit."""
    return str(getattr(arguments, "run_name", arguments.run_folder))


def add_run_argument(parser: argparse.ArgumentParser) -> None:
    """Add the run folder and the device."""
    add_folder_argument(parser)
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...; default: a GPU if there is one")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def add_sampling_arguments(parser: argparse.ArgumentParser, count: int = 16, *, none: bool = False) -> None:
    """Add the options of sampling; `none` allows `-n 0`."""
    parser.add_argument(
        "-n", type=natural if none else positive, default=count, metavar="N", help=f"how many samples; default {count}"
    )
    group = parser.add_argument_group("sampling")
    add = group.add_argument
    add("--sampler", metavar="NAME", help=f"{SAMPLERS}; default: the run's")
    add(
        "--steps",
        type=positive,
        metavar="N",
        help="network calls, for samplers that take them; default: the run's",
    )
    add(
        "--error",
        type=positive_float,
        metavar="NATS",
        help="what a sequence may lose by revealing several tokens a call, KL in nats a sequence: the run's profile "
        "(`discdiff profile`) chooses the number of calls, and what is lost is said; instead of --steps",
    )
    add("--grid", choices=GRIDS, help="where the calls are; see docs/samplers.md")
    add("--seed", type=int, default=0, metavar="N", help="sample i depends on the seed and on i alone; default 0")
    add("--temperature", type=positive_float, metavar="T", help="below 1 sharpens choices; default: the run's")
    add("--top-k", type=positive, metavar="K", help="draw from the K most likely tokens; default: the run's")
    add("--top-p", type=mass, metavar="P", help="draw from the likeliest tokens of total mass P; default: the run's")
    add("--label", metavar="NAME", help="class, for a run trained with labels; default: all in turn")
    add("--guidance", type=float, default=1.0, metavar="G", help="stress the class: above 1 more; default 1")
    add(
        "--particles",
        type=positive,
        default=1,
        metavar="K",
        help="runs for each sample, weighed and resampled: what must hold then biases nothing else; default 1. "
        "Not with argmax and remasking",
    )
    add("--batch-size", type=positive, default=64, metavar="N", help="sequences at a time; default 64")
    add(
        "--precision",
        choices=("float32", "bfloat16", "bf16"),
        metavar="{float32,bfloat16}",
        help="of the network's layers; bfloat16 (or bf16) is quicker, and rounds",
    )
    add("--compile", action="store_true", help="compile the network: a minute first, then some 10 %% quicker")


def add_rule_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what may be asked of samples beside a template."""
    group = parser.add_argument_group(
        "what must hold",
        "In every sample, exactly; `discdiff domains NAME` lists a domain's rules. All may be repeated.",
    )
    add = group.add_argument
    add("--require", action="append", default=[], metavar="PATTERN", help="must occur somewhere")
    add("--forbid", action="append", default=[], metavar="PATTERN", help="must occur nowhere")
    add("--regex", action="append", default=[], metavar="PATTERN", help="must match the whole sample")
    add("--rule", action="append", default=[], metavar="NAME=VALUE", help="another rule, such as gc=40-60%%")
    add("--valid", action="store_true", help="every sample is valid: for SMILES, RDKit reads it")


def rules(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """What is asked of samples, by the names of rules.

    Raises:
        ConfigError: a word that is not NAME=VALUE.
    """
    asked = {name: list(getattr(arguments, name)) for name in ("require", "forbid", "regex")}
    for word in arguments.rule:
        name, equals, value = word.partition("=")
        if not name:
            raise ConfigError(f"--rule {word}: expected NAME=VALUE, such as --rule gc=40-60%")
        asked.setdefault(name, []).append(value if equals else "")
    return {name: values for name, values in asked.items() if values}


def sampling(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of sampling, as arguments of `Pipeline.sample` and `infill`.

    Raises:
        ConfigError: an error together with steps, or with what changes the law of samples.
    """
    if arguments.error is not None and arguments.steps is not None:
        raise ConfigError(
            f"--error {arguments.error:g} --steps {arguments.steps}: an error chooses the steps; give one"
        )
    sampler = sampler_named(arguments.sampler)
    if arguments.error is not None:
        _check_error(arguments, sampler)
    return {
        "sampler": sampler,
        "steps": arguments.steps,
        "grid": arguments.grid,
        "error": arguments.error,
        "seed": arguments.seed,
        "labels": arguments.label,
        "temperature": arguments.temperature,
        "top_k": arguments.top_k,
        "top_p": arguments.top_p,
        "guidance": arguments.guidance,
        "particles": arguments.particles,
        "precision": arguments.precision,
        "compiled": arguments.compile,
        "batch_size": arguments.batch_size,
        "progress": not arguments.quiet,
    }


def _check_error(arguments: argparse.Namespace, sampler: Sampler | None) -> None:
    """Refuse, before weights are read, what an error cannot go with; the run's own defaults are looked at later."""
    changes = {
        f"--temperature {arguments.temperature}": arguments.temperature not in (None, 1.0),
        f"--top-k {arguments.top_k}": arguments.top_k is not None,
        f"--top-p {arguments.top_p}": arguments.top_p not in (None, 1.0),
        f"--guidance {arguments.guidance:g}": arguments.guidance != 1.0,
        f"--particles {arguments.particles}": arguments.particles > 1,
    }
    given = f"--error {arguments.error:g}"
    others = [option for option, changed in changes.items() if changed]
    if others:
        raise ConfigError(
            f"{given} {' '.join(others)}: what a sequence loses is known for the model's own law alone; leave out "
            f"{' and '.join(option.split()[0] for option in others)}, or give --steps instead of --error"
        )
    if sampler is not None:
        from discdiff.pipeline.planning import BY_PROFILE

        if not isinstance(sampler, BY_PROFILE):
            raise ConfigError(
                f"{given} --sampler {arguments.sampler}: an error chooses the calls of any_order and ancestral alone; "
                "leave out --sampler or --error"
            )


def add_scoring_arguments(parser: argparse.ArgumentParser, *, alone: bool = True) -> None:
    """Add the options of bounds; those that sampling has too only if `alone`."""
    group = parser.add_argument_group("scoring")
    add = group.add_argument
    add(
        "--noise-levels",
        type=at_least_two,
        default=8,
        metavar="N",
        help="per sequence; the standard error falls with the root; default 8",
    )
    add(
        "--tolerance",
        type=positive_float,
        metavar="NATS",
        help="draw more noise levels until the standard error of nats per token of the whole file is at most this; "
        "a note tells where 1024 levels a sequence do not suffice",
    )
    add("--unit", metavar="NAME", help="per what bits are given: token, or byte (text); default: the domain's own")
    if alone:
        add("--seed", type=int, default=0, metavar="N", help="default 0")
        add("--label", metavar="NAME", help="class of all sequences, for a run trained with labels")
        add("--batch-size", type=positive, default=64, metavar="N", help="sequences at a time; default 64")


def check_asked(
    folder: Path, asked: Mapping[str, list[str]], *, template: str | None = None, length: int | None = None
) -> None:
    """Refuse a template or rules that the run's domain cannot read, before weights are read and moved to a device.

    All is read once more with the model, which costs little; what conflicts, or is too long, shows there.

    Raises:
        CheckpointError: no run folder, or a damaged one.
        TemplateError: the template cannot be read.
        ConfigError: no such rule.
        DiscdiffError: a value of a rule cannot be read.
    """
    from discdiff.manifest import WEIGHTS_FILE, check_files, read_manifest

    manifest = read_manifest(folder)  # needs no torch, which the rest does
    if template is None and not asked:
        return
    check_files(folder, manifest, unread=[WEIGHTS_FILE])

    from discdiff.domain import Domain
    from discdiff.rules import Span, languages

    domain, longest = Domain.from_json(manifest["domain"], folder), manifest["max_length"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # told with the model
        known = length if template is None else domain.template(template).length
        if known is None or known <= longest:
            languages(domain.rules, asked, Span(known or 1, known or longest), domain=domain.name)


def load(arguments: argparse.Namespace) -> Pipeline:
    """The pipeline of a run folder, on the device that was asked for."""
    from discdiff.manifest import read_manifest

    read_manifest(arguments.run_folder)  # a wrong path is told before torch is imported

    from discdiff.pipeline import Pipeline

    return Pipeline.load(arguments.run_folder, device=arguments.device)


def sampler_kinds() -> dict[str, type[Sampler]]:
    """All samplers by their names on the command line."""
    from discdiff import samplers
    from discdiff.samplers import Sampler

    return {
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower(): kind
        for key, kind in vars(samplers).items()
        if isinstance(kind, type) and issubclass(kind, Sampler) and not inspect.isabstract(kind)
    }


def sampler_named(name: str | None) -> Sampler | None:
    """The sampler of a name such as `first_hitting` or `FirstHitting`.

    Raises:
        ConfigError: no sampler has that name.
    """
    if name is None:
        return None
    kinds = sampler_kinds()
    plain = name.replace("_", "").replace("-", "").lower()
    kind = next((kind for key, kind in kinds.items() if key.replace("_", "") == plain), None)
    if kind is None:
        near = difflib.get_close_matches(name.lower(), kinds, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"--sampler: no sampler {name!r}; known: {', '.join(sorted(kinds))}.{hint}")
    return kind()
